# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What dpkg says of Debian packages."""

from __future__ import annotations

import subprocess

States = dict[str, tuple[str, str]]


def states(names: list[str]) -> States:
    """What dpkg is to do with each of the packages that it knows, and what it has done."""
    shown = "--showformat=${Package} ${db:Status-Want} ${db:Status-Status}\n"
    listed = subprocess.run(["dpkg-query", "--show", shown, *names], capture_output=True, text=True, check=False).stdout
    return {name: (wanted, status) for name, wanted, status in map(str.split, listed.splitlines())}


def missing(names: list[str], found: States) -> list[str]:
    """Those of the packages that dpkg does not list as installed."""
    return [name for name in names if found.get(name, ("", ""))[1] != "installed"]


def held(found: States) -> list[str]:
    """Those of the packages that somebody keeps from being upgraded."""
    return [name for name, (wanted, _status) in found.items() if wanted == "hold"]
