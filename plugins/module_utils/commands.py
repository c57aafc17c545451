# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of the host, none of which is waited for without a bound."""

from __future__ import annotations

import subprocess
from typing import Any

QUESTION_SECONDS = 120  # what asks, or changes one thing: longer is hung
WORK_SECONDS = 3600  # what downloads, builds or installs


def run(
    words: list[str], seconds: float = QUESTION_SECONDS, check: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """What a program printed, and how it ended.

    Raises:
        TimeoutError: it did not end; an OSError, as when there is no such program.
    """
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    options |= {} if "input" in options else {"stdin": options.get("stdin", subprocess.DEVNULL)}
    try:
        return subprocess.run(words, timeout=seconds, check=check, **options)
    except subprocess.TimeoutExpired:
        raise TimeoutError(
            f"{' '.join(words[:2])} did not end within {seconds:.0f} s, and was ended: see what it waits for"
        ) from None
