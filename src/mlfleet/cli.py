"""The `mlfleet` command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from mlfleet.ca.command import ca
from mlfleet.drift.command import drift
from mlfleet.lab.command import app as lab
from mlfleet.project import MlfleetError, errors
from mlfleet.secrets.command import init

WRONG_USAGE = 2  # typer's exit status


@contextmanager
def _errors_end_with_1() -> Iterator[None]:
    """Exit with 1 after errors, because 2 means drift; an `MlfleetError` is one line on standard error."""
    try:
        yield
    except typer.Exit:
        raise
    except MlfleetError as error:
        errors.print(f"mlfleet: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    except Exception as error:
        if getattr(error, "exit_code", None) == WRONG_USAGE:
            error.exit_code = 1  # type: ignore[attr-defined]
        raise


class _Commands(TyperGroup):
    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _errors_end_with_1():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _errors_end_with_1():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Manage the secrets, drift checks and lab of this repository.",
)
for command in (init, drift, ca):
    app.command()(command)
app.add_typer(lab, name="lab")
