"""A stopped service is its own alerts and no others, which end when it is back, with a message about each."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from .conftest import HOST, Watched, eventually

pytestmark = pytest.mark.fleet

# The alerts that fire when a unit is stopped, and, if there are others, those of which there is a message.
UNITS = yaml.safe_load(Path(__file__).with_name("stopped.yml").read_text())
FIRE_SECONDS, END_SECONDS, MESSAGE_SECONDS = 120, 180, 90


@pytest.mark.parametrize("unit", UNITS)
def test_stopped_unit_is_its_alerts_and_no_others(watched: Watched, unit: str) -> None:
    expected = set(UNITS[unit]["alerts"])
    messages = UNITS[unit].get("messages", UNITS[unit]["alerts"])
    assert eventually(lambda: not watched.firing(), END_SECONDS), watched.firing()
    watched.forget_messages()
    watched.ssh(f"sudo systemctl stop {unit}", HOST)
    stopped, seen = time.monotonic(), {}
    try:
        while (passed := time.monotonic() - stopped) < FIRE_SECONDS:
            for alert in watched.firing():
                seen.setdefault(alert, round(passed))
            time.sleep(2)
        assert set(seen) == expected, seen
    finally:
        watched.ssh(f"sudo systemctl start {unit}", HOST)
    started = time.monotonic()
    assert eventually(lambda: not watched.firing(), END_SECONDS), watched.firing()
    ended = round(time.monotonic() - started)
    wanted = [("firing", set(messages)), ("resolved", set(messages))] if messages else []
    assert eventually(lambda: len(watched.messages()) >= len(wanted), MESSAGE_SECONDS), watched.messages()
    told = watched.messages()
    print(f"| {unit} | {', '.join(f'{alert} {after} s' for alert, after in seen.items())} | {ended} s | {len(told)} |")
    assert [(status, names & set(messages)) for status, names in told] == wanted
