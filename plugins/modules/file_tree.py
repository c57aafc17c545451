#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_tree
short_description: Install the files of an archive or directory as the whole content of a directory
description:
  - Compares the files in O(path) with those of an archive on the controller, which is sent only if they differ.
  - The files are in a separate directory, to which the link C(current) in O(path) points. The link is replaced at once,
    so that readers never see a partial state, and a run that was killed leaves the previous files.
  - All files belong to root and are readable by all users.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  path:
    description: Directory that contains only the link. Its parent must exist.
    type: path
    required: true
  archive:
    description:
      - Archive on the controller, a tar or zip, or a directory, of which hidden files and bytecode are left out.
      - Required with O(state=present).
    type: path
  state:
    description: Whether the files exist. With V(absent), O(path) is removed too.
    type: str
    choices: [present, absent]
    default: present
  stop_units:
    description:
      - Units (names or patterns) to stop before other files take the place of these, such as workers whose tasks
        import from them. The caller must start them again.
    type: list
    elements: str
    default: []
  stop_timeout_seconds:
    description: Timeout for these units to stop.
    type: int
    default: 90
  manifest:
    description: SHA-256 of each file by its path; set by the action.
    type: dict
    default: {}
  is_sent:
    description: Whether the archive has been sent to the host; set by the action.
    type: bool
    default: false
attributes:
  check_mode:
    description: Reports what a run would change.
    support: full
  diff_mode:
    description: Shows the SHA-256 of each file that differs, not its content.
    support: full
seealso:
  - module: mlfleet.stack.frontend_build
"""

EXAMPLES = r"""
- name: Install the front end
  mlfleet.stack.file_tree:
    path: /opt/mlfleet/frontend
    archive: /root/.cache/mlfleet/programs/frontend-main/frontend.tar.gz
"""

RETURN = r"""
{}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.file_tree import converge
from ansible_collections.mlfleet.stack.plugins.module_utils.files import Item, install
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import UnitError, stop


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "archive": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "stop_units": {"type": "list", "elements": "str", "default": []},
            "stop_timeout_seconds": {"type": "int", "default": 90},
            "manifest": {"type": "dict", "default": {}},
            "is_sent": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ("archive",))],
        supports_check_mode=True,
    )
    hold(module)
    if module.params["state"] == "absent":
        item = Item(module.params["path"], "absent")
        module.exit_json(**install([item], module.check_mode, module._diff))
    archive = Path(module.params["archive"]) if module.params["is_sent"] else None
    path, stopped = Path(module.params["path"]), []

    def stop_units() -> None:
        stopped.extend(module.params["stop_units"])
        stop(stopped, module.params["stop_timeout_seconds"])

    try:
        result = converge(path, module.params["manifest"], archive, module.check_mode, stop_units)
    except (UnitError, OSError) as error:
        until = f"\nUntil a run succeeds these stay stopped: {', '.join(stopped)}" if stopped else ""
        module.fail_json(msg=f"{path}: {error}{until}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
