# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of dioptra_resources: send the relevant parts of the packages in one round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import CONNECTION_OPTIONS, SIGN_IN_OPTIONS
from ansible_collections.mlfleet.stack.plugins.plugin_utils.dioptra_package import RESOURCES_OPTION
from ansible_collections.mlfleet.stack.plugins.plugin_utils.dioptra_packages import PackagesActionBase

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **CONNECTION_OPTIONS,
    **SIGN_IN_OPTIONS,
    "resources": RESOURCES_OPTION,
    "packages": {"type": "path"},
}
SOURCES = ("resources", "packages")


class ActionModule(PackagesActionBase):
    """Read on the controller, compare and import on the host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            ARGUMENT_SPEC, mutually_exclusive=[SOURCES], required_one_of=[SOURCES]
        )
        resources, packages = (arguments.pop(name) for name in SOURCES)
        arguments["payload"] = self._kept(packages) if packages else self.packed(resources)
        return result | self._execute_module("mlfleet.stack.import_resources", arguments, task_vars=task_vars)

    def _kept(self, packages: str) -> str:
        try:
            return Path(packages).read_text()
        except FileNotFoundError:
            raise AnsibleActionFail(
                f"there is no {packages}: run site.yml --tags restapi,drift where the packages are"
            ) from None
