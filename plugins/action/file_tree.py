# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of file_tree: the archive is sent only if the host's files differ from it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.mlfleet.stack.plugins.module_utils import archives
from ansible_collections.mlfleet.stack.plugins.module_utils.file_tree import CURRENT, manifest, tree
from ansible_collections.mlfleet.stack.plugins.plugin_utils.library import LibraryActionBase

ARGUMENT_SPEC = {
    "path": {"type": "path", "required": True},
    "archive": {"type": "path"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "stop_units": {"type": "list", "elements": "str", "default": []},
    "stop_timeout_seconds": {"type": "int", "default": 90},
}


class ActionModule(LibraryActionBase):
    """Compare, and send the archive if the files differ."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(ARGUMENT_SPEC)
        if arguments["state"] == "absent":
            return result | self._execute_module("mlfleet.stack.file_tree", arguments, task_vars=task_vars)
        source = Path(arguments["archive"])
        with tempfile.TemporaryDirectory(prefix="mlfleet-") as scratch:
            try:
                files = tree(source) if source.is_dir() else archives.read(source)
            except archives.ArchiveError as error:
                raise AnsibleActionFail(str(error)) from None
            if source.is_dir():
                arguments["archive"] = str(Path(scratch, "tree.tar.gz"))
                archives.write(Path(arguments["archive"]), files)
            options = {**arguments, "manifest": manifest(files)}
            result |= self._sent_if_other("mlfleet.stack.file_tree", options, "archive", task_vars)
        return self._tell(result, task_vars, f"{arguments['path']}/{CURRENT}")

    def _sent_if_other(
        self, module: str, options: dict[str, Any], sent: str, task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Ask whether the host differs; if so, send it the file that this option names and call it again."""

        def call(**more: Any) -> dict[str, Any]:
            return self._execute_module(module, options | more, task_vars=task_vars)

        found = call()
        if found.get("failed") or not found["changed"] or self._task.check_mode:
            return found
        directory = self._connection._shell.tmpdir or self._make_tmp_path()
        file = self._transfer_file(options[sent], self._connection._shell.join_path(directory, sent))
        return call(**{sent: file, "is_sent": True})
