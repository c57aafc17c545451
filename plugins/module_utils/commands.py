# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs and locks of the host, none of which is waited for without a bound."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

QUESTION_SECONDS = 120  # what asks, or changes one thing: longer is hung
WORK_SECONDS = 3600  # what downloads, builds or installs
PAUSE_SECONDS = 1


def run(
    words: list[str], seconds: float = QUESTION_SECONDS, check: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """What a program printed, and how it ended.

    Raises:
        TimeoutError: it did not end; an OSError, as when there is no such program.
    """
    options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL} | options
    try:
        return subprocess.run(words, timeout=seconds, check=check, **options)
    except subprocess.TimeoutExpired:
        raise TimeoutError(
            f"{' '.join(words[:2])} did not end within {seconds:.0f} s, and was ended: see what it waits for"
        ) from None


@contextmanager
def alone(path: Path, seconds: float = WORK_SECONDS) -> Iterator[None]:
    """Nobody else holds the lock meanwhile, such as a module that goes on after its run was killed.

    Raises:
        TimeoutError: somebody does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"{path}: another run has held it for {seconds:.0f} s; see with fuser which process it is"
                    ) from None
                time.sleep(PAUSE_SECONDS)
        yield
