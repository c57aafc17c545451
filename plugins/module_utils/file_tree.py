# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A directory with exactly the files of an archive, exchanged all at once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils import archives, filesystem

CURRENT = "current"
FILE_MODE, DIRECTORY_MODE = 0o644, 0o755
ABSENT = "absent"
Manifest = Mapping[str, str]  # SHA-256 by path


def manifest(files: archives.Files) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


def tree(directory: Path) -> archives.Files:
    """Return the files of a source tree, without hidden ones and bytecode.

    Raises:
        ArchiveError: it has a link.
    """
    found = (path for path in sorted(directory.rglob("*")) if not _is_left_out(path.relative_to(directory)))
    files = {}
    for path in found:
        if path.is_symlink():
            raise archives.ArchiveError(f"{path} is a link: put the file itself there")
        if path.is_file():
            files[path.relative_to(directory).as_posix()] = path.read_bytes()
    return files


def _is_left_out(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def observe(directory: Path) -> dict[str, str]:
    """Return the contents as a manifest; anything but root's plain files, readable by all, is marked as such."""
    return {
        path.relative_to(directory).as_posix(): state
        for path in (directory, *sorted(directory.rglob("*")))
        if (state := _state(path)) is not None
    }


def _state(path: Path) -> str | None:
    """Return the state of a path, or nothing for a correct directory."""
    status = path.lstat()
    mode, owner = status.st_mode & 0o7777, f"{status.st_uid}:{status.st_gid}"
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        return "neither file nor directory"
    if path.is_dir():
        return None if (mode, owner) == (DIRECTORY_MODE, "0:0") else f"directory {owner} {mode:04o}"
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    return content if (mode, owner) == (FILE_MODE, "0:0") else f"{content} {owner} {mode:04o}"


def converge(
    path: Path, wanted: Manifest, archive: Path | None, check_mode: bool, stop: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Point C(path/current) to the desired files. Without the archive, only report whether they differ.

    Args:
        stop: stops programs that read the files, right before others take their place.
    """
    current = path / CURRENT
    found = observe(current.resolve()) if current.is_symlink() and current.is_dir() else {}
    if path.is_dir() and (state := _state(path)):
        found[".."] = state
    differing = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    leftovers = _leftovers(path)
    changed = bool(differing or leftovers)
    if changed and archive and not check_mode:
        _exchange(path, archives.read(archive), bool(differing), stop)
    lines = {
        "before": [f"{name} {found.get(name, ABSENT)}" for name in differing]
        + [f"{file} leftover" for file in leftovers],
        "after": [f"{name} {wanted.get(name, ABSENT)}" for name in differing],
    }
    diff = {side: "".join(f"{line}\n" for line in texts) for side, texts in lines.items()}
    return {"changed": changed, "diff": {"before_header": str(current), "after_header": str(current), **diff}}


def _leftovers(path: Path) -> list[str]:
    """Return entries that the link does not point to, such as those left by a killed run."""
    used = {CURRENT, (path / CURRENT).resolve().name}
    return sorted(entry.name for entry in path.iterdir() if entry.name not in used) if path.is_dir() else []


def _exchange(path: Path, files: archives.Files, is_new: bool, stop: Callable[[], None]) -> None:
    if is_new:
        path.mkdir(exist_ok=True)
        with filesystem.directory(str(path)) as descriptor:
            os.fchown(descriptor, 0, 0)
            os.fchmod(descriptor, DIRECTORY_MODE)
        made = Path(tempfile.mkdtemp(dir=path, prefix="files-"))
        for name, content in files.items():
            file = made / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(FILE_MODE)
        for directory in [made, *filter(Path.is_dir, made.rglob("*"))]:
            directory.chmod(DIRECTORY_MODE)
        filesystem.sync_below(made)
        # Atomically, so that readers find either the old or the new files.
        link = path / f"{made.name}.link"
        link.symlink_to(made.name)
        stop()
        if not (path / CURRENT).is_symlink():
            _remove(path / CURRENT)
        filesystem.put_in_place(str(link), str(path / CURRENT))
    for name in _leftovers(path):
        _remove(path / name)


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)
