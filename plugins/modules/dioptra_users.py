#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dioptra_users
short_description: Manage the accounts of a Dioptra REST API
description:
  - Verifies each account by signing in, and registers missing accounts, in one round trip.
  - Passwords expire after 365 days in the API, and an expired account cannot sign in. This module renews the declared
    password in time, or after it has expired, and reports the remaining days of accounts without renewal.
  - The API refuses to change a password to itself, so a renewal is two changes, through a password derived from the
    declared one. A run after one that was killed in between can derive it too, and continues.
  - Each change signs out all sessions of the account. Running jobs are such sessions, so a password is renewed while
    no job runs, or on its last day.
  - The API does not reveal passwords, and changing one requires the current one. If an account has neither the declared
    nor the previous password, the task fails.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.rest
options:
  users:
    description: The accounts. In an empty API, the first one becomes the owner of the group C(public).
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
        description: E-mail address, which must be unique. Used when the account is registered.
        type: str
        required: true
      previous_password:
        description: A previous password. An account that still has it gets O(users[].password).
        type: str
      state:
        description:
          - Whether the account exists. With V(absent), the module signs in as the account to delete it, because the API
            allows no other account to do so. Objects that it created stay.
        type: str
        choices: [present, absent]
        default: present
      renew:
        description:
          - Whether to renew the declared password before it expires, or after it has expired.
          - Otherwise the module warns if an account expires soon, and fails if it has expired.
        type: bool
        default: true
  deployment_secret:
    description:
      - Secret that the API of role C(restapi) requires to register accounts, in the header C(X-Mlfleet-Deployment).
      - Not needed if self-registration is enabled.
    type: str
  renew_days:
    description: Remaining days at which a password is renewed, or the module warns of its expiry. At most 363.
    type: int
    default: 30
attributes:
  check_mode:
    description:
      - Predicts which accounts would be registered or have their password renewed; all of them if no API is running
        yet.
      - If no declared account can sign in, it cannot distinguish expired from missing accounts, and reports for each
        that it would get the declared password.
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

- name: Change a user's password, and leave renewal to her
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
  description: Undeclared accounts. In the API no account can remove another, so there is no command for it.
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
