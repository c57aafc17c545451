"""The `mlfleet` command."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from mlfleet.authority import Authority
from mlfleet.drift.command import drift
from mlfleet.lab import CA_DIRECTORY, Lab, Releases, docker_client, ssh_command
from mlfleet.lab_inventory import LabInventory
from mlfleet.project import MlfleetError, give_back, repository_root
from mlfleet.secrets import Vault

console = Console(highlight=False, soft_wrap=True)
WRONG_USAGE = 2  # to typer
errors = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def _wrong_usage_ends_with_1() -> Iterator[None]:
    """For 2 means drift."""
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        if getattr(error, "exit_code", None) == WRONG_USAGE:
            error.exit_code = 1  # type: ignore[attr-defined]
        raise


class _Commands(TyperGroup):
    """Commands whose `MlfleetError` ends as one line on standard error and exit status 1."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _wrong_usage_ends_with_1():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _wrong_usage_ends_with_1():
                return super().invoke(ctx)
        except MlfleetError as error:
            errors.print(f"mlfleet: {error}", style="red", markup=False)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Secrets, drift checks and lab of this repository.",
)
lab_app = typer.Typer(no_args_is_help=True, help="Lab hosts: containers with systemd and sshd.")
app.add_typer(lab_app, name="lab")

LAB = Path("inventories/lab")
LabArgument = Annotated[Path, typer.Argument(metavar="INVENTORY", help="Directory of the lab; it names the lab.")]


@app.command()
def init(
    inventory: Annotated[Path, typer.Argument(help="Directory such as inventories/prod.")],
    show: Annotated[str | None, typer.Option(metavar="NAME", help="Print this secret instead of making any.")] = None,
) -> None:
    """Generate the secrets and the certificate authority that INVENTORY lacks; existing ones are never changed."""
    vault = Vault(repository_root(), inventory)
    if show is not None:
        typer.echo(vault.show(show))
        return
    created = vault.create_missing()
    for name in created:
        console.print(f"created {name}")
    console.print(f"{len(created)} secrets added to {vault.path}" if created else f"nothing missing in {vault.path}")
    authority = Authority(vault)
    if authority.create_missing():
        console.print(f"created the certificate authority {authority.path('ca.crt')}")


app.command()(drift)


class Step(StrEnum):
    """A step in the replacement of an authority."""

    NEXT = "next"
    PROMOTE = "promote"
    RETIRE = "retire"
    FINISH = "finish"


@app.command()
def ca(
    inventory: Annotated[Path, typer.Argument(help="Directory such as inventories/prod.")],
    step: Annotated[
        Step | None, typer.Argument(help="Create the next authority, let it issue, trust only it, and finish.")
    ] = None,
) -> None:
    """Show INVENTORY's certificate authority, or take a step to replace it; playbooks/rotate_ca.yml takes all."""
    authority = Authority(Vault(repository_root(), inventory))
    if step is None:
        console.print(authority.state())
        return
    steps = {
        Step.NEXT: authority.next,
        Step.PROMOTE: authority.promote,
        Step.RETIRE: authority.retire,
        Step.FINISH: authority.finish,
    }
    changed = steps[step]()
    console.print(authority.state() + ("" if changed else "; nothing changed"))


@lab_app.command()
def up(
    inventory: LabArgument = LAB,
    like: Annotated[Path, typer.Option(help="Inventory that a new lab imitates.")] = Path("inventories/single"),
    debian: Annotated[
        list[str] | None,
        typer.Option(help="Debian release of new hosts, by default 12; of one as HOST=13. Repeatable."),
    ] = None,
    docker_inside: Annotated[bool, typer.Option("--docker-inside", help="New hosts can run a Docker engine.")] = False,
    ca_dir: Annotated[Path, typer.Option(help="Authorities (*.crt) that new hosts trust as well.")] = CA_DIRECTORY,
) -> None:
    """Create and start every host of the lab, and wait until it answers; a second run changes nothing."""
    releases = Releases.parse(debian or [])
    with _lab(inventory) as lab:
        changed = lab.up(like, releases, docker_inside, ca_dir)
        give_back(lab.inventory.path)
        lab.report(f"lab {lab.inventory.name} is up" + ("" if changed else "; nothing changed"))


@lab_app.command()
def down(
    inventory: LabArgument = LAB,
    caches: Annotated[bool, typer.Option("--caches", help="Remove base images and package caches too.")] = False,
) -> None:
    """Remove the lab: its hosts, its network, and its directory with the secrets in it."""
    with _lab(inventory) as lab:
        removed = lab.down(caches)
        lab.report(f"lab {lab.inventory.name} is down" + ("" if removed else "; there was nothing to remove"))


@lab_app.command(context_settings={"ignore_unknown_options": True})
def ssh(
    host: Annotated[str, typer.Argument(metavar="HOST", help="Name in the inventory.")],
    command: Annotated[list[str] | None, typer.Argument(metavar="COMMAND")] = None,
    inventory: Annotated[Path, typer.Option("--inventory", "-i", help="Directory of the lab.")] = LAB,
) -> None:
    """Sign in to HOST as Ansible does, or run COMMAND there (after `--` when it has an option -i)."""
    lab = LabInventory(inventory.resolve())
    addresses = lab.addresses()
    if host not in addresses:
        raise MlfleetError(f"{host} is not in lab {lab.name}; it has: {', '.join(addresses)}.")
    os.execvp("ssh", [*ssh_command(lab, addresses[host]), *(command or [])])


@lab_app.command()
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
    """Yield the lab; what it reports is printed with the seconds since the start."""
    start = time.monotonic()
    with docker_client() as client:
        yield Lab(
            client, inventory, lambda text: console.print(f"{time.monotonic() - start:6.1f} s  {text}", markup=False)
        )
