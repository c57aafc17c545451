# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of an archive, read into memory without ever writing to the paths that it names."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from ansible_collections.mlfleet.stack.plugins.module_utils import filesystem

MAX_BYTES = 512 * 1024 * 1024  # unpacked, because everything is held in memory
MAX_FILES = 50_000
MAGIC: dict[bytes, Callable[..., IO[bytes]]] = {
    b"\x1f\x8b": gzip.open,  # type: ignore[dict-item]
    b"BZh": bz2.open,  # type: ignore[dict-item]
    b"\xfd7zXZ\x00": lzma.open,  # type: ignore[dict-item]
}
COMPRESSION_ERRORS = (EOFError, lzma.LZMAError, zlib.error)
Files = dict[str, bytes]  # contents by path, which is relative, with slashes


class ArchiveError(Exception):
    """One line for the user about an archive that cannot be used."""


class _TooLargeError(Exception):
    """The unpacked contents exceed the limit."""


def read(path: Path, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> Files:
    """Return the files of a tar, compressed or not, or of a zip. Unpacking stops at the limits."""
    try:
        unpack = _read_zip if zipfile.is_zipfile(path) else _read_tar
        return unpack(path, max_bytes, max_files)
    except _TooLargeError:
        raise ArchiveError(
            f"{path} has more than {max_files} files or {max_bytes >> 20} MiB unpacked: pack only what is needed"
        ) from None
    except FileNotFoundError:
        raise ArchiveError(f"there is no {path}") from None
    except (tarfile.TarError, zipfile.BadZipFile, *COMPRESSION_ERRORS, OSError, RuntimeError, ValueError) as error:
        why = str(error).partition("\n")[0].rstrip(":")
        raise ArchiveError(f"{path} is not a readable archive (tar, tar.gz, tar.xz, zip): {why}") from None


def without_top(files: Files) -> Files:
    """Return the files without the single directory around all of them, if there is one."""
    tops = {name.partition("/")[0] for name in files}
    has_one = len(tops) == 1 and all("/" in name for name in files)
    return {name.partition("/")[2]: content for name, content in files.items()} if has_one else files


def write(path: Path, files: Files) -> None:
    """Write a tar.gz that is reproducible from its files, completely or not at all."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    save(path, packed.getvalue())


def save(path: Path, content: bytes) -> None:
    """Write a file that only its owner can access, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    filesystem.save(path, content)


class _Bounded:
    """A stream that raises an error after too many bytes, whatever its headers say."""

    def __init__(self, stream: IO[bytes], max_bytes: int) -> None:
        self.stream, self.left = stream, max_bytes

    def read(self, size: int) -> bytes:
        found = self.stream.read(size)
        self.left -= len(found)
        if self.left < 0:
            raise _TooLargeError
        return found


def _read_tar(path: Path, max_bytes: int, max_files: int) -> Files:
    files: Files = {}
    # As a stream, so that tarfile reads each block once.
    with _opened(path) as stream, tarfile.open(fileobj=_Bounded(stream, max_bytes), mode="r|") as archive:  # type: ignore[call-overload]
        for member in archive:
            _require_inside(member.name, path)
            if member.isdir():
                continue
            if not member.isfile():
                raise _no_file(member.name, path)
            files[_normal(member.name)] = archive.extractfile(member).read()
            if len(files) > max_files:
                raise _TooLargeError
    return files


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        start = file.read(max(map(len, MAGIC)))
    open_it = next((opener for magic, opener in MAGIC.items() if start.startswith(magic)), open)
    return open_it(path, "rb")  # type: ignore[no-any-return]


def _read_zip(path: Path, max_bytes: int, max_files: int) -> Files:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        # zipfile reads no more of a file than its entry declares.
        if len(members) > max_files or sum(member.file_size for member in members) > max_bytes:
            raise _TooLargeError
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
