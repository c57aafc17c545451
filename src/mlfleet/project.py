"""Common parts of all commands: their error, consoles, the repository they work in, and writing of files."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class MlfleetError(Exception):
    """A failure that the user can fix; its text explains how."""


def repository_root(start: Path | None = None) -> Path:
    """Return the nearest directory at or above *start* (default: the working directory) that contains `galaxy.yml`.

    Raises:
        MlfleetError: there is none.
    """
    start = (start or Path.cwd()).resolve()
    for directory in (start, *start.parents):
        if (directory / "galaxy.yml").is_file():
            return directory
    raise MlfleetError(f"{start} is not inside an mlfleet repository (no galaxy.yml here or above): change into one.")


def give_back(directory: Path) -> None:
    """Give *directory* and its contents to the user who called sudo, if it was created through sudo."""
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]), follow_symlinks=False)


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace *path* with *content* so that a reader, or the next run after a crash, sees the old file or the new one.

    The temporary name is hidden, so Ansible never reads it, and fixed, so an interrupted run leaves no trail.
    The target of a link is replaced, not the link.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
