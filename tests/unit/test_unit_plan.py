"""A unit restarts or reloads for the files that this run changes, even if check mode has not made them newer."""

from __future__ import annotations

import contextlib
import socket
import threading
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


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    connection, _address = plain.accept()
                    with connection:
                        connection.recv(1000)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield plain.getsockname()[1]


@pytest.mark.parametrize(
    ("scheme", "check_mode", "is_changed", "told"),
    [
        ("https", True, True, {"speaks_tls": False}),
        ("http", True, True, {"speaks_tls": False}),
        ("https", True, False, {}),
        ("https", False, True, {}),
    ],
)
def test_check_mode_tells_whether_a_service_that_changes_speaks_tls_now(port, scheme, check_mode, is_changed, told):
    options = {"tls": None, "run": {"probe": {"http": f"{scheme}://127.0.0.1:{port}/health"}}}
    assert converge.present_tls(options, {"run": {"changed": is_changed}}, check_mode) == told


def test_service_that_does_not_answer_counts_as_declared():
    for scheme, speaks_tls in ("https", True), ("http", False):
        options = {"tls": None, "run": {"probe": {"http": f"{scheme}://127.0.0.1:1/health"}}}
        assert converge.present_tls(options, {"run": {"changed": True}}, True) == {"speaks_tls": speaks_tls}
    assert converge.present_tls({"tls": None, "run": {"probe": {}}}, {"run": {"changed": True}}, True) == {}
