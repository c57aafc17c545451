"""Redis' administrator signs in only to the program whose user owns Redis' files, and sends others no password."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.tls import certificates, take_up
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import Pem
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import health, listeners

from tests.certificates import make

PASSWORD = "only-for-redis"
ANSWERS = {b"PING": b"-NOAUTH Authentication required.\r\n", b"ACL": b"*0\r\n", b"": b"+OK\r\n"}
MADE = make("redis", is_authority=True, addresses=("127.0.0.1",))


@contextmanager
def listener(context: ssl.SSLContext | None) -> Iterator[tuple[str, list[bytes]]]:
    """A program that answers like Redis: its address, and what it receives."""
    told: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _address = server.accept()
                with (
                    suppress(OSError),
                    plain,
                    context.wrap_socket(plain, server_side=True) if context else plain as one,
                ):
                    while words := one.recv(4096):
                        told.append(words)
                        one.sendall(next(answer for sign, answer in ANSWERS.items() if sign in words))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}", told
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@pytest.fixture(params=[True, False], ids=["tls", "plain"])
def context(request: pytest.FixtureRequest, tmp_path: Path) -> ssl.SSLContext | None:
    (tmp_path / "certificate.pem").write_text(MADE.certificate)
    (tmp_path / "key.pem").write_text(MADE.private)
    (tmp_path / "users.acl").write_text("")
    (tmp_path / "redis.conf").write_text(f"aclfile {tmp_path}/users.acl\n")
    if not request.param:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    return made


def account(directory: Path) -> dict[str, str]:
    config_file = str(directory / "redis.conf")
    return {"program": "redis", "username": "admin", "password": PASSWORD, "config_file": config_file}


def compare(address: str, directory: Path, has_tls: bool) -> str:
    return health.other_in_memory({"live": account(directory), "probe": {"tcp": address, "tls": has_tls}})


def reload(address: str, directory: Path) -> bool:
    pair = certificates.pair(
        Pem("redis", MADE.certificate), Pem("key", MADE.private), None, [Pem("ca", MADE.certificate)]
    )
    told = {"pair": pair, "reload": "live", "live": account(directory)}
    return take_up.reload(take_up.Service("redis-server", "redis", str(directory), address, **told))


@pytest.fixture
def of_somebody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make Redis' files belong to another user than the one that has the port."""
    stat = Path.stat

    def other(path: Path, **options: bool) -> os.stat_result:
        found = stat(path, **options)
        return os.stat_result((*found[:4], os.getuid() + 1, *found[5:])) if tmp_path in path.parents else found

    monkeypatch.setattr(Path, "stat", other)


@pytest.mark.usefixtures("of_somebody_else")
def test_another_users_listener_is_not_told_the_password(context: ssl.SSLContext | None, tmp_path: Path) -> None:
    with listener(context) as (address, told):
        assert compare(address, tmp_path, bool(context)) == ""
        assert not (context and reload(address, tmp_path))
    assert b"PING" in b"".join(told)
    assert PASSWORD.encode() not in b"".join(told)


def test_redis_itself_is_told_it(context: ssl.SSLContext | None, tmp_path: Path) -> None:
    with listener(context) as (address, told):
        compare(address, tmp_path, bool(context))
        assert not context or reload(address, tmp_path)
    assert PASSWORD.encode() in b"".join(told)


def test_nobody_is_known_before_a_connection_is_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert listeners.uid_of_peer(client) is None
        with server.accept()[0]:
            assert listeners.uid_of_peer(client) == os.getuid()
