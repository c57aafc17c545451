# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""States of Debian packages, from dpkg."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.mlfleet.stack.plugins.module_utils.commands import run

LISTS = Path("/var/lib/apt/lists")
# Is as new as the installation of this package's version.
STAMP = "/var/lib/dpkg/info/{name}.list"

States = dict[str, tuple[str, str]]


def states(names: list[str]) -> States:
    """Return the desired and actual state of each of the packages that dpkg knows."""
    shown = "--showformat=${Package} ${db:Status-Want} ${db:Status-Status}\n"
    listed = run(["dpkg-query", "--show", shown, *names]).stdout
    return {name: (wanted, status) for name, wanted, status in map(str.split, listed.splitlines())}


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    if not (asked := list(names)):
        return {}
    shown = "--showformat=${db:Status-Status} ${Package} ${Version}\n"
    listed = run(["dpkg-query", "--show", shown, *asked]).stdout
    lines = [line.split() for line in listed.splitlines()]
    return {line[1]: line[2] for line in lines if line[0] == "installed"}


def in_order() -> list[str]:
    """Return all installed packages that are not held or marked for removal."""
    shown = "--showformat=${Package} ${db:Status-Want} ${db:Status-Status}\n"
    listed = run(["dpkg-query", "--show", shown]).stdout
    return [line.split()[0] for line in listed.splitlines() if line.endswith(" install installed")]


def missing(names: list[str], found: States) -> list[str]:
    """Return the packages that are not installed, nor provided by an installed one, such as awk by mawk."""
    absent = [name for name in names if found.get(name, ("", ""))[1] != "installed"]
    stood_for = provided() if absent else set()
    return [name for name in absent if name not in stood_for]


def provided() -> set[str]:
    """Return the names that installed packages provide."""
    shown = "--showformat=${db:Status-Status} ${Provides}\n"
    listed = run(["dpkg-query", "--show", shown]).stdout
    lines = [line.removeprefix("installed ") for line in listed.splitlines() if line.startswith("installed ")]
    return {entry.split()[0].partition(":")[0] for line in lines for entry in line.split(",") if entry.strip()}


def lists_are_new(seconds: float) -> bool:
    return any(LISTS.glob("*_Packages*")) and 0 <= time.time() - LISTS.stat().st_mtime < seconds


def unknown(names: list[str]) -> list[str]:
    """Return the names that are in none of the host's package lists; none if it has no lists yet."""
    if not any(LISTS.glob("*_Packages*")):
        return []
    asked = ["apt-cache", "policy", "--", *names]
    told = run(asked, env={**os.environ, "LC_ALL": "C"}).stdout
    return [name for name in names if not re.search(rf"^{re.escape(name)}:\n.*\n  Candidate: [^(]", told, re.MULTILINE)]


def held(found: States) -> list[str]:
    """Return the packages that are held back from upgrades."""
    return [name for name, (wanted, _status) in found.items() if wanted == "hold"]


def units(names: list[str]) -> list[str]:
    """Return the systemd units that these installed packages bring."""
    listed = run(["dpkg-query", "--listfiles", "--", *names]).stdout
    paths = map(Path, listed.splitlines())
    return sorted({path.name for path in paths if path.match("lib/systemd/system/*.*")})


def removable(names: list[str]) -> list[str]:
    """Those of the installed packages that dpkg removes alone: neither other packages nor the system need them."""
    asked = ["dpkg", "--no-act", "--remove", "--", *names]
    told = run(asked, env={**os.environ, "LC_ALL": "C"}).stdout
    return [name for name in names if re.search(rf"^Would remove or purge {re.escape(name)}[ :]", told, re.MULTILINE)]
