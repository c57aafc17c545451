# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of packages: a host that has reported them as installed in this run is not asked again."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import normal
from ansible_collections.mlfleet.stack.plugins.plugin_utils.library import LibraryActionBase


class ActionModule(LibraryActionBase, normal.ActionModule):
    """Compare with the result of host_facts in this run; the facts themselves may come from an earlier one.

    A package that is removed during the run is noticed by the next one.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        names, is_wanted = self._task.args.get("name"), self._task.args.get("state", "present") == "present"
        registered = [
            (task_vars or {}).get(name, {}).get("ansible_facts", {}) for name in ("site_facts", "drift_facts")
        ]
        told = " ".join(facts.get("ansible_installed_packages", "") for facts in registered)
        if is_wanted and isinstance(names, list) and not self._task.delegate_to and set(names) <= set(told.split()):
            return {"changed": False, "installed": [], "removed": [], "undeclared": []}
        return super().run(tmp, task_vars)
