"""The commands `mlfleet lab …`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from mlfleet.lab.inventory import LabInventory
from mlfleet.project import MlfleetError, console, give_back

if TYPE_CHECKING:
    from mlfleet.lab.hosts import Lab

CA_DIRECTORY = Path("/usr/local/share/ca-certificates")
LAB = Path("inventories/lab")
LabArgument = Annotated[Path, typer.Argument(metavar="INVENTORY", help="Directory of the lab, whose name it bears.")]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Manage lab hosts: containers with systemd and sshd instead of machines.",
)


@app.command()
def up(
    inventory: LabArgument = LAB,
    like: Annotated[Path, typer.Option(help="Inventory to copy for a new lab.")] = Path("inventories/single"),
    debian: Annotated[
        list[str] | None,
        typer.Option(help="Debian release of new hosts, by default 12; for one host as HOST=13. Repeatable."),
    ] = None,
    docker_inside: Annotated[bool, typer.Option("--docker-inside", help="Let new hosts run a Docker engine.")] = False,
    ca_dir: Annotated[Path, typer.Option(help="Additional authorities (*.crt) that new hosts trust.")] = CA_DIRECTORY,
) -> None:
    """Create and start every host of the lab, and wait until it answers; a second run changes nothing."""
    from mlfleet.lab.hosts import Releases

    releases = Releases.parse(debian or [])
    with _lab(inventory) as lab:
        changed = lab.up(like, releases, docker_inside, ca_dir)
        give_back(lab.inventory.path)
        lab.report(f"lab {lab.inventory.name} is up" + ("" if changed else "; nothing changed"))


@app.command()
def down(
    inventory: LabArgument = LAB,
    caches: Annotated[bool, typer.Option("--caches", help="Also remove base images and package caches.")] = False,
) -> None:
    """Remove the lab: its hosts, its network, and its directory with the secrets."""
    with _lab(inventory) as lab:
        removed = lab.down(caches)
        lab.report(f"lab {lab.inventory.name} is down" + ("" if removed else "; there was nothing to remove"))


@app.command(context_settings={"ignore_unknown_options": True})
def ssh(
    host: Annotated[str, typer.Argument(metavar="HOST", help="Name in the inventory.")],
    command: Annotated[list[str] | None, typer.Argument(metavar="COMMAND")] = None,
    inventory: Annotated[Path, typer.Option("--inventory", "-i", help="Directory of the lab.")] = LAB,
) -> None:
    """Sign in to HOST like Ansible, or run COMMAND there (after `--` if it has an option -i)."""
    lab = LabInventory(inventory.resolve())
    addresses = lab.addresses()
    if host not in addresses:
        raise MlfleetError(f"{host} is not in lab {lab.name}; it has: {', '.join(addresses)}.")
    os.execvp("ssh", [*lab.ssh_command(addresses[host]), *(command or [])])


@app.command()
def status(inventory: LabArgument = LAB) -> None:
    """Show each host: Debian release, address, state, and how many of its units have failed."""
    with _lab(inventory) as lab:
        hosts = lab.status()
    table = Table("Host", "Debian", "Address", "State", "Failed units")
    for host in hosts:
        failed = "?" if host.failed_units is None else str(host.failed_units)
        table.add_row(host.name, host.debian, host.address, host.state, failed)
    console.print(table if hosts else f"lab {lab.inventory.name} has no hosts")


@contextmanager
def _lab(inventory: Path) -> Iterator[Lab]:
    """Yield the lab, and print its reports with the seconds since the start."""
    from mlfleet.lab.hosts import Lab, docker_client  # with Docker's client, which signing in does not need

    start = time.monotonic()
    with docker_client() as client:
        yield Lab(
            client, inventory, lambda text: console.print(f"{time.monotonic() - start:6.1f} s  {text}", markup=False)
        )
