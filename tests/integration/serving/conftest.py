"""The serving stack on one host, and a second host that is prepared for its API; the tests share them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from ..conftest import ROOT, Lab

HOST, SECOND = "serving", "second"
ACCOUNT = """
import os
os.environ.update(MLFLOW_TRACKING_URI={url!r}, MLFLOW_TRACKING_USERNAME="admin", MLFLOW_TRACKING_PASSWORD={password!r})
os.environ["REQUESTS_CA_BUNDLE"] = "/etc/ssl/certs/ca-certificates.crt"
"""


class Serving(Lab):
    """The lab, and ways to act on its stack."""

    def python(self, script: str) -> str:
        """Run it as a person who trains models."""
        url, password = f"https://{self.address(HOST)}:35000", self.secrets()["topology_secret_mlflow_admin"]
        account = ACCOUNT.format(url=url, password=password)
        return self.ssh("/opt/mlfleet/serving-api/bin/python -", HOST, input=account + script)

    def sql(self, query: str) -> int:
        return int(self.ssh(f"cd / && sudo -u postgres psql -qtA serving -c {json.dumps(query)}", HOST))

    def declare(self, **settings: object) -> None:
        """Converge with further settings, which stay."""
        file = self.inventory / "group_vars/all/test.yml"
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
        assert self.converge().count("changed") > 0

    def renew(self) -> None:
        """Replace the hosts' certificates, by a further name in them."""
        names = {"topology_tls_names_extra": [f"renewed-{time.time_ns()}.example.org"]}
        assert self.converge("-e", json.dumps(names)).count("changed") > 0


def like_serving(directory: Path) -> str:
    """Write an inventory like the example's, with a second host that is in no group yet."""
    like = directory / "serving"
    shutil.copytree(ROOT / "inventories/serving", like)
    inventory = yaml.safe_load((like / "hosts.yml").read_text())
    inventory["all"]["hosts"][SECOND] = None
    (like / "hosts.yml").write_text(yaml.safe_dump(inventory, sort_keys=False))
    return str(like)


@pytest.fixture(scope="package")
def serving() -> Iterator[Serving]:
    with (
        TemporaryDirectory() as directory,
        Serving.anew(
            "predict", like_serving(Path(directory)), serving_alias_seconds=1, serving_broker_wait_seconds=55
        ) as lab,
    ):
        lab.converge()
        yield lab


@pytest.fixture(scope="package")
def balanced(serving: Serving) -> Serving:
    """The same with two hosts of the API."""
    groups = {"all": {"children": {"serving_api": {"hosts": {SECOND: None}}}}}
    (serving.inventory / "second.yml").write_text(json.dumps(groups))
    serving.converge()
    return serving
