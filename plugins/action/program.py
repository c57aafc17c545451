# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of program: the program is sent only if the host's differs from it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ansible_collections.mlfleet.stack.plugins.action import file_tree

ARGUMENT_SPEC = {"path": {"type": "path", "required": True}, "source": {"type": "path", "required": True}}


class ActionModule(file_tree.ActionModule):
    """Compare, and send the program if it differs."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # Skip the run of file_tree, which takes its own arguments.
        result = super(file_tree.ActionModule, self).run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(ARGUMENT_SPEC)
        source = self._find_needle("files", arguments["source"])
        with Path(source).open("rb") as file:
            options = {**arguments, "source": source, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        result |= self._sent_if_other("mlfleet.stack.program", options, "source", task_vars)
        return self._tell(result, task_vars, arguments["path"])
