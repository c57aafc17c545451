# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of the host, each run with a timeout."""

from __future__ import annotations

import subprocess
from typing import Any

QUESTION_SECONDS = 120  # for queries and single changes; longer ones hang
WORK_SECONDS = 3600  # for downloads, builds and installations


def run(
    words: list[str], seconds: float = QUESTION_SECONDS, check: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program, and return its output and status.

    Raises:
        TimeoutError: it did not end. Like a missing program, this is an OSError.
    """
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    options |= {} if "input" in options else {"stdin": options.get("stdin", subprocess.DEVNULL)}
    try:
        return subprocess.run(words, timeout=seconds, check=check, **options)
    except subprocess.TimeoutExpired:
        raise TimeoutError(
            f"{' '.join(words[:2])} did not end within {seconds:.0f} s, and was ended: see what it waits for"
        ) from None
