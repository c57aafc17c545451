# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of python_venv: let later tasks know whether the environment changed and is usable."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlfleet.stack.plugins.action import library_module


class ActionModule(library_module.ActionModule):
    """Run the module, and record its outcome."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        return self._tell(result, task_vars, result.get("stamp", ""), usable=result.get("usable"))
