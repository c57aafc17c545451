# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running programs that can report what they have in memory, and load a new pair, each by its own protocol."""

from __future__ import annotations

import socket
from typing import Any, Protocol

from ansible_collections.mlfleet.stack.plugins.module_utils import redis_live


class Program(Protocol):
    """The functions of a program's module, over a connection to its port; C(options) are those of C(OPTION)."""

    def difference(self, connection: socket.socket, options: dict) -> str:
        """Return how it differs from its files, or an empty text if it does not or that is unknown."""

    def take_pair(self, connection: socket.socket, options: dict, certificate: str, key: str) -> bool:
        """Return whether it has loaded the files of its certificate and key again."""


PROGRAMS: dict[str, Program] = {"redis": redis_live}
OPTION: dict[str, Any] = {
    "type": "dict",
    "options": {
        "program": {"type": "str", "choices": list(PROGRAMS), "required": True},
        "username": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "config_file": {"type": "path", "required": True},
    },
}
