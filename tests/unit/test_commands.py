"""Every wait has a timeout, and invalid answers do not crash modules."""

from __future__ import annotations

import socket
import threading

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import commands, containers
from ansible_collections.mlfleet.stack.plugins.module_utils.access import rest
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import health, systemd


def test_program_that_hangs_is_one_line():
    with pytest.raises(TimeoutError, match=r"^sleep 60 did not end within 0 s, and was ended"):
        commands.run(["sleep", "60"], 0.2)
    with pytest.raises(systemd.UnitError, match="sleep 60 did not end within"):
        systemd.command("sleep", "60", timeout=0.2)


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Replace Docker by a program."""

    def put(script):
        program = tmp_path / "docker"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return put


def test_engine_that_is_down_or_hangs_does_not_say_that_an_image_is_missing(engine, monkeypatch):
    engine("echo 'Error response from daemon: No such image: redis' >&2; exit 1")
    assert containers.find_image("redis") is None
    engine("echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(containers.DockerError, match="Cannot connect"):
        containers.find_image("redis")
    engine("exec sleep 60")
    monkeypatch.setattr(containers, "QUESTION_SECONDS", 0.2)
    with pytest.raises(
        containers.DockerError, match=r"^the engine does not answer: docker image did not end within 0 s"
    ):
        containers.find_image("redis")


def test_host_without_docker_has_no_image(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert containers.find_image("redis") is None


@pytest.fixture
def answering():
    """Return the URL of a server that answers every request with the same bytes."""
    listeners = []

    def serve(listener, answer):
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

    def begin(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=serve, args=(listener, answer), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield begin
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\xff",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a:b\r\n" * 200,
        b"HTTP/1.1 302 Found\r\nLocation: http://[::bad/\r\n\r\n",
        b"X" * 70000,
    ],
)
def test_answer_that_is_no_http_is_told_and_asked_again(answering, answer):
    probe = {"http": answering(answer), "headers": {}, "status": 200}
    assert " answered what is no HTTP: " in health.ask(probe, "hello.service", False, 0)


def test_service_that_speaks_no_http_is_one_line(answering):
    url = answering(b"garbage\r\n\r\n")
    with pytest.raises(rest.ServiceError, match=rf"^{url} answers what is no HTTP: BadStatusLine"):
        rest.Http(url).ask("GET", "/")
