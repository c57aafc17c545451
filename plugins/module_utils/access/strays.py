# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Undeclared objects of a host or service, in the form in which all modules report them."""

from __future__ import annotations

import shlex


def stray(kind: str, name: str, *commands: list[str], separator: str = " && ") -> dict[str, str]:
    """Return one such object with the commands that remove it, quoted, because strangers chose the names."""
    return {"kind": kind, "name": name, "remove": separator.join(map(shlex.join, commands))}
