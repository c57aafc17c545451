"""A unit goes with all that is its own, and what another one names stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.files import Item
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import removal
from ansible_collections.mlfleet.stack.plugins.plugin_utils import services

GROUPS = {"all": ["a", "b"], "mlflow": ["a"], "pgadmin": [], "workers": ["b"], "worker_pytorch_cpu": ["b"]}


@pytest.fixture
def host(tmp_path: Path, monkeypatch) -> Path:
    for name in ("units/one.service.d", "config/one", "config/two", "state/one", "opt/one.0123abcd", "opt/uv"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "opt/one").symlink_to("one.0123abcd")
    for name in (
        "units/one.service",
        "units/one.service.d/mlfleet.conf",
        "config/one/settings",
        "config/one.env",
        "shared.sh",
    ):
        (tmp_path / name).write_text("mine")
    (tmp_path / "units/two.service").touch()
    monkeypatch.setattr(removal, "UNITS", tmp_path / "units")
    return tmp_path


def own(host: Path, *names: str) -> list[str]:
    items = [Item(str(host / name)) for name in names]
    items += [Item(str(host / "config/one"), "directory", purge=True), Item(str(host / "state/one"), "directory")]
    options = {
        "run": {"template": None},
        "home": str(host / "state/one"),
        "tls": None,
        "image_file": None,
        "programs": [str(host / "opt/one")],
    }
    return [str(path.relative_to(host)) for path in removal.own(items, options)]


def test_files_directories_and_trees_of_an_environment_go(host: Path) -> None:
    assert own(host, "units/one.service", "units/one.service.d/mlfleet.conf", "config/one.env", "config/gone") == [
        "config/one",
        "config/one.env",
        "opt/one",
        "opt/one.0123abcd",
        "units/one.service",
        "units/one.service.d",
    ]


def test_file_that_another_unit_names_stays(host: Path) -> None:
    (host / "units/two.service").write_text(f"ExecStop=/bin/sh {host}/shared.sh 20")
    assert "shared.sh" not in own(host, "shared.sh")
    (host / "units/two.service").write_text(f"ExecStop=/bin/sh {host}/shared.sh.old")
    assert "shared.sh" in own(host, "shared.sh")


def test_service_of_a_unit() -> None:
    names = {"pgadmin": "pgadmin", "dioptra-worker-pytorch-gpu@": "worker_pytorch_gpu", "dioptra-restapi": "restapi"}
    assert {unit: services.group_of(unit) for unit in names} == names
    assert services.group_of("postgresql@15-main") == "postgres"
    assert services.group_of("container-mine") == ""


def test_declared_units_are_no_leftovers() -> None:
    there = ["pgadmin", "dioptra-worker-vision@", "container-mine", "mlflow"]
    assert services.leftovers(there, ["mlflow", "dioptra-worker-vision@"]) == ["pgadmin"]
    assert services.to_remove(there, "pgadmin", "a") == ["pgadmin"]
    assert services.to_remove(there, "redis", "a") == []
    assert services.to_remove(there, "a", "a") == ["frontend", "worker_vision", "pgadmin", "mlflow"]


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("pgadmin", "pgadmin", ""),
        ("pgadmin", "mlflow", "remove_data: mlflow is not what is removed, pgadmin"),
        ("mlflow", "", "mlflow is still wanted on a: take them out of its group in the inventory first"),
        ("b", "", "b is still in worker_pytorch_cpu: take it out of these groups in the inventory first"),
        ("worker_vision", "", ""),
        ("workers", "", "remove: workers is neither a host nor a service; services are postgres,"),
        ("", "", "remove: it is neither a host nor a service"),
    ],
)
def test_what_is_still_wanted_is_not_removed(name: str, data: str, problem: str) -> None:
    assert services.removal_problem(name, data, GROUPS).startswith(problem)
    assert bool(services.removal_problem(name, data, GROUPS)) == bool(problem)
