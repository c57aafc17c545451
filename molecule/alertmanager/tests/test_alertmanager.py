"""Alertmanager has the alerts of Prometheus, answers only to its account, and sends what fires to the receiver."""

from __future__ import annotations

import pytest
import requests

PORT = 9093


@pytest.fixture(scope="module")
def url(host, forward):
    has_tls = "tls_server_config" in host.file("/etc/prometheus/alertmanager/web.yml").content_string
    return f"http{'s' if has_tls else ''}://127.0.0.1:{forward(PORT)}"


def test_only_prometheus_may_ask(url, authority):
    for account in (None, ("prometheus", "wrong")):
        answer = requests.get(f"{url}/api/v2/alerts", auth=account, verify=authority, timeout=20)
        assert answer.status_code == 401


def test_it_has_the_alerts_of_prometheus(url, authority, secret, eventually):
    def alerts():
        account = ("prometheus", secret("alertmanager"))
        answer = requests.get(f"{url}/api/v2/alerts", auth=account, verify=authority, timeout=20)
        return {alert["labels"]["alertname"] for alert in answer.json()}

    assert eventually(lambda: "Watchdog" in alerts()), alerts()


def test_it_listens_on_the_loopback_alone_and_has_no_cluster(host):
    listening = [line.split()[3] for line in host.check_output("ss -ltnH").splitlines()]
    assert f"127.0.0.1:{PORT}" in listening
    assert not [address for address in listening if address.endswith(":9094")]


def test_amtool_needs_no_options(host, in_container, eventually):
    amtool = f"{in_container('prometheus-alertmanager')}amtool"
    assert eventually(lambda: "Watchdog" in host.check_output(f"{amtool} alert"))
    silence = host.check_output(f"{amtool} silence add alertname=Test --comment Test --duration 5m")
    try:
        assert "alertname=" in host.check_output(f"{amtool} silence query Test")
    finally:
        host.check_output(f"{amtool} silence expire %s", silence)
    assert silence not in host.check_output(f"{amtool} silence query --quiet")
