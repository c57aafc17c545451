# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Listening TCP ports and running units, as every user can read them in /proc."""

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
WILDCARDS = frozenset(("0.0.0.0", "::"))
UNIT = re.compile(r"/([^/\n]+)\.service")


@dataclass(frozen=True)
class Listener:
    """A listening socket."""

    inode: str
    address: str
    port: int
    uid: int


def listeners() -> Iterator[Listener]:
    for state, local, _remote, uid, inode in _sockets():
        if state == LISTENING:
            yield Listener(inode, *local, uid)


def overlap(*addresses: str) -> bool:
    """Return whether only one of these addresses can be bound; the IPv6 wildcard includes those of IPv4."""
    return len(set(addresses)) == 1 or (not WILDCARDS.isdisjoint(addresses) and "::1" not in addresses)


def uid_of_peer(connection: socket.socket) -> int | None:
    """Return the user of the program on this host that has accepted a connection; None if unknown."""
    here, there = connection.getsockname()[:2], connection.getpeername()[:2]
    for _state, local, remote, uid, inode in _sockets():
        if (local, remote) == (there, here) and inode != "0":
            return uid
    return None


def _sockets() -> Iterator[tuple[str, tuple[str, int], tuple[str, int], int, str]]:
    """Yield state, both ends, user and inode of each socket; one that is not accepted yet has the inode 0."""
    for table in (PROC / "net/tcp", PROC / "net/tcp6"):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:  # a host may lack IPv6
            _number, local, remote, state, _queues, _timer, _retransmits, uid, _timeout, inode = line.split()[:10]
            yield state, _end(local), _end(remote), int(uid), inode


def _end(text: str) -> tuple[str, int]:
    number, port = text.split(":")
    words = struct.unpack(f"<{len(number) // 8}I", bytes.fromhex(number))
    address = ipaddress.ip_address(struct.pack(f">{len(words)}I", *words))
    return str(getattr(address, "ipv4_mapped", None) or address), int(port, 16)


def running_units() -> dict[str, set[int]]:
    """Return the users of the processes of each unit that has any, by its name without C(.service)."""
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
