# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Python interpreters of a host."""

from __future__ import annotations

import functools
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.mlfleet.stack.plugins.module_utils.commands import run

OF_DEBIAN = "/usr/bin/python3"
QUESTION = "import os, platform, sys; print(platform.python_version(), os.path.realpath(sys._base_executable))"


@dataclass(frozen=True)
class Interpreter:
    """C(program) is the target of links and virtual environments."""

    version: str
    program: str


@functools.cache
def ask(python: str) -> Interpreter | None:
    """Query an interpreter; return nothing if it does not exist or does not run."""
    if Path(python).resolve() == Path(sys.executable).resolve():  # this one
        return Interpreter(platform.python_version(), os.path.realpath(sys._base_executable))  # type: ignore[attr-defined]
    try:
        done = run([python, "-c", QUESTION])
    except OSError:
        return None
    said = done.stdout.strip().split(" ", 1)
    return Interpreter(*said) if done.returncode == 0 and len(said) == 2 else None
