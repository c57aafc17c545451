"""A testbed over four hosts, with MinIO on all of them, and MLflow and the REST API on two; its tests share it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from ..conftest import ROOT, Lab

STORES = ["store1", "store2", "store3", "store4"]
APPLICATION = "store1"  # where people and workers are
DATABASE = "store2"
SERVERS = ["store3", "store4"]


@pytest.fixture(scope="package")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An inventory to imitate."""
    path = tmp_path_factory.mktemp("inventories") / "stores"
    (path / "group_vars/all").mkdir(parents=True)
    groups = {
        "postgres": {"hosts": {DATABASE: None}},
        "redis": {"hosts": {DATABASE: None}},
        "mlflow": {"hosts": dict.fromkeys(SERVERS)},
        "restapi": {"hosts": dict.fromkeys(SERVERS)},
        "nginx": {"hosts": {APPLICATION: None}},
        "minio": {"hosts": dict.fromkeys(STORES)},
        "workers": {"children": {"worker_tensorflow_cpu": {"hosts": {APPLICATION: None}}}},
    }
    (path / "hosts.yml").write_text(
        yaml.safe_dump({"all": {"hosts": {host: {} for host in STORES}, "children": groups}}, sort_keys=False)
    )
    settings = {
        "minio_volumes": ["/srv/drive1", "/srv/drive2"],
        "minio_root_drives_allowed": True,
        "nginx_listen_address": "0.0.0.0",  # the test comes from outside
        "topology_tls_client_certificates": True,
        "restapi_gunicorn_workers": 2,
        "mlflow_workers": 2,
    }
    (path / "group_vars/all/main.yml").write_text(yaml.safe_dump(settings))
    return str(path)


@pytest.fixture(scope="package")
def stores(inventory: str) -> Iterator[Lab]:
    lab = Lab(ROOT / ".cache/integration/stores")
    lab.down() if lab.inventory.exists() else None
    lab.up(like=inventory)
    try:
        lab.init()
        lab.converge()
        yield lab
    finally:
        lab.down()
