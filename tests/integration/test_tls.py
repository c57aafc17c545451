"""TLS on the whole testbed on one host: switched, given bad pairs, and with authorities of others."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra import smoke_job

from tests import declared
from tests.certificates import NOW, make

from .clients import DIOPTRA, Caller, job_options, shown
from .conftest import Lab

OFF = ("-e", "topology_tls_mode=off")


@pytest.fixture(scope="module")
def address(lab: Lab) -> str:
    return lab.address("testbed")


@pytest.mark.fleet
def test_tls_is_switched_off_and_on_with_jobs(lab: Lab, address: str) -> None:
    lab.converge(*OFF)
    assert lab.converge(*OFF, "--check").count("changed") == 0
    assert lab.verify(*OFF).count("changed") == 0  # it reuses what earlier jobs registered
    predicted = lab.converge("--check")
    done = lab.converge()
    assert done.count("changed") == predicted.count("changed") > 0
    assert smoke_job.run_jobs(job_options(lab, address))["wrong"] == []


def test_no_other_port_is_open_to_the_network(lab: Lab) -> None:
    lines = lab.ssh("ss -Hltn").splitlines()
    sockets = [line.split()[3].rpartition(":")[::2] for line in lines]
    reachable = {int(port) for host, port in sockets if not host.startswith(("127.", "[::1]"))}
    # The port for SSH, and the one that leads to HTTPS.
    assert reachable <= {*declared.pages().values(), 22, 30080}, reachable


def test_plain_http_leads_to_https(address: str) -> None:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_arguments: object) -> None:
            return None

    for port in (30080, *declared.pages().values()):
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.build_opener(Stay).open(f"http://{address}:{port}/some/page?x=1")
        assert answer.value.code == 308
        expected = DIOPTRA if port == 30080 else port
        assert answer.value.headers["Location"] == f"https://{address}:{expected}/some/page?x=1"


# --- bad pairs -------------------------------------------------------------------------------------------------------

WRITE = """
import base64, json, os, sys
os.makedirs("/root/bad", 0o700, exist_ok=True)
for name, content in json.load(sys.stdin).items():
    with open(f"/root/bad/{name}", "wb") as file:
        file.write(base64.b64decode(content))
        os.fchmod(file.fileno(), 0o644 if name == "open.key" else 0o600)
"""


def bad_files() -> dict[str, bytes]:
    name = "www.example.org"
    root = make("test-ca", is_authority=True)
    between = make("between", root, is_authority=True)
    made = {
        "ca": root,
        "good": make(name, root),
        "other": make(name, root),
        "expired": make(name, root, start=NOW - timedelta(days=9), end=NOW - timedelta(days=1)),
        "future": make(name, root, start=NOW + timedelta(days=2)),
        "below": make(name, between),
    }
    files = {f"{name}.crt": each.certificate.encode() for name, each in made.items()}
    files |= {f"{name}.key": each.private.encode() for name, each in made.items()}
    files |= {"der.crt": made["good"].der, "empty.crt": b"", "open.key": files["good.key"]}
    return files | {"two.crt": files["good.crt"] + files["other.crt"]}


GOOD = {"certificate": "/root/bad/good.crt", "key": "/root/bad/good.key", "authorities": ["/root/bad/ca.crt"]}
BAD = {
    "key of another certificate": (
        {"key": "other.key"},
        r"/root/bad/other\.key: is not the key of /root/bad/good\.crt",
    ),
    "expired": ({"certificate": "expired.crt", "key": "expired.key"}, r"/root/bad/expired\.crt: expired on \d{4}-"),
    "not yet valid": (
        {"certificate": "future.crt", "key": "future.key"},
        r"/root/bad/future\.crt: not valid before \d{4}-",
    ),
    "wrong name": (
        {"names": ["api.example.org"]},
        r"/root/bad/good\.crt: is not valid for api\.example\.org, only for",
    ),
    "chain missing": (
        {"certificate": "below.crt", "key": "below.key"},
        r"/root/bad/below\.crt: its chain does not lead to an authority of .*CN=between is missing",
    ),
    "leaf as authority": (
        {"authorities": ["/root/bad/other.crt"]},
        r"/root/bad/other\.crt: holds no authority's certificate",
    ),
    "open key": (
        {"key": "open.key"},
        r"/root/bad/open\.key: others than its owner and group can read it \(mode 0644\)",
    ),
    "DER": ({"certificate": "der.crt"}, r"/root/bad/der\.crt: is DER, not PEM"),
    "empty file": ({"certificate": "empty.crt"}, r"/root/bad/empty\.crt: is empty"),
    "two certificates": ({"certificate": "two.crt"}, r"/root/bad/two\.crt: holds 2 certificates"),
}


LISTENER = f"""
listen 0.0.0.0:{DIOPTRA} ssl;
ssl_certificate /etc/nginx/mlfleet-tls/certificate.pem;
ssl_certificate_key /etc/nginx/mlfleet-tls/key.pem;
ssl_ciphers NONSENSE;
"""
NGINX = {
    "service": "nginx",
    "owner": "www-data",
    "directory": "/etc/nginx/mlfleet-tls",
    "files": [{"path": "/etc/nginx/mlfleet-tls/dioptra.conf", "content": LISTENER}],
    "checker": ["nginx", "-t", "-q"],
    "reload": "systemctl",
    "reload_takes_files": True,
    "address": f"127.0.0.1:{DIOPTRA}",
}
REDIS = {
    "service": "redis",
    "unit": "redis-server",
    "owner": "redis",
    "directory": "/etc/redis/tls",
    "files": [{"path": "/etc/redis/tls/tls.conf", "content": "port 0\ntls-port 6379\ntls-ciphers NONSENSE\n"}],
    "address": "127.0.0.1:6379",
    "plain_request": "PING",
}
OF_HOST = {"certificate": "/etc/mlfleet/tls/host.crt", "key": "/etc/mlfleet/tls/host.key"}


def toggle(lab: Lab, options: dict) -> subprocess.CompletedProcess[str]:
    words = ["-m", "mlfleet.stack.ssl_toggle", "-a", json.dumps(options)]
    return lab.command("ansible", "testbed", "-i", lab.name, "--become", "--one-line", *words, check=False)


def test_bad_pair_stops_and_the_old_one_is_served(lab: Lab, address: str) -> None:
    files = {name: base64.b64encode(content).decode() for name, content in bad_files().items()}
    lab.ssh(f"sudo python3 -c {shlex.quote(WRITE)}", input=json.dumps(files))
    before = shown(address, DIOPTRA)
    rows = []

    def ask() -> None:
        assert shown(address, DIOPTRA) == before

    with Caller(ask) as caller:
        for title, (change, line) in BAD.items():
            change = {key: f"/root/bad/{value}" if isinstance(value, str) else value for key, value in change.items()}
            done = toggle(lab, NGINX | GOOD | change)
            message = re.search(r'"msg": "(.*?)"', done.stdout)
            rows.append(f"{title:28} {message.group(1) if message else done.stdout}")
            assert done.returncode != 0, rows[-1]
            assert re.search(f"nginx: {line}", done.stdout), done.stdout
    print("\n".join(["", *rows, f"{caller.asked} handshakes meanwhile, {len(caller.failures)} failed"]))
    assert caller.failures == []
    assert shown(address, DIOPTRA) == before
    assert lab.converge("--check", "--tags", "nginx").count("changed") == 0


@pytest.mark.parametrize(
    ("options", "fault", "end"),
    [
        (NGINX, "its own checker refuses the setting", "the former files are back"),
        (REDIS, "it does not restart", "the former state is restored"),
    ],
)
def test_setting_that_a_service_refuses_is_undone(lab: Lab, options: dict, fault: str, end: str) -> None:
    greet = f"openssl s_client -connect {options['address']} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint"
    before = lab.ssh(greet)
    done = toggle(lab, options | OF_HOST)
    assert done.returncode != 0
    assert f"{options['service']}: {fault}" in done.stdout and end in done.stdout, done.stdout
    assert lab.ssh(greet) == before != ""
    assert lab.converge("--check", "--tags", options["service"]).count("changed") == 0


def test_pages_show_a_certificate_of_the_users_own(lab: Lab, address: str) -> None:
    root = make("company", is_authority=True)
    leaf = make("www.example.org", root, addresses=(address,))
    settings = {
        "topology_nginx_tls_mode": "provided",
        "topology_tls_pairs": {"nginx": {"certificate": leaf.certificate, "key": leaf.private}},
        "topology_ca_certificates_extra": [root.certificate],
    }
    before = shown(address, DIOPTRA)
    provided = ("--tags", "host,nginx", "-e", json.dumps(settings))
    predicted = lab.converge(*provided, "--check")
    run = lab.converge(*provided, "--diff", "-vvv")
    assert leaf.private.splitlines()[1] not in run.output
    assert run.count("changed") == predicted.count("changed") > 0
    assert shown(address, DIOPTRA) == hashlib.sha256(leaf.der).hexdigest()
    settings["topology_nginx_server_names"] = ["api.example.org"]
    refused = lab.playbook("-e", json.dumps(settings))
    assert "topology_tls_pairs.nginx.certificate: is not valid for api.example.org" in " ".join(refused.output.split())
    assert refused.code != 0 and refused.count("changed") == 0
    lab.converge("--tags", "host,nginx")
    assert shown(address, DIOPTRA) == before


# --- authorities of the user's own -----------------------------------------------------------------------------------

DOWNLOAD = """
import requests

assert requests.get("{url}").text == "data for a job"
"""


@pytest.fixture
def download(lab: Lab, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server of another authority, on this machine: its URL as the lab sees it, and the authority's certificate."""
    gateway = lab.ssh("ip -4 route show default").split()[2]
    root = make("company", is_authority=True)
    leaf = make("data", root, addresses=(gateway,))
    (tmp_path / "pair.pem").write_text(leaf.private + leaf.certificate)
    (tmp_path / "company.crt").write_text(root.certificate)

    class Data(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"data for a job")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    with ThreadingHTTPServer((gateway, 0), Data) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://{gateway}:{server.server_port}/data", tmp_path / "company.crt"
        server.shutdown()


@pytest.mark.fleet
def test_job_downloads_from_a_server_of_an_extra_authority(
    lab: Lab, address: str, download: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, authority = download
    options = job_options(lab, address) | {"name": "mlfleet-download"}
    monkeypatch.setattr(smoke_job, "TASKS", DOWNLOAD.format(url=url) + smoke_job.TASKS)
    (wrong,) = smoke_job.run_jobs(options)["wrong"]
    assert "CERTIFICATE_VERIFY_FAILED" in wrong
    with_authority = ("-e", json.dumps({"topology_ca_certificates_extra": [str(authority)]}))
    predicted = lab.converge(*with_authority, "--check")
    assert lab.converge(*with_authority).count("changed") == predicted.count("changed") > 0
    assert smoke_job.run_jobs(options)["wrong"] == []
    assert lab.converge().count("changed") > 0
    (wrong,) = smoke_job.run_jobs(options)["wrong"]
    assert "CERTIFICATE_VERIFY_FAILED" in wrong
