#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: minio_access
short_description: Manage buckets, policies, users, groups and service accounts of a MinIO server as one document
description:
  - Applies one document to a MinIO server, in one call and in the order in which its parts depend on each other.
  - The whole document is checked before the first change; each error is one line that names the object.
  - Unlisted objects are left alone, unless O(prune) is set.
  - Access is exactly as listed. If an entry omits anonymous access, policies, groups or members, it has none.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.minio
  - mlfleet.stack.minio.changes
options:
  policies:
    description: Policies, each with the options of M(mlfleet.stack.minio_policy).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the policy.
        type: str
        required: true
      policy:
        description:
          - The policy, with C(Version) and C(Statement), as a dictionary or as JSON. Required unless the policy is to
            be removed.
        type: dict
      state:
        description:
          - Whether the policy exists. A policy that is still attached is not removed; the error lists where.
        type: str
        choices: [present, absent]
        default: present
  buckets:
    description: Buckets, each with the options of M(mlfleet.stack.minio_bucket).
    type: list
    elements: dict
    default: []
    suboptions:
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
        description: Default lock of new objects, in a bucket with O(buckets[].object_lock).
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
        description:
          - Access without an account. None, unless this or O(buckets[].anonymous_policy) is given.
        type: str
        choices: [none, download, upload, public]
      anonymous_policy:
        description: Your own bucket policy, instead of O(buckets[].anonymous).
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
  users:
    description: Users, each with the options of M(mlfleet.stack.minio_user).
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
          - Secret key, 8 to 40 characters. Required to create the user.
          - The server does not reveal it, so secrets are never shown.
        type: str
      update_secret:
        description:
          - When to set the secret of an existing user from O(users[].secret). V(when_wrong) tests it by signing in; the
            secret of a disabled user cannot be compared, so it is set when the user is enabled.
          - V(always) sets it each time, and so reports a change each time. V(on_create) leaves existing users alone.
        type: str
        choices: [when_wrong, always, on_create]
        default: when_wrong
      policies:
        description:
          - Policies attached to the user itself; none if omitted.
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
        description:
          - All groups of the user. If omitted, the groups that list it as a member.
        type: list
        elements: str
      state:
        description: Whether the user exists. Its service accounts are removed with it.
        type: str
        choices: [present, absent]
        default: present
  groups:
    description: Groups, each with the options of M(mlfleet.stack.minio_group).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the group.
        type: str
        required: true
      members:
        description: All members of the group. If omitted, the users that list it among their groups.
        type: list
        elements: str
      policies:
        description: Policies attached to the group; none if omitted.
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
  service_accounts:
    description: Service accounts, each with the options of M(mlfleet.stack.minio_service_account).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Access key, 3 to 20 characters. Generated if omitted, for which O(service_accounts[].credentials_file) is
            required.
        type: str
      secret:
        description:
          - Secret key, 8 to 40 characters. Required to create the account without
            O(service_accounts[].credentials_file).
          - The server does not reveal it, so secrets are never shown.
        type: str
      update_secret:
        description:
          - When to set the secret of an existing account from O(service_accounts[].secret). V(when_wrong) tests it by
            signing in; the secret of a disabled or expired account cannot be compared.
          - V(always) sets it each time, and so reports a change each time. V(on_create) leaves existing accounts alone.
        type: str
        choices: [when_wrong, always, on_create]
        default: when_wrong
      credentials_file:
        description:
          - File with C(access_key) and C(secret_key) in JSON, on the host that the module runs on. If it does not
            exist, the keys are generated and written there, readable only by its owner, before the account is created.
          - If the account is removed, the file is removed with it.
        type: path
      parent:
        description: User that owns the account. Required to create the account.
        type: str
      policy:
        description:
          - Policy that restricts the rights of O(service_accounts[].parent), as a dictionary or as JSON. An empty
            policy removes the restriction.
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
  prune:
    description:
      - Whether to remove policies, users, groups, service accounts and empty buckets that the document does not list.
      - Root, the account that the module signs in with, and MinIO's own policies stay. So do policies attached to
        objects in O(prune_except), and buckets that are not empty.
    type: bool
    default: false
  prune_except:
    description:
      - Unlisted objects to keep, as patterns such as V(user backup-*) or V(service account ci).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Provide buckets, policies, users and service accounts
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
      - {name: mlflow-tracking, versioning: true}
    users:
      - {name: mlflow, secret: "{{ topology_secret_minio_mlflow }}", policies: [tracking-readwrite]}
    prune: true
    prune_except: [user backup-*]
  vars:
    ansible_python_interpreter: /opt/mlfleet/tools/bin/python
"""

RETURN = r"""
changes:
  description: Objects that were created, changed or removed.
  returned: success
  type: list
  elements: str
  sample: [policy tracking-readwrite, bucket mlflow-tracking, user mlflow]
undeclared:
  description:
    - Undeclared objects that O(prune_except) does not name, with the command that removes each.
    - Undeclared public buckets, even if O(prune_except) names them, with the command that closes each.
  returned: success
  type: list
  elements: dict
  sample: [{kind: MinIO user, name: mallory, remove: mc admin user remove ALIAS mallory}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.minio.access import KINDS, RESTRICTIONS, exit_with
from ansible_collections.mlfleet.stack.plugins.module_utils.minio.client import CONNECTION_OPTIONS


def main() -> None:
    lists = {
        functions.plural: {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": functions.options,
            **RESTRICTIONS.get(kind, {}),
        }
        for kind, functions in KINDS.items()
    }
    own = {
        "prune": {"type": "bool", "default": False},
        "prune_except": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(argument_spec=CONNECTION_OPTIONS | lists | own, supports_check_mode=True)
    document = {kind: module.params[functions.plural] for kind, functions in KINDS.items()}
    exit_with(module, document, prune=module.params["prune"], kept=module.params["prune_except"])


if __name__ == "__main__":
    main()
