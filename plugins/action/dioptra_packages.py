# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read resource packages into one file on the controller, without contacting a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.mlfleet.stack.plugins.module_utils import archives
from ansible_collections.mlfleet.stack.plugins.plugin_utils.dioptra_package import RESOURCES_OPTION
from ansible_collections.mlfleet.stack.plugins.plugin_utils.dioptra_packages import PackagesActionBase

ARGUMENT_SPEC = {
    "resources": {**RESOURCES_OPTION, "required": True},
    "dest": {"type": "path", "required": True},
}


class ActionModule(PackagesActionBase):
    """Run on the controller alone."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(ARGUMENT_SPEC)
        payload = self.packed(arguments["resources"])
        try:
            archives.save(Path(arguments["dest"]), payload.encode())
        except OSError as error:
            raise AnsibleActionFail(str(error)) from None
        return result | {"changed": False}
