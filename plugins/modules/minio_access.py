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
  - The document is checked whole before the first change; what is wrong is told in one line that names the object.
  - What the document does not list is left alone, unless O(prune) is set.
  - Whoever is listed gets in as the document says and no further. An entry that leaves them out has no anonymous
    access, policies, groups and members.
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
          - The policy, with C(Version) and C(Statement), as a dictionary or as JSON. Needed unless it is to be
            absent.
        type: dict
      state:
        description:
          - Whether the policy is to exist. One that is still attached is not removed; the error says to whom.
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
        description: How long each new object is locked, in a bucket with O(buckets[].object_lock).
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
        description:
          - What anyone may do without an account. Nothing, unless this or O(buckets[].anonymous_policy) is given.
        type: str
        choices: [none, download, upload, public]
      anonymous_policy:
        description: A bucket policy of your own, in place of O(buckets[].anonymous).
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
          - Its secret key, 8 to 40 characters. Needed to make the user.
          - As the server does not tell it, no secret is ever shown.
        type: str
      update_secret:
        description:
          - When an existing user gets O(users[].secret). V(when_wrong) signs in with it to find out; that of a
            disabled user cannot be compared, so it is set when the user is enabled.
          - V(always) gives it each time, and so reports a change each time. V(on_create) leaves that of an existing
            user alone.
        type: str
        choices: [when_wrong, always, on_create]
        default: when_wrong
      policies:
        description:
          - Policies attached to the user itself. None when left out.
          - MinIO cannot change those of a disabled user, so they are set when the user is enabled.
        type: list
        elements: str
      policies_mode:
        description: Whether other policies are detached (V(exact)) or kept (V(append)).
        type: str
        choices: [exact, append]
        default: exact
      enabled:
        description: Whether the user can sign in. A new one can unless this says otherwise.
        type: bool
      groups:
        description:
          - Exactly the groups that the user is a member of. When left out, those that list it as a member.
        type: list
        elements: str
      state:
        description: Whether the user is to exist. Its service accounts go with it.
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
        description: Exactly the users in the group. When left out, those that list it among their groups.
        type: list
        elements: str
      policies:
        description: Policies attached to the group. None when left out.
        type: list
        elements: str
      policies_mode:
        description: Whether other policies are detached (V(exact)) or kept (V(append)).
        type: str
        choices: [exact, append]
        default: exact
      enabled:
        description: Whether the group gives its members its policies. A new one does unless this says otherwise.
        type: bool
      state:
        description: Whether the group is to exist. Its members stay.
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
          - Its access key, 3 to 20 characters. Generated when left out, for which
            O(service_accounts[].credentials_file) is needed.
        type: str
      secret:
        description:
          - Its secret key, 8 to 40 characters. Needed to make the account, unless there is a
            O(service_accounts[].credentials_file).
          - As the server does not tell it, no secret is ever shown.
        type: str
      update_secret:
        description:
          - When an existing account gets O(service_accounts[].secret). V(when_wrong) signs in with it to find
            out; that of a disabled or expired account cannot be compared.
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
        description:
          - Policy that narrows the rights of O(service_accounts[].parent), as a dictionary or as JSON. An empty
            one lifts that.
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
  prune:
    description:
      - Whether policies, users, groups, service accounts and empty buckets that the document does not list are
        removed.
      - Root, the account that the module signs in with, and MinIO's own policies stay. So does a policy that is
        attached to something in O(prune_except), and a bucket with anything in it.
    type: bool
    default: false
  prune_except:
    description:
      - Objects that stay though they are not listed, as patterns such as V(user backup-*) or V(service account
        ci).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Provide all that there is to be
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
  description: What was created, changed or removed.
  returned: success
  type: list
  elements: str
  sample: [policy tracking-readwrite, bucket mlflow-tracking, user mlflow]
undeclared:
  description:
    - What the server holds besides, and O(prune_except) does not name, with the command that removes it.
    - Buckets that nobody declared and that are open to everybody, whatever O(prune_except) names, with the command that
      closes them.
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
