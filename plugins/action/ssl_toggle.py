# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of ssl_toggle: render the service's settings."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlfleet.stack.plugins.action import config_files
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.toggle import ARGUMENT_SPEC, CONDITIONS


class ActionModule(config_files.ActionModule):
    """Render the settings, and switch TLS on the host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # Skip the run of config_files, which takes its own arguments.
        result = super(config_files.ActionModule, self).run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(ARGUMENT_SPEC, **CONDITIONS)
        rendered = self._rendered(arguments["files"], task_vars)
        files = [{"path": entry["path"], "content": entry["content"]} for entry in rendered]
        options = {**self._task.args, "files": files}
        return result | self._execute_module("mlfleet.stack.ssl_toggle", options, task_vars=task_vars)
