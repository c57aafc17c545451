#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: minio_policy
short_description: Manage a canned policy of a MinIO server
description:
  - Creates, changes or removes a canned policy.
  - Policies are compared by meaning. The order of statements, actions and resources, or a single value instead of a
    list, makes no difference.
  - The policy is checked before anything is changed, and errors are reported with their path, such as
    C(Statement[1].Effect). Only the server knows the names of actions and condition keys, and refuses unknown ones when
    the policy is applied.
  - The module warns if the policy names a bucket that does not exist.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.minio
  - mlfleet.stack.minio.changes
options:
  name:
    description: Name of the policy.
    type: str
    required: true
  policy:
    description:
      - The policy, with C(Version) and C(Statement), as a dictionary or as JSON. Required unless O(state=absent).
    type: dict
  state:
    description: Whether the policy exists. A policy that is still attached is not removed; the error lists where.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Let a team read its artifacts
  mlfleet.stack.minio_policy:
    endpoint: http://127.0.0.1:9000
    access_key: "{{ topology_minio_root_user }}"
    secret_key: "{{ topology_secret_minio_root }}"
    name: team-readonly
    policy:
      Version: "2012-10-17"
      Statement:
        - {Effect: Allow, Action: "s3:GetObject", Resource: "arn:aws:s3:::team/artifacts/*"}
  vars:
    ansible_python_interpreter: /opt/mlfleet/tools/bin/python
"""

RETURN = r"""
changes:
  description: Objects that were created, changed or removed.
  returned: success
  type: list
  elements: str
  sample: [policy team-readonly]
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.minio.access import run_module


def main() -> None:
    run_module("policy")


if __name__ == "__main__":
    main()
