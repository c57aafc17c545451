"""What is watched, from inventory values alone."""

from __future__ import annotations

import base64
import hmac
import json
import re

import bcrypt
import pytest
from ansible_collections.mlfleet.stack.plugins.filter import monitoring, nginx, topology
from ansible_collections.mlfleet.stack.plugins.plugin_utils import services

import mlfleet

SCRAPES = [
    {"job": "node", "hosts": ["a", "b"], "port": 9100},
    {"job": "worker", "hosts": ["b"], "port": 9809, "instances": {"b": 2}},
    {"job": "redis", "hosts": ["c"], "port": 9121},
]
HOSTVARS = {
    "a": {"ansible_host": "192.0.2.1", "group_names": ["redis", "exporters"]},
    "b": {"ansible_host": "192.0.2.2", "group_names": ["worker_custom", "postgres"], "count": 2},
}


def test_each_instance_has_the_next_port():
    assert monitoring.scrape_modules(SCRAPES, "b") == [
        {"name": "node", "suffix": "", "port": 9100, "path": "/metrics"},
        {"name": "worker_1", "suffix": ":1", "port": 9809, "path": "/metrics"},
        {"name": "worker_2", "suffix": ":2", "port": 9810, "path": "/metrics"},
    ]
    assert monitoring.setting_of(["a", "b"], HOSTVARS, "count", 1) == {"a": 1, "b": 2}


def test_a_command_is_asked_in_place_of_a_port():
    scrapes = [{"job": "mlfleet", "hosts": ["a"], "command": "/usr/bin/python3 '/opt/a b.py'", "interval_seconds": 60}]
    (module,) = monitoring.scrape_modules(scrapes, "a")
    assert module == {"name": "mlfleet", "suffix": "", "command": ["/usr/bin/python3", "/opt/a b.py"]}
    (target,) = monitoring.scrape_targets(scrapes, ["a", "b"], "", HOSTVARS)["mlfleet"]
    assert target["labels"] == {"__param_module": "mlfleet", "host": "a", "instance": "a"}


def test_mark_of_a_secret_changes_with_it_and_shows_nothing():
    mark, other = (
        monitoring.secret_marks({"topology_secret_redis": value}, "/etc/marks")[0] for value in ("a" * 32, "b" * 32)
    )
    assert mark["path"] == "/etc/marks/redis"
    assert mark["content"] != other["content"] and len(mark["content"]) == 5
    assert (mark["mode"], mark["sensitive"]) == ("0600", True)


def test_version_is_that_of_the_collection(tmp_path, monkeypatch):
    assert monitoring.collection_version() == mlfleet.__version__
    monkeypatch.setattr(monitoring, "__file__", str(tmp_path / "plugins/filter/monitoring.py"))
    (tmp_path / "MANIFEST.json").write_text('{"collection_info": {"version": "1.2.3"}}')
    assert monitoring.collection_version() == "1.2.3"


def test_targets_are_those_of_watched_hosts():
    targets = monitoring.scrape_targets(SCRAPES, ["a", "b"], "", HOSTVARS)
    assert [target["address"] for target in targets["node"]] == ["192.0.2.1", "192.0.2.2"]
    assert [target["labels"] for target in targets["worker"]] == [
        {"__param_module": "worker_1", "host": "b", "instance": "b:1"},
        {"__param_module": "worker_2", "host": "b", "instance": "b:2"},
    ]
    assert targets["redis"] == []  # its host is not watched
    assert monitoring.scrape_targets(SCRAPES, ["a"], "127.0.0.1", HOSTVARS)["node"][0]["address"] == "127.0.0.1"
    assert monitoring.scrape_targets(SCRAPES, [], "", HOSTVARS)["node"] == []


def test_each_service_with_a_unit_is_declared_and_known_by_its_name():
    declared = monitoring.declared_units(["a", "b"], HOSTVARS)
    assert [(unit["host"], unit["service"]) for unit in declared] == [
        ("a", "redis"),
        ("a", "exporters"),
        ("b", "postgres"),
    ]
    idle = {"a": {"group_names": ["serving_worker"], "topology_serving_worker_count": 0}}
    assert monitoring.declared_units(["a"], idle) == []
    known = monitoring.unit_services()
    assert {"workers", "containers", *services.UNITS} == set(known.values())
    for unit, service in {
        "postgresql@15-main.service": "postgres",
        "mlfleet-drift.timer": "drift",
        "prometheus.service": "prometheus",
        "prometheus-alertmanager.service": "alertmanager",
        "dioptra-worker-pytorch-cpu@1.service": "workers",
    }.items():
        assert [name for pattern, name in known.items() if re.fullmatch(pattern, unit)] == [service], unit


def test_units_of_a_host_are_those_of_its_groups():
    pattern = monitoring.units_pattern(["redis", "worker_tensorflow_cpu", "workers"])
    assert re.fullmatch(pattern, "redis-server.service")
    assert re.fullmatch(pattern, "dioptra-worker-tensorflow-cpu@2.service")
    assert not re.fullmatch(pattern, "minio.service")
    of_any_name = monitoring.units_pattern(["containers", "worker_custom"])
    for unit in ("dioptra-worker-vision@1.service", "container-labels.service"):
        assert re.fullmatch(of_any_name, unit)


def test_pages_are_those_that_the_host_reaches():
    scrapes = [{"job": "pages", "hosts": ["a", "b"], "port": 9115}]
    doors = monitoring.scrape_targets(scrapes, ["a", "b"], "", HOSTVARS)["pages"]
    pages = [
        {"site": "mlflow", "service": "mlflow", "port": 35000, "path": "/x"},
        {"site": "minio", "service": "minio", "port": 39000, "is_page": False, "health": "/live"},
    ]
    listen = {"a": "127.0.0.1", "b": "0.0.0.0"}
    targets = monitoring.page_targets(doors, "a", pages, listen, "127.0.0.1", HOSTVARS, "https", "ml")
    assert [(target["labels"]["host"], target["labels"]["__param_target"]) for target in targets] == [
        ("a", "https://127.0.0.1:35000/x"),
        ("a", "https://127.0.0.1:39000/live"),
        ("b", "https://192.0.2.2:35000/x"),
        ("b", "https://192.0.2.2:39000/live"),
    ]
    assert {target["address"] for target in targets} == {"192.0.2.1"}
    assert {target["labels"]["__param_hostname"] for target in targets} == {"ml"}
    # Who is not on that host does not reach its loopback interface, and who has no exporter asks for nothing.
    targets = monitoring.page_targets(doors, "b", pages, listen, "127.0.0.1", HOSTVARS, "https", "ml")
    assert [target["labels"]["host"] for target in targets] == ["b", "b"]
    assert monitoring.page_targets(doors, "c", pages, listen, "127.0.0.1", HOSTVARS, "https", "ml") == []


@pytest.mark.parametrize(
    ("site", "listen", "balancer", "here", "elsewhere"),
    [
        ({}, "127.0.0.1", "127.0.0.1", "127.0.0.1", ""),
        ({}, "127.0.0.2", "127.0.0.1", "127.0.0.2", ""),
        ({}, "0.0.0.0", "127.0.0.1", "127.0.0.1", "192.0.2.1"),
        ({}, "203.0.113.5", "127.0.0.1", "203.0.113.5", "203.0.113.5"),
        ({"listen_address": "203.0.113.6"}, "127.0.0.1", "127.0.0.1", "203.0.113.6", "203.0.113.6"),
        ({"listen_address": "127.0.0.1"}, "0.0.0.0", "127.0.0.1", "127.0.0.1", ""),
        # Where hosts reach the site by nginx, it listens for them.
        ({"for_hosts": True}, "127.0.0.1", "127.0.0.1", "127.0.0.1", ""),
        ({"for_hosts": True}, "127.0.0.1", "192.0.2.1", "127.0.0.1", "192.0.2.1"),
        ({"for_hosts": True}, "203.0.113.5", "192.0.2.1", "127.0.0.1", "192.0.2.1"),
        ({"for_hosts": True}, "203.0.113.5", "203.0.113.5", "203.0.113.5", "203.0.113.5"),
    ],
)
def test_page_is_asked_for_where_it_listens(site, listen, balancer, here, elsewhere):
    sites = [{"name": "minio", "port": 39000, "pages": [{"name": "S3", "service": "minio"}], **site}]
    (served,) = nginx.served(sites, listen, balancer, {"minio": 1})
    assert here == topology.ask_at(served["listen_address"])
    doors = [{"address": host, "labels": {"host": host}} for host in ("a", "b")]
    for asking, expected in {"a": here, "b": elsewhere}.items():
        targets = monitoring.page_targets(
            doors, asking, nginx.pages(sites), {"a": listen}, balancer, HOSTVARS, "https", "ml"
        )
        urls = [target["labels"]["__param_target"] for target in targets]
        assert urls == ([f"https://{expected}:39000/"] if expected else [])


def test_token_is_signed_and_stays_the_same():
    header, claims, signature = (
        base64.urlsafe_b64decode(part + "==") for part in monitoring.minio_token("prometheus", "secret").split(".")
    )
    assert json.loads(header)["alg"] == "HS512"
    assert json.loads(claims) == {"iss": "prometheus", "sub": "prometheus"}
    text = monitoring.minio_token("prometheus", "secret").rpartition(".")[0]
    assert signature == hmac.digest(b"secret", text.encode(), "sha512")


@pytest.mark.parametrize("password", ["horse-battery", "b" * 40])
def test_hash_verifies_and_stays_the_same(password):
    made = monitoring.bcrypt_hash(password, "a")
    assert bcrypt.checkpw(password.encode(), made.encode())
    assert made == monitoring.bcrypt_hash(password, "a") != monitoring.bcrypt_hash(password, "b")
