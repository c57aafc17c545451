#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pgadmin_access
short_description: Manage pgAdmin's administrator and the servers in its tree
description:
  - Compares the account and its servers with pgAdmin's configuration database, and sets what differs in one
    transaction. A running pgAdmin uses them from the next request on.
  - pgAdmin's own commands do not compare, and show a password in the process list when they change it.
  - Unlisted objects are left alone, such as servers that users have added.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  database:
    description: pgAdmin's configuration database, an SQLite file that pgAdmin has created.
    type: path
    required: true
  email:
    description: Name with which the administrator signs in.
    type: str
    required: true
  password:
    description: The administrator's password.
    type: str
    required: true
  sign_in_attempts:
    description: Number of wrong passwords after which pgAdmin locks the account (C(MAX_LOGIN_ATTEMPTS)); 0 disables
      this.
    type: int
    default: 3
  servers:
    description: Servers in the administrator's tree, without passwords; pgAdmin asks for them when users connect.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name in the tree.
        type: str
        required: true
      host:
        description: Name or address.
        type: str
        required: true
      port:
        description: Port.
        type: int
        default: 5432
      username:
        description: Role that signs in.
        type: str
        required: true
      database:
        description: Database to connect to first, by default the one with the server's name.
        type: str
      only_its_database:
        description: Whether the tree shows only that database, for a role that may not connect to others.
        type: bool
        default: false
      parameters:
        description: Parameters of the connection as libpq names them.
        type: dict
        default: {}
attributes:
  check_mode:
    description: Predicts what a run would change; everything if pgAdmin has never run.
    support: full
  diff_mode:
    description: Shows the account and the servers that differ, without passwords.
    support: full
"""

EXAMPLES = r"""
- name: Provide the account and the servers
  mlfleet.stack.pgadmin_access:
    database: /var/lib/mlfleet/pgadmin/pgadmin4.db
    email: admin@example.org
    password: "{{ topology_secret_pgadmin }}"
    servers:
      - name: mlflow-tracking
        host: db.example.org
        username: mlflow
        only_its_database: true
        parameters: {sslmode: verify-full, sslrootcert: system}
"""

RETURN = r"""
changes:
  description: Objects that were created or changed.
  returned: success
  type: list
  elements: str
  sample: [account admin@example.org, server mlflow-tracking]
undeclared:
  description: >-
    Undeclared accounts, which the administrator can remove in pgAdmin's User Management. They do not count as a
    change.
  returned: success
  type: list
  elements: dict
  sample:
    - kind: pgAdmin account
      name: mallory@example.org
      remove: ""
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import exit_with
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold
from ansible_collections.mlfleet.stack.plugins.module_utils.pgadmin import converge


def main() -> None:
    server_options = {
        "name": {"type": "str", "required": True},
        "host": {"type": "str", "required": True},
        "port": {"type": "int", "default": 5432},
        "username": {"type": "str", "required": True},
        "database": {"type": "str"},
        "only_its_database": {"type": "bool", "default": False},
        "parameters": {"type": "dict", "default": {}},
    }
    module = AnsibleModule(
        argument_spec={
            "database": {"type": "path", "required": True},
            "email": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "sign_in_attempts": {"type": "int", "default": 3},
            "servers": {"type": "list", "elements": "dict", "default": [], "options": server_options},
        },
        supports_check_mode=True,
    )
    hold(module)
    exit_with(module, converge)


if __name__ == "__main__":
    main()
