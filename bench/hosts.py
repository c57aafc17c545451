"""Time a converge that changes nothing for one inventory after another, and what it costs a host."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import typer
from tables import machine, publish
from target import Target, children

COLUMNS = ["Inventory", "Hosts", "Seconds", "Controller's CPU seconds per host", "CPU seconds of each host"]
NOTHING_CHANGED = "changed=0 "


def sample(inventory: str, targets: list[Target]) -> tuple[float, float, float]:
    """Return seconds, and CPU seconds of controller and hosts."""
    hosts, before, start = sum(each.cpu_seconds() for each in targets), children(), time.monotonic()
    words = ["ansible-playbook", "site.yml", "-i", inventory]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    seconds, controller = time.monotonic() - start, children() - before
    if done.returncode or done.stdout.count(NOTHING_CHANGED) != len(targets):
        raise SystemExit(f"{inventory}: it must be as declared\n{done.stdout}{done.stderr}")
    return seconds, controller, sum(each.cpu_seconds() for each in targets) - hosts


def row(inventory: str, repeats: int) -> list[str]:
    listed = subprocess.run(
        ["ansible-inventory", "-i", inventory, "--list"], capture_output=True, text=True, check=True
    )
    names = list(json.loads(listed.stdout)["_meta"]["hostvars"])
    with tempfile.TemporaryDirectory(prefix="mlfleet-bench-") as private, ExitStack() as stack:
        targets = [stack.enter_context(closing(Target(inventory, Path(private), name))) for name in names]
        sample(inventory, targets)  # not counted, because a first run fills the controller's caches
        samples = [sample(inventory, targets) for _round in range(repeats)]
    seconds, controller, hosts = (statistics.median(column) for column in zip(*samples, strict=True))
    count = len(names)
    return [inventory, str(count), f"{seconds:.1f}", f"{controller / count:.1f}", f"{hosts / count:.1f}"]


def main(
    inventories: Annotated[list[str], typer.Argument(help="Converged inventories.")],
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 3,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also update the table in FILE.")] = None,
) -> None:
    """Time a converge that changes nothing for one inventory after another."""
    rows = [row(inventory, repeats) for inventory in inventories]
    notes = [f"Medians of {repeats} runs. {machine(['ansible-core'])}."]
    publish("Runs that change nothing, by hosts", "bench/hosts.py", COLUMNS, rows, notes, markdown)


if __name__ == "__main__":
    typer.run(main)
