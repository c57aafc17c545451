"""Data on a bare host, and what uses it in containers on another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from .conftest import ROOT, Lab

DATA, APPLICATION = "data", "application"
IN_CONTAINERS = ["redis", "mlflow", "restapi", "nginx"]


@pytest.fixture
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    like = tmp_path_factory.mktemp("inventories") / "mixed"
    (like / "group_vars/all").mkdir(parents=True)
    groups = {
        **{name: {"hosts": {DATA: None}} for name in ("postgres", "minio")},
        **{name: {"hosts": {APPLICATION: None}} for name in IN_CONTAINERS},
        "workers": {"children": {"worker_tensorflow_cpu": {"hosts": {APPLICATION: None}}}},
    }
    hosts = {DATA: None, APPLICATION: None}
    (like / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "children": groups}}, sort_keys=False))
    settings = {
        "topology_runtime": "docker",
        "topology_postgres_runtime": "bare",
        "topology_minio_runtime": "bare",
        "restapi_gunicorn_workers": 2,
        "mlflow_workers": 2,
    }
    (like / "group_vars/all/main.yml").write_text(yaml.safe_dump(settings))
    lab = Lab(ROOT / ".cache/integration/mixed")
    lab.down() if lab.inventory.exists() else None
    lab.up(str(like), "--docker-inside")
    try:
        lab.init()
        yield lab
    finally:
        lab.down()


@pytest.mark.fleet
def test_containers_use_what_another_host_has_bare(mixed: Lab) -> None:
    predicted = mixed.converge("--check")
    assert mixed.converge().count("changed") == predicted.count("changed") > 40
    assert mixed.converge().count("changed") == 0
    assert mixed.converge("--check").count("changed") == 0
    assert mixed.ssh("command -v docker; true", host=DATA) == ""
    assert len(mixed.ssh("sudo docker ps --quiet", host=APPLICATION).split()) == len(IN_CONTAINERS) + 1
    mixed.verify()
