# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What dpkg says of Debian packages."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from ansible_collections.mlfleet.stack.plugins.module_utils.commands import run

LISTS = Path("/var/lib/apt/lists")

States = dict[str, tuple[str, str]]


def states(names: list[str]) -> States:
    """What dpkg is to do with each of the packages that it knows, and what it has done."""
    shown = "--showformat=${Package} ${db:Status-Want} ${db:Status-Status}\n"
    listed = run(["dpkg-query", "--show", shown, *names]).stdout
    return {name: (wanted, status) for name, wanted, status in map(str.split, listed.splitlines())}


def in_order() -> list[str]:
    """All packages that are installed and that dpkg is to keep so."""
    shown = "--showformat=${Package} ${db:Status-Want} ${db:Status-Status}\n"
    listed = run(["dpkg-query", "--show", shown]).stdout
    return [line.split()[0] for line in listed.splitlines() if line.endswith(" install installed")]


def missing(names: list[str], found: States) -> list[str]:
    """Those of the packages that dpkg does not list as installed, and that none that is stands for, as mawk for awk."""
    absent = [name for name in names if found.get(name, ("", ""))[1] != "installed"]
    stood_for = provided() if absent else set()
    return [name for name in absent if name not in stood_for]


def provided() -> set[str]:
    """Names that installed packages stand for."""
    shown = "--showformat=${db:Status-Status} ${Provides}\n"
    listed = run(["dpkg-query", "--show", shown]).stdout
    lines = [line.removeprefix("installed ") for line in listed.splitlines() if line.startswith("installed ")]
    return {entry.split()[0].partition(":")[0] for line in lines for entry in line.split(",") if entry.strip()}


def lists_are_new(seconds: float) -> bool:
    return any(LISTS.glob("*_Packages*")) and 0 <= time.time() - LISTS.stat().st_mtime < seconds


def unknown(names: list[str]) -> list[str]:
    """Those that are in none of the host's package lists; none where it has no lists yet."""
    if not any(LISTS.glob("*_Packages*")):
        return []
    asked = ["apt-cache", "policy", "--", *names]
    told = run(asked, env={**os.environ, "LC_ALL": "C"}).stdout
    return [name for name in names if not re.search(rf"^{re.escape(name)}:\n.*\n  Candidate: [^(]", told, re.MULTILINE)]


def held(found: States) -> list[str]:
    """Those of the packages that somebody keeps from being upgraded."""
    return [name for name, (wanted, _status) in found.items() if wanted == "hold"]


def removable(names: list[str]) -> list[str]:
    """Those of the installed packages that dpkg removes alone: neither other packages nor the system need them."""
    asked = ["dpkg", "--no-act", "--remove", "--", *names]
    told = run(asked, env={**os.environ, "LC_ALL": "C"}).stdout
    return [name for name in names if re.search(rf"^Would remove or purge {re.escape(name)}[ :]", told, re.MULTILINE)]
