#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_users
short_description: Provides accounts of an MLflow server with sign-in
description:
  - Makes the accounts that are missing and sets passwords that do not sign in, through MLflow's own API.
  - Accounts that are not listed are left alone.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  url:
    description: URL of the server.
    type: str
    required: true
  username:
    description: Name of the administrator.
    type: str
    required: true
  password:
    description: Password of the administrator.
    type: str
    required: true
  users:
    description: The accounts.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the account.
        type: str
        required: true
      password:
        description: Its password; MLflow wants 12 characters or more.
        type: str
        required: true
  ca_file:
    description: File with the CA certificates that the server's certificate is verified with.
    type: path
  timeout_seconds:
    description: How long one request may take.
    type: int
    default: 30
attributes:
  check_mode:
    description: Predicts the changes; of a server that cannot be reached it predicts that all accounts are made.
    support: full
  diff_mode:
    description: Shows which accounts change, never their passwords.
    support: full
"""

EXAMPLES = r"""
- name: Give the workers an account
  mlfleet.stack.mlflow_users:
    url: http://127.0.0.1:5001
    username: admin
    password: "{{ topology_secret_mlflow_admin }}"
    users:
      - {name: worker, password: "{{ topology_secret_mlflow_worker }}"}
"""

RETURN = r"""
created:
  description: Accounts that were made.
  returned: always
  type: list
  elements: str
updated:
  description: Accounts whose password was set.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.http import HttpError
from ansible_collections.mlfleet.stack.plugins.module_utils.mlflow import Accounts, MlflowError


def main() -> None:
    user_options = {
        "name": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
    }
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "users": {"type": "list", "elements": "dict", "required": True, "options": user_options},
            "ca_file": {"type": "path"},
            "timeout_seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    options = module.params
    connection = {"timeout_seconds": options["timeout_seconds"], "ca_file": options["ca_file"]}
    try:
        accounts = Accounts(options["url"], options["username"], options["password"], **connection)
        problems = {user["name"]: accounts.problem(user) for user in options["users"]}
        if not module.check_mode:
            for user in options["users"]:
                if problem := problems[user["name"]]:
                    accounts.mend(user, problem)
    except HttpError as error:
        if not module.check_mode:
            module.fail_json(msg=str(error))
        problems = {user["name"]: "create" for user in options["users"]}
    except MlflowError as error:
        module.fail_json(msg=str(error))
    created = [name for name, problem in problems.items() if problem == "create"]
    updated = [name for name, problem in problems.items() if problem == "password"]
    diff = {
        "before": "".join(f"{name}: other password\n" for name in updated),
        "after": "".join(f"{name}: password as declared\n" for name in created + updated),
    }
    module.exit_json(changed=bool(created or updated), created=created, updated=updated, diff=diff)


if __name__ == "__main__":
    main()
