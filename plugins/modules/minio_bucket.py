#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: minio_bucket
short_description: Manage a bucket of a MinIO server and its settings
description:
  - Creates a bucket, sets what is given of its settings, or removes it.
  - A setting that is left out is neither asked for nor touched. Only who gets in without an account is always compared,
    and that is nobody unless O(anonymous) or O(anonymous_policy) says so.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.minio
  - mlfleet.stack.minio.changes
options:
  name:
    description: Name of the bucket, by the rules of S3.
    type: str
    required: true
  versioning:
    description:
      - Whether former versions of objects are kept. When switched off, it is suspended, and old versions stay.
    type: bool
  object_lock:
    description:
      - Whether objects can be locked against deletion. MinIO takes it only when the bucket is made, and keeps
        versions then.
    type: bool
  retention:
    description: How long each new object is locked, in a bucket with O(object_lock).
    type: dict
    suboptions:
      mode:
        description:
          - Whether accounts with the right to can lift the lock (V(governance)), nobody can (V(compliance)), or
            there is none.
        type: str
        choices: [none, governance, compliance]
        required: true
      days:
        description: Days of the lock.
        type: int
      years:
        description: Years of the lock, in place of days.
        type: int
  quota:
    description:
      - Most that the bucket may hold, a number of bytes or with a unit, such as V(10GiB) or V(500MB). V(0) is
        no quota.
    type: str
  lifecycle:
    description: All rules by which objects expire. An empty list removes those that are there.
    type: list
    elements: dict
    suboptions:
      id:
        description: Name of the rule.
        type: str
        required: true
      enabled:
        description: Whether it is in force.
        type: bool
        default: true
      prefix:
        description: Beginning of the names of the objects that it is for.
        type: str
        default: ""
      tags:
        description: Tags of the objects that it is for.
        type: dict
        default: {}
      expire_days:
        description: Days after which an object expires.
        type: int
      expire_delete_markers:
        description: Whether delete markers without a version behind them go.
        type: bool
        default: false
      noncurrent_expire_days:
        description: Days after which a former version goes.
        type: int
      noncurrent_keep_versions:
        description: Former versions that stay whatever their age.
        type: int
  encryption:
    description:
      - How new objects are encrypted. Anything but V(none) wants a server with a key service, or
        C(MINIO_KMS_SECRET_KEY).
    type: str
    choices: [none, sse-s3, sse-kms]
  encryption_key:
    description: Name of the key, for V(sse-kms).
    type: str
  tags:
    description: All tags of the bucket. An empty dictionary removes those that are there.
    type: dict
  anonymous:
    description: What anyone may do without an account. Nothing, unless this or O(anonymous_policy) is given.
    type: str
    choices: [none, download, upload, public]
  anonymous_policy:
    description: A bucket policy of your own, in place of O(anonymous).
    type: dict
  force:
    description:
      - Whether a bucket that is to be absent is removed with all objects and versions in it. One that is not
        empty stays otherwise.
    type: bool
    default: false
  state:
    description: Whether the bucket is to exist.
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
  description: What was created, changed or removed.
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
