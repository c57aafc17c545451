# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of packages: a host that has reported them as installed in this run is not asked again.

Files of packages are sent only if the host has other versions.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import normal
from ansible_collections.mlfleet.stack.plugins.module_utils.dpkg import STAMP
from ansible_collections.mlfleet.stack.plugins.plugin_utils import deb
from ansible_collections.mlfleet.stack.plugins.plugin_utils.library import LibraryActionBase


class ActionModule(LibraryActionBase, normal.ActionModule):
    """Compare with the result of host_facts in this run; the facts themselves may come from an earlier one.

    A package that is removed during the run is noticed by the next one.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        names, is_wanted = self._task.args.get("name"), self._task.args.get("state", "present") == "present"
        if is_wanted and self._task.args.get("files"):
            return self._from_files(self._task.args["files"], task_vars)
        registered = [
            (task_vars or {}).get(name, {}).get("ansible_facts", {}) for name in ("site_facts", "drift_facts")
        ]
        told = " ".join(facts.get("ansible_installed_packages", "") for facts in registered)
        if is_wanted and isinstance(names, list) and not self._task.delegate_to and set(names) <= set(told.split()):
            return {"changed": False, "installed": [], "removed": [], "undeclared": []}
        return super().run(tmp, task_vars)

    def _from_files(self, files: dict[str, str], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Compare versions, send the files of those that differ, and record which packages were installed."""
        try:
            versions = {name: deb.version(path, name) for name, path in files.items()}
        except deb.DebError as error:
            raise AnsibleActionFail(str(error)) from None
        options = {**self._task.args, "files": {}, "versions": versions}
        result = self._execute_module("mlfleet.stack.packages", options, task_vars=task_vars)
        others = [name for name in result.get("installed", ()) if name in files]
        if others and not self._task.check_mode:
            directory = self._connection._shell.tmpdir or self._make_tmp_path()
            join = self._connection._shell.join_path
            options["files"] = {
                name: self._transfer_file(files[name], join(directory, f"{name}.deb")) for name in others
            }
            result = self._execute_module("mlfleet.stack.packages", options, task_vars=task_vars)
        return self._tell(result, task_vars, *(STAMP.format(name=name) for name in files), changed=bool(others))
