# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of dioptra_resources: read and check the packages, then send what counts in one round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleFileNotFound
from ansible.plugins.action import ActionBase
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra_package import (
    RESOURCE_OPTIONS,
    PackageError,
    load,
    pack,
    require_one_owner,
)
from ansible_collections.mlfleet.stack.plugins.module_utils.rest import CONNECTION_OPTIONS, SIGN_IN_OPTIONS

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **CONNECTION_OPTIONS,
    **SIGN_IN_OPTIONS,
    "resources": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": RESOURCE_OPTIONS,
        "mutually_exclusive": [("src", "repo")],
        "required_one_of": [("src", "repo")],
    },
}


class ActionModule(ActionBase):
    """Read on the controller, compare and import on the host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(ARGUMENT_SPEC)
        try:
            packages = [load(resource, self._file(resource)) for resource in arguments.pop("resources")]
            require_one_owner(packages)
        except PackageError as error:
            raise AnsibleActionFail(str(error)) from None
        arguments["payload"] = pack(packages)
        return result | self._execute_module("mlfleet.stack.import_resources", arguments, task_vars=task_vars)

    def _file(self, resource: dict[str, Any]) -> Path | None:
        if resource["src"] is None:
            return None
        try:
            return Path(self._find_needle("files", resource["src"]))
        except AnsibleFileNotFound:
            raise PackageError(f"{resource['src']}: there is no such file or directory on the controller") from None
