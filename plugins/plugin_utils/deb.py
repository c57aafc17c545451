# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of Debian packages, read without dpkg, which a controller may not have."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAGIC = b"!<arch>\n"
HEADER_BYTES = 60


class DebError(Exception):
    """One line for the user."""


def _members(archive: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Yield the small members of an ar archive; what comes after them is not read."""
    while len(header := archive.read(HEADER_BYTES)) == HEADER_BYTES:
        size = int(header[48:58])
        yield header[:16].decode().rstrip(" /"), archive.read(size)
        archive.read(size % 2)


def fields(path: str) -> dict[str, str]:
    """Return the fields of a package's control file that fit a line."""
    try:
        with Path(path).open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise DebError(f"{path} is no Debian package")
            found = next(member for member in _members(file) if member[0].startswith("control.tar"))
            with tarfile.open(fileobj=io.BytesIO(found[1])) as archive:
                name = next(name for name in archive.getnames() if Path(name).name == "control")
                control = archive.extractfile(name).read().decode()  # type: ignore[union-attr]
    except OSError as error:
        raise DebError(f"{path}: {error.strerror or error}") from None
    except (StopIteration, ValueError, tarfile.TarError) as error:
        raise DebError(f"{path}: its control file cannot be read: {error or 'there is none'}") from None
    lines = (line.partition(":") for line in control.splitlines() if line[:1].strip())
    return {field: value.strip() for field, _colon, value in lines}


def version(path: str, name: str) -> str:
    """Return the version of the package in a file, which must have this name."""
    found = fields(path)
    if found.get("Package") != name:
        raise DebError(f"{path} is package {found.get('Package')}, not {name}")
    return found["Version"]
