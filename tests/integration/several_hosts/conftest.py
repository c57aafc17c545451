"""A testbed over three hosts, with MinIO on all of them, and MLflow and the REST API on two; its tests share it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..conftest import PLAIN_WORKER, Lab

STORES = ["store1", "store2", "store3"]
APPLICATION = "store1"  # the side of users and workers
DATABASE = "store2"
SERVERS = ["store2", "store3"]


@pytest.fixture(scope="package")
def stores() -> Iterator[Lab]:
    groups = {
        "postgres": [DATABASE],
        "redis": [DATABASE],
        "mlflow": SERVERS,
        "restapi": SERVERS,
        "nginx": [APPLICATION],
        "minio": STORES,
        "worker_tensorflow_cpu": [APPLICATION],
    }
    settings = {
        **PLAIN_WORKER,
        "minio_volumes": ["/srv/drive1", "/srv/drive2"],
        "topology_nginx_listen_address": "0.0.0.0",  # the test comes from outside
        "topology_tls_client_certificates": True,
        "restapi_gunicorn_workers": 2,
        "mlflow_workers": 2,
    }
    with Lab.anew("stores", groups, **settings) as lab:
        lab.converge()
        yield lab
