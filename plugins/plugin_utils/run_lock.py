# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time for an inventory, on the controller.

The file names the running process, so that a killed one holds nothing, and playbooks that import each other in one
process share it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.mlfleet.stack.plugins.plugin_utils.cache import cache_directory


class RunningError(Exception):
    """One line: who is running, and since when."""


def path_of(inventory: Path) -> Path:
    real = inventory.resolve()
    return cache_directory() / "runs" / f"{real.name}-{hashlib.sha256(str(real).encode()).hexdigest()[:8]}.json"


def claim(path: Path, process: int, only_look: bool = False) -> None:
    """Register the process as the running one, or raise; check mode only looks, so that it blocks no one."""
    if only_look and not path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        holder = _read(file.read())
        if holder and holder["process"] != process and _started(holder["process"]) == holder["started"]:
            raise RunningError(
                f"another run is under way since {holder['since']} (process {holder['process']} of {holder['user']}): "
                "wait until it has ended"
            )
        if not only_look:
            file.truncate(0)
            since = holder["since"] if holder and holder["process"] == process else f"{_now():%Y-%m-%d %H:%M:%S} UTC"
            json.dump({"process": process, "started": _started(process), "since": since, "user": _user()}, file)


def _read(text: str) -> dict | None:
    try:
        return json.loads(text)
    except ValueError:  # such as after a process was killed while writing
        return None


def _started(process: int) -> str:
    """Return the start time of a process, in the kernel's time since boot; nothing if it has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return "" if stat[0] in "ZX" else f"{boot} {stat[19]}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _now() -> datetime:
    return datetime.now(timezone.utc)  # noqa: UP017
