"""The `mlfleet` command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from mlfleet.project import MlfleetError, errors

# Each is imported when it is called: together they need Ansible, Docker's client and more, which takes seconds.
COMMANDS = {"init": "secrets", "drift": "drift", "ca": "ca", "lab": "lab"}
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
    def list_commands(self, _ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]  # to suggest the nearest one
            return None
        package = import_module(f"mlfleet.{COMMANDS[cmd_name]}.command")
        own = getattr(package, "app", None)
        if not own:
            own = typer.Typer(add_completion=False)
            own.command(cmd_name)(getattr(package, cmd_name))
        command = typer.main.get_command(own)
        command.name = cmd_name
        return command

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _errors_end_with_1():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _errors_end_with_1():
            return super().invoke(ctx)


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Manage the secrets, drift checks and lab of this repository."""
