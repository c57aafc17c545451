"""The table of services is whole: what is derived from it is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlfleet.stack.plugins.plugin_utils import services
from ansible_collections.mlfleet.stack.plugins.plugin_utils.services import SERVICES

ROOT = Path(__file__).parents[2]
ROLES = {path.name for path in (ROOT / "roles").iterdir()}
SETTINGS = {
    name for file in (ROOT / "roles/topology/defaults/main").glob("*.yml") for name in yaml.safe_load(file.read_text())
}
SITE = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())


def test_rows_and_roles_of_the_site_are_the_same():
    listed = SITE[0]["vars"]["site_roles"]
    assert {services.service_of(role) for role in listed} == {*SERVICES, "host"}


def test_each_service_has_a_play_that_bears_its_name():
    plays = {play["name"]: play.get("hosts") for play in SITE}
    for role in SITE[0]["vars"]["site_roles"]:
        assert plays[f"Role {role}"] == ("all" if role == "host" else role)


def test_building_blocks_and_needs_are_there():
    for name, service in SERVICES.items():
        assert {*service.block} <= ROLES, name
        assert {*service.needs, *service.calls} <= set(SERVICES), name
    assert {*services.BLOCKS, *(block for blocks in services.BLOCKS.values() for block in blocks)} <= ROLES


@pytest.mark.parametrize("name", SERVICES)
def test_settings_that_follow_from_a_row_are_there(name):
    service, noun = SERVICES[name], name.removesuffix("s") if name == services.WORKERS else name
    assert (f"topology_{noun}_runtime" in SETTINGS) == service.may_be_contained
    assert (f"topology_{name}_tls_mode" in SETTINGS) == bool(service.tls)
    assert (f"topology_{name}_clients" in SETTINGS) == bool(services.clients_of(name) and name != services.BALANCER)
    assert not service.own or service.own in SETTINGS
    if service.hosts == services.BALANCED:
        assert {f"topology_{name}_{noun}" for noun in ("host", "port", "address", "servers")} <= SETTINGS


def test_services_with_tls_of_their_own_say_how_they_are_had_to_use_it():
    told = {}
    for name in ROLES:
        file = ROOT / "roles" / name / "tasks/main.yml"
        tasks = yaml.safe_load(file.read_text()) if file.exists() else []
        told.update((name, task["vars"]["unit_tls"]["service"]) for task in tasks if "unit_tls" in task.get("vars", {}))
    assert told == {name: name for name in services.with_tls(services.OWN_TLS)}


def test_tls_is_by_the_ways_that_there_are():
    assert {service.tls for service in SERVICES.values()} <= {"", services.OWN_TLS, services.TLS_OF_HOST}


def test_columns_are_explained():
    text = services.TABLE.read_text()
    explained = set(re.findall(r"^#   (\w+)  ", text, re.MULTILINE))
    assert explained == set(services.Service.__dataclass_fields__)
