# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TCP ports that programs listen at, and the units that run, as every user may read them in /proc."""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LISTENING = "0A"  # in /proc/net/tcp
UNIT = re.compile(r"/([^/\n]+)\.service")


@dataclass(frozen=True)
class Listener:
    """A socket that waits for connections."""

    inode: str
    address: str
    port: int
    uid: int


def listeners() -> Iterator[Listener]:
    for version, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        table = PROC / "net" / version
        for line in table.read_text().splitlines()[1:] if table.exists() else []:  # a host may do without IPv6
            _number, local, _remote, state, _queues, _timer, _retransmits, uid, _timeout, inode = line.split()[:10]
            if state != LISTENING:
                continue
            number, port = local.split(":")
            words = struct.unpack(f"<{len(number) // 8}I", bytes.fromhex(number))
            address = ipaddress.ip_address(socket.inet_ntop(family, struct.pack(f">{len(words)}I", *words)))
            yield Listener(inode, str(getattr(address, "ipv4_mapped", None) or address), int(port, 16), int(uid))


def running_units() -> dict[str, set[int]]:
    """Users of the processes of each unit that has any, by its name without C(.service)."""
    found: dict[str, set[int]] = {}
    for process in PROC.glob("[0-9]*"):
        try:
            units = UNIT.findall((process / "cgroup").read_text())
            uid = process.stat().st_uid
        except OSError:  # it has ended meanwhile
            continue
        if units:
            found.setdefault(units[-1], set()).add(uid)
    return found
