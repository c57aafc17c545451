"""A notification is sent when the set of problems has changed, and only then."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mlfleet.drift.notify import Notice, notify
from mlfleet.drift.report import Host, Report, State
from mlfleet.project import MlfleetError

from .test_report import APP1, DB1, MALLORY, REDIS, report

DOWN = Host("db1", State.UNREACHABLE)


def tell(directory: Path, found: Report) -> bool:
    """Return whether the command ran, which stores its input."""
    (directory / "told").unlink(missing_ok=True)
    command = f"sh -c 'echo \"$MLFLEET_DRIFT_SUMMARY\" > {directory}/told; cat > {directory}/report.json'"
    notify(Notice(found, "two objects"), directory / "notified.json", command, None)
    return (directory / "told").exists()


def test_same_drift_is_told_once(tmp_path: Path) -> None:
    assert not tell(tmp_path, report(hosts=(APP1,))), "a first run without drift is no news"
    assert tell(tmp_path, report(REDIS))
    assert not tell(tmp_path, report(replace(REDIS, diff="another")))
    assert tell(tmp_path, report(REDIS, MALLORY))
    assert tell(tmp_path, report(MALLORY))
    assert tell(tmp_path, report())


def test_command_is_given_summary_and_report(tmp_path: Path) -> None:
    assert tell(tmp_path, report(REDIS))
    assert (tmp_path / "told").read_text() == "two objects\n"
    assert json.loads((tmp_path / "report.json").read_text()) == report(REDIS).to_json()


def test_host_that_comes_back_as_it_went_is_told_without_new_drift(tmp_path: Path) -> None:
    assert tell(tmp_path, report(REDIS))
    assert tell(tmp_path, report(hosts=(DOWN,)))
    assert not tell(tmp_path, report(hosts=(DOWN,)))
    assert tell(tmp_path, report(REDIS))
    assert not tell(tmp_path, report(REDIS))


def test_role_that_was_not_checked_is_no_news(tmp_path: Path) -> None:
    assert tell(tmp_path, report(REDIS))
    assert not tell(tmp_path, report(hosts=(replace(DB1, roles=("host",)), APP1)))


def test_host_that_was_not_checked_is_no_news(tmp_path: Path) -> None:
    assert tell(tmp_path, report(REDIS, hosts=(DB1, replace(DOWN, name="app1"))))
    assert not tell(tmp_path, report(REDIS, hosts=(DB1,)))


def test_what_could_not_be_told_is_told_by_the_next_run(tmp_path: Path) -> None:
    memory = tmp_path / "notified.json"
    for command in ("false", "no-such-program", "'"):
        with pytest.raises(MlfleetError, match="no notification was sent"):
            notify(Notice(report(REDIS), ""), memory, command, None)
    assert tell(tmp_path, report(REDIS))


SECRET = "T0/B0/key"


@pytest.mark.parametrize(
    ("command", "url"),
    [
        (None, f"hooks.example.org/{SECRET}"),
        (None, f"http://127.0.0.1:1/a b/{SECRET}"),
        (None, f"http://127.0.0.1:1/{SECRET}"),
        (f"false {SECRET}", None),
        (f"no-such-program {SECRET}", None),
        (f"sh -c 'exit 3' {SECRET} '", None),
    ],
)
def test_reason_that_nobody_was_told_shows_no_secret(tmp_path: Path, command: str | None, url: str | None) -> None:
    with pytest.raises(MlfleetError, match="no notification was sent by --notify-") as raised:
        notify(Notice(report(REDIS), ""), tmp_path / "notified.json", command, url)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


def test_who_was_told_is_not_told_again_when_the_other_way_is_broken(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _run in range(2):
        with pytest.raises(MlfleetError, match="--notify-url"):
            notify(Notice(report(REDIS), ""), tmp_path / "notified.json", f"sh -c 'echo told >> {log}'", "broken")
    assert log.read_text() == "told\n"


@pytest.fixture
def server() -> Iterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", bodies
        http.shutdown()


def test_address_is_posted_summary_and_report(
    tmp_path: Path, server: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url, bodies = server
    with pytest.raises(MlfleetError, match="no notification was sent by --notify-url: Internal Server Error"):
        notify(Notice(report(REDIS), "one object"), tmp_path / "notified.json", None, f"{url}/broken")
    notify(Notice(report(REDIS), "one object"), tmp_path / "notified.json", None, f"{url}/secret")
    assert json.loads(bodies[-1]) == {"text": "one object", "report": report(REDIS).to_json()}
    notify(Notice(report(REDIS), "one object"), tmp_path / "notified.json", None, f"{url}/secret")
    assert len(bodies) == 2
