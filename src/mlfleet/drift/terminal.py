"""The terminal output: progress, a table of what is not as declared, and a summary line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlfleet.drift.events import Event
from mlfleet.drift.report import Drift, Kind, Problem, Report, State
from mlfleet.drift.run import Watch

NAMED_HOSTS = 3
WIDE = 200  # columns without a terminal


@contextmanager
def progress(console: Console, what: str) -> Iterator[Watch]:
    """Show the running task and its hosts; nothing without a terminal."""
    if not console.is_terminal:
        yield lambda _event: None
        return
    working: set[str] = set()
    with console.status(escape(what)) as status:

        def watch(event: Event) -> None:
            data = event.get("event_data") or {}
            match event["event"]:
                case "playbook_on_task_start":
                    working.clear()
                case "runner_on_start":
                    working.add(data["host"])
                case name if name.startswith("runner_on_"):
                    working.discard(data.get("host", ""))
            named = (data.get("play"), data.get("task"), _some(sorted(working)))
            status.update(escape(" · ".join([what, *filter(None, named)])))

        yield watch


def show(console: Console, report: Report, inventory: str) -> None:
    """Print the table, the problems that kept hosts from being checked, and the summary."""
    if not console.is_terminal:
        console.width = WIDE
    if report.drift:
        console.print(_table(report), soft_wrap=False)
    for word, problems in (
        ("unreachable", report.unreachable),
        ("failed", report.failed),
        ("not checkable", report.not_checkable),
    ):
        for (message, task), hosts in _by_message(problems).items():
            told = f"{task}: {message}" if task and word != "unreachable" else message
            console.print(
                f"{word}: {', '.join(hosts)}: {told}", style=None if word == "not checkable" else "red", markup=False
            )
    for entry in report.expired:
        console.print(
            f"no longer accepted since {entry.until}: {entry.object} ({entry.reason})", style="yellow", markup=False
        )
    if report.since:
        since = report.since
        console.print(
            f"since {since.started}: {len(since.new)} new, {len(since.still)} still there, {len(since.gone)} gone"
        )
        for host, role, name in since.gone:
            console.print(f"gone: {host}: {role} {name}".replace("  ", " "), markup=False)
    console.print(summary(report, inventory), markup=False)


def summary(report: Report, inventory: str) -> str:
    """Return the answer in one line."""
    counts = report.summary
    parts = []
    if report.counted:
        on = f"{counts['hosts_drifted']} of {_hosts(counts['hosts'])}"
        parts.append(f"{_objects(counts['drift'])} not as declared on {on}")
    for state in (State.UNREACHABLE, State.FAILED, State.UNKNOWN):
        if number := counts[f"hosts_{state}"]:
            words = {
                State.UNREACHABLE: "did not answer",
                State.FAILED: "failed",
                State.UNKNOWN: "not completely checked",
            }
            parts.append(f"{_hosts(number)} {words[state]}")
    if not parts:
        parts = [f"{_hosts(counts['hosts'])} as declared"]
    if counts["accepted"]:
        parts.append(f"{counts['accepted']} accepted")
    return f"{inventory}: {', '.join(parts)} ({report.duration_seconds:.0f} s)"


def plan(console: Console, drift: Iterable[Drift], accepted: Iterable[Drift], limit: str, tags: str | None) -> None:
    """Print what a run of site.yml would fix, and what accepted drift it would undo as well."""
    console.print(f"To fix: site.yml --limit {limit}" + (f" --tags {tags}" if tags else ""), markup=False)
    for item in drift:
        console.print(f"  {item.host}: {item.role}: {item.object}", markup=False)
    for item in accepted:
        console.print(f"  and, though accepted, {item.host}: {item.role}: {item.object}", style="yellow", markup=False)


def by_hand(console: Console, drift: Iterable[Drift]) -> None:
    """Print what no run of site.yml fixes."""
    for item in drift:
        how = f"remove it with: {item.remove}" if item.remove else "remove or declare it by hand"
        console.print(f"left to you: {item.host}: {item.object}: {how}", markup=False)


def _table(report: Report) -> Table:
    new = set(report.since.new) if report.since else set()
    table = Table("Host", "Role", "Object", "What", box=None, header_style="bold", pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    shown = ""
    for item in sorted(report.drift, key=lambda drift: drift.key):
        style = "dim" if item.accepted else None
        what = ("new, " if item.key in new else "") + _what(item)
        table.add_row(
            *map(escape, ("" if item.host == shown else item.host, item.role or "", item.object, what)), style=style
        )
        shown = item.host
    return table


def _what(drift: Drift) -> str:
    if drift.accepted:
        return f"accepted until {drift.accepted.until}: {drift.accepted.reason}"
    if drift.kind is Kind.UNDECLARED:
        return "undeclared" + (f"; remove it with: {drift.remove}" if drift.remove else "")
    lines = drift.diff.splitlines()
    added, removed = (sum(line.startswith(sign) for line in lines) for sign in "+-")
    if added or removed:
        return f"+{added} -{removed} lines"
    return lines[0] if lines else "would change"


def _by_message(problems: Iterable[Problem]) -> dict[tuple[str, str | None], list[str]]:
    found: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for problem in problems:
        found[problem.message, problem.task].append(problem.host)
    return found


def _some(hosts: list[str]) -> str:
    rest = len(hosts) - NAMED_HOSTS
    return ", ".join(hosts[:NAMED_HOSTS]) + (f" and {rest} more" if rest > 0 else "")


def _hosts(number: int) -> str:
    return f"{number} host{'' if number == 1 else 's'}"


def _objects(number: int) -> str:
    return f"{number} object{'' if number == 1 else 's'}"
