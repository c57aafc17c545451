"""Grafana has the dashboards, reaches Prometheus and admits its administrator, and its package can be replaced."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import requests

PAGES, OWN = 33000, 3000
DATABASE = "/var/lib/mlfleet/grafana-server/grafana.db"
CONFIG = "/etc/mlfleet/grafana"
BUILD = Path(__file__).parents[1] / "package/build.sh"
SIGN_OF_DEPLOYMENT = f"test -e {DATABASE}"
UNLOCK = f'''python3 -c "
import sqlite3
with sqlite3.connect('{DATABASE}') as connection:
    connection.execute('DELETE FROM login_attempt')
"'''


@pytest.fixture(autouse=True)
def _unlocked(host):
    """Wrong passwords of one test lock the account of no other."""
    yield
    host.check_output(UNLOCK)


@pytest.fixture
def ask(forward, authority, secret):
    """Return Grafana's answer, asked at nginx as its administrator."""

    def asked(path, password=None, **query):
        url = f"https://127.0.0.1:{forward(PAGES)}/api/{path}"
        account = ("admin", password or secret("grafana"))
        return requests.get(url, params=query, auth=account, verify=authority, timeout=20)

    return asked


def test_page_is_up_and_needs_the_account(ask, forward, authority):
    url = f"https://127.0.0.1:{forward(PAGES)}/api"
    assert requests.get(f"{url}/health", verify=authority, timeout=20).json()["database"] == "ok"
    assert requests.get(f"{url}/search", verify=authority, timeout=20).status_code == 401
    assert ask("user", password="wrong").status_code == 401
    assert ask("user").json() == {"id": 1, "login": "admin", "isGrafanaAdmin": True}


def test_dashboards_are_there_and_their_queries_reach_prometheus(ask, eventually):
    uids = {found["uid"] for found in ask("search").json()}
    assert {"mlfleet-fleet", "mlfleet-hosts"} <= uids
    (first, *_others) = [
        target["expr"]
        for panel in ask("dashboards/uid/mlfleet-fleet").json()["dashboard"]["panels"]
        for target in panel.get("targets", ())
        if "up{" in target["expr"]
    ]

    def has_data():
        answer = ask("datasources/proxy/uid/prometheus/api/v1/query", query=first).json()
        return bool(answer["data"]["result"])

    assert eventually(has_data), first


def test_another_password_is_taken_up_and_sessions_end(play, ask, forward, authority, secret):
    url = f"https://127.0.0.1:{forward(PAGES)}"
    signs_in = {"user": "admin", "password": secret("grafana")}
    cookies = requests.post(f"{url}/login", json=signs_in, verify=authority, timeout=20).cookies

    def status_of_session():
        return requests.get(f"{url}/api/user", cookies=cookies, verify=authority, timeout=20).status_code

    assert status_of_session() == 200
    another = "another-$password;#1"
    words = ("--tags", "grafana_provision", "--extra-vars", json.dumps({"topology_secret_grafana": another}))
    assert play("--check", *words)["changed"] == play(*words)["changed"] == 1
    assert (ask("user").status_code, ask("user", another).status_code, status_of_session()) == (401, 200, 401)
    assert play("--tags", "grafana_provision")["changed"] == 1
    assert ask("user").status_code == 200


def test_account_that_others_have_locked_is_no_error(host, play, ask):
    for _try in range(5):
        assert ask("user", password="wrong").status_code == 401
    assert ask("user").status_code == 401
    words = ("--tags", "grafana_provision")
    assert play("--check", *words)["changed"] == play(*words)["changed"] == 1
    host.check_output(UNLOCK)
    assert play(*words)["changed"] == 0


def test_file_that_was_changed_by_hand_is_set_back(host, play, ask):
    host.check_output(f"sed -i s/15s/5s/ {CONFIG}/grafana.ini && rm {CONFIG}/dashboards/fleet.json")
    host.check_output(f"echo '{{}}' >{CONFIG}/dashboards/mine.json")
    assert play("--tags", "grafana_configure")["changed"] == 1
    found = set(host.check_output(f"ls {CONFIG}/dashboards").split())
    assert {"fleet.json", "hosts.json"} <= found and "mine.json" not in found
    assert ask("user").status_code == 200


def test_another_version_of_the_package_is_installed_and_started(host, play, ask, in_container):
    file, checksum = subprocess.check_output(["sh", BUILD, "12.0.1"], text=True).split()
    extra = json.dumps({"grafana_package_url": f"file://{file}", "grafana_package_sha256": checksum})
    words = ("--tags", "grafana_install,grafana_configure")
    # The check downloads it.
    assert play("--check", *words, "--extra-vars", extra)["changed"] - 1 == 2
    assert play(*words, "--extra-vars", extra)["changed"] == 2
    shown = f"{in_container('grafana-server')}dpkg-query --show --showformat='${{Version}}' grafana"
    assert host.check_output(shown) == "12.0.1"
    assert ask("user").status_code == 200
    assert play(*words)["changed"] == 2
    assert host.check_output(shown) == "12.0.0"


def test_switched_tls_of_its_own_port_is_predicted(host, play, ask):
    for mode in ("internal", "off"):
        words = ("--tags", "grafana,nginx", "--extra-vars", f"topology_grafana_tls_mode={mode}")
        changed = play("--check", *words)["changed"]
        assert play(*words)["changed"] == changed > 0, mode
        assert ask("user").status_code == 200


def test_only_the_loopback_listens(listens_on):
    assert listens_on(OWN) == {"127.0.0.1"}


def test_secrets_are_in_files_of_its_group_alone(host):
    files = ("provisioning/datasources/mlfleet.yml", "secrets/security.secret_key", "secrets/security.admin_password")
    for name in files:
        file = host.file(f"{CONFIG}/{name}")
        assert (file.user, file.group, file.mode) == ("root", "grafana", 0o640), name
    assert host.file(DATABASE).mode == 0o600
