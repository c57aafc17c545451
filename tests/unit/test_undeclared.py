"""Undeclared units, containers and ports are reported; those that a host has by its groups are not."""

from __future__ import annotations

import socket

import pytest
from ansible_collections.mlfleet.stack.plugins.filter.topology import units
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import systemd
from ansible_collections.mlfleet.stack.plugins.modules import undeclared

CONTAINER = "a" * 64


def test_groups_say_which_units_a_host_has() -> None:
    groups = ["redis", "worker_tensorflow_cpu", "worker_custom", "workers", "lab"]
    assert units(groups, ["vision"], ["pages"]) == [
        "redis-server",
        "dioptra-worker-tensorflow-cpu@",
        "dioptra-worker-vision@",
        "container-pages",
    ]


def test_units_of_our_names_and_making_are_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(systemd, "UNITS", tmp_path)
    texts = {
        "dioptra-worker-old@": "[Service]",
        "dioptra-restapi": "[Service]",
        "redis-server": "# Made by mlfleet; ...",
        "somebodys": "[Service]",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.service").write_text(text)
    (tmp_path / "nginx.service.d").mkdir()
    (tmp_path / "nginx.service.d/mlfleet.conf").write_text("# Made by mlfleet; ...")
    told = list(undeclared.stray_units(["dioptra-restapi"], ["dioptra-"], {"nginx": "playbook nginx"}))
    names = ["dioptra-worker-old@.service", "nginx.service", "redis-server.service"]
    assert [stray["name"] for stray in told] == names
    assert told[1]["remove"] == "playbook nginx"
    assert "systemctl disable" in told[0]["remove"]


def test_containers_of_declared_units_and_of_others_are_no_news() -> None:
    found = {"1": ("mlfleet-w-1", "w@1"), "2": ("gitlab", ""), "3": ("mlfleet-old", "old")}
    assert [stray["name"] for stray in undeclared.stray_containers(found, ["w@"])] == ["mlfleet-old"]


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n", "postgresql@15-main"),
        (f"0::/system.slice/docker-{CONTAINER}.scope\n", "redis-server"),
        (f"1:name=systemd:/docker/{CONTAINER}\n", "redis-server"),
        (f"1:name=systemd:/docker/{'b' * 64}/system.slice/nginx.service\n", "nginx"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", ""),
    ],
)
def test_unit_of_a_process_is_in_its_control_group(cgroup: str, unit: str) -> None:
    assert undeclared.unit_of(cgroup, {CONTAINER: ("mlfleet-redis-server", "redis-server")}) == unit


def test_directory_with_secrets_that_was_left_is_told(tmp_path) -> None:
    (stray,) = undeclared.stray_directories([str(tmp_path), str(tmp_path / "gone")])
    assert stray["name"] == str(tmp_path)


def test_ports_that_the_network_reaches_are_told() -> None:
    with socket.create_server(("0.0.0.0", 0)) as open_one, socket.create_server(("127.0.0.1", 0)) as inner_one:
        public, inner = (server.getsockname()[1] for server in (open_one, inner_one))
        names = " ".join(stray["name"] for stray in undeclared.stray_ports([], [], {}))
        assert f"0.0.0.0:{public} (" in names and str(inner) not in names
        assert str(public) not in " ".join(stray["name"] for stray in undeclared.stray_ports([], [public], {}))
