"""The servers that are marked as down in nginx."""

from __future__ import annotations

import pytest
from ansible_collections.mlfleet.stack.plugins.modules.nginx_server import drained, marked

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


def test_drained_server_is_down_and_comes_back() -> None:
    text = marked(CONFIGURATION, [FIRST], is_drained=True)
    options = "max_fails=1 fail_timeout=5s"
    assert text == CONFIGURATION.replace(f"{FIRST} {options}", f"{FIRST} {options} down").replace(
        f"{SECOND} {options}", f"{SECOND} {options} max_fails=0"
    )
    assert marked(text, [FIRST], is_drained=True) == text
    assert drained(text, [FIRST, SECOND]) == [FIRST]
    assert marked(text, [FIRST], is_drained=False) == CONFIGURATION


@pytest.mark.parametrize("servers", [["10.0.0.1:50001"], [FIRST, SECOND]])
def test_last_server_of_an_upstream_stays(servers: list[str]) -> None:
    assert marked(CONFIGURATION, servers, is_drained=True) == CONFIGURATION


def test_last_one_left_in_use_stays() -> None:
    text = marked(CONFIGURATION, [FIRST], is_drained=True)
    assert marked(text, [SECOND], is_drained=True) == text


def test_unknown_server_is_drained_already() -> None:
    assert marked(CONFIGURATION, ["10.0.0.3:5000"], is_drained=True) == CONFIGURATION
    assert drained(CONFIGURATION, ["10.0.0.3:5000"]) == ["10.0.0.3:5000"]
    assert drained("", [FIRST]) == [FIRST]
