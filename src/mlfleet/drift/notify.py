"""Tells somebody, once, that what is not as declared has changed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from mlfleet.drift.report import Key, Report, State, as_text
from mlfleet.project import MlfleetError, write_atomically

NOTIFIED = "notified.json"
TIMEOUT_SECONDS = 60
PROBLEMS = (State.UNREACHABLE, State.FAILED, State.UNKNOWN)


@dataclass(frozen=True)
class Notice:
    """A report, and the line that sums it up."""

    report: Report
    summary: str

    def news(self, before: set[Key]) -> set[Key]:
        """Return all that is wrong now, with what this run could not look at as it was *before*."""
        wrong = {drift.key for drift in self.report.counted}
        wrong |= {(host.name, "", host.state) for host in self.report.hosts if host.state in PROBLEMS}
        here = {host.name for host in self.report.hosts}
        carried = {key for key in self.report.unseen(before) if key[2] not in PROBLEMS or key[0] not in here}
        return wrong | carried


def notify(notice: Notice, memory: Path, command: str | None, url: str | None) -> None:
    """Tell it if all that is wrong is not what *memory* says; remember it then.

    Raises:
        MlfleetError: nobody could be told; the next run tries again.
    """
    before = {(host, role, name) for host, role, name in json.loads(memory.read_text())} if memory.exists() else set()
    now = notice.news(before)
    if now == before:
        return
    if command:
        _run(notice, command)
    if url:
        _post(notice, url)
    write_atomically(memory, json.dumps(sorted(now)).encode(), mode=0o600)


def _run(notice: Notice, command: str) -> None:
    try:
        subprocess.run(
            shlex.split(command),
            input=as_text(notice.report).encode(),
            env={**os.environ, "MLFLEET_DRIFT_SUMMARY": notice.summary},
            stdout=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise MlfleetError(f"nobody was notified: {error}.") from error


def _post(notice: Notice, url: str) -> None:
    """Chat services show `text`."""
    body = json.dumps({"text": notice.summary, "report": notice.report.to_json()}).encode()
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            pass
    except (OSError, ValueError) as error:
        # The address may have a secret in it.
        raise MlfleetError(f"nobody was notified: --notify-url: {getattr(error, 'reason', error)}.") from error
