"""The serving stack's ports, TLS and secrets."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.certificates import make

from ..clients import shown
from ..tls_scan import modern, scan
from .conftest import HOST, SECOND, Serving

pytestmark = pytest.mark.fleet

PAGES = {30443: "links", 34789: "serving", 35000: "mlflow", 35671: "rabbitmq", 39000: "minio", 39001: "minio-console"}
OTHERS = {
    HOST: {
        5671: "rabbitmq",
        4789: "serving_api",
        6379: "redis",
        5001: "mlflow",
        9000: "minio",
    },
    SECOND: {4789: "serving_api"},
}
OFF = ("-e", "topology_tls_mode=off")


def test_every_port_speaks_modern_tls_only(balanced: Serving, tmp_path: Path) -> None:
    address = balanced.address(HOST)
    pages = {f"{address}:{port}": f"{HOST:8} {port:>6} {name:14}" for port, name in PAGES.items()}
    others = {
        f"{balanced.address(host)}:{port}": f"{host:8} {port:>6} {name:14}"
        for host, ports in OTHERS.items()
        for port, name in ports.items()
    }
    found = scan(balanced, pages, tmp_path / "pages.json", "--http_headers")
    found |= scan(balanced, others, tmp_path / "others.json")
    for target, label in (pages | others).items():
        print(modern(found[target], label, has_hsts=target in pages))


@pytest.mark.parametrize("host", [HOST, SECOND])
def test_no_other_port_is_open_to_the_network(balanced: Serving, host: str) -> None:
    sockets = [line.split()[3].rpartition(":")[::2] for line in balanced.ssh("ss -Hltn", host).splitlines()]
    reachable = {int(port) for address, port in sockets if not address.startswith(("127.", "[::1]"))}
    declared = {22, *OTHERS[host], *({30080, 5432, *PAGES} if host == HOST else ())}
    assert reachable <= declared, reachable - declared


@pytest.mark.parametrize("host", [HOST, SECOND])
def test_secrets_are_nowhere_to_be_seen(balanced: Serving, host: str) -> None:
    values = balanced.secrets()
    run = balanced.converge("--diff", "-vvv", "-e", "serving_models_kept=5")
    assert run.count("changed") > 0
    texts = {
        "diff": run.output,
        "ps": balanced.ssh("ps axww -o args", host),
        "units": balanced.ssh("systemctl show --all serving-api 'serving-worker@*' rabbitmq-server", host),
        "journal": balanced.ssh("sudo journalctl --no-pager --output=cat", host, errors="replace"),
        "logs": balanced.ssh("sudo find /var/log -type f -exec zcat -f {} +", host, errors="replace"),
    }
    for place, text in texts.items():
        assert [name for name, value in values.items() if value in text] == [], place
    # As the ordinary user: what it can read, others can.
    search = (
        "find / -xdev -path /var/cache -prune -o -type f -readable -print0 2>/dev/null"
        " | xargs -0 grep -laFf /dev/fd/3 3<&0 2>/dev/null; true"
    )
    assert balanced.ssh(f"bash -c '{search}'", host, input="\n".join(values.values())) == ""
    balanced.converge()


def test_tls_is_switched_off_and_on_with_predictions(balanced: Serving) -> None:
    predicted, done = balanced.converge(*OFF, "--check"), balanced.converge(*OFF)
    assert done.count("changed") == predicted.count("changed") > 0
    assert balanced.converge(*OFF, "--check").count("changed") == 0
    run = balanced.playbook(*OFF, playbook="playbooks/verify.yml")
    assert run.code == 0 and "none failed" in run.text, run.output
    predicted, done = balanced.converge("--check"), balanced.converge()
    assert done.count("changed") == predicted.count("changed") > 0
    run = balanced.playbook(playbook="playbooks/verify.yml")
    assert run.code == 0 and "none failed" in run.text, run.output


def test_certificates_of_the_users_own_are_shown(balanced: Serving) -> None:
    """To people at the pages, and by the broker."""
    address, name = balanced.address(HOST), "serving.example.org"
    root = make("company", is_authority=True)
    leaf = make(name, root, addresses=(address,))
    pair = {"certificate": leaf.certificate, "key": leaf.private}
    settings = {
        "topology_nginx_tls_mode": "provided",
        "topology_rabbitmq_tls_mode": "provided",
        "topology_rabbitmq_tls_name": name,
        "topology_balancer": address,
        "topology_tls_pairs": {"nginx": pair, "rabbitmq": pair},
        "topology_ca_certificates_extra": [root.certificate],
    }
    provided = ("-e", json.dumps(settings))
    predicted, done = balanced.converge(*provided, "--check"), balanced.converge(*provided, "--diff")
    assert leaf.private.splitlines()[1] not in done.output
    assert done.count("changed") == predicted.count("changed") > 0
    assert {shown(address, port) for port in (34789, 35671, 5671)} == {hashlib.sha256(leaf.der).hexdigest()}
    run = balanced.playbook(*provided, playbook="playbooks/verify.yml")
    assert run.code == 0 and "none failed" in run.text, run.output
    balanced.converge()
