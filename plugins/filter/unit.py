# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data for the role unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def instance_files(instances: list[str], directory: str, environment: Mapping[str, Mapping[str, Any]]) -> list[dict]:
    """The environment file of each instance of a template unit, in a directory that holds no others."""
    files = [
        {
            "path": f"{directory}/{instance}.env",
            "template": "environment.j2",
            "vars": {"environment_variables": environment.get(instance, {})},
        }
        for instance in instances
    ]
    return [{"path": directory, "state": "directory", "purge": True}, *files]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"instance_files": instance_files}
