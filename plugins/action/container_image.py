# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of container_image: the inputs of a build are sent only when the image is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.mlfleet.stack.plugins.module_utils.containers import IMAGE_OPTIONS
from ansible_collections.mlfleet.stack.plugins.plugin_utils.library import LibraryActionBase


class ActionModule(LibraryActionBase):
    """Ask what is missing; only if something is, call the host again with the files that a build needs."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, options = self.validate_argument_spec(IMAGE_OPTIONS)
        archive, programs = options.pop("base_archive"), options.pop("programs")
        for path in filter(None, [archive, *programs.values()]):
            if not Path(path).is_file():
                raise AnsibleActionFail(f"there is no {path} on the controller")
        found = self._call({**options, "state": "found"}, task_vars)
        if found.get("changed") and not found.get("failed") and not self._task.check_mode:
            if options["missing"] == "build":
                # A base with an archive is never pulled, whether or not the archive is needed now.
                is_needed = archive and not found["base_is_there"]
                options["base_archive"] = self._sent(archive, "base") if is_needed else archive
                options["programs"] = {name: self._sent(path, name) for name, path in programs.items()}
            found = self._call({**options, "state": "present"}, task_vars)
        if file := options["reference_file"]:
            self._tell(found, task_vars, file, changed=found.get("renamed"))
        return result | found

    def _sent(self, path: str, name: str) -> str:
        """Send a file of the controller, and return its path on the host while this runs."""
        directory = self._connection._shell.tmpdir or self._make_tmp_path()
        return self._transfer_file(path, self._connection._shell.join_path(directory, f"sent-{name}"))

    def _call(self, options: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return self._execute_module("mlfleet.stack.container_image", options, task_vars=task_vars)
