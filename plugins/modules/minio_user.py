#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: minio_user
short_description: Manage a user of a MinIO server
description:
  - Creates, changes or removes a user.
  - Omitted properties are left alone. A disabled user stays disabled unless O(enabled) says otherwise.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.minio
  - mlfleet.stack.minio.changes
options:
  name:
    description: Name of the user, its access key.
    type: str
    required: true
  secret:
    description:
      - Secret key, 8 to 40 characters. Required to create the user.
      - The server does not reveal it, so secrets are never shown.
    type: str
  update_secret:
    description:
      - When to set the secret of an existing user from O(secret). V(when_wrong) tests it by signing in; the secret of a
        disabled user cannot be compared, so it is set when the user is enabled.
      - V(always) sets it each time, and so reports a change each time. V(on_create) leaves existing users alone.
    type: str
    choices: [when_wrong, always, on_create]
    default: when_wrong
  policies:
    description:
      - Policies attached to the user itself. If omitted, attachments are left alone.
      - MinIO cannot change the policies of a disabled user, so they are set when the user is enabled.
    type: list
    elements: str
  policies_mode:
    description: Whether other policies are detached (V(exact)) or kept (V(append)).
    type: str
    choices: [exact, append]
    default: exact
  enabled:
    description: Whether the user can sign in. New ones can by default.
    type: bool
  groups:
    description: All groups of the user. If omitted, membership is left alone.
    type: list
    elements: str
  state:
    description: Whether the user exists. Its service accounts are removed with it.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Let a service read
  mlfleet.stack.minio_user:
    endpoint: http://127.0.0.1:9000
    access_key: "{{ topology_minio_root_user }}"
    secret_key: "{{ topology_secret_minio_root }}"
    name: reader
    secret: "{{ vault_reader_secret }}"
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
  sample: [user reader]
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.minio.access import run_module


def main() -> None:
    run_module("user")


if __name__ == "__main__":
    main()
