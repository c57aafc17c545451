"""Listening sockets and running units are read as the kernel reports them."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.tls import take_up
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import listeners
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.listeners import Listener


def test_host_without_ipv6_is_looked_at(tmp_path, monkeypatch) -> None:
    row = "   0: {} 00000000:0000 0A 00000000:00000000 00:00000000 00000000  {}        0 {} 1 0 100 0 0 10 0"
    (tmp_path / "net").mkdir()
    rows = [row.format("00000000:0050", 0, 7), row.format("0100007F:0051", 33, 8)]
    (tmp_path / "net/tcp").write_text("\n".join(["head", *rows]))
    monkeypatch.setattr(listeners, "PROC", tmp_path)
    found = [Listener("7", "0.0.0.0", 80, 0), Listener("8", "127.0.0.1", 81, 33)]
    assert list(listeners.listeners()) == found
    rows = [row.format("0000000000000000FFFF00000100007F:0052", 0, 9), row.format(f"{'0' * 32}:0053", 0, 10)]
    (tmp_path / "net/tcp6").write_text("\n".join(["head", *rows]))
    assert list(listeners.listeners()) == [*found, Listener("9", "127.0.0.1", 82, 0), Listener("10", "::", 83, 0)]


def test_socket_of_this_process_is_found_with_its_user() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        (found,) = [each for each in listeners.listeners() if each.port == server.getsockname()[1]]
    assert (found.address, found.uid) == ("127.0.0.1", os.getuid())


def test_units_have_the_users_of_their_processes(tmp_path, monkeypatch) -> None:
    groups = {
        "1": "0::/init.scope\n",
        "2": "0::/system.slice/nginx.service\n",
        "3": "1:name=systemd:/docker/b/system.slice/system-postgresql.slice/postgresql@15-main.service\n",
    }
    for number, text in groups.items():
        (tmp_path / number).mkdir()
        (tmp_path / number / "cgroup").write_text(text)
    monkeypatch.setattr(listeners, "PROC", tmp_path)
    me = {os.getuid()}
    assert listeners.running_units() == {"nginx": me, "postgresql@15-main": me}


@pytest.mark.parametrize(
    ("address", "user", "is_taken"),
    [
        ("127.0.0.1", "another", True),
        ("0.0.0.0", "another", True),
        ("127.0.0.2", "another", False),
        ("127.0.0.1", "own", False),
    ],
)
def test_port_is_taken_by_a_program_that_is_not_the_units(address, user, is_taken, monkeypatch) -> None:
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(take_up.pwd, "getpwnam", lambda _name: SimpleNamespace(pw_uid=-1))
        monkeypatch.setattr(take_up, "running_units", lambda: {"nginx": {os.getuid()} if user == "own" else set()})
        listen = [f"127.0.0.1:{port}"]
        service = take_up.Service("nginx.service", "www-data", "/etc/nginx/tls", listen[0], listen=listen)
        assert take_up._taken(service) == (f"{address}:{port}" if is_taken else "")
