"""TLS on the whole testbed: switched, scanned, given bad pairs, renewed and put under another authority."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlfleet.stack.plugins.module_utils import dioptra

from mlfleet.lab import ssh_command
from mlfleet.lab_inventory import LabInventory
from tests.certificates import NOW, make

from .conftest import Lab

DIOPTRA = 30443
PAGES = {DIOPTRA: "dioptra", 35000: "mlflow", 39000: "minio", 39001: "minio-console"}
BEHIND = {5432: "postgres", 6379: "redis", 9000: "minio", 9001: "minio-console"}
OFF = ("-e", "topology_tls_mode=off")
SCAN = ("uv", "run", "--no-project", "--with-requirements", "constraints/sslyze.txt", "sslyze", "--quiet")
MODERN = {"TLS_1_2", "TLS_1_3"}


@pytest.fixture(scope="module")
def address(lab: Lab) -> str:
    return yaml.safe_load((lab.inventory / "lab.yml").read_text())["all"]["hosts"]["testbed"]["ansible_host"]


def authorities(lab: Lab) -> str:
    return "".join(path.read_text() for path in sorted((lab.inventory / "ca").glob("*.crt")))


def shown(address: str, port: int) -> str:
    """Fingerprint of the certificate that a port shows."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((address, port)))).hexdigest()


class Caller(threading.Thread):
    """Asks ten times a second, on a new connection each time; remembers what went wrong."""

    def __init__(self, ask: Callable[[], object]) -> None:
        super().__init__()
        self.ask, self.over = ask, threading.Event()
        self.asked, self.failures = 0, []

    def run(self) -> None:
        while not self.over.wait(0.1):
            self.asked += 1
            try:
                self.ask()
            except Exception as error:
                self.failures.append(f"{time.strftime('%X')}: {error}")

    def __enter__(self) -> Caller:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.over.set()
        self.join()


def test_tls_is_switched_off_and_on_with_jobs(lab: Lab) -> None:
    lab.converge(*OFF)
    assert lab.converge(*OFF, "--check").count("changed") == 0
    lab.verify(*OFF)
    predicted = lab.converge("--check")
    done = lab.converge()
    assert done.count("changed") == predicted.count("changed") > 0
    lab.verify()
    assert lab.converge().count("changed") == 0


@contextmanager
def forwarded(lab: Lab, port: int) -> Iterator[str]:
    """A port of the host's loopback, here."""
    inventory = LabInventory(lab.inventory.resolve())
    local = 20000 + port
    words = [
        *ssh_command(inventory, inventory.addresses()["testbed"]),
        "-N",
        "-L",
        f"127.0.0.1:{local}:127.0.0.1:{port}",
    ]
    process = subprocess.Popen(words)
    try:
        for _second in range(20):
            if process.poll() is not None:
                raise RuntimeError("no tunnel")
            try:
                HTTPSConnection("127.0.0.1", local, timeout=1).connect()
                break
            except ConnectionRefusedError:
                time.sleep(0.5)
            except OSError:
                break  # it listens, and does not greet as a web server
        yield f"127.0.0.1:{local}"
    finally:
        process.terminate()
        process.wait()


def scan(lab: Lab, target: str, service: str, tmp_path: Path) -> dict:
    words = [
        *SCAN,
        "--certinfo_ca_file",
        str(lab.inventory.resolve() / "ca/ca.crt"),
        "--json_out",
        str(tmp_path / "scan"),
    ]
    words += ["--certinfo", "--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--heartbleed"]
    words += ["--compression", "--mozilla_config", "disable"]
    words += ["--starttls", "postgres"] if service == "postgres" else []
    words += ["--http_headers"] if target.endswith(tuple(map(str, PAGES))) else []
    lab.command(*words, target, env={**os.environ, "UV_SYSTEM_CERTS": "1"})
    (found,) = json.loads((tmp_path / "scan").read_text())["server_scan_results"]
    return found["scan_result"]


def test_every_port_speaks_modern_tls_only(lab: Lab, address: str, tmp_path: Path) -> None:
    rows = []
    for port, service in (PAGES | BEHIND).items():
        if port in PAGES:
            result = scan(lab, f"{address}:{port}", service, tmp_path)
        else:
            with forwarded(lab, port) as target:
                result = scan(lab, target, service, tmp_path)
        suites = {
            name.removesuffix("_cipher_suites").upper().replace("TLS_", "TLS_"): result[name]["result"][
                "accepted_cipher_suites"
            ]
            for name in result
            if name.endswith("_cipher_suites")
        }
        accepted = {
            version: [suite["cipher_suite"]["name"] for suite in found] for version, found in suites.items() if found
        }
        (deployment,) = result["certificate_info"]["result"]["certificate_deployments"]
        verified = any(path["was_validation_successful"] for path in deployment["path_validation_results"])
        headers = (result.get("http_headers") or {}).get("result") or {}
        hsts = (headers.get("strict_transport_security_header") or {}).get("max_age")
        rows.append(
            f"{port:>6} {service:14} {', '.join(sorted(accepted)):16} chain {'ok' if verified else 'BAD':4} HSTS {hsts}"
        )
        assert set(accepted) == MODERN, rows[-1]
        names = [name for found in accepted.values() for name in found]
        assert all("GCM" in name or "CHACHA20" in name or "CCM" in name for name in names), names
        assert verified, rows[-1]
        assert hsts == 31536000 or port not in PAGES, rows[-1]
    print("\n".join(["", *rows]))


def test_no_other_port_is_open_to_the_network(lab: Lab) -> None:
    lines = lab.ssh("ss -Hltn").splitlines()
    sockets = [line.split()[3].rpartition(":")[::2] for line in lines]
    reachable = {int(port) for host, port in sockets if not host.startswith(("127.", "[::1]"))}
    # The port for SSH, and the one that leads to HTTPS.
    assert reachable <= {*PAGES, 22, 30080}, reachable


def test_plain_http_leads_to_https(address: str) -> None:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_arguments: object) -> None:
            return None

    for port in (30080, *PAGES):
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
            options = {
                "service": "nginx",
                "address": f"127.0.0.1:{DIOPTRA}",
                "listen": {"dioptra": f"0.0.0.0:{DIOPTRA}"},
            }
            words = ["-m", "mlfleet.stack.ssl_toggle", "-a", json.dumps(options | GOOD | change)]
            done = lab.command("ansible", "testbed", "-i", lab.name, "--become", "--one-line", *words, check=False)
            message = re.search(r'"msg": "(.*?)"', done.stdout)
            rows.append(f"{title:28} {message.group(1) if message else done.stdout}")
            assert done.returncode != 0, rows[-1]
            assert re.search(f"nginx: {line}", done.stdout), done.stdout
    print("\n".join(["", *rows, f"{caller.asked} handshakes meanwhile, {len(caller.failures)} failed"]))
    assert caller.failures == []
    assert shown(address, DIOPTRA) == before
    assert lab.converge("--check", "--tags", "nginx").count("changed") == 0


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


def test_job_downloads_from_a_server_of_an_extra_authority(
    lab: Lab, address: str, download: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, authority = download
    secrets = lab.secrets()
    bundle = lab.inventory / "ca/ca.crt"
    options = {
        "url": f"https://{address}:{DIOPTRA}",
        "username": "admin",
        "password": secrets["topology_secret_dioptra_admin"],
        "queues": ["tensorflow-cpu"],
        "mlflow": {
            "url": f"https://{address}:35000",
            "username": "restapi",
            "password": secrets["topology_secret_mlflow_restapi"],
        },
        "s3": {
            "endpoint": f"https://{address}:39000",
            "access_key": "dioptra-restapi",
            "secret_key": secrets["topology_secret_minio_restapi"],
        },
        "name": "mlfleet-download",
        "ca_file": str(bundle),
        "timeout_seconds": 120,
        "request_timeout_seconds": 30,
    }
    monkeypatch.setattr(dioptra, "TASKS", DOWNLOAD.format(url=url) + dioptra.TASKS)
    (wrong,) = dioptra.run_jobs(options)["wrong"]
    assert "CERTIFICATE_VERIFY_FAILED" in wrong
    with_authority = ("-e", json.dumps({"topology_ca_certificates_extra": [str(authority)]}))
    predicted = lab.converge(*with_authority, "--check")
    assert lab.converge(*with_authority).count("changed") == predicted.count("changed") > 0
    assert dioptra.run_jobs(options)["wrong"] == []
    assert lab.converge().count("changed") > 0
    (wrong,) = dioptra.run_jobs(options)["wrong"]
    assert "CERTIFICATE_VERIFY_FAILED" in wrong


# --- renewal and another authority -----------------------------------------------------------------------------------


@pytest.fixture
def ask_api(lab: Lab, address: str) -> Callable[[], None]:
    """Asks the API for its queues on a new connection, as someone signed in who trusts the deployment's authorities."""

    def request(method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
        context = ssl.create_default_context(cadata=authorities(lab))
        connection = HTTPSConnection(address, DIOPTRA, context=context, timeout=30)
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, answer.headers.get("Set-Cookie", "").partition(";")[0]

    account = {"username": "admin", "password": lab.secrets()["topology_secret_dioptra_admin"]}
    status, cookie = request("POST", "/api/v1/auth/login", json.dumps(account))
    assert status == 200

    def ask() -> None:
        status, _cookie = request("GET", "/api/v1/queues/", Cookie=cookie)
        assert status == 200, status

    return ask


def test_renewal_fails_no_request(lab: Lab, address: str, ask_api: Callable[[], None]) -> None:
    before = shown(address, DIOPTRA)
    soon = ("-e", "topology_tls_renew_days=400", "-e", "topology_tls_valid_days=500")
    predicted = lab.converge(*soon, "--check")
    with Caller(ask_api) as caller:
        run = lab.converge(*soon)
    print(f"{caller.asked} requests in a renewal, {len(caller.failures)} failed")
    assert caller.failures == []
    assert run.count("changed") == predicted.count("changed") > 0
    assert shown(address, DIOPTRA) != before
    assert lab.converge("--check").count("changed") == 0


def test_authority_is_replaced_without_a_failed_request(lab: Lab, address: str, ask_api: Callable[[], None]) -> None:
    before = (lab.inventory / "ca/ca.crt").read_text()
    with Caller(ask_api) as caller:
        run = lab.playbook(playbook="playbooks/rotate_ca.yml")
    assert run.code == 0, run.output[-6000:]
    print(f"{caller.asked} requests in the replacement, {len(caller.failures)} failed")
    assert caller.failures == []
    after = (lab.inventory / "ca/ca.crt").read_text()
    assert after != before
    assert sorted(path.name for path in (lab.inventory / "ca").iterdir()) == ["ca.crt", "ca.key"]
    with pytest.raises(ssl.SSLCertVerificationError):
        HTTPSConnection(address, DIOPTRA, context=ssl.create_default_context(cadata=before)).connect()
    bundle = lab.ssh("cat /etc/ssl/certs/ca-certificates.crt")
    assert after.strip() in bundle and before.strip() not in bundle
    lab.verify()
    assert lab.converge("--check").count("changed") == 0
