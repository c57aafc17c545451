# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of an archive, read without ever writing one where its name leads."""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

COMPRESSION_ERRORS = (EOFError, lzma.LZMAError, zlib.error)
Files = dict[str, bytes]  # contents by path, which is relative, with slashes


class ArchiveError(Exception):
    """One line for the user about an archive that cannot be used."""


def read(path: Path) -> Files:
    """The files of a tar, compressed or not, or of a zip."""
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_tar(path)
    except FileNotFoundError:
        raise ArchiveError(f"there is no {path}") from None
    except (tarfile.TarError, zipfile.BadZipFile, *COMPRESSION_ERRORS, OSError, RuntimeError, ValueError) as error:
        why = str(error).partition("\n")[0].rstrip(":")
        raise ArchiveError(f"{path} is no archive that can be read (tar, tar.gz, tar.xz, zip): {why}") from None


def without_top(files: Files) -> Files:
    """The files without the single directory around all of them, if there is one."""
    tops = {name.partition("/")[0] for name in files}
    has_one = len(tops) == 1 and all("/" in name for name in files)
    return {name.partition("/")[2]: content for name, content in files.items()} if has_one else files


def write(path: Path, files: Files) -> None:
    """A tar.gz that is the same whenever its files are; there whole or not at all."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    save(path, packed.getvalue())


def save(path: Path, content: bytes) -> None:
    """A file of its owner's own that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _read_tar(path: Path) -> Files:
    with tarfile.open(path) as archive:
        members = [member for member in archive if not member.isdir()]
        for member in members:
            _require_inside(member.name, path)
            if not member.isfile():
                raise _no_file(member.name, path)
        return {_normal(member.name): archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]


def _read_zip(path: Path) -> Files:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        for member in members:
            _require_inside(member.filename, path)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _no_file(member.filename, path)
        return {_normal(member.filename): archive.read(member) for member in members}


def _no_file(name: str, path: Path) -> ArchiveError:
    return ArchiveError(f"{path}: {name} is a link or a device; pack plain files alone")


def _require_inside(name: str, path: Path) -> None:
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name:
        raise ArchiveError(f"{path}: {name} leads out of the archive; pack it with relative paths")


def _normal(name: str) -> str:
    return str(PurePosixPath(name))  # without ./ at the beginning
