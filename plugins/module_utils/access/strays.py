# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host or a service has that nobody declared, as all modules tell it."""

from __future__ import annotations

import shlex


def stray(kind: str, name: str, *commands: list[str], separator: str = " && ") -> dict[str, str]:
    """One such object, with the commands that remove it, quoted: names are whatever a stranger has thought of."""
    return {"kind": kind, "name": name, "remove": separator.join(map(shlex.join, commands))}
