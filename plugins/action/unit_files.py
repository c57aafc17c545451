# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""config_files for a unit with mounts: what these need comes first, and costs a unit without any nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.mlfleet.stack.plugins.action import config_files
from ansible_collections.mlfleet.stack.plugins.module_utils.mounts import MOUNT_OPTIONS, NFS_PACKAGE, Mount

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **config_files.ARGUMENT_SPEC,
    "mounts": {"type": "list", "elements": "dict", "default": [], "options": MOUNT_OPTIONS},
}


class ActionModule(config_files.ActionModule):
    """Install what the mounts need, then the files."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # Past config_files, whose run takes its own arguments.
        result = super(config_files.ActionModule, self).run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(ARGUMENT_SPEC)
        changed, diffs = False, []
        for step in self._steps(arguments, task_vars or {}):
            if step.get("failed"):
                return result | step
            changed |= step["changed"]
            diff = step.get("diff") or []
            diffs += diff if isinstance(diff, list) else [diff]
            result |= step
        return result | {"changed": changed, "diff": diffs}

    def _steps(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if any(Mount.of(declared).is_nfs for declared in arguments["mounts"]):
            yield self._execute_module("mlfleet.stack.packages", {"name": [NFS_PACKAGE]}, task_vars=task_vars)
        yield self._install(arguments["files"], task_vars)
