"""Sends a notification, once, when the set of problems has changed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from mlfleet.drift.report import Key, Report, State, as_text
from mlfleet.project import MlfleetError, write_atomically

NOTIFIED = "notified.json"
TIMEOUT_SECONDS = 60
PROBLEMS = (State.UNREACHABLE, State.FAILED, State.UNKNOWN)


@dataclass(frozen=True)
class Notice:
    """A report, and its summary line."""

    report: Report
    summary: str

    def news(self, before: set[Key]) -> set[Key]:
        """Return all present problems, with those from *before* that this run could not check."""
        wrong = {drift.key for drift in self.report.counted}
        wrong |= {(host.name, "", host.state) for host in self.report.hosts if host.state in PROBLEMS}
        here = {host.name for host in self.report.hosts}
        carried = {key for key in self.report.unseen(before) if key[2] not in PROBLEMS or key[0] not in here}
        return wrong | carried


def notify(notice: Notice, memory: Path, command: str | None, url: str | None) -> None:
    """Notify by each way whose last notified problems in *memory* differ, and remember the present ones.

    Raises:
        MlfleetError: a notification failed; the next run tries again.
    """
    told = json.loads(memory.read_text()) if memory.exists() else {}
    problems = []
    for way, tell, target in (("command", _run, command), ("url", _post, url)):
        before = {(host, role, name) for host, role, name in told.get(way, [])}
        now = notice.news(before)
        if target and now != before:
            try:
                tell(notice, target)
                told[way] = sorted(now)
            except _NotToldError as error:
                problems.append(f"--notify-{way}: {error}")
    write_atomically(memory, json.dumps(told).encode(), mode=0o600)
    if problems:
        raise MlfleetError(f"no notification was sent by {' and '.join(problems)}.")


class _NotToldError(Exception):
    """Why a notification failed, without the command's arguments or the address, which may contain a secret."""


def _run(notice: Notice, command: str) -> None:
    try:
        words = shlex.split(command)
        subprocess.run(
            words,
            input=as_text(notice.report).encode(),
            env={**os.environ, "MLFLEET_DRIFT_SUMMARY": notice.summary},
            stdout=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
    except ValueError as error:  # such as for an unclosed quote
        raise _NotToldError(error) from None
    except OSError as error:
        raise _NotToldError(f"{words[0]}: {error.strerror}") from None
    except subprocess.CalledProcessError as error:
        raise _NotToldError(f"{words[0]} ended with status {error.returncode}") from None
    except subprocess.TimeoutExpired:
        raise _NotToldError(f"{words[0]} took longer than {TIMEOUT_SECONDS} s") from None


def _post(notice: Notice, url: str) -> None:
    """Post the report; chat services show `text`."""
    if not url.startswith(("http://", "https://")):
        raise _NotToldError("its address does not begin with http:// or https://")
    body = json.dumps({"text": notice.summary, "report": notice.report.to_json()}).encode()
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            pass
    except (ValueError, HTTPException) as error:
        raise _NotToldError(type(error).__name__) from None
    except OSError as error:
        raise _NotToldError(getattr(error, "reason", error)) from None
