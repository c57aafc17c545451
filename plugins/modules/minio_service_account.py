#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: minio_service_account
short_description: Manage a service account of a user of a MinIO server
description:
  - Creates, changes or removes a service account, an access key with at most the rights of its parent.
  - What is left out stays as it is. An update always gives the policy again, without which the server would drop
    it.
  - The keys are given, or generated into O(credentials_file).
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.minio
  - mlfleet.stack.minio.changes
options:
  name:
    description:
      - Its access key, 3 to 20 characters. Generated when left out, for which O(credentials_file) is needed.
    type: str
  secret:
    description:
      - Its secret key, 8 to 40 characters. Needed to make the account, unless there is a O(credentials_file).
      - As the server does not tell it, no secret is ever shown.
    type: str
  update_secret:
    description:
      - When an existing account gets O(secret). V(when_wrong) signs in with it to find out; that of a disabled or
        expired account cannot be compared.
      - V(always) gives it each time, and so reports a change each time. V(on_create) leaves that of an existing
        account alone.
    type: str
    choices: [when_wrong, always, on_create]
    default: when_wrong
  credentials_file:
    description:
      - File with C(access_key) and C(secret_key) in JSON, on the host that the module runs on. When it does not
        exist, the
        keys are generated and written there, readable by its owner alone, before the account is made.
      - When the account is to be absent, the file is removed with it.
    type: path
  parent:
    description: User that the account belongs to. Needed to make the account.
    type: str
  policy:
    description: Policy that narrows the rights of O(parent), as a dictionary or as JSON. An empty one lifts that.
    type: dict
  expires:
    description:
      - When it ends, such as V(2027-01-31T12:00:00Z), between 15 minutes and 365 days from now, or V(never).
    type: str
  description:
    description: What it is for. MinIO can change one, but not remove it.
    type: str
  enabled:
    description: Whether the account can sign in. A new one can unless this says otherwise.
    type: bool
  state:
    description: Whether the account is to exist.
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
  description: What was created, changed or removed.
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
