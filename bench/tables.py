"""Tables of measurements, in the terminal and in a file."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints/bench.txt"


def machine(packages: list[str]) -> str:
    """Describe the machine and the versions used."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    pins = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if " " not in line)
    versions = [f"{package} {pins.get(package) or version(package)}" for package in packages]
    return (
        f"{os.cpu_count()} cores of {cpu[1] if cpu else platform.machine()}, load {os.getloadavg()[2]:.1f}; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def publish(
    title: str, maker: str, columns: list[str], rows: list[list[str]], notes: list[str], markdown: Path | None
) -> None:
    """Print the table in the terminal and, if given, write it to a file."""
    show(title, columns, rows, notes)
    if markdown:
        write(markdown, maker, columns, rows, notes)


def show(title: str, columns: list[str], rows: list[list[str]], notes: list[str]) -> None:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False)
    console.print(table)
    console.print(*notes, sep="\n")


def write(path: Path, maker: str, columns: list[str], rows: list[list[str]], notes: list[str]) -> None:
    """Write the table as Markdown, between the file's marks that name its maker."""
    rule = ["---"] + ["---:"] * (len(columns) - 1)
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]
    mark = f"<!-- made by {maker} -->"
    body = "\n".join([mark, *lines, "", *notes, "<!-- to here -->"])
    pattern = f"{re.escape(mark)}.*?<!-- to here -->"
    path.write_text(re.sub(pattern, lambda _found: body, path.read_text(), flags=re.DOTALL))
