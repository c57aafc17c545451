# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of ca_bundle: read and check the inventory's certificates, and send their texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import CertificateError
from ansible_collections.mlfleet.stack.plugins.plugin_utils import authority
from ansible_collections.mlfleet.stack.plugins.plugin_utils.library import LibraryActionBase


class ActionModule(LibraryActionBase):
    """Replace each source by the certificates that it stands for."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        specification = {"sources": {"type": "list", "elements": "str", "required": True}}
        _result, arguments = self.validate_argument_spec(specification)
        directory = Path(task_vars.get("inventory_dir") or self._loader.get_basedir())
        try:
            found = authority.collect(arguments["sources"], directory, lambda path: Path(path).read_bytes())
        except CertificateError as error:
            raise AnsibleActionFail(str(error)) from None
        module_args = {"sources": [each.pem for each in found]}
        result.update(self._execute_module("mlfleet.stack.ca_bundle", module_args, task_vars=task_vars))
        return self._tell(result, task_vars, result.get("bundle", ""))
