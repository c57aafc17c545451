"""The command `mlfleet drift`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mlfleet.drift import outputs, run, terminal
from mlfleet.drift.events import HOST_ROLE
from mlfleet.drift.notify import NOTIFIED, Notice, notify
from mlfleet.drift.report import History, Kind, Report, load
from mlfleet.project import MlfleetError, console, errors, repository_root

LAST = "last"


def drift(
    inventory: Annotated[Path, typer.Option("--inventory", "-i", help="Directory or file such as inventories/prod.")],
    limit: Annotated[str | None, typer.Option("--limit", "-l", help="Check only these hosts.")] = None,
    tags: Annotated[str | None, typer.Option("--tags", "-t", help="Check only these roles.")] = None,
    extra_vars: Annotated[list[str] | None, typer.Option("--extra-vars", "-e", help="As in Ansible.")] = None,
    vault_password_file: Annotated[Path | None, typer.Option(help="As in Ansible.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the report as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as an HTML page.")] = None,
    prometheus: Annotated[Path | None, typer.Option(help="Write metrics for the textfile collector.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the report as JUnit XML.")] = None,
    history: Annotated[Path | None, typer.Option(help="Directory in which to keep the last reports.")] = None,
    keep: Annotated[int, typer.Option(min=1, help="Number of reports to keep.")] = 30,
    since: Annotated[str | None, typer.Option(metavar="FILE|last", help="Compare with an earlier report.")] = None,
    notify_command: Annotated[
        str | None, typer.Option(help="Run this when the result has changed, with the report on standard input.")
    ] = None,
    notify_url: Annotated[
        str | None,
        typer.Option(envvar="MLFLEET_DRIFT_NOTIFY_URL", help="Post the report here when the result has changed."),
    ] = None,
    monitoring: Annotated[str, typer.Option(metavar="URL", help="Link to this page from the HTML page.")] = "",
    fix: Annotated[bool, typer.Option("--fix", help="Fix drift with site.yml, and check again.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fix without asking.")] = False,
) -> None:
    """Check whether every host is as declared; change nothing, except with --fix.

    Exit status 0: everything is as declared. 2: something is not. 1: unknown; a host did not answer, or a task failed.
    """
    target = run.Target(repository_root(), inventory, limit, tags, tuple(extra_vars or ()), vault_password_file)
    files = {"json": json, "html": html, "prometheus": prometheus, "junit": junit}
    paths = {kind: path for kind, path in files.items() if path}
    if fix and not yes and not sys.stdin.isatty():
        raise MlfleetError("--fix asks before it changes anything: add --yes if no user can answer.")
    if (notify_command or notify_url) and not history:
        raise MlfleetError("notifications need --history: name its directory.")
    with _interruptible():
        kept = _history(history, keep)
        earlier = _earlier(since, kept)
        for path in paths.values():
            outputs.require_file(path)
        variables = target.hosts()
        accepted = run.accepted_drift(variables)

        def check() -> Report:
            with terminal.progress(errors, f"Checking {inventory}") as watch:
                report = run.check(target, variables, accepted, watch)
            report = report.compared(earlier) if earlier else report
            if kept:
                kept.add(report)
            terminal.show(console, report, str(inventory))
            return report

        report = check()
        if fix and _mend(target, report, yes):
            report = check()
            terminal.by_hand(console, (item for item in report.counted if item.kind is Kind.UNDECLARED))
        runs = kept.reports() if kept else [report]
        for kind, path in paths.items():
            outputs.write(path, kind, report, runs, monitoring)
        if kept and (notify_command or notify_url):
            notice = Notice(report, terminal.summary(report, str(inventory)))
            notify(notice, kept.directory / NOTIFIED, notify_command, notify_url)
    raise typer.Exit(report.exit_code)


def _history(directory: Path | None, keep: int) -> History | None:
    if directory is None:
        return None
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise MlfleetError(f"{directory} cannot be created: {error.strerror}.") from error
    outputs.require_writable(directory)
    return History(directory, keep)


def _earlier(since: str | None, history: History | None) -> Report | None:
    if since is None:
        return None
    if since != LAST:
        return load(Path(since))
    if history is None:
        raise MlfleetError("--since last reads the reports of --history: name its directory.")
    return next(reversed(history.reports()), None)


def _mend(target: run.Target, report: Report, yes: bool) -> bool:
    """Run site.yml for what has drifted, if it can fix that and the user agrees; return whether it ran."""
    mendable = [item for item in report.counted if item.kind is Kind.CHANGED and item.role]
    if not mendable:
        terminal.by_hand(console, report.counted)
        return False
    hosts, roles = sorted({item.host for item in mendable}), sorted({item.role for item in mendable if item.role})
    # Drift that services take from the host, above all its certificate, is reported as the host's.
    whole = HOST_ROLE in roles
    limit, tags = ",".join(hosts), None if whole else ",".join(roles)
    besides = [item for item in report.accepted if item.host in hosts and (whole or item.role in roles)]
    terminal.plan(console, mendable, besides, limit, tags)
    if not yes and not typer.confirm("Run it?"):
        return False
    with terminal.progress(errors, "Fixing") as watch:
        done = run.play(replace(target, limit=limit, tags=tags), run.CONVERGE, ["--diff"], watch)
    for problem in (*done.unreachable, *done.lasting):
        errors.print(f"not fixed: {problem.host}: {problem.task}: {problem.message}", style="red", markup=False)
    return True


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise run.InterruptedRunError from None
