# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data mounts of programs: directories of the host and NFS exports, as systemd mount units."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.files import MADE

DEFAULT_PATH = "/dioptra/data"  # of Dioptra's workers and of containers beside them
EXAMPLE_PATH = "/srv/data"
NFS_PACKAGE = "nfs-common"
# As in Dioptra's documentation, without bg and auto, which the unit's soft dependency replaces, and without intr,
# which Linux ignores. A longer attribute cache suits data that rarely changes.
NFS_OPTIONS = ("nfsvers=4", "actimeo=1800")

MOUNT_OPTIONS: dict[str, dict[str, Any]] = {
    "source": {"type": "str", "required": True},
    "path": {"type": "str", "default": DEFAULT_PATH},
    "read_only": {"type": "bool", "default": True},
    "options": {"type": "list", "elements": "str", "default": []},
}

# Without quotes, blanks and characters that systemd expands.
SOURCE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*:)?/[^\s\"'\\%$]*")
PATH = re.compile(r"(/[A-Za-z0-9_.-]+)+")
OPTION = re.compile(r"[^\s,\"'\\%$]+")
# A unit with PrivateTmp and ProtectHome sees its own directories there, or none.
HIDDEN = ("/dev", "/home", "/proc", "/root", "/run/user", "/sys", "/tmp", "/var/tmp")
# A mount hides everything below it from the whole host.
TAKEN = ("/bin", "/boot", "/etc", "/lib", "/lib64", "/run", "/sbin", "/usr", "/opt/mlfleet", "/var/cache", "/var/lib")

UNIT_TEXT = """\
# {made}
[Unit]
Description=Data at {path}
StopWhenUnneeded=true

[Mount]
What={source}
Where={path}
Type={kind}
Options={options}
LazyUnmount=true
TimeoutSec=60
"""


@dataclass(frozen=True)
class Mount:
    """A source and its mount point."""

    source: str
    path: str = DEFAULT_PATH
    read_only: bool = True
    options: tuple[str, ...] = ()

    @classmethod
    def of(cls, declared: Mapping[str, Any]) -> Mount:
        known = {key: declared[key] for key in MOUNT_OPTIONS if declared.get(key) is not None}
        return cls(**{**known, "options": tuple(known.get("options", ()))})

    @property
    def is_nfs(self) -> bool:
        return not self.source.startswith("/")

    @property
    def unit(self) -> str:
        return f"{escape(self.path)}.mount"

    @property
    def text(self) -> str:
        """Return the mount unit, which names no program, so that those with the same data share it."""
        kind, options = ("nfs", self.options or NFS_OPTIONS) if self.is_nfs else ("none", ("bind", *self.options))
        options = (*options, "ro" if self.read_only else "rw")
        return UNIT_TEXT.format(made=MADE, path=self.path, source=self.source, kind=kind, options=",".join(options))

    @property
    def described(self) -> str:
        return " ".join([self.source, "read-only" if self.read_only else "writable", *self.options])

    def overlaps(self, path: str) -> bool:
        """Return whether it hides this path of the host, or is inside it."""
        return f"{path}/".startswith(f"{self.path}/") or f"{self.path}/".startswith(f"{path}/")

    def problems(self) -> Iterator[str]:
        if not SOURCE.fullmatch(self.source):
            yield f"source {self.source!r} is neither an absolute directory nor an export like server:/path"
        if not PATH.fullmatch(self.path) or {".", ".."} & set(self.path.split("/")):
            yield f"path {self.path!r} is not absolute, or has characters other than letters, digits, _ . and -"
        elif any(f"{self.path}/".startswith(f"{hidden}/") for hidden in HIDDEN):
            yield f"path {self.path} is hidden from services; use another, such as {EXAMPLE_PATH}"
        elif any(map(self.overlaps, TAKEN)):
            yield f"path {self.path} is the system's own; use another, such as {EXAMPLE_PATH}"
        for option in self.options:
            if not OPTION.fullmatch(option):
                yield f"option {option!r} has a blank, a comma or a quote"
            elif option in ("ro", "rw"):
                yield f"option {option}: set read_only: {str(option == 'ro').lower()} instead"


def escape(path: str) -> str:
    """Escape a path for the name of a unit, like C(systemd-escape --path)."""
    words = "/".join(word for word in path.split("/") if word)
    plain = re.sub(r"[^A-Za-z0-9:_./]", lambda sign: "".join(f"\\x{byte:02x}" for byte in sign.group().encode()), words)
    return re.sub(r"^\.", r"\\x2e", plain).replace("/", "-") or "-"
