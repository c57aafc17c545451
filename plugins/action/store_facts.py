# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of store_facts: take the data directories from the roles, then ask the host."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlfleet.stack.plugins.action import preflight as action
from ansible_collections.mlfleet.stack.plugins.plugin_utils import services
from ansible_collections.mlfleet.stack.plugins.plugin_utils.rendering import Hosts


class ActionModule(action.ActionModule):
    """Render the directories that the roles of the stores declare."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # Skip the run of preflight, which takes its own arguments.
        result = super(action.ActionModule, self).run(tmp, task_vars)
        task_vars = task_vars or {}
        _result, arguments = self.validate_argument_spec({"roles": {"type": "list", "elements": "str"}})
        roles, groups = arguments["roles"], task_vars["group_names"]
        names = [name for name in services.STORES if roles is None or (name in roles and name in groups)]
        if not names:
            return result | {"changed": False}
        host = Hosts(names, task_vars, self._task, self._loader, self.read).host(task_vars["inventory_hostname"], names)
        paths, patterns = host.declared("store_paths"), host.declared("store_patterns")
        places = {store: {"paths": paths[store], "patterns": patterns.get(store, [])} for store in names}
        return result | self._execute_module("mlfleet.stack.store_facts", {"stores": places}, task_vars=task_vars)
