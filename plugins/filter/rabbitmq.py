# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Declarations of RabbitMQ's objects."""

from __future__ import annotations

from typing import Any


def all_rights(vhost: str) -> dict[str, str]:
    """Return the permissions of a user who may do everything in a virtual host."""
    return {"vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"}


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"all_rights": all_rights}
