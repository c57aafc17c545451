"""The command `mlfleet ca`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlfleet.ca.authority import Authority
from mlfleet.project import console, repository_root
from mlfleet.secrets.vault import Vault


class Step(StrEnum):
    """A step in the replacement of an authority."""

    NEXT = "next"
    PROMOTE = "promote"
    RETIRE = "retire"
    FINISH = "finish"


def ca(
    inventory: Annotated[Path, typer.Argument(help="Directory such as inventories/prod.")],
    step: Annotated[
        Step | None, typer.Argument(help="Create the next authority, let it issue, trust only it, or finish.")
    ] = None,
) -> None:
    """Show INVENTORY's certificate authority, or take one step to replace it; playbooks/rotate_ca.yml takes all."""
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
