# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Virtual environments that are exchanged as a whole: each in a separate tree, with a link to the one in use."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ansible_collections.mlfleet.stack.plugins.module_utils import filesystem

STAMP = ".installed"  # in a complete tree
PROCESSES = Path("/proc")


def new_tree(path: Path) -> Path:
    """Return the path for the next environment."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}")


def exchange(path: Path, tree: Path) -> None:
    """Point the path to the tree atomically. A path that is still a directory, as in the past, becomes a tree."""
    link = tree.with_name(f"{tree.name}.link")
    link.symlink_to(tree.name)
    if path.is_dir() and not path.is_symlink():
        path.rename(new_tree(path))
    filesystem.put_in_place(str(link), str(path))


def clear(path: Path) -> None:
    """Remove other trees that no process uses, such as those that a killed run has left."""
    former = [entry for entry in trees(path) if entry != path.resolve()]
    used = _used(former) if former else set()
    for entry in former:
        if entry.is_symlink():
            entry.unlink()
        elif entry not in used:
            shutil.rmtree(entry)


def trees(path: Path) -> list[Path]:
    """Return the environments beside the path, and links to them that are not in use yet."""
    pattern = re.compile(re.escape(path.name) + r"\.[0-9a-f]{8}(\.link)?")
    return [entry for entry in path.parent.glob(f"{path.name}.*") if pattern.fullmatch(entry.name)]


def _used(trees: list[Path]) -> set[Path]:
    """Return the trees from which a process was started or has loaded a library."""
    return {tree for text in _traces() for tree in trees if f"{tree}/".encode() in text}


def _traces() -> Iterator[bytes]:
    for process in PROCESSES.glob("[0-9]*"):
        for name in ("cmdline", "maps"):
            with suppress(OSError):  # it has ended
                yield Path(process, name).read_bytes()
