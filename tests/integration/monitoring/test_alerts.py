"""A stopped service is its own alerts and no others, which end when it is back, with a message about each."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from .conftest import HOST, Watched, eventually

pytestmark = pytest.mark.fleet

UNITS = yaml.safe_load(Path(__file__).with_name("stopped.yml").read_text())
FIRE_SECONDS, END_SECONDS, MESSAGE_SECONDS = 120, 240, 90
OF_PAGE = "PageNotAnswering"


@pytest.mark.parametrize("unit", UNITS)
def test_stopped_unit_is_its_alerts_and_no_others(watched: Watched, unit: str) -> None:
    expected = set(UNITS[unit]["alerts"])
    messages = set(UNITS[unit].get("messages", expected))
    assert eventually(lambda: not watched.firing(), END_SECONDS), watched.firing()
    watched.forget_messages()
    watched.ssh(f"sudo systemctl stop {unit}", HOST)
    stopped, seen = time.monotonic(), {}
    try:
        while (passed := time.monotonic() - stopped) < FIRE_SECONDS:
            for alert in watched.firing():
                seen.setdefault(alert, round(passed))
            time.sleep(2)
        assert {alert for alert in seen if not alert.startswith(OF_PAGE)} == expected, seen
    finally:
        watched.ssh(f"sudo systemctl start {unit}", HOST)
    started = time.monotonic()
    assert eventually(lambda: not watched.firing(), END_SECONDS), watched.firing()
    ended = round(time.monotonic() - started)

    def told(alert: str) -> list[str]:
        """Return the kinds of messages about it; more news of its group repeat one."""
        return list(dict.fromkeys(status for status, names in watched.messages() if alert in names))

    assert eventually(lambda: all(told(alert)[-1:] == ["resolved"] for alert in messages), MESSAGE_SECONDS)
    shown = ", ".join(f"{alert} {after} s" for alert, after in seen.items())
    print(f"| {unit} | {shown} | {ended} s | {len(watched.messages())} messages |")
    assert {alert: told(alert) for alert in messages} == {alert: ["firing", "resolved"] for alert in messages}
    # Of what others explain, there is at most its end, in the message about theirs.
    assert [alert for alert in set(seen) - messages if "firing" in told(alert)] == []
