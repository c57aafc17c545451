"""MinIO on three hosts survives the loss of one, a rolling restart and a wrong layout, and can be extended."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import boto3
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, SSLError

from ..conftest import Lab
from .conftest import APPLICATION, STORES

BUCKET = "mlflow-tracking"
T = TypeVar("T")


@pytest.fixture
def s3(stores: Lab):
    """Return a client that connects through nginx, without retries of failed requests."""
    return boto3.client(
        "s3",
        endpoint_url=f"https://{stores.address(APPLICATION)}:39000",
        verify=str(stores.inventory.resolve() / "ca/ca.crt"),
        aws_access_key_id="dioptra-admin",
        aws_secret_access_key=stores.secrets()["topology_secret_minio_root"],
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=60),
    )


def server(stores: Lab, host: str = APPLICATION) -> dict:
    """Return the server's state on this host, and what it sees of the others."""
    options = {
        "endpoint": "https://127.0.0.1:9000",
        "ca_file": "/etc/ssl/certs/ca-certificates.crt",
        "access_key": "dioptra-admin",
        "secret_key": "{{ topology_secret_minio_root }}",
        "gather": ["server"],
    }
    python = "ansible_python_interpreter=/opt/mlfleet/tools/bin/python"
    module = ("-m", "mlfleet.stack.minio_info", "-a", json.dumps(options))
    environment = {**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    command = ("ansible", host, "-i", stores.name, "--become", "--one-line", "-e", python, *module)
    return json.loads(stores.command(*command, env=environment).stdout.partition("=> ")[2])["server"]


class Writer(threading.Thread):
    """Writes and reads objects until it is stopped; records what it wrote and what failed.

    A server may close an idle connection just as a client sends a request on it, as nginx does at a reload; the client
    then repeats it (RFC 9112, section 9.3.1). Whether it notices while sending or while waiting is chance.
    """

    CLOSED_WHILE_SENDING = "TLS/SSL connection has been closed (EOF)"

    def __init__(self, s3) -> None:
        super().__init__()
        self.s3, self.over = s3, threading.Event()
        self.written: dict[str, str] = {}
        self.failures: list[str] = []
        self.asked_again = 0

    def ask(self, write_or_read: Callable[[], T]) -> T:
        try:
            return write_or_read()
        except (ConnectionClosedError, SSLError) as error:
            if isinstance(error, SSLError) and self.CLOSED_WHILE_SENDING not in str(error):
                raise
            self.asked_again += 1
            return write_or_read()

    def run(self) -> None:
        while not self.over.is_set():
            # Every tenth is large enough to be sent in parts.
            size = 200_000 if len(self.written) % 10 else 12_000_000
            key = f"artifacts/{self.name}/{len(self.written)}"
            try:
                self.write_and_read(key, secrets.token_bytes(size))
            except Exception as error:
                self.failures.append(f"{key}: {error}")

    def write_and_read(self, key: str, body: bytes) -> None:
        self.ask(lambda: self.s3.upload_fileobj(io.BytesIO(body), BUCKET, key))
        self.written[key] = hashlib.sha256(body).hexdigest()
        self.ask(lambda: self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def stop(self) -> None:
        self.over.set()
        self.join()

    def read_back(self) -> None:
        lost = {}
        for key, digest in self.written.items():
            try:
                found = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
                assert hashlib.sha256(found).hexdigest() == digest
            except Exception as error:
                lost[key] = str(error)
        assert lost == {}


def test_changed_layout_is_refused(stores: Lab) -> None:
    for volumes in (["/srv/drive1", "/srv/other"], ["/srv/drive2", "/srv/drive1"]):
        run = stores.playbook(
            "--limit", "minio", "-e", yaml.safe_dump({"minio_volumes": volumes}, default_flow_style=True)
        )
        assert run.code != 0 and run.count("changed") == 0
        assert "pool 1 had /srv/drive1, /srv/drive2 on 3 hosts, and is declared" in " ".join(run.output.split())


def test_reads_and_writes_go_on_without_one_host(stores: Lab, s3) -> None:
    stores.ssh("sudo systemctl stop minio", host="store3")
    writer = Writer(s3)
    writer.start()
    threading.Event().wait(10)
    writer.stop()
    stores.ssh("sudo systemctl start minio", host="store3")
    assert writer.failures == []
    assert len(writer.written) > 10
    # A starting host answers that objects do not exist until it has found the others; nginx then asks those.
    writer.read_back()
    while any(server(stores, host)["drives"]["offline"] for host in STORES):
        time.sleep(1)
    writer.read_back()
    # Writes through that host may fail until it has retried drives that it did not reach at first.
    while server(stores)["uptime_seconds"] < 40:
        time.sleep(1)


@pytest.mark.fleet
def test_rolling_restart_fails_no_request(stores: Lab, s3) -> None:
    writer = Writer(s3)
    writer.start()
    run = stores.playbook(playbook="playbooks/restart_minio.yml")
    writer.stop()
    assert run.code == 0, run.output[-4000:]
    assert run.count("changed") == len(STORES) * 3  # drained, restarted, in use again
    assert stores.converge("--limit", "minio,nginx").count("changed") == 0
    print(
        f"{len(writer.written)} objects written in the rolling restart, {len(writer.failures)} requests failed, "
        f"{writer.asked_again} asked again"
    )
    assert writer.failures == []
    assert writer.asked_again <= len(STORES) * 2  # at most one at each reload; an error would cause more
    writer.read_back()


@pytest.mark.fleet
def test_second_pool_is_added_and_cannot_vanish(stores: Lab, s3) -> None:
    key, body = "artifacts/before-the-second-pool", secrets.token_bytes(100_000)
    s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    first = {"hosts": STORES, "volumes": ["/srv/drive1", "/srv/drive2"]}
    second = {"hosts": STORES, "volumes": ["/srv/drive3", "/srv/drive4"]}
    stores.converge("--limit", "minio", "-e", json.dumps({"minio_pools": [first, second]}))
    assert server(stores)["pools"] == 2
    assert server(stores)["drives"] == {"online": 12, "offline": 0}
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
    run = stores.playbook("--limit", "minio")
    assert run.code != 0 and run.count("changed") == 0
    assert "pool 2 had /srv/drive3, /srv/drive4 on 3 hosts" in " ".join(run.output.split())
