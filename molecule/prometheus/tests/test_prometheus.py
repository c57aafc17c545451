"""Prometheus watches every service of its hosts, tells of a stopped one, and answers only to its account."""

from __future__ import annotations

import json
import re

import pytest
import requests
from minio import Minio
from minio.error import S3Error
from urllib3 import PoolManager

PAGE, OWN, MINIO = 39090, 9090, 9000
STOPPED = "redis-server"


@pytest.fixture(scope="module")
def ask(forward, authority, secret):
    """Return data of the API, asked at nginx."""

    def asked(path, **query):
        url = f"https://127.0.0.1:{forward(PAGE)}/api/v1/{path}"
        answer = requests.get(url, params=query, auth=("admin", secret("prometheus")), verify=authority, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    return asked


def test_pages_need_the_account(forward, authority):
    for path in ("/graph", "/api/v1/targets", "/metrics", "/-/ready"):
        url = f"https://127.0.0.1:{forward(PAGE)}{path}"
        assert requests.get(url, verify=authority, timeout=20).status_code == 401, path
        assert requests.get(url, auth=("admin", "wrong"), verify=authority, timeout=20).status_code == 401, path


def test_console_pages_have_the_panels_of_its_services(forward, authority, secret):
    def page(name):
        url = f"https://127.0.0.1:{forward(PAGE)}/consoles/{name}.html"
        return requests.get(url, auth=("admin", secret("prometheus")), verify=authority, timeout=20)

    shown = page("tracking")
    assert shown.status_code == 200, shown.text
    for part in ("<h2>Redis</h2>", "redis_memory_used_bytes", "new PromConsole.Graph"):
        assert part in shown.text
    assert "{{" not in shown.text
    assert 'id="hostaway"' in page("runbooks").text
    assert page("mine").status_code == 404


def test_all_targets_are_up(ask, eventually):
    def is_up():
        targets = ask("targets")["activeTargets"]
        return {"mlfleet", "node", "redis", "prometheus"} <= {target["labels"]["job"] for target in targets} and all(
            target["health"] == "up" for target in targets
        )

    assert eventually(is_up), ask("targets")["activeTargets"]


def test_each_page_is_asked_for(host, ask, eventually):
    """One that wants an account answers; one whose service is not there does not."""

    def found():
        return {each["metric"]["service"]: each["value"][1] for each in ask("query", query="probe_success")["result"]}

    mlflow = str(int(host.service("mlflow").is_running))
    assert eventually(lambda: {"prometheus": "1", "mlflow": mlflow}.items() <= found().items()), found()


def test_rules_are_taken_up(ask, eventually):
    def are_well():
        rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
        return len(rules) > 20 and all(rule["health"] == "ok" for rule in rules)

    assert eventually(are_well), ask("rules")
    declared = {result["metric"]["service"] for result in ask("query", query="mlfleet_declared_unit")["result"]}
    assert {"redis", "exporters", "prometheus"} <= declared


def test_stopped_unit_is_an_alert_of_its_service(host, ask, eventually):
    def alerts():
        found = (alert["labels"] for alert in ask("alerts")["alerts"])
        return {each["service"] for each in found if each["alertname"] == "UnitNotActive"}

    assert eventually(lambda: not alerts()), alerts()
    host.run_test(f"systemctl stop {STOPPED}")
    try:
        assert eventually(lambda: alerts() == {"redis"}), alerts()
    finally:
        host.run_test(f"systemctl start {STOPPED}")
    assert eventually(lambda: not alerts()), alerts()


def test_configuration_is_taken_up_without_a_restart(host, play, ask):
    started = host.check_output("systemctl show --property ActiveEnterTimestampMonotonic prometheus")
    groups = [{"name": "mine", "rules": [{"record": "of_mine", "expr": "vector(7)"}]}]
    variables = json.dumps({"prometheus_rules_extra": groups})
    assert play("--tags", "prometheus_configure", "--extra-vars", variables)["changed"] == 1
    assert "mine" in {found["name"] for found in ask("rules")["groups"]}
    assert host.check_output("systemctl show --property ActiveEnterTimestampMonotonic prometheus") == started
    assert play("--tags", "prometheus_configure")["changed"] == 1


def test_age_of_secrets_is_known_and_nothing_else_of_them(host, ask):
    found = {
        each["metric"]["secret"]: each
        for each in ask("query", query="mlfleet_secret_changed_timestamp_seconds")["result"]
    }
    assert {"redis_exporter", "prometheus"} <= set(found)
    mark = host.file("/etc/mlfleet/exporters/secrets/prometheus")
    assert float(found["prometheus"]["value"][1]) == pytest.approx(mark.mtime.timestamp(), abs=1)
    assert (mark.user, mark.mode, mark.size) == ("root", 0o600, 5)


def test_user_at_minio_reads_metrics_alone(host, forward, authority, secret):
    if not host.service("minio").is_running:
        pytest.skip("no MinIO here")
    address = f"127.0.0.1:{forward(MINIO)}"
    http = PoolManager(ca_certs=authority, retries=False, timeout=10)
    keys = {"access_key": "prometheus", "secret_key": secret("minio_prometheus")}
    with pytest.raises(S3Error, match="AccessDenied"):
        Minio(address, region="us-east-1", http_client=http, **keys).list_buckets()
    url = f"https://{address}/minio/v2/metrics/cluster"
    assert requests.get(url, verify=authority, timeout=20).status_code == 403
    token = host.file("/etc/prometheus/minio.token").content_string
    answer = requests.get(url, headers={"Authorization": f"Bearer {token}"}, verify=authority, timeout=20)
    assert "minio_cluster_health_status" in answer.text


def test_secrets_are_in_files_of_its_group_alone_and_none_is_there_without_need(host):
    found = {name for name in host.file("/etc/prometheus").listdir() if name.endswith((".password", ".token"))}
    used = re.findall(
        r"/etc/prometheus/([a-z]+[.](?:password|token))", host.file("/etc/prometheus/prometheus.yml").content_string
    )
    assert "prometheus.password" in found and found == set(used)
    for name in found | {"web.yml"}:
        file = host.file(f"/etc/prometheus/{name}")
        assert (file.user, file.group, file.mode) == ("root", "prometheus", 0o640), name
