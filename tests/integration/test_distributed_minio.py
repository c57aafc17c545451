"""A testbed over four hosts: nobody on their network hears a secret; MinIO on all of them outlives a host, a rolling
restart and a wrong layout, and grows."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
import shlex
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import docker
import pytest
import yaml
from botocore.config import Config

from .conftest import ROOT, Lab

STORES = ["store1", "store2", "store3", "store4"]
APPLICATION = "store1"  # where people and workers are
ELSEWHERE = {"postgres": "store2", "redis": "store2", "mlflow": "store3", "restapi": "store4"}
BUCKET = "mlflow-tracking"


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An inventory to imitate: the testbed on the first of four hosts, MinIO on all."""
    path = tmp_path_factory.mktemp("inventories") / "stores"
    (path / "group_vars/all").mkdir(parents=True)
    groups = {group: {"hosts": {host: None}} for group, host in ELSEWHERE.items()}
    groups |= {
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


@pytest.fixture(scope="module")
def stores(inventory: str) -> Iterator[Lab]:
    lab = Lab(ROOT / ".cache/integration/stores")
    lab.down() if lab.inventory.exists() else None
    lab.up(like=inventory)
    try:
        lab.init()
        yield lab
    finally:
        lab.down()


@pytest.fixture
def s3(stores: Lab):
    """The clients' way, through nginx, without another try when a request fails."""
    hosts = yaml.safe_load((stores.inventory / "lab.yml").read_text())["all"]["hosts"]
    return boto3.client(
        "s3",
        endpoint_url=f"https://{hosts[APPLICATION]['ansible_host']}:39000",
        verify=str(stores.inventory.resolve() / "ca/ca.crt"),
        aws_access_key_id="dioptra-admin",
        aws_secret_access_key=stores.secrets()["topology_secret_minio_root"],
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=60),
    )


def server(stores: Lab, host: str = APPLICATION) -> dict:
    """What the server on this host says of itself and sees of the others."""
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
    """Writes and reads objects until it is told to stop; remembers what it wrote and what failed."""

    def __init__(self, s3) -> None:
        super().__init__()
        self.s3, self.over = s3, threading.Event()
        self.written: dict[str, str] = {}
        self.failures: list[str] = []

    def run(self) -> None:
        while not self.over.is_set():
            # Every tenth is large enough to be sent in parts.
            size = 200_000 if len(self.written) % 10 else 12_000_000
            body, key = secrets.token_bytes(size), f"artifacts/{self.name}/{len(self.written)}"
            try:
                self.s3.upload_fileobj(io.BytesIO(body), BUCKET, key)
                self.written[key] = hashlib.sha256(body).hexdigest()
                self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            except Exception as error:
                self.failures.append(f"{key}: {error}")

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


def test_four_hosts_become_one_pool(stores: Lab) -> None:
    stores.converge()
    again = stores.converge()
    assert again.count("changed") == 0, again.output
    assert stores.converge("--check").count("changed") == 0


@contextmanager
def capture(stores: Lab, path: Path) -> Iterator[None]:
    """Keeps every frame on the lab's network in a file, by a container that can see them."""
    client = docker.from_env()
    (network,) = client.networks.list(filters={"label": f"mlfleet.lab={stores.inventory.name}"})
    image = client.containers.list(filters={"label": f"mlfleet.lab={stores.inventory.name}"})[0].image
    container = client.containers.run(
        image,
        ["python3", "-c", CAPTURE, f"br-{network.id[:12]}"],
        detach=True,
        network_mode="host",
        cap_add=["NET_RAW", "NET_ADMIN"],
        init=True,
        volumes={str(path): {"bind": "/capture", "mode": "rw"}},
        labels={"mlfleet.lab": stores.inventory.name + "-capture"},
    )
    try:
        while not (path / "frames").exists():
            time.sleep(0.2)
        yield
    finally:
        container.stop()
        assert container.logs().decode().splitlines() == ["0 frames lost"]
        container.remove()


CAPTURE = """
import signal, socket, struct, sys

def end(*_arguments):
    raise SystemExit

signal.signal(signal.SIGTERM, end)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
wire.setsockopt(socket.SOL_SOCKET, 33, 256 * 2**20)  # SO_RCVBUFFORCE
wire.bind((sys.argv[1], 0))
# A bridge shows what its hosts say to each other only when it is asked for everything.
everything = struct.pack("iHH8s", socket.if_nametoindex(sys.argv[1]), 1, 0, b"")  # PACKET_MR_PROMISC
wire.setsockopt(263, 1, everything)  # SOL_PACKET, PACKET_ADD_MEMBERSHIP
with open("/capture/frames", "wb") as file:
    try:
        while True:
            frame = wire.recv(2**18)
            file.write(struct.pack("I", len(frame)) + frame)
    finally:
        wire.setblocking(False)
        print(struct.unpack("II", wire.getsockopt(263, 6, 8))[1], "frames lost")  # PACKET_STATISTICS
"""


def tcp_ports(heard: bytes) -> set[int]:
    """The ports that frames with TCP over IPv4 went to."""
    ports, start = set(), 0
    while start < len(heard):
        (length,) = struct.unpack_from("I", heard, start)
        frame = heard[start + 4 : start + 4 + length]
        if frame[12:14] == b"\x08\x00" and frame[23] == 6:
            header = 4 * (frame[14] & 15)
            ports.add(int.from_bytes(frame[14 + header + 2 : 14 + header + 4]))
        start += 4 + length
    return ports


def test_nobody_on_the_network_hears_a_secret(stores: Lab, tmp_path: Path) -> None:
    with capture(stores, tmp_path):
        stores.verify()
        stores.converge("--tags", "redis,postgres,minio,mlflow,restapi,nginx")
    heard = (tmp_path / "frames").read_bytes()
    ports = tcp_ports(heard)
    assert ports >= {5432, 6379, 5000, 5001, 9000}, ports
    words = {"PING": b"\r\nPING\r\n", "SELECT": b"SELECT ", "Authorization": b"uthorization:", "HTTP": b" HTTP/1.1\r\n"}
    words |= {name: value.encode() for name, value in stores.secrets().items()}
    print(f"{len(heard) / 1e6:.1f} MB heard, {len(words)} words searched")
    assert [name for name, word in words.items() if word in heard] == []


GREET_REDIS = """
import socket, ssl, sys

context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
if len(sys.argv) > 2:
    context.load_cert_chain("/etc/mlfleet/tls/host.crt", "/etc/mlfleet/tls/host.key")
with context.wrap_socket(socket.create_connection((sys.argv[1], 6379), timeout=10)) as redis:
    redis.sendall(b"PING\\r\\n")
    print(redis.recv(100))
"""


def test_client_has_to_show_a_certificate(stores: Lab) -> None:
    hosts = yaml.safe_load((stores.inventory / "lab.yml").read_text())["all"]["hosts"]
    address = hosts[ELSEWHERE["redis"]]["ansible_host"]
    greet = f"sudo python3 -c {shlex.quote(GREET_REDIS)} {address}"
    assert "NOAUTH" in stores.ssh(f"{greet} with-certificate", host=APPLICATION)
    refused = stores.ssh(f"{greet} 2>&1 || true", host=APPLICATION)
    assert "NOAUTH" not in refused and re.search("EOF|CERTIFICATE_REQUIRED|reset", refused), refused


def test_changed_layout_is_refused(stores: Lab) -> None:
    for volumes in (["/srv/drive1", "/srv/other"], ["/srv/drive2", "/srv/drive1"]):
        run = stores.playbook(
            "--limit", "minio", "-e", yaml.safe_dump({"minio_volumes": volumes}, default_flow_style=True)
        )
        assert run.code != 0 and run.count("changed") == 0
        assert "pool 1 had /srv/drive1, /srv/drive2 on 4 hosts, and is declared" in " ".join(run.output.split())


def test_reads_and_writes_go_on_without_one_host(stores: Lab, s3) -> None:
    stores.ssh("sudo systemctl stop minio", host="store3")
    writer = Writer(s3)
    writer.start()
    threading.Event().wait(10)
    writer.stop()
    stores.ssh("sudo systemctl start minio", host="store3")
    assert writer.failures == []
    assert len(writer.written) > 10
    # A host that starts says that objects do not exist until it has found the others; nginx then asks those.
    writer.read_back()
    while any(server(stores, host)["drives"]["offline"] for host in STORES):
        time.sleep(1)
    writer.read_back()


def test_rolling_restart_fails_no_request(stores: Lab, s3) -> None:
    writer = Writer(s3)
    writer.start()
    run = stores.playbook(playbook="playbooks/restart_minio.yml")
    writer.stop()
    assert run.code == 0, run.output[-4000:]
    assert run.count("changed") == len(STORES) * 3  # drained, restarted, in use again
    assert stores.converge("--limit", "minio,nginx").count("changed") == 0
    print(f"{len(writer.written)} objects written in the rolling restart, {len(writer.failures)} requests failed")
    assert writer.failures == []
    writer.read_back()


def test_second_pool_is_added_and_cannot_vanish(stores: Lab, s3) -> None:
    key, body = "artifacts/before-the-second-pool", secrets.token_bytes(100_000)
    s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    first = {"hosts": STORES, "volumes": ["/srv/drive1", "/srv/drive2"]}
    second = {"hosts": STORES, "volumes": ["/srv/drive3", "/srv/drive4"]}
    stores.converge("--limit", "minio", "-e", json.dumps({"minio_pools": [first, second]}))
    assert server(stores)["pools"] == 2
    assert server(stores)["drives"] == {"online": 16, "offline": 0}
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
    run = stores.playbook("--limit", "minio")
    assert run.code != 0 and run.count("changed") == 0
    assert "pool 2 had /srv/drive3, /srv/drive4 on 4 hosts" in " ".join(run.output.split())
