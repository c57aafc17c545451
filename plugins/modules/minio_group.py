#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: minio_group
short_description: Manage a group of users of a MinIO server
description:
  - Creates, changes or removes a group.
  - Omitted properties are left alone. A disabled group stays disabled unless O(enabled) says otherwise.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.minio
  - mlfleet.stack.minio.changes
options:
  name:
    description: Name of the group.
    type: str
    required: true
  members:
    description: All members of the group. If omitted, members are left alone.
    type: list
    elements: str
  policies:
    description: Policies attached to the group. If omitted, attachments are left alone.
    type: list
    elements: str
  policies_mode:
    description: Whether other policies are detached (V(exact)) or kept (V(append)).
    type: str
    choices: [exact, append]
    default: exact
  enabled:
    description: Whether the group is enabled and gives its policies to its members. New groups are by default.
    type: bool
  state:
    description: Whether the group exists. Its members are not removed.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Let a team read
  mlfleet.stack.minio_group:
    endpoint: http://127.0.0.1:9000
    access_key: "{{ topology_minio_root_user }}"
    secret_key: "{{ topology_secret_minio_root }}"
    name: vision
    members: [ada, grace]
    policies: [team-readonly]
  vars:
    ansible_python_interpreter: /opt/mlfleet/tools/bin/python
"""

RETURN = r"""
changes:
  description: Objects that were created, changed or removed.
  returned: success
  type: list
  elements: str
  sample: [group vision]
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.minio.access import run_module


def main() -> None:
    run_module("group")


if __name__ == "__main__":
    main()
