"""The table of services is whole: what is derived from it is there, and what lacks is named with its file."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlfleet.stack.plugins.plugin_utils import services
from ansible_collections.mlfleet.stack.plugins.plugin_utils.services import SERVICES

from tests.declared import groups

ROOT = Path(__file__).parents[2]
TABLE, PLAYS, DEFAULTS = "roles/topology/meta/services.yml", "playbooks/site.yml", "roles/topology/defaults/main"
SITE = yaml.safe_load((ROOT / PLAYS).read_text())
SITE_ROLES = SITE[0]["vars"]["site_roles"]
SETTINGS = {file.stem: yaml.safe_load(file.read_text()) for file in (ROOT / DEFAULTS).glob("*.yml")}
SITES = {name: value for settings in SETTINGS.values() for name, value in settings.items() if name.endswith("_sites")}
SCENARIOS = {"serving_worker": "serving", "serving_api": "serving"}  # where they are tested together
TESTED_ELSEWHERE = {"containers"}  # which are the user's own: tests/integration/test_docker.py


def assert_none(lines: Iterable[str]) -> None:
    found = list(lines)
    assert not found, "\n".join(["", *found])


def noun(name: str) -> str:
    """How settings and building blocks name a service; that of all kinds of workers is the worker."""
    return "worker" if name == services.WORKERS else name


# --- roles and plays -------------------------------------------------------------------------------------------------


def test_each_row_is_in_the_site_and_each_role_of_the_site_has_a_row():
    rows = {*map(services.service_of, SITE_ROLES)}
    assert_none(
        [f"{name}: lacks in site_roles of {PLAYS}" for name in SERVICES if name not in rows]
        + [f"{name}: lacks a row in {TABLE}" for name in rows if name not in {*SERVICES, "host"}]
    )


def test_rows_roles_and_plays_are_in_one_order():
    rows = list(dict.fromkeys(map(services.service_of, SITE_ROLES)))
    of_the_table = [name for name in SERVICES if name in rows]
    assert [name for name in rows if name in SERVICES] == of_the_table, f"{PLAYS}: site_roles is not in {TABLE}'s order"
    plays = [play["name"].removeprefix("Role ") for play in SITE]
    assert [role for role in plays if role in SITE_ROLES] == SITE_ROLES, f"{PLAYS}: plays and site_roles differ"


def test_each_service_has_a_play_that_bears_its_name():
    plays = {play["name"]: play.get("hosts") for play in SITE}
    wanted = {role: "all" if role == "host" else role for role in SITE_ROLES}
    assert_none(
        f"{role}: lacks a play named Role {role} with hosts: {hosts} in {PLAYS}"
        for role, hosts in wanted.items()
        if plays.get(f"Role {role}") != hosts
    )


PHASES = ("install", "configure", "provision")


def phases(tags: Iterable[str], role: str) -> set[str]:
    """Return the phases of this role among the tags, such as install for redis_install."""
    return {phase for phase in PHASES for tag in tags if tag == f"{role}_{phase}"}


@pytest.fixture(scope="module")
def tags_of_tasks() -> dict[str, dict[str, set[str]]]:
    """By play, the tags of each task, as Ansible reads them; those of an include are the include's own."""
    command = [Path(sys.executable).with_name("ansible-playbook"), "site.yml", "-i", "inventories/prod", "--list-tasks"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found: dict[str, dict[str, set[str]]] = {}
    for line in listed.splitlines():
        name, _tab, tags = (part.strip() for part in line.partition("TAGS: "))
        if play := re.match(r"play #\d+ \(.*?\): (.+)", name):
            mine = found.setdefault(play[1].strip(), {})
        elif tags:
            mine[f"{len(mine)} {name}"] = set(tags.strip("[]").split(", "))
    return found


@pytest.mark.parametrize("role", SITE_ROLES)
def test_tags_of_a_role_select_its_phases(role: str, tags_of_tasks) -> None:
    """Otherwise a run with `--tags ROLE_install` does nothing, without an error."""
    tasks = tags_of_tasks[f"Role {role}"]
    service = SERVICES.get(services.service_of(role))
    runs = not service or service.unit or service.block  # the front end is files alone
    wanted = {"install", "configure"} if runs else {"install"}
    assert wanted <= {phase for tags in tasks.values() for phase in phases(tags, role)}
    for name, tags in tasks.items():
        assert phases(tags, role) or "always" in tags, f"{name} has no phase of {role}"
        for block in services.blocks_of(role):
            assert phases(tags, block) in (set(), phases(tags, role)), f"{name}: {sorted(tags)}"


def files_of_includes() -> Iterator[tuple[str, dict[str, Any], Path]]:
    """Yield role, task and file of each include of the tasks of a role; a role that is included has tags of its own."""
    for main in (ROOT / "roles" / role / "tasks/main.yml" for role in SITE_ROLES):
        for task in yaml.safe_load(main.read_text()):
            if included := task.get("ansible.builtin.include_tasks"):
                yield main.parts[-3], task, main.with_name(included["file"])


@pytest.mark.parametrize(("role", "include", "file"), [pytest.param(*each, id=each[0]) for each in files_of_includes()])
def test_tags_of_an_include_select_its_tasks(role: str, include: dict[str, Any], file: Path) -> None:
    for task in yaml.safe_load(file.read_text()):
        tags = [task["tags"]] if isinstance(task["tags"], str) else task["tags"]
        assert phases(tags, role), task["name"]
        assert set(tags) <= set(include["tags"]), task["name"]


def test_gpus_are_placed_for_the_phases_that_need_them(tags_of_tasks) -> None:
    kinds = [role for role in SITE_ROLES if role.endswith("_gpu") or role == "worker_custom"]
    for tags in tags_of_tasks["Place the workers on GPUs"].values():
        for role in kinds:
            assert role in tags and phases(tags, role) == {"install", "configure"}, role


def test_each_service_has_a_role_and_a_scenario():
    roles = dict.fromkeys([*SITE_ROLES, *map(noun, SERVICES)])
    files = {role: [f"roles/{role}/tasks/main.yml"] for role in roles}
    for name, service in SERVICES.items():
        scenario = SCENARIOS.get(name, noun(name))
        files[noun(name)] += [f"molecule/{scenario}"] if name not in TESTED_ELSEWHERE else []
        files[noun(name)] += [f"molecule/{scenario}_docker"] if service.may_be_contained else []
    assert_none(f"{role}: lacks {file}" for role in roles for file in files[role] if not (ROOT / file).exists())


def test_each_group_is_in_each_inventory():
    """Ansible warns of a play whose group is not."""
    assert_none(
        f"{role}: lacks its group in {file.relative_to(ROOT)}"
        for file in ROOT.glob("inventories/*/hosts.yml")
        for role in SITE_ROLES
        if role not in {"host", *groups(file.parent)}
    )


def test_building_blocks_are_roles():
    blocks = {name: service.block for name, service in SERVICES.items()}
    blocks |= {name: (name, *used) for name, used in services.BLOCKS.items()}
    assert_none(
        f"{name}: there is no role {block}, which it is built from by {TABLE}"
        for name, used in blocks.items()
        for block in used
        if not (ROOT / "roles" / block).is_dir()
    )


def test_needs_and_calls_are_earlier_rows():
    """Save nginx, which comes after all that it serves; the REST API calls itself, too."""
    order = list(SERVICES)
    assert_none(
        f"{name}: {other}, of its needs and calls, is no earlier row of {TABLE}"
        for name, service in SERVICES.items()
        for other in service.needs + service.calls
        if services.of_port(other) not in {*order[: order.index(name) + 1], services.BALANCER}
    )


def test_each_service_reads_what_it_needs_and_calls():
    """Save nginx, which is given the sites of all, and files that it serves."""
    roles = ROOT / "roles"
    texts = {
        name: "".join(file.read_text() for role in (noun(name), *row.block) for file in (roles / role).glob("*/*.yml"))
        for name, row in SERVICES.items()
    }
    assert_none(
        f"{name}: roles/{noun(name)}/vars/main.yml reads no topology_{other}_*, though it calls {other} by {TABLE}"
        for name, service in SERVICES.items()
        for other in service.needs + service.calls
        if services.BALANCER not in (name, other) and f"topology_{other}_" not in texts[name]
    )


def test_columns_are_explained():
    explained = set(re.findall(r"^#   (\w+)  ", services.TABLE.read_text(), re.MULTILINE))
    differing = explained ^ set(services.Service.__dataclass_fields__)
    assert not differing, f"{TABLE} and plugins/plugin_utils/services.py: only one has the columns {differing}"


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_settings_that_follow_from_a_row_are_there(name):
    service, file = SERVICES[name], f"{DEFAULTS}/{name}.yml"
    is_asked = bool(services.clients_of(name)) and name != services.BALANCER
    is_served = name in services.behind_balancer()
    follows = {
        f"topology_{noun(name)}_runtime": service.may_be_contained,
        f"topology_{name}_tls_mode": bool(service.tls),
        f"topology_{name}_clients": is_asked,
    }
    needed = {setting for setting, is_there in follows.items() if is_there} | ({service.own} - {""})
    nouns = {"hosts", "host", "port"} if is_asked else set()
    nouns |= {"tls_name"} if is_served and service.tls else set()
    nouns |= {"host", "port", "address", "servers"} if service.hosts == services.BALANCED else set()
    needed |= {f"topology_{name}_{noun}" for noun in nouns}
    there = set(SETTINGS.get(name, ()))
    lacking, idle = sorted(needed - there), sorted(follows.keys() & there - needed)
    assert not lacking, f"{name}: lacks {', '.join(lacking)} in {file}"
    assert not idle, f"{name}: {', '.join(idle)} in {file} follows from nothing in {TABLE}"


def test_each_other_port_has_an_address_that_follows_from_its_own_clients():
    for port in services.ports():
        name, setting = services.of_port(port), f"topology_{port.replace('.', '_')}"
        if name == port:
            continue
        wanted = {f"{setting}_{noun}" for noun in ("port", "clients", "host")}
        assert wanted <= SETTINGS[name].keys(), f"{port}: {DEFAULTS}/{name}.yml lacks {wanted - SETTINGS[name].keys()}"
        assert f"clients('{port}')" in SETTINGS[name][f"{setting}_clients"]
        role = yaml.safe_load((ROOT / "roles" / name / "defaults/main.yml").read_text())
        assert (
            f"{setting}_host | mlfleet.stack.listen({setting}_clients)"
            in role[f"{port.replace('.', '_')}_listen_address"]
        )


def test_prometheus_has_jobs_of_the_services_that_it_asks_directly():
    own = yaml.safe_load((ROOT / "roles/prometheus/vars/main.yml").read_text())["__prometheus_own_jobs"]
    assert {job.partition("_")[0] for job in own} == set(services.asked_directly())


def test_sites_are_named_after_their_service():
    """nginx looks for no others."""
    known = {f"topology_{name}_sites" for name in SERVICES}
    assert_none(
        f"{file}: nothing serves {name} of {DEFAULTS}/{file}.yml; its name is to be topology_<service>_sites"
        for file, settings in SETTINGS.items()
        for name, value in settings.items()
        if (name.endswith("_sites") or "'backends': " in str(value)) and name not in known
    )


def test_nginx_calls_each_port_that_is_a_server_of_a_site():
    called = SERVICES[services.BALANCER].calls
    settings = {f"topology_{port.replace('.', '_')}_port": port for port in called}
    served = {
        setting: name
        for name in SERVICES
        for site in SITES.get(f"topology_{name}_sites", ())
        for setting in re.findall(r"topology_\w+_port\b", str(site.get("servers", "")))
    }
    assert_none(
        [
            f"{name}: {setting} is of a server in topology_{name}_sites, but of no port in calls of nginx in {TABLE}"
            for setting, name in served.items()
            if setting not in settings
        ]
        + [
            f"{port}: nginx calls it by {TABLE}, but no site has a server with {setting}"
            for setting, port in settings.items()
            if setting not in served
        ]
    )


def test_secrets_in_use_are_described():
    described = {
        name: option.get("required") and option.get("no_log")
        for file in (ROOT / "roles/topology/meta/shared_settings").glob("*.yml")
        for name, option in yaml.safe_load(file.read_text()).items()
    }
    used = {
        (secret, str(file.relative_to(ROOT)))
        for file in (ROOT / "roles").rglob("*")
        if file.suffix in {".yml", ".j2"}
        for secret in re.findall(r"\btopology_secret_\w+\b(?!\*)", file.read_text())
    }
    used |= {
        (f"topology_secret_{secret}", DEFAULTS)
        for sites in SITES.values()
        if isinstance(sites, list)
        for site in sites
        for page in site.get("pages", ())
        for secret in re.findall(r"'(\w+)'", page["secret"]) or [page["secret"]]
    }
    assert_none(
        f"{secret}, which {file} uses, lacks in roles/topology/meta/shared_settings, with required and no_log"
        for secret, file in sorted(used)
        if not described.get(secret)
    )


def test_services_with_tls_of_their_own_say_how_they_are_had_to_use_it():
    told = {}
    for file in (ROOT / "roles").glob("*/tasks/main.yml"):
        uses = [
            task["vars"]["unit_tls"] for task in yaml.safe_load(file.read_text()) if "unit_tls" in task.get("vars", {})
        ]
        told.update((file.parts[-3], use["service"]) for use in uses)
    own = services.with_tls(services.OWN_TLS)
    assert_none(
        [
            f"{name}: lacks unit_tls with service: {name} in roles/{name}/tasks/main.yml, for tls: own in {TABLE}"
            for name in own
            if told.get(name) != name
        ]
        + [f"{name}: has unit_tls, and no tls: own in {TABLE}" for name in told.keys() - {*own}]
    )


def test_roles_ask_for_the_outcome_of_units_that_there_are():
    """Of another name, they would learn nothing, and without an error."""
    files = [file for role in (ROOT / "roles").iterdir() for file in role.rglob("*.yml")]
    assert_none(
        f"{file.relative_to(ROOT)}: there is no unit {name} in {TABLE}"
        for file in files
        for name in re.findall(r"stack\.outcome', *'([^'/]+)'", file.read_text())
        if name not in services.UNITS.values()
    )


def test_tls_is_by_the_ways_that_there_are():
    ways = {"", services.OWN_TLS, services.TLS_OF_HOST}
    assert_none(
        f"{name}: tls: {row.tls} in {TABLE} is none of {ways}" for name, row in SERVICES.items() if row.tls not in ways
    )


# --- documents -------------------------------------------------------------------------------------------------------


def test_architecture_has_each_service_in_its_order_with_its_unit_and_ports():
    page = "docs/architecture.md"
    text = (ROOT / page).read_text()
    (sentence,) = re.findall(r"\*\*Run the service roles\*\*.*?\. ", text, re.DOTALL)
    named = re.findall(r"`(\w+)`", sentence)
    units = text.partition("\n## Units")[2]
    wanted = [name for name in SERVICES if name != services.WORKERS]  # "the worker roles"
    rows = {
        name: row.group()
        for name, unit in services.UNITS.items()
        if (row := re.search(rf"^\| `{unit}(?!-).*", units, re.M))
    }
    ports = [
        (name, str(value))
        for name in services.UNITS
        for setting, value in SETTINGS.get(name, {}).items()
        if setting.endswith("_port") and isinstance(value, int)
    ]
    assert_none(
        [f"{name}: lacks in the order of roles in {page}" for name in wanted if name not in named]
        + [
            f"{name}: lacks {unit} in the table of units in {page}"
            for name, unit in services.UNITS.items()
            if name not in rows
        ]
        + [
            f"{name}: lacks port {port} in the table of units in {page}"
            for name, port in ports
            if port not in rows.get(name, "")
        ]
    )
    assert named == wanted, f"the order of roles in {page} is not that of {TABLE}"


def test_roles_that_are_tested_on_labs_have_a_scenario():
    text = (ROOT / "Makefile").read_text()
    roles = " ".join(re.findall(r"^ROLES_ON_\w+ := (.+)$", text, re.MULTILINE)).split()
    assert_none(
        f"{role}: lacks molecule/{role}, which the Makefile names"
        for role in roles
        if not (ROOT / "molecule" / role).is_dir()
    )
