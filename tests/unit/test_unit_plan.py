"""A unit restarts or reloads for the files that this run changes, even if check mode has not made them newer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import converge, health

RUNNING = SimpleNamespace(
    is_running=True, is_enabled=True, needs_daemon_reload=False, started_at=float("inf"), loaded_at=float("inf")
)
RUN = {"files": ["/stamp"], "reload_files": ["/bundle"], "restart": False, "live": None}


@pytest.mark.parametrize(
    ("told", "installed", "reloads", "action"),
    [
        ([], [], False, ""),
        (["/stamp"], [], False, "restarted"),
        (["/bundle"], [], False, "reloaded"),
        (["/bundle", "/stamp"], [], False, "restarted"),
        (["/of-another-service"], [], False, ""),
        ([], ["/own"], False, "restarted"),
        ([], ["/removed"], False, "restarted"),
        ([], ["/own"], True, "reloaded"),
        ([], ["/removed"], True, "reloaded"),
        # Of its own files, one that a reload takes up.
        ([], ["/bundle"], False, "reloaded"),
        # The inputs of a container, which the unit installs itself.
        ([], ["/stamp"], True, "restarted"),
    ],
)
def test_what_a_change_takes(told: list[str], installed: list[str], reloads: bool, action: str) -> None:
    options = converge.told_of({**RUN, "changed_paths": told}, {"paths": ["/own"], "changed_paths": installed}, reloads)
    assert health.plan(RUNNING, options).partition(",")[0] == action
