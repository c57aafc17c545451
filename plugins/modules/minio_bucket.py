#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: minio_bucket
short_description: Manage a bucket of a MinIO server and its settings
description:
  - Creates a bucket, applies the given settings, or removes it.
  - Omitted settings are neither read nor changed. Only anonymous access is always compared, and is off unless
    O(anonymous) or O(anonymous_policy) allows it.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.minio
  - mlfleet.stack.minio.changes
options:
  name:
    description: Name of the bucket, which must follow the rules of S3.
    type: str
    required: true
  versioning:
    description:
      - Whether previous versions of objects are kept. Disabling suspends versioning, and old versions stay.
    type: bool
  object_lock:
    description:
      - Whether objects can be locked against deletion. MinIO accepts this only when the bucket is created, and then
        keeps versions.
    type: bool
  retention:
    description: Default lock of new objects, in a bucket with O(object_lock).
    type: dict
    suboptions:
      mode:
        description:
          - With V(governance), authorized accounts can lift the lock; with V(compliance), no account can; V(none)
            removes the default lock.
        type: str
        choices: [none, governance, compliance]
        required: true
      days:
        description: Days of the lock.
        type: int
      years:
        description: Years of the lock, instead of days.
        type: int
  quota:
    description:
      - Maximum size of the bucket, in bytes or with a unit, such as V(10GiB) or V(500MB). V(0) means no quota.
    type: str
  lifecycle:
    description: All expiry rules of the bucket. An empty list removes existing rules.
    type: list
    elements: dict
    suboptions:
      id:
        description: Name of the rule.
        type: str
        required: true
      enabled:
        description: Whether the rule is enabled.
        type: bool
        default: true
      prefix:
        description: Prefix of the objects that the rule applies to.
        type: str
        default: ""
      tags:
        description: Tags of the objects that the rule applies to.
        type: dict
        default: {}
      expire_days:
        description: Days after which an object expires.
        type: int
      expire_delete_markers:
        description: Whether to remove delete markers without other versions.
        type: bool
        default: false
      noncurrent_expire_days:
        description: Days after which a noncurrent version is removed.
        type: int
      noncurrent_keep_versions:
        description: Number of noncurrent versions to keep regardless of age.
        type: int
  encryption:
    description:
      - How new objects are encrypted. Anything but V(none) requires a server with a key service, or
        C(MINIO_KMS_SECRET_KEY).
    type: str
    choices: [none, sse-s3, sse-kms]
  encryption_key:
    description: Name of the key for V(sse-kms).
    type: str
  tags:
    description: All tags of the bucket. An empty dictionary removes existing tags.
    type: dict
  anonymous:
    description: Access without an account. None, unless this or O(anonymous_policy) is given.
    type: str
    choices: [none, download, upload, public]
  anonymous_policy:
    description: Your own bucket policy, instead of O(anonymous).
    type: dict
  force:
    description:
      - Whether to remove a bucket with all its objects and versions. Otherwise a bucket that is not empty stays.
    type: bool
    default: false
  state:
    description: Whether the bucket exists.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Keep a team's results for a year, up to 100 GiB
  mlfleet.stack.minio_bucket:
    endpoint: http://127.0.0.1:9000
    access_key: "{{ topology_minio_root_user }}"
    secret_key: "{{ topology_secret_minio_root }}"
    name: team
    versioning: true
    quota: 100GiB
    tags: {owner: vision}
    lifecycle:
      - {id: old-results, prefix: results/, expire_days: 365}
  vars:
    ansible_python_interpreter: /opt/mlfleet/tools/bin/python
"""

RETURN = r"""
changes:
  description: Objects that were created, changed or removed.
  returned: success
  type: list
  elements: str
  sample: [bucket team]
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.minio.access import run_module


def main() -> None:
    run_module("bucket")


if __name__ == "__main__":
    main()
