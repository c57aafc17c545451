"""The servers that are marked as down in nginx."""

from __future__ import annotations

import socket

import pytest
from ansible_collections.mlfleet.stack.plugins.modules.nginx_server import accepts_connections, drained, marked

CONFIGURATION = """\
http {
    upstream api {
        least_conn;
        server 10.0.0.1:5000 max_fails=1 fail_timeout=5s;
        server 10.0.0.2:5000 max_fails=1 fail_timeout=5s;
    }
    upstream console {
        server 10.0.0.1:50001;
    }
    server {
        listen 10.0.0.1:5000;
    }
}
"""
FIRST, SECOND = "10.0.0.1:5000", "10.0.0.2:5000"


def no_one(_server: str) -> bool:
    return False


def test_drained_server_is_down_and_comes_back() -> None:
    text = marked(CONFIGURATION, [FIRST], True, no_one)
    options = "max_fails=1 fail_timeout=5s"
    assert text == CONFIGURATION.replace(f"{FIRST} {options}", f"{FIRST} {options} down").replace(
        f"{SECOND} {options}", f"{SECOND} {options} max_fails=0"
    )
    assert marked(text, [FIRST], True, no_one) == text
    assert drained(text, [FIRST, SECOND]) == [FIRST]
    assert marked(text, [FIRST], False, no_one) == CONFIGURATION


@pytest.mark.parametrize("servers", [["10.0.0.1:50001"], [FIRST, SECOND]])
def test_last_server_of_an_upstream_stays(servers: list[str]) -> None:
    assert marked(CONFIGURATION, servers, True, no_one) == CONFIGURATION


def test_last_one_left_in_use_stays() -> None:
    text = marked(CONFIGURATION, [FIRST], True, no_one)
    assert marked(text, [SECOND], True, no_one) == text


def test_one_that_a_killed_run_has_left_drained_takes_over_if_it_accepts_connections() -> None:
    left = marked(CONFIGURATION, [FIRST], True, no_one)
    assert marked(left, [SECOND], True, [FIRST].__contains__) == marked(CONFIGURATION, [SECOND], True, no_one)
    assert marked(left, [SECOND], False, [FIRST].__contains__) == left


def test_listening_server_accepts_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = f"127.0.0.1:{listening.getsockname()[1]}"
        assert accepts_connections(server)
    assert not accepts_connections(server)


def test_unknown_server_is_drained_already() -> None:
    assert marked(CONFIGURATION, ["10.0.0.3:5000"], True, no_one) == CONFIGURATION
    assert drained(CONFIGURATION, ["10.0.0.3:5000"]) == ["10.0.0.3:5000"]
    assert drained("", [FIRST]) == [FIRST]
