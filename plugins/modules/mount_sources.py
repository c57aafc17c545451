#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mount_sources
short_description: Refuse to mount directories that a host does not have
description:
  - Fails if a directory is missing, and warns if a user cannot read all its contents.
  - Run it before changing the program that needs them.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  directories:
    description: Directories that must exist.
    type: list
    elements: path
    required: true
  user:
    description: User that will read them. If the host does not have this user yet, C(nobody) is tested instead.
    type: str
    required: true
  look_seconds:
    description: Time limit per directory for the search for unreadable files.
    type: int
    default: 5
extends_documentation_fragment: mlfleet.stack.reads
"""

EXAMPLES = r"""
- name: Make sure that the data sets exist
  mlfleet.stack.mount_sources:
    directories: [/srv/datasets]
    user: dioptra-worker
"""

RETURN = r"""
unreadable:
  description: The first path in each directory that the user cannot read, for those that have one.
  returned: success
  type: dict
  sample: {"/srv/datasets": "./secret.npz"}
"""

import grp
import os
import pwd
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

NOBODY = 65534
UNREADABLE = ["(", "-not", "-readable", "-o", "-type", "d", "-not", "-executable", ")"]


def identity(user):
    """Return the process options to run as the user. Only root can become another user."""
    if os.geteuid() != 0:
        return {}
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    groups = [group.gr_gid for group in grp.getgrall() if user in group.gr_mem]
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}


def first_unreadable(directory, user, seconds):
    """Return a path in the directory that the user cannot read, or nothing.

    The search starts inside, as the mount does, so the rights of the directories above do not matter.
    """
    search = ["find", ".", "-ignore_readdir_race", *UNREADABLE, "-print", "-quit"]
    try:
        done = subprocess.run(
            search, cwd=directory, capture_output=True, text=True, check=False, timeout=seconds, **identity(user)
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() or ("." if done.returncode else "")


def main():
    module = AnsibleModule(
        argument_spec={
            "directories": {"type": "list", "elements": "path", "required": True},
            "user": {"type": "str", "required": True},
            "look_seconds": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    directories, user = module.params["directories"], module.params["user"]
    if missing := [directory for directory in directories if not Path(directory).is_dir()]:
        module.fail_json(
            msg=f"{', '.join(missing)}: no such directory to mount; make it, or correct the mount's source"
        )
    found = {directory: first_unreadable(directory, user, module.params["look_seconds"]) for directory in directories}
    unreadable = {directory: path for directory, path in found.items() if path}
    for directory, path in unreadable.items():
        module.warn(f"{user} cannot read {Path(directory, path)}, and perhaps more of {directory}: see chmod o=rX")
    module.exit_json(changed=False, unreadable=unreadable)


if __name__ == "__main__":
    main()
