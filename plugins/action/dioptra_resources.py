# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of dioptra_resources: read and check the packages, then send what counts in one round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleFileNotFound
from ansible.plugins.action import ActionBase
from ansible_collections.mlfleet.stack.plugins.module_utils import archives
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra_package import (
    RESOURCE_OPTIONS,
    PackageError,
    cached,
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
    "cache": {"type": "path"},
    "from_cache": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    """Read on the controller, compare and import on the host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(ARGUMENT_SPEC, required_if=[("from_cache", True, ("cache",))])
        resources, cache, from_cache = (arguments.pop(name) for name in ("resources", "cache", "from_cache"))
        try:
            arguments["payload"] = cached(Path(cache)) if from_cache else self._payload(resources)
        except PackageError as error:
            raise AnsibleActionFail(str(error)) from None
        if cache and not from_cache:
            # It is no part of any host, so it is filled in check mode too.
            archives.save(Path(cache), arguments["payload"].encode())
        return result | self._execute_module("mlfleet.stack.import_resources", arguments, task_vars=task_vars)

    def _payload(self, resources: list[dict[str, Any]]) -> str:
        packages = [load(resource, self._file(resource)) for resource in resources]
        require_one_owner(packages)
        return pack(packages)

    def _file(self, resource: dict[str, Any]) -> Path | None:
        if resource["src"] is None:
            return None
        try:
            return Path(self._find_needle("files", resource["src"]))
        except AnsibleFileNotFound:
            raise PackageError(f"{resource['src']}: there is no such file or directory on the controller") from None
