"""Metrics leave a host by its door alone, which opens to the hosts of Prometheus."""

from __future__ import annotations

import errno
import re

import pytest

from .conftest import HOST, OTHER, SECOND, Watched

pytestmark = pytest.mark.fleet

ASK = """
import ssl, sys, urllib.request
context = ssl.create_default_context()
if sys.argv[2:]:
    context.load_cert_chain(*sys.argv[2:])
try:
    print(urllib.request.urlopen(sys.argv[1], context=context, timeout=10).status)
except OSError as error:
    print(error)
"""
PAIR = ("/etc/mlfleet/tls/host.crt", "/etc/mlfleet/tls/host.key")


def answer(lab: Watched, host: str, *certificate: str) -> str:
    url = f"'https://{lab.address(HOST)}:9998/proxy?module=node'"
    return lab.ssh(f"sudo python3 - {url} {' '.join(certificate)}", host, input=ASK).strip()


def test_door_opens_to_a_host_of_prometheus_alone(watched: Watched) -> None:
    """All three certificates are of the deployment's authority."""
    answers = {
        "host of Prometheus": answer(watched, SECOND, *PAIR),
        "another host": answer(watched, OTHER, *PAIR),
        "no certificate": answer(watched, OTHER),
    }
    print(answers)
    assert answers.pop("host of Prometheus") == "200"
    assert all("alert" in refused or "reset" in refused for refused in answers.values())


def test_exporters_themselves_answer_no_other_host(watched: Watched) -> None:
    own = watched.ssh("sudo cat /etc/mlfleet/exporters/modules.yml", HOST)
    ports = sorted({int(port) for port in re.findall(r"port: (\d+)", own)})
    assert len(ports) > 5
    script = f"""
import socket
for port in {ports}:
    with socket.socket() as client:
        client.settimeout(5)
        print(port, client.connect_ex(({watched.address(HOST)!r}, port)))
"""
    refused = {str(port): str(errno.ECONNREFUSED) for port in ports}
    assert dict(line.split() for line in watched.ssh("python3 -", OTHER, input=script).splitlines()) == refused
