"""Time the controller's work for many hosts, before it contacts any: the example inventory with more workers.

No host is contacted, so none needs to exist.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from tables import machine, publish

ROOT = Path(__file__).resolve().parents[1]
LIKE = ROOT / "inventories/prod"
WORKERS = "worker_tensorflow_cpu"
COLUMNS = [
    "Hosts",
    "Validate the inventory",
    "CPU seconds per host",
    "A task that does nothing",
    "CPU seconds per host",
    "Memory",
]
NOTHING: dict[str, Any] = {
    "hosts": "all",
    "gather_facts": False,
    "tasks": [{"ansible.builtin.assert": {"that": True, "quiet": True}}],
}


def grow(directory: Path, hosts: int) -> None:
    """Write the example inventory with worker hosts added up to this number."""
    shutil.copytree(LIKE, directory)
    inventory = yaml.safe_load((directory / "hosts.yml").read_text())["all"]
    for number in range(hosts - len(inventory["hosts"])):
        name = f"extra{number}"
        inventory["hosts"][name] = {"ansible_host": f"10.1.{number // 250}.{number % 250 + 1}"}
        inventory["children"]["workers"]["children"][WORKERS]["hosts"][name] = None
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": inventory}))
    subprocess.run(["mlfleet", "init", str(directory)], check=True, capture_output=True)


def run(inventory: Path, plays: list[dict[str, Any]]) -> tuple[float, float]:
    """Return seconds and CPU seconds of a run of these plays."""
    playbook = inventory.with_suffix(".yml")
    playbook.write_text(yaml.safe_dump(plays, sort_keys=False))
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = os.environ | {"ANSIBLE_DISPLAY_OK_HOSTS": "no", "XDG_CACHE_HOME": str(inventory.parent)}
    subprocess.run(
        ["ansible-playbook", str(playbook), "-i", str(inventory)],
        check=True,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def row(hosts: int) -> list[str]:
    validate = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())[0]
    with tempfile.TemporaryDirectory(prefix="mlfleet-bench-") as private:
        inventory = Path(private, f"of{hosts}")
        grow(inventory, hosts)
        start = run(inventory, [NOTHING | {"tasks": []}])
        nothing = run(inventory, [NOTHING])
        validated = run(inventory, [validate])
    cells = [str(hosts)]
    for seconds, cpu in (validated, nothing):
        cells += [f"{seconds - start[0]:.1f} s", f"{(cpu - start[1]) / hosts:.3f}"]
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # in KiB, of the largest process so far
    return [*cells, f"{largest / 1024:.0f} MiB"]


def main(
    sizes: Annotated[list[int], typer.Option("--hosts", help="Sizes of the inventory.")] = [11, 100, 500],  # noqa: B006
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also update the table in FILE.")] = None,
) -> None:
    """Time the validation of inventories of many hosts, and a task that does nothing on each of them."""
    rows = [row(hosts) for hosts in sorted(sizes)]
    notes = [f"Without the startup of a run. {machine(['ansible-core'])}."]
    publish("What the controller does for many hosts", "bench/scale.py", COLUMNS, rows, notes, markdown)


if __name__ == "__main__":
    typer.run(main)
