"""The command `mlfleet init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlfleet.ca.authority import Authority
from mlfleet.project import console, repository_root
from mlfleet.secrets.vault import Vault


def init(
    inventory: Annotated[Path, typer.Argument(help="Directory such as inventories/prod.")],
    show: Annotated[str | None, typer.Option(metavar="NAME", help="Print this secret instead of creating any.")] = None,
) -> None:
    """Create the secrets and the certificate authority that INVENTORY lacks; existing ones are never changed."""
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
