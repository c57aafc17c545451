#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: program
short_description: Install a program from the controller on a host
description:
  - Compares the host's program with the controller's, which is sent only if they differ.
  - The program belongs to root and is executable by all users. It is installed completely or not at all.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  path:
    description: Path of the program on the host. Its directory must exist.
    type: path
    required: true
  source:
    description: Path of the program on the controller. A relative path is in C(files) of the role.
    type: path
    required: true
  sha256:
    description: SHA-256 of the program on the controller; set by the action.
    type: str
    default: ""
  is_sent:
    description: Whether the program has been sent to the host; set by the action.
    type: bool
    default: false
attributes:
  check_mode:
    description: Reports what a run would change.
    support: full
  diff_mode:
    description: Shows owner, mode and SHA-256.
    support: full
seealso:
  - module: mlfleet.stack.file_tree
"""

EXAMPLES = r"""
- name: Install MinIO
  mlfleet.stack.program:
    path: /opt/mlfleet/minio
    source: /root/.cache/mlfleet/programs/minio/minio
"""

RETURN = r"""
{}
"""

import hashlib
import stat
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils import filesystem
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold

MODE = 0o755


def observe(path: Path) -> str:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return "absent"
    if not stat.S_ISREG(status.st_mode):
        return "no file"
    content = hashlib.sha256(filesystem.read(str(path))).hexdigest()
    return f"{status.st_uid}:{status.st_gid} {stat.S_IMODE(status.st_mode):04o} {content}"


def converge(path: Path, sha256: str, sent: Path | None, check_mode: bool) -> dict[str, Any]:
    """Install the program with this checksum; if it was not sent, only report whether it differs."""
    found, wanted = observe(path), f"0:0 {MODE:04o} {sha256}"
    if found != wanted and sent and not check_mode:
        filesystem.save(path, sent.read_bytes(), MODE)
    diff = {"before_header": str(path), "after_header": str(path), "before": f"{found}\n", "after": f"{wanted}\n"}
    return {"changed": found != wanted, "diff": diff if found != wanted else {}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "source": {"type": "path", "required": True},
            "sha256": {"type": "str", "default": ""},
            "is_sent": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    hold(module)
    options = module.params
    sent = Path(options["source"]) if options["is_sent"] else None
    try:
        module.exit_json(**converge(Path(options["path"]), options["sha256"], sent, module.check_mode))
    except OSError as error:
        module.fail_json(msg=f"{options['path']}: {error.strerror or error}; the former program is there")


if __name__ == "__main__":
    main()
