"""Grafana from a signed repository, what was changed on its host by hand, a page on another host, and its removal."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlfleet.lab.inventory import LabInventory

from .conftest import ROOT, Lab
from .removal import assert_removed, leave, traces
from .test_testbed_drift import Drifting, Kind

pytestmark = pytest.mark.fleet

HOST, EDGE = "watch", "edge"
GROUPS = {"exporters": [HOST, EDGE], "prometheus": [HOST], "grafana": [HOST], "nginx": [HOST]}
CONFIG, DATA = "/etc/mlfleet/grafana", "/var/lib/mlfleet/grafana-server"
# On the host itself, in place of a mirror.
REPOSITORY = """
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update && apt-get -qq install --yes --no-install-recommends apt-utils gnupg >/dev/null
install -d /srv/grafana/dists/stable/main/binary-amd64 /srv/grafana/pool
cd /srv/grafana
cp /tmp/grafana.deb pool/
apt-ftparchive packages pool >dists/stable/main/binary-amd64/Packages
for name in Suite=stable Components=main Architectures=amd64; do
    options="${options:-} -o APT::FTPArchive::Release::$name"
done
apt-ftparchive $options release dists/stable >/tmp/Release
mv /tmp/Release dists/stable/
gpg --batch --quiet --passphrase '' --quick-gen-key lab@example.org rsa2048 sign never
gpg --batch --quiet --clearsign --output dists/stable/InRelease dists/stable/Release
chmod -R a+rX /srv/grafana
gpg --armor --export
"""
QUERY = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()"
ASK = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile="/etc/ssl/certs/ca-certificates.crt")
print(urllib.request.urlopen(sys.argv[1], context=context, timeout=10).status)
"""


def in_database(statement: str) -> str:
    return shlex.join(["python3", "-c", QUERY, f"{DATA}/grafana.db", statement])


KINDS = [
    Kind("setting", f"{CONFIG}/grafana.ini", f"sed -i s/15s/1s/ {CONFIG}/grafana.ini", "grafana"),
    Kind("dashboard", f"{CONFIG}/dashboards/fleet.json", f"echo '{{}}' >{CONFIG}/dashboards/fleet.json", "grafana"),
    Kind("dashboard of one's own", f"{CONFIG}/dashboards/mine.json", f"touch {CONFIG}/dashboards/mine.json", "grafana"),
    Kind(
        "data source",
        f"{CONFIG}/provisioning/datasources/mlfleet.yml",
        f"sed -i s/POST/GET/ {CONFIG}/provisioning/datasources/mlfleet.yml",
        "grafana",
    ),
    Kind(
        "mode of a secret",
        f"{CONFIG}/secrets/security.secret_key",
        f"chmod 0644 {CONFIG}/secrets/security.secret_key",
        "grafana",
    ),
    Kind(
        "repository", "/etc/apt/sources.list.d/grafana.sources", "rm /etc/apt/sources.list.d/grafana.sources", "grafana"
    ),
    Kind(
        "administrator",
        "Grafana administrator mallory",
        in_database("INSERT INTO user VALUES (7, 'mallory', 'x', 1)"),
        "grafana",
        undeclared=True,
        removed=in_database("DELETE FROM user WHERE id = 7"),
    ),
    Kind("held package", "held package grafana", "apt-mark hold grafana", "grafana", undeclared=True),
]
ACCOUNT = [
    Kind("password", "account admin", in_database("UPDATE user SET password = 'x'"), "grafana"),
    Kind("unit", "grafana-server.service", "systemctl disable grafana-server", "grafana"),
]


@pytest.fixture(scope="module")
def watched() -> Iterator[Lab]:
    with Lab.anew("watched", GROUPS, grafana_repository_url="file:/srv/grafana") as lab:
        made = subprocess.check_output(["sh", ROOT / "molecule/grafana/package/build.sh"], text=True).split()[0]
        to_host = [*LabInventory(lab.inventory).ssh_command(lab.address(HOST)), "cat >/tmp/grafana.deb"]
        with Path(made).open("rb") as package:
            subprocess.run(to_host, stdin=package, check=True)
        settings = lab.inventory / "group_vars/all/key.yml"
        settings.write_text(json.dumps({"grafana_repository_key": lab.ssh("sudo sh -s", HOST, input=REPOSITORY)}))
        yield lab


def assert_predicted(lab: Lab, *words: str) -> None:
    predicted = lab.converge("--check", *words).count("changed")
    assert lab.converge(*words).count("changed") == predicted > 0
    assert lab.converge(*words).count("changed") == 0


def test_package_comes_from_the_signed_repository(watched: Lab) -> None:
    assert_predicted(watched)
    assert "file:/srv/grafana stable/main" in watched.ssh("apt-cache policy grafana", HOST)


def test_another_host_does_not_reach_its_port(watched: Lab) -> None:
    knock = f"timeout 5 bash -c '</dev/tcp/{watched.address(HOST)}/3000' 2>/dev/null || echo refused"
    assert watched.ssh(knock, EDGE).strip() == "refused"


def test_each_kind_of_drift_is_found_and_mended(watched: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    drifting = Drifting(watched, tmp_path_factory.mktemp("drift"), HOST)
    drifting.find_and_mend("grafana", KINDS)
    # Without the password it names no other administrators.
    drifting.find_and_mend("account and unit", ACCOUNT)


def test_page_on_another_host_has_tls_to_it(watched: Lab) -> None:
    leave(watched, "nginx", HOST)
    groups = {"all": {"children": {"nginx": {"hosts": {EDGE: None}}}}}
    (watched.inventory / "edge.yml").write_text(json.dumps(groups))
    assert_predicted(watched)
    for url in ("https://127.0.0.1:33000", f"https://{watched.address(HOST)}:3000"):
        assert watched.ssh(f"python3 - {url}/api/health", EDGE, input=ASK).strip() == "200", url
    assert_predicted(watched, "-e", "topology_tls_mode=off")
    assert_predicted(watched)


def test_it_goes_with_its_data(watched: Lab) -> None:
    leave(watched, "grafana", HOST)
    assert_removed(watched, "grafana")
    assert watched.ssh(f"sudo ls {DATA}", HOST).split() == ["grafana.db"]
    assert_removed(watched, "grafana", "-e", "remove_data=grafana")
    # What its package leaves, as all packages do, and files of nginx and Prometheus that name it, are elsewhere.
    places = ("/etc/apt", "/etc/mlfleet", "/etc/systemd", "/var/lib/mlfleet", "grafana-server")
    assert [trace for trace in traces(watched, "grafana", HOST) if trace.startswith(places)] == []
