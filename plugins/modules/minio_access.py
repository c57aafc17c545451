#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: minio_access
short_description: Provides the policies, buckets and users that consumers declare
description:
  - Applies one document of policies, buckets and users to a MinIO server, in one round trip.
  - Policies are compared by what they mean. The order of statements, actions and resources, or a single value in place
    of a list, makes no difference.
  - What the document does not list is left alone, and no object is ever removed.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
requirements:
  - minio (Python library, 7.2.16 or newer)
options:
  endpoint:
    description: URL of the server, such as V(http://127.0.0.1:9000).
    type: str
    required: true
  access_key:
    description: Account that administers the server.
    type: str
    required: true
  secret_key:
    description: Secret of O(access_key).
    type: str
    required: true
  ca_file:
    description: Certificates of the authorities to trust instead of the usual ones.
    type: path
  policies:
    description: Canned policies.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the policy.
        type: str
        required: true
      policy:
        description: The policy itself, with C(Version) and C(Statement).
        type: dict
        required: true
  buckets:
    description: Buckets.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the bucket, by the rules of S3.
        type: str
        required: true
      versioning:
        description: Whether former versions of objects are kept.
        type: bool
        default: false
  users:
    description: Users. One that was disabled stays so.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user, its access key.
        type: str
        required: true
      secret:
        description:
          - Its secret key, 8 to 40 characters. As the server does not tell it, the module signs in to compare it; that
            of a disabled user is not compared.
        type: str
        required: true
      policies:
        description: Exactly the policies that are attached to the user; others are detached.
        type: list
        elements: str
        default: []
  timeout_seconds:
    description: How long the server may take to connect, and for each answer.
    type: int
    default: 30
attributes:
  check_mode:
    description: Predicts what a run would change; all of it where no server runs or the library is missing.
    support: full
  diff_mode:
    description: Shows the objects that differ, without secrets.
    support: full
"""

EXAMPLES = r"""
- name: Provide a bucket and its user
  mlfleet.stack.minio_access:
    endpoint: http://127.0.0.1:9000
    access_key: "{{ topology_minio_root_user }}"
    secret_key: "{{ topology_secret_minio_root }}"
    policies:
      - name: tracking-readwrite
        policy:
          Version: "2012-10-17"
          Statement:
            - Effect: Allow
              Action: ["s3:GetObject", "s3:PutObject"]
              Resource: ["arn:aws:s3:::mlflow-tracking/artifacts/*"]
    buckets:
      - name: mlflow-tracking
    users:
      - {name: mlflow, secret: "{{ topology_secret_minio_mlflow }}", policies: [tracking-readwrite]}
  vars:
    ansible_python_interpreter: /opt/mlfleet/tools/bin/python
"""

RETURN = r"""
changes:
  description: What was created or changed.
  returned: success
  type: list
  elements: str
  sample: [policy tracking-readwrite, bucket mlflow-tracking, user mlflow]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.minio import MinioError, converge


def main() -> None:
    policy_options = {"name": {"type": "str", "required": True}, "policy": {"type": "dict", "required": True}}
    bucket_options = {"name": {"type": "str", "required": True}, "versioning": {"type": "bool", "default": False}}
    user_options = {
        "name": {"type": "str", "required": True},
        "secret": {"type": "str", "required": True, "no_log": True},
        "policies": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(
        argument_spec={
            "endpoint": {"type": "str", "required": True},
            "access_key": {"type": "str", "required": True, "no_log": False},
            "secret_key": {"type": "str", "required": True, "no_log": True},
            "ca_file": {"type": "path"},
            "policies": {"type": "list", "elements": "dict", "default": [], "options": policy_options},
            "buckets": {"type": "list", "elements": "dict", "default": [], "options": bucket_options},
            "users": {"type": "list", "elements": "dict", "default": [], "options": user_options},
            "timeout_seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        result = converge(module.params, module.check_mode)
    except MinioError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
