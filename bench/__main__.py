"""Time runs that change nothing on a host, alternating with a pyinfra deploy of the same state (deploy.py).

They are real runs: while they are timed, no one else may change the host, because they would undo it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from tables import CONSTRAINTS, machine, publish
from target import Target, children

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parent / ".cache/bench"
FRESH = ".cache/fresh"
AS_ROOT = [] if os.getuid() == 0 else ["sudo", "--set-home", "env", f"PATH={os.environ['PATH']}"]
RECAP = re.compile(r"ok=(\d+)\s+changed=(\d+)\s+unreachable=0\s+failed=0\s+skipped=(\d+)")
REST_SECONDS = 10
COLUMNS = ["Run", "Tasks", "Seconds", "Times pyinfra", "Controller's CPU seconds", "Host's CPU seconds"]
console = Console(highlight=False)


class FailedError(Exception):
    """A run that failed, or that changed something."""


@dataclass
class Sample:
    seconds: float
    controller: float
    host: float


def of_ansible(output: str) -> tuple[int, int]:
    """Return the numbers of tasks and changes, from the recap of the only host."""
    [(ok, changed, skipped)] = RECAP.findall(output)
    return int(ok) + int(skipped), int(changed)


def of_pyinfra(output: str) -> tuple[int, int]:
    totals = json.loads(output)["results"]["totals"]
    return totals["hosts"], totals["hosts"] - totals["no_change"]


@dataclass
class Run:
    name: str
    words: list[str]
    counts: Callable[[str], tuple[int, int]] = of_ansible
    samples: list[Sample] = field(default_factory=list)
    tasks: int = 0

    def once(self, target: Target, changes: bool = False) -> None:
        # Each run opens its own connections, like pyinfra's.
        with tempfile.TemporaryDirectory(dir=target.private) as sockets:
            environment = os.environ | {"ANSIBLE_SSH_CONTROL_PATH_DIR": sockets}
            host = target.cpu_seconds()
            before, start = children(), time.monotonic()
            done = subprocess.run(self.words, capture_output=True, text=True, check=False, env=environment)
            seconds, controller = time.monotonic() - start, children() - before
            host = target.cpu_seconds() - host
            # Otherwise the host would wait for the end of that run before it accepts a run from another connection.
            for socket in Path(sockets).iterdir():
                subprocess.run(["ssh", "-O", "exit", "-S", str(socket), "host"], capture_output=True, check=True)
        try:
            self.tasks, changed = self.counts(done.stdout)
        except (ValueError, KeyError, TypeError):
            changed = 0
            done.returncode = done.returncode or 1
        if done.returncode or (changed and not changes):
            words = " ".join(self.words)
            raise FailedError(f"{words}: status {done.returncode}, {changed} changes\n{done.stdout}{done.stderr}")
        self.samples.append(Sample(seconds, controller, host))

    def row(self, rival: Run | None) -> list[str]:
        ratio = ""
        if rival and rival is not self:
            ratios = [mine.seconds / its.seconds for mine, its in zip(self.samples, rival.samples, strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        medians = (statistics.median(values) for values in zip(*map(astuple, self.samples), strict=True))
        seconds, controller, host = (f"{value:.1f}" for value in medians)
        return [self.name, str(self.tasks), seconds, ratio, controller, host]


def checked(run: Run, target: Target) -> None:
    try:
        run.once(target)
    except FailedError as error:
        raise SystemExit(f"{error}\nThe host must be as declared, and no one else may change it meanwhile.") from error


def install() -> None:
    """Install pyinfra's pinned packages, separate from the project's."""
    make = ["uv", "venv", "--quiet", "--allow-existing", "--python", sys.executable]
    fill = ["uv", "pip", "install", "--quiet", "--compile-bytecode", "--requirement", str(CONSTRAINTS), "--python"]
    for words in make, fill:
        subprocess.run([*words, str(TOOLS / "venv")], check=True, env=os.environ | {"UV_SYSTEM_CERTS": "1"})


@contextmanager
def reached(inventory: str) -> Iterator[Target]:
    with tempfile.TemporaryDirectory(prefix="mlfleet-bench-") as private:  # private, with secrets
        target = Target(inventory, Path(private))
        try:
            yield target
        finally:
            target.close()


def fresh() -> Run:
    """Converge a new lab, which is removed afterwards."""
    lab = [*AS_ROOT, "mlfleet", "lab"]
    run = Run("Fresh converge, once", ["ansible-playbook", "site.yml", "-i", FRESH])
    subprocess.run([*lab, "down", FRESH], check=True)
    try:
        subprocess.run([*lab, "up", FRESH, "--like", "inventories/single"], check=True)
        subprocess.run(["mlfleet", "init", FRESH], check=True)
        with reached(FRESH) as target:
            run.once(target, changes=True)
    finally:
        subprocess.run([*lab, "down", FRESH], check=True)
    return run


def main(
    inventory: Annotated[str, typer.Argument(help="Inventory of one converged host.")] = "inventories/lab",
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; each times every run once.")] = 5,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also update the table in FILE.")] = None,
    with_fresh: Annotated[bool, typer.Option("--fresh", help="Also converge a new lab.")] = False,
) -> None:
    """Time a converge and a drift check that change nothing, alternating with a pyinfra deploy of the same state."""
    install()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that the copied files are removed
    site = ["ansible-playbook", "site.yml", "-i", inventory]
    with reached(inventory) as target:
        console.print("Check that the host is as declared")
        # Otherwise the first run would change it, and the deploy would have an undeclared state.
        checked(Run("Check", [*site, "--check"]), target)
        state = target.private / "state.json"
        state.write_text(json.dumps(target.state()))
        deploy = [target.address, str(HERE / "deploy.py"), "--sudo", "--yes", "--json", "--data", f"state={state}"]
        drift = ["ansible-playbook", "playbooks/drift.yml", "-i", inventory, "--check", "--diff"]
        rival = Run("pyinfra", [str(TOOLS / "venv/bin/pyinfra"), *deploy, *target.pyinfra_options()], of_pyinfra)
        runs = [Run("Converge", site), rival, Run("Drift check", drift)]
        before = target.cpu_seconds()
        time.sleep(REST_SECONDS)
        at_rest = target.cpu_seconds() - before
        for number in range(repeats):
            for run in runs:
                console.print(f"Round {number + 1} of {repeats}: {run.name}")
                checked(run, target)
        rows = [run.row(rival) for run in runs]
    if with_fresh:
        rows.append(fresh().row(None))
    notes = [
        f"Medians of {repeats} rounds; ratios are within a round, with minimum and maximum. The idle host used "
        f"{at_rest:.1f} CPU seconds in {REST_SECONDS} s.",
        f"{machine(['ansible-core', 'pyinfra'])}.",
    ]
    publish("Runs that change nothing", "make bench", COLUMNS, rows, notes, markdown)


if __name__ == "__main__":
    typer.run(main)
