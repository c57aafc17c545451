"""The scheduled check signs in with its own key, reports what is not as declared, and does not reveal its secrets."""

import json

import pytest

SIGN_OF_DEPLOYMENT = "test -e /etc/systemd/system/mlfleet-drift.timer"
HOME = "/var/lib/mlfleet/mlfleet-drift"
REDIS = "/etc/redis/redis.conf"


@pytest.fixture
def check(host):
    """Run the service once; return its report and its exit status."""

    def run():
        host.check_output("systemctl start mlfleet-drift")
        status = host.check_output("systemctl show --property=ExecMainStatus --value mlfleet-drift")
        newest = host.check_output(f"ls -t {HOME}/reports/2*.json | head -1")
        return json.loads(host.check_output("cat %s", newest)), int(status)

    return run


def test_timer_waits(host):
    assert host.service("mlfleet-drift.timer").is_running
    assert host.service("mlfleet-drift.timer").is_enabled


def test_host_is_as_declared(check):
    report, status = check()
    assert (report["state"], status) == ("declared", 0), report


def test_drift_is_found_and_told_once(host, check):
    host.check_output(f"cp --preserve=all {REDIS} /root/redis.conf && echo '# by hand' >>{REDIS}")
    try:
        for _run in range(2):
            report, status = check()
            assert ([item["object"] for item in report["drift"]], status) == ([REDIS], 2), report
    finally:
        host.check_output(f"cp --preserve=all /root/redis.conf {REDIS}")
    (told,) = host.check_output(f"cat {HOME}/told").splitlines()
    assert told.startswith("20") and "1 object not as declared" in told


@pytest.mark.parametrize("file", ["key", "known_hosts", "connection.json"])
def test_nobody_else_reads_what_it_signs_in_with(host, file):
    assert host.run(f"runuser -u nobody -- cat /etc/mlfleet/drift/{file}").rc != 0


def test_nobody_else_reads_the_vaults_password(host):
    found = host.check_output("find /opt/mlfleet/drift-project -name .vault_password")
    assert host.run("runuser -u nobody -- cat %s", found).rc != 0
    assert host.run("runuser -u mlfleet-drift -- cat %s", found).rc == 0
