#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dioptra_users
short_description: Manage the accounts of a Dioptra REST API
description:
  - Proves each account by signing in, and registers those that do not exist, in one round trip.
  - The API gives a password 365 days, and then lets nobody sign in with it. This module renews the declared password in
    time, or when it has expired, and says of accounts that it is not to renew how many days they have left.
  - The API refuses to change a password to itself, so a renewal is two changes, by way of a password that follows from
    the declared one. A run that comes after one that was killed in between knows it, and goes on.
  - Each change signs out all sessions of the account. Running jobs are such sessions, so a password is renewed while
    no job runs, or on its last day.
  - The API tells nobody's password and lets only who knows it change it. An account that exists with a password that is
    neither the declared nor the previous one is therefore a failure.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.rest
options:
  users:
    description: The accounts. On an empty API the first one becomes the owner of the group C(public).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Sign-in name.
        type: str
        required: true
      password:
        description: Password.
        type: str
        required: true
      email:
        description: E-mail address, which no other account may have. Used when the account is registered.
        type: str
        required: true
      previous_password:
        description: A former password. An account that still has it gets O(users[].password).
        type: str
      state:
        description:
          - Whether the account is to exist. One that is to be absent deletes itself with its password, for the API lets
            nobody else do it. What it has made stays.
        type: str
        choices: [present, absent]
        default: present
      renew:
        description:
          - Whether the declared password is renewed before it expires, or when it has.
          - Otherwise an account that expires soon is a warning, and one that has expired a failure.
        type: bool
        default: true
  deployment_secret:
    description:
      - What the role C(restapi) has the API ask of who makes accounts, as the header C(X-Mlfleet-Deployment).
      - An API that lets anyone register needs none.
    type: str
  renew_days:
    description: A password with no more days than these left is renewed, or warned of. At most 363.
    type: int
    default: 30
attributes:
  check_mode:
    description:
      - Predicts which accounts would be registered or have their password renewed; all of them where no API runs yet.
      - Where no declared account signs in, it cannot tell accounts that all have expired from those that are not there,
        and says of each that it would have the declared password.
    support: full
  diff_mode:
    description: Shows the accounts that are registered and those whose password is renewed, without passwords.
    support: full
"""

EXAMPLES = r"""
- name: Provide the workers' account
  mlfleet.stack.dioptra_users:
    url: http://127.0.0.1:5000
    users:
      - name: dioptra-worker
        password: "{{ topology_secret_dioptra_worker }}"
        email: dioptra-worker@example.org
    deployment_secret: "{{ topology_secret_restapi_deployment }}"

- name: Change somebody's password, and leave it to her to renew it
  mlfleet.stack.dioptra_users:
    url: http://127.0.0.1:5000
    users:
      - name: ada
        password: "{{ ada_password }}"
        previous_password: "{{ ada_former_password }}"
        email: ada@example.org
        renew: false
"""

RETURN = r"""
changes:
  description: The accounts that were registered or removed, or whose password was renewed or changed.
  returned: success
  type: list
  elements: str
  sample: [user dioptra-worker]
undeclared:
  description: Accounts that are not declared. The API has nobody remove another's, so there is no command to it.
  returned: success
  type: list
  elements: dict
  sample: [{kind: Dioptra account, name: mallory, remove: ""}]
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import run_module
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.users import converge_users


def main() -> None:
    user_options = {
        "name": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "email": {"type": "str", "required": True},
        "previous_password": {"type": "str", "no_log": True},
        "renew": {"type": "bool", "default": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    run_module(
        {
            "users": {"type": "list", "elements": "dict", "required": True, "options": user_options},
            "renew_days": {"type": "int", "default": 30},
            "deployment_secret": {"type": "str", "no_log": True},
        },
        converge_users,
    )


if __name__ == "__main__":
    main()
