"""A testbed over three hosts: no secret is visible on their network, every port uses modern TLS and no other is open,
and no client notices when certificates and their authority are replaced."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path

import docker
import pytest
import yaml

from .. import walk
from ..clients import DIOPTRA, MLFLOW, Person, callers, shown
from ..conftest import Lab
from ..tls_scan import modern, scan
from .conftest import APPLICATION, DATABASE, SERVERS, STORES

PAGES = {DIOPTRA: "dioptra", MLFLOW: "mlflow", 39000: "minio", 39001: "minio-console"}
PORTS = {host: {9000: "minio", 9001: "minio-console"} for host in STORES}
PORTS[APPLICATION] |= PAGES
PORTS[DATABASE] |= {5432: "postgres", 6379: "redis"}
for server in SERVERS:
    PORTS[server] |= {5001: "mlflow", 5000: "restapi"}


def test_second_run_changes_nothing(stores: Lab) -> None:
    again = stores.converge()
    assert again.count("changed") == 0, again.output


@contextmanager
def capture(stores: Lab, path: Path) -> Iterator[None]:
    """Record every frame on the lab's network in a file, from a container that can see them."""
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
# A bridge shows the traffic between its hosts only in promiscuous mode.
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
    """Return the destination ports of TCP frames over IPv4."""
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
    greet = f"sudo python3 -c {shlex.quote(GREET_REDIS)} {stores.address(DATABASE)}"
    assert "NOAUTH" in stores.ssh(f"{greet} with-certificate", host=APPLICATION)
    refused = stores.ssh(f"{greet} 2>&1 || true", host=APPLICATION)
    assert "NOAUTH" not in refused and re.search("EOF|CERTIFICATE_REQUIRED|reset", refused), refused


def test_every_port_speaks_modern_tls_only(stores: Lab, tmp_path: Path) -> None:
    services = {
        f"{stores.address(host)}:{port}": (host, port, service)
        for host, ports in PORTS.items()
        for port, service in ports.items()
    }
    pages = [target for target, (host, port, _service) in services.items() if host == APPLICATION and port in PAGES]
    postgres = [target for target, (_host, _port, service) in services.items() if service == "postgres"]
    results = {
        **scan(stores, pages, tmp_path / "pages.json", "--http_headers"),
        **scan(stores, postgres, tmp_path / "postgres.json", "--starttls", "postgres"),
        **scan(stores, services.keys() - {*pages, *postgres}, tmp_path / "others.json"),
    }
    for target, (host, port, service) in services.items():
        row = modern(results[target], f"{host:7} {port:>6} {service:14}", has_hsts=target in pages)
        print(row)


def test_no_door_lets_a_stranger_in(stores: Lab) -> None:
    """The machine that runs the tests is in no inventory."""
    configuration = stores.ssh("sudo cat /etc/nginx/nginx.conf", host=APPLICATION)
    tried = walk.walk(configuration, stores.address(APPLICATION), {name: port for port, name in PAGES.items()})
    for host, ports in PORTS.items():
        services = {port: stores.address(host) for port in ports if port not in PAGES}
        closed = [port for port in walk.SERVICES if port not in ports]
        assert all(walk.is_closed(stores.address(host), port) for port in closed)
        tried += walk.ask_services(services) + len(closed)
    print(f"{tried} requests tried")
    person = Person(stores, stores.address(APPLICATION))  # users with an account can sign in
    person.ask_api()


@pytest.mark.parametrize("host", STORES)
def test_no_other_port_is_open_to_the_network(stores: Lab, host: str) -> None:
    sockets = [line.split()[3].rpartition(":")[::2] for line in stores.ssh("ss -Hltn", host=host).splitlines()]
    reachable = {int(port) for address, port in sockets if not address.startswith(("127.", "[::1]"))}
    # The port for SSH, and the one that redirects to HTTPS.
    assert reachable == {*PORTS[host], 22} | ({30080} if host == APPLICATION else set())


def test_services_of_the_users_own_are_used_as_they_are(stores: Lab, tmp_path: Path) -> None:
    """The same PostgreSQL and Redis, declared as external ones: the other services have no reason to change."""
    shutil.copytree(stores.inventory, tmp_path / "external")
    hosts = tmp_path / "external/hosts.yml"
    inventory = yaml.safe_load(hosts.read_text())
    del inventory["all"]["children"]["postgres"], inventory["all"]["children"]["redis"]
    hosts.write_text(yaml.safe_dump(inventory))
    external = Lab(tmp_path / "external")
    run = external.playbook()
    assert run.code != 0 and run.count("changed") == 0
    assert "mlflow needs group postgres, which has no host" in run.output
    address = stores.address(DATABASE)
    endpoints = {"topology_postgres_host": address, "topology_redis_host": address}
    assert external.converge("--check", "-e", json.dumps(endpoints)).count("changed") == 0


@pytest.mark.fleet
def test_tls_is_switched_off_and_on_as_predicted(stores: Lab) -> None:
    for options in (("-e", "topology_tls_mode=off", "-e", "topology_tls_client_certificates=false"), ()):
        predicted, run = stores.converge(*options, "--check"), stores.converge(*options)
        assert run.count("changed") == predicted.count("changed") > 0
        assert stores.converge(*options, "--check").count("changed") == 0
        stores.verify(*options)


@pytest.mark.fleet
def test_renewal_fails_no_request(stores: Lab) -> None:
    before = {host: shown(stores.address(host), 9000) for host in STORES}
    soon = ("-e", "topology_tls_renew_days=400", "-e", "topology_tls_valid_days=500")
    predicted = stores.converge(*soon, "--check")
    with callers(stores, stores.address(APPLICATION)):
        run = stores.converge(*soon)
    assert run.count("changed") == predicted.count("changed") > 0
    assert all(shown(stores.address(host), 9000) != before[host] for host in STORES)
    assert stores.converge("--check").count("changed") == 0


@pytest.mark.fleet
def test_authority_is_replaced_without_a_failed_request(stores: Lab) -> None:
    before = (stores.inventory / "ca/ca.crt").read_text()
    with callers(stores, stores.address(APPLICATION)):
        run = stores.playbook(playbook="playbooks/rotate_ca.yml")
    assert run.code == 0, run.output[-6000:]
    after = (stores.inventory / "ca/ca.crt").read_text()
    assert after != before
    assert sorted(path.name for path in (stores.inventory / "ca").iterdir()) == ["ca.crt", "ca.key"]
    former = ssl.create_default_context(cadata=before)
    for host, ports in PORTS.items():
        for port in ports.keys() - {5432}:  # it has its own greeting before TLS
            with pytest.raises(ssl.SSLCertVerificationError):
                HTTPSConnection(stores.address(host), port, context=former, timeout=10).connect()
        bundle = stores.ssh("cat /etc/ssl/certs/ca-certificates.crt", host=host)
        assert after.strip() in bundle and before.strip() not in bundle
    stores.verify()
    assert stores.converge("--check").count("changed") == 0


READ_ONLY = "mount --bind {0} {0} && mount -o remount,bind,ro {0}"
TRUSTED, TLS = "/usr/local/share/ca-certificates", "/etc/mlfleet/tls"
# What fails where, and the files that are then in the authority's directory.
FAILING_STEPS = [
    (DATABASE, TRUSTED, "promote", ["ca.crt", "ca.key", "next.crt", "next.key"]),
    (SERVERS[0], TLS, "retire", ["ca.crt", "ca.key", "former.crt", "former.key"]),
    (SERVERS[1], TRUSTED, "finish", ["ca.crt", "ca.key", "former.key", "former.retired"]),
]


@pytest.mark.fleet
def test_replacement_waits_for_the_host_that_fails(stores: Lab) -> None:
    """One host fails at each step in turn."""
    before = (stores.inventory / "ca/ca.crt").read_text()

    def names() -> list[str]:
        return sorted(path.name for path in (stores.inventory / "ca").iterdir())

    with callers(stores, stores.address(APPLICATION)):
        for host, directory, step, left in FAILING_STEPS:
            stores.ssh(f"sudo sh -c {shlex.quote(READ_ONLY.format(directory))}", host=host)
            run = stores.playbook(playbook="playbooks/rotate_ca.yml")
            stores.ssh(f"sudo umount {directory}", host=host)
            message = re.search(rf"{host} did not come through, so .*? again", " ".join(run.output.split()))
            print(f"{step}: {message.group() if message else run.output[-6000:]}\nca/: {names()}")
            assert run.code != 0 and message and f"{step}` is not done" in message.group()
            assert names() == left
        run = stores.playbook(playbook="playbooks/rotate_ca.yml")
    assert run.code == 0, run.output[-6000:]
    assert names() == ["ca.crt", "ca.key"]
    assert (stores.inventory / "ca/ca.crt").read_text() != before
    assert stores.converge("--check").count("changed") == 0
