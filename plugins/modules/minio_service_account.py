#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: minio_service_account
short_description: Manage a service account of a user of a MinIO server
description:
  - Creates, changes or removes a service account, which is an access key with at most the rights of its parent.
  - Omitted properties are left alone. An update always sends the policy too, because the server would drop it
    otherwise.
  - The keys are given as options, or generated into O(credentials_file).
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.minio
  - mlfleet.stack.minio.changes
options:
  name:
    description:
      - Access key, 3 to 20 characters. Generated if omitted, for which O(credentials_file) is required.
    type: str
  secret:
    description:
      - Secret key, 8 to 40 characters. Required to create the account without O(credentials_file).
      - The server does not reveal it, so secrets are never shown.
    type: str
  update_secret:
    description:
      - When to set the secret of an existing account from O(secret). V(when_wrong) tests it by signing in; the secret
        of a disabled or expired account cannot be compared.
      - V(always) sets it each time, and so reports a change each time. V(on_create) leaves existing accounts alone.
    type: str
    choices: [when_wrong, always, on_create]
    default: when_wrong
  credentials_file:
    description:
      - File with C(access_key) and C(secret_key) in JSON, on the host that the module runs on. If it does not exist,
        the keys are generated and written there, readable only by its owner, before the account is created.
      - If the account is removed, the file is removed with it.
    type: path
  parent:
    description: User that owns the account. Required to create the account.
    type: str
  policy:
    description: Policy that restricts the rights of O(parent), as a dictionary or as JSON. An empty policy removes the
      restriction.
    type: dict
  expires:
    description:
      - Expiry date, such as V(2027-01-31T12:00:00Z), between 15 minutes and 365 days from now, or V(never).
    type: str
  description:
    description: Purpose of the account. MinIO can change a description, but not remove it.
    type: str
  enabled:
    description: Whether the account can sign in. New ones can by default.
    type: bool
  state:
    description: Whether the account exists.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Give a nightly job a key that reads results
  mlfleet.stack.minio_service_account:
    endpoint: http://127.0.0.1:9000
    access_key: "{{ topology_minio_root_user }}"
    secret_key: "{{ topology_secret_minio_root }}"
    parent: reader
    credentials_file: /etc/nightly/minio.json
    expires: "2027-06-30T00:00:00Z"
    policy:
      Version: "2012-10-17"
      Statement:
        - {Effect: Allow, Action: "s3:GetObject", Resource: "arn:aws:s3:::team/results/*"}
  vars:
    ansible_python_interpreter: /opt/mlfleet/tools/bin/python
"""

RETURN = r"""
changes:
  description: Objects that were created, changed or removed.
  returned: success
  type: list
  elements: str
  sample: [service account nightly]
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.minio.access import run_module


def main() -> None:
    run_module("service_account")


if __name__ == "__main__":
    main()
