# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of unit: render its files, then send everything in one round trip."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlfleet.stack.plugins.action import config_files
from ansible_collections.mlfleet.stack.plugins.module_utils.tls import toggle
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import health
from ansible_collections.mlfleet.stack.plugins.plugin_utils import outcomes
from ansible_collections.mlfleet.stack.plugins.plugin_utils.mounts import MOUNT_OPTIONS, NFS_PACKAGE, Mount

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **config_files.ARGUMENT_SPEC,
    "state": {"type": "str", "choices": ["present", "absent", "purged"], "default": "present"},
    "data": {"type": "list", "elements": "path", "default": []},
    "programs": {"type": "list", "elements": "path", "default": []},
    "image_file": {"type": "path"},
    "user": {"type": "str"},
    "home": {"type": "path"},
    "shell": {"type": "str"},
    "mounts": {"type": "list", "elements": "dict", "default": [], "options": MOUNT_OPTIONS},
    "tls": {"type": "dict", "options": toggle.ARGUMENT_SPEC, **toggle.CONDITIONS},
    "run": {"type": "dict", "required": True, "options": health.ARGUMENT_SPEC},
    "reloads": {"type": "bool", "default": False},
    "peers": {"type": "dict"},
    "marks": {"type": "list", "elements": "dict", "default": []},
}


class ActionModule(config_files.ActionModule):
    """Install what the mounts need, if there are any, then the unit."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # Skip the run of config_files, which takes its own arguments.
        result = super(config_files.ActionModule, self).run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(ARGUMENT_SPEC)
        is_wanted = arguments["state"] == "present"
        packages = {}
        if is_wanted and any(Mount.of(declared).is_nfs for declared in arguments["mounts"]):
            packages = self._execute_module("mlfleet.stack.packages", {"name": [NFS_PACKAGE]}, task_vars=task_vars)
            if packages.get("failed"):
                return result | packages
        run, tls, files = arguments["run"], arguments["tls"] or {}, arguments.pop("files")
        changed = outcomes.changed((task_vars or {})["inventory_hostname"])
        run["changed_paths"] += changed.intersection(run["files"] + run["reload_files"])
        if tls:
            tls["sources_changed"] |= tls["certificate"] in changed
        # Together, so that values that both refer to are rendered once.
        declared = [*files, *tls.get("files", [])]
        rendered = self._rendered(declared, task_vars) if is_wanted else list(map(self._by_path, declared))
        if tls and is_wanted:
            tls["files"] = rendered[len(files) :]
        payload = self._packed(rendered[: len(files) if is_wanted else None], **arguments)
        result |= self._execute_module("mlfleet.stack.run_unit", {"payload": payload}, task_vars=task_vars)
        self._tell(result, task_vars, *run["names"], changed=bool(result.get("actions")), **result.get("tls", {}))
        if packages.get("changed"):
            result |= {"changed": True, "diff": [packages["diff"], *result.get("diff", [])]}
        return result

    @staticmethod
    def _by_path(entry: dict[str, Any]) -> dict[str, Any]:
        """Return the entry of a file to remove, for which nothing is rendered."""
        state = "directory" if entry.get("state") == "directory" else "absent"
        return {**entry, "state": state, "template": None, "content": None, "validate": None}
