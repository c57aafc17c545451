# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Access and replace files safely: follow no link of other users, and sync files before they get their name.

A service may own a directory in which we work as root, and replace its entries with links at any moment. So a path is
opened part by part, and each operation is relative to the opened directory.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.mlfleet.stack.plugins.module_utils.commands import WORK_SECONDS, run

MAXIMUM_LINKS = 40  # the kernel's limit
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def directory(path: str) -> Iterator[int]:
    """Open the directory. Links in its path must belong to root or us, and are refused otherwise."""
    descriptor = _open_directory(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def parent(path: str) -> Iterator[tuple[int, str]]:
    """Open the parent directory of the path; yield its descriptor and the name in it."""
    above, name = os.path.split(path)
    with directory(above) as descriptor:
        yield descriptor, name


def open_file(path: str, flags: int, mode: int = 0o600) -> int:
    with parent(path) as (around, name):
        return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=around)


def read(path: str) -> bytes:
    """Return the contents of a plain file, without blocking on anything else, such as a pipe."""
    with open(open_file(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        return file.read()


def rename(source: str, target: str) -> None:
    """Rename within one directory, replacing the target; durable only after C(sync_directories)."""
    with parent(target) as (around, name):
        os.replace(Path(source).name, name, src_dir_fd=around, dst_dir_fd=around)


def without_mounts(path: Path) -> list[Path]:
    """Return what a removal of the path removes: itself, or its entries without the file systems below.

    A file system mounted below belongs to others; if one is mounted on the path itself, its contents are ours.
    """
    if not path.is_dir() or path.is_symlink():
        return [path]
    mounted = {Path(point) for point in _mount_points() if path in (Path(point), *Path(point).parents)}
    if not mounted:
        return [path]
    entries = [entry for entry in path.iterdir() if entry not in mounted and entry.name != "lost+found"]
    return [part for entry in sorted(entries) for part in without_mounts(entry)]


def _mount_points() -> list[str]:
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point) for point in points]


def sync_directories(paths: Iterable[str]) -> None:
    """Make the names of these paths survive a power failure."""
    for above in dict.fromkeys(str(Path(path).parent) for path in paths):
        with directory(above) as descriptor:
            os.fsync(descriptor)


def sync_below(path: Path) -> None:
    """Sync everything in the directory to disk, in one call, however many files there are."""
    done = run(["sync", "--file-system", str(path)], WORK_SECONDS)
    if done.returncode != 0:
        raise OSError(errno.EIO, done.stderr.strip(), str(path))


def save(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file completely or not at all, even after a power failure, through the same hidden name each time."""
    unfinished = path.absolute().with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with open(open_file(str(unfinished), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    put_in_place(str(unfinished), str(path.absolute()))


def put_in_place(source: str, target: str) -> None:
    """Durably give a synced file, or a link, its final name."""
    rename(source, target)
    sync_directories([target])


def _open_directory(path: str) -> int:
    names = [name for name in path.split("/") if name][::-1]
    current, links = os.open("/", _DIRECTORY), 0
    try:
        while names:
            name = names.pop()
            try:
                following = os.open(name, _DIRECTORY, dir_fd=current)
            except OSError as error:
                # For a link, kernels differ in which of these they return.
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise OSError(error.errno, error.strerror, path) from None
                target = _target_of_ours(name, current, path)
                links += 1
                if links > MAXIMUM_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                names += [part for part in target.split("/") if part][::-1]
                following = os.open("/", _DIRECTORY) if target.startswith("/") else os.dup(current)
            os.close(current)
            current = following
    except BaseException:
        os.close(current)
        raise
    return current


def _target_of_ours(name: str, around: int, path: str) -> str:
    """Return the link's target, if only root (or we) can have made it; the link checked is the one that is read."""
    link = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=around)
    try:
        found = os.fstat(link)
        if not stat.S_ISLNK(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, f"{name} is no directory", path)
        if found.st_uid not in (0, os.geteuid()):
            raise OSError(errno.ELOOP, f"{name} is a link of user {found.st_uid}, which is not followed", path)
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)
