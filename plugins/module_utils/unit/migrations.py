# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The progress of a database migration, in a file that the program locks meanwhile."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import Any

OPTION: dict[str, Any] = {
    "type": "dict",
    "options": {"file": {"type": "path", "required": True}, "timeout_seconds": {"type": "int", "required": True}},
}
REFUSED = 78  # exit status of a program that refuses its database


def under_way(file: str | Path) -> str:
    """Return the migration in progress, such as V(Migrating MLflow's database from a1 to b2), or nothing."""
    try:
        # The service's user owns the file, and may have replaced it with anything.
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), errors="replace") as words:
            if not stat.S_ISREG(os.fstat(words.fileno()).st_mode):
                return ""
            try:
                fcntl.flock(words, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return words.read(1000)
    except OSError:
        pass
    return ""
