"""Data on a bare host, and its users in containers on another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Lab

DATA, APPLICATION = "data", "application"
IN_CONTAINERS = ["redis", "mlflow", "restapi", "nginx"]


@pytest.fixture
def mixed() -> Iterator[Lab]:
    groups = {
        **{group: [DATA] for group in ("postgres", "minio")},
        **{group: [APPLICATION] for group in [*IN_CONTAINERS, "worker_tensorflow_cpu"]},
    }
    settings = {
        "topology_runtime": "docker",
        "topology_postgres_runtime": "bare",
        "topology_minio_runtime": "bare",
        "restapi_gunicorn_workers": 2,
        "mlflow_workers": 2,
    }
    with Lab.anew("mixed", groups, "--docker-inside", **settings) as lab:
        yield lab


@pytest.mark.fleet
def test_containers_use_what_another_host_has_bare(mixed: Lab) -> None:
    predicted = mixed.converge("--check")
    assert mixed.converge().count("changed") == predicted.count("changed") > 40
    assert mixed.converge().count("changed") == 0
    assert mixed.converge("--check").count("changed") == 0
    assert mixed.ssh("command -v docker; true", host=DATA) == ""
    assert len(mixed.ssh("sudo docker ps --quiet", host=APPLICATION).split()) == len(IN_CONTAINERS) + 1
    mixed.verify()
