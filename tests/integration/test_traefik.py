"""A real Traefik on the host, in front of nginx: it has port 443, finds the sites in our file, and verifies nginx."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..certificates import make
from .conftest import Lab

pytestmark = pytest.mark.fleet

HOST, DOMAIN = "serving", "lab.example"
# The newest version whose dependencies the Go proxy has all of.
MODULE = "github.com/traefik/traefik/v3@v3.6.12"
PROGRAM = Path.home() / ".cache/mlfleet/programs" / f"traefik-{MODULE.rpartition('@')[2]}" / "traefik"
FILE = "/etc/traefik/dynamic/mlfleet.yml"
# RabbitMQ's pages have the name of a virtual host in their paths, which may be /; some versions refuse it by default.
OPTIONS = (
    "--entrypoints.websecure.address=:443 --entrypoints.websecure.http.encodedcharacters.allowencodedslash=true "
    "--providers.file.directory=/etc/traefik/dynamic --providers.file.watch=true --log.level=DEBUG"
)
IMPOSTOR = """
import http.server, ssl
server = http.server.ThreadingHTTPServer(("0.0.0.0", 35000), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/run/impostor.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
Ask = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def program() -> Path:
    if not PROGRAM.exists():
        told = subprocess.run(["go", "mod", "download", "-json", MODULE], capture_output=True, text=True, check=True)
        source = json.loads(told.stdout)["Dir"]
        words = ["go", "build", "-C", source, "-trimpath", "-ldflags=-s -w", "-o", str(PROGRAM), "./cmd/traefik"]
        subprocess.run(words, check=True, env=os.environ | {"CGO_ENABLED": "0"})
    return PROGRAM


@pytest.fixture(scope="module")
def lab(program: Path) -> Iterator[Lab]:
    settings = {"topology_nginx_domain": DOMAIN, "nginx_traefik_file": FILE}
    with Lab.anew("named", "inventories/serving", **settings) as made:
        made.converge()
        install = "sudo sh -c 'cat >/usr/local/bin/traefik && chmod 755 /usr/local/bin/traefik'"
        with program.open("rb") as file:
            words = ["mlfleet", "lab", "ssh", "-i", made.name, HOST, "--", install]
            subprocess.run(words, stdin=file, check=True)
        made.ssh(f"sudo systemd-run --collect --unit=traefik /usr/local/bin/traefik {OPTIONS}", HOST)
        yield made


@pytest.fixture(scope="module")
def ask(lab: Lab) -> Ask:
    """Send a request to a site by its name, whose certificate here is Traefik's own default one."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def request(name: str, path: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPSConnection(f"{name}.{DOMAIN}", timeout=60)
        with socket.create_connection((lab.address(HOST), 443)) as door:
            connection.sock = context.wrap_socket(door, server_hostname=f"{name}.{DOMAIN}")
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    return request


def basic(name: str, password: str) -> str:
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


def test_services_answer_by_name_behind_traefik(lab: Lab, ask: Ask) -> None:
    secrets = lab.secrets()
    assert ask("links", "/links/")[0] == 200
    experiments = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    assert ask("mlflow", experiments)[0] == 401
    account = basic("admin", secrets["topology_secret_mlflow_admin"])
    origin = f"https://mlflow.{DOMAIN}"
    assert ask("mlflow", experiments, Authorization=account, Origin=origin)[0] == 200
    assert ask("mlpapi", "/health")[0] == 200
    assert ask("mlpapi", "/models")[0] == 401
    assert ask("mlpapi", "/models", Authorization=f"Bearer {secrets['topology_secret_serving_token']}")[0] == 200
    assert ask("rabbitmq", "/api/vhosts/%2F")[0] == 401
    account = basic("admin", secrets["topology_secret_rabbitmq_admin"])
    assert '"serving"' in ask("rabbitmq", "/api/vhosts", Authorization=account)[1]
    assert ask("rabbitmq", "/api/vhosts/serving%2F", Authorization=account)[0] == 404
    assert ask("other", "/")[0] == 404


def test_nginx_knows_the_client_behind_traefik(lab: Lab, ask: Ask) -> None:
    assert ask("links", "/links/who", **{"X-Forwarded-For": "6.6.6.6"})[0] == 404
    gateway = lab.ssh("ip -4 route show default", HOST).split()[2]
    line = lab.ssh("sudo journalctl --identifier nginx --grep /links/who --output cat --lines 1", HOST)
    assert line.startswith(f"{gateway} ")


def test_backend_of_another_authority_is_refused(lab: Lab, ask: Ask) -> None:
    leaf = make(f"links.{DOMAIN}", make("rogue", is_authority=True), addresses=("127.0.0.1",))
    assert ask("mlflow", "/health")[0] == 200
    lab.ssh("sudo systemctl stop nginx", HOST)
    lab.command(
        "mlfleet", "lab", "ssh", "-i", lab.name, HOST, "--", "sudo sh -c 'umask 077; cat >/run/impostor.pem'",
        input=leaf.private + leaf.certificate,
    )  # fmt: skip
    lab.ssh(f"sudo systemd-run --collect --unit=impostor python3 -c {shlex.quote(IMPOSTOR)}", HOST)
    lab.ssh("for i in $(seq 50); do ss -Hltn sport = :35000 | grep -q . && break; sleep 0.2; done", HOST)
    assert ask("mlflow", "/health")[0] == 500
    assert "certificate signed by unknown authority" in lab.ssh("sudo journalctl --unit traefik --lines 50", HOST)
    lab.ssh("sudo systemctl stop impostor && sudo rm /run/impostor.pem", HOST)
    assert lab.converge("--tags", "nginx").count("changed") == 1
    assert ask("mlflow", "/health")[0] == 200


def test_file_goes_where_it_is_no_longer_declared(lab: Lab, ask: Ask) -> None:
    moved = ("--tags", "nginx", "-e", f"nginx_traefik_file={FILE.replace('mlfleet', 'sites')}")
    predicted = lab.converge(*moved, "--check", "--diff")
    assert lab.converge(*moved).count("changed") == predicted.count("changed") == 1
    assert lab.ssh(f"ls {Path(FILE).parent}", HOST).split() == ["sites.yml"]
    assert ask("mlflow", "/health")[0] == 200
    without = ("--tags", "nginx", "-e", "nginx_traefik_file=")
    # Traefik has the port of names still.
    refused = lab.playbook(*without)
    assert refused.code != 0 and "443" in refused.text
    lab.ssh("sudo systemctl stop traefik", HOST)
    assert lab.converge(*without).count("changed") == 1
    assert lab.ssh(f"ls {Path(FILE).parent} /etc/nginx/mlfleet-records", HOST).count(".yml") == 0
    assert ask("mlflow", "/health")[0] == 200
