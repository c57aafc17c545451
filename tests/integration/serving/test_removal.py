"""Services of the serving stack that are removed, the last ones from their host."""

from __future__ import annotations

import pytest

from ..removal import assert_removed, leave, traces
from .conftest import HOST, SECOND, Serving

pytestmark = pytest.mark.fleet


def test_api_goes_from_one_of_its_hosts(balanced: Serving) -> None:
    leave(balanced, "serving_api", SECOND)
    assert_removed(balanced, "serving_api", "-e", "remove_data=serving_api")
    assert traces(balanced, "serving-api", SECOND) == []
    run = balanced.playbook(playbook="playbooks/verify.yml")
    assert run.code == 0 and "none failed" in run.text, run.output


def test_api_workers_and_broker_go_and_leave_named_data(serving: Serving) -> None:
    for group, unit in ("serving_api", "serving-api"), ("serving_worker", "serving-worker"):
        leave(serving, group, HOST)
        assert_removed(serving, group)
        data = f"/var/lib/mlfleet/{unit}"
        kept = [trace for trace in traces(serving, unit, HOST) if not trace.startswith(data)]
        assert len(kept) == 2 and all(account.startswith(f"{unit}:x:") for account in kept), kept
        assert_removed(serving, group, "-e", f"remove_data={group}")
        assert traces(serving, unit, HOST) == []
    leave(serving, "rabbitmq", HOST)
    assert_removed(serving, "rabbitmq")
    left = serving.ssh(
        "systemctl list-units --all --no-legend --plain 'rabbit*' 'epmd*'; pgrep -a beam.smp; true", HOST
    )
    assert left == ""
    assert serving.ssh("sudo grep -rIl 'Made by mlfleet' /etc/rabbitmq /etc/systemd/system/epmd*; true", HOST) == ""
    assert serving.ssh("sudo ls /var/lib/rabbitmq/mnesia", HOST) != ""
    assert_removed(serving, "rabbitmq", "-e", "remove_data=rabbitmq")
    assert serving.ssh("sudo ls /var/lib/rabbitmq 2>/dev/null; true", HOST) == ""
    assert serving.converge("--check").count("changed") == 0
