#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_access
short_description: Manage the roles and databases that consumers declare
description:
  - Applies one document of roles and databases to the PostgreSQL cluster of the host it runs on, in one round trip.
  - Uses C(psql) and the unix socket as the server's own account, so that the host needs no Python driver and the
    account no password. Run it as root or as that account.
  - Sends only SCRAM verifiers to the server, never a password. A role whose verifier matches is left alone.
  - Each database is closed to other roles; C(PUBLIC) may neither connect to it nor use its schema C(public).
  - Unlisted objects are left alone, and nothing is ever dropped.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  roles:
    description: Roles that may sign in and have no other attributes.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the role. Not O(login_user), nor one that begins with C(pg_).
        type: str
        required: true
      password:
        description: Its password, in printable ASCII characters.
        type: str
        required: true
      member_of:
        description: PostgreSQL's own roles whose rights it has as well, such as V(pg_monitor).
        type: list
        elements: str
        default: []
      state:
        description:
          - Whether the role exists. One that is removed loses its rights in all databases, and the functions that it
            reads go as well.
          - A role that owns objects is not removed; that is a failure.
        type: str
        choices: [present, absent]
        default: present
  databases:
    description: Databases with their owners.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the database.
        type: str
        required: true
      owner:
        description:
          - Role that owns it, from O(roles) or one that exists, but no superuser.
          - A new owner gets everything that the previous one owns in the database.
        type: str
        required: true
      encoding:
        description: Character encoding. That of an existing database cannot be changed; a difference is a failure.
        type: str
        default: UTF8
      locale:
        description: Collation and character type. Those of an existing database cannot be changed either.
        type: str
        default: C.UTF-8
      functions:
        description:
          - Functions in the schema C(public) that return the result of a query, with the rights of the owner. So a role
            can read this result, and nothing else in the database.
          - The tables of the query need not exist yet.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the function, which has no arguments.
            type: str
            required: true
          returns:
            description: Columns of the result with their types, as PostgreSQL shows them.
            type: str
            required: true
          query:
            description: The query.
            type: str
            required: true
          reader:
            description: Role that may call it, from O(roles) or one that exists.
            type: str
            required: true
  port:
    description: Port of the cluster, which determines its socket.
    type: int
    default: 5432
  login_user:
    description: The server's own account, both in the operating system and as superuser of the cluster.
    type: str
    default: postgres
  timeout_seconds:
    description: Timeout for the server to answer, and for each statement.
    type: int
    default: 30
attributes:
  check_mode:
    description: Predicts what a run would change; everything if no server is running yet.
    support: full
  diff_mode:
    description: Shows the roles and databases that differ, without passwords.
    support: full
"""

EXAMPLES = r"""
- name: Provide the databases
  mlfleet.stack.postgres_access:
    roles:
      - {name: restapi, password: "{{ topology_secret_postgres_restapi }}"}
      - {name: mlflow, password: "{{ topology_secret_postgres_mlflow }}"}
    databases:
      - name: restapi
        owner: restapi
        functions:
          - {name: number_of_jobs, returns: jobs bigint, query: SELECT count(*) FROM jobs, reader: exporter}
      - {name: mlflow-tracking, owner: mlflow}
"""

RETURN = r"""
changes:
  description: Objects that were created or changed.
  returned: success
  type: list
  elements: str
  sample: [role mlflow, database mlflow-tracking]
undeclared:
  description: >-
    Undeclared roles, databases, memberships, and settings by C(ALTER SYSTEM) or of roles and databases, with the
    command that removes each. They do not count as a change.
  returned: success
  type: list
  elements: dict
  sample:
    - kind: PostgreSQL superuser
      name: mallory
      remove: sudo -u postgres psql --command 'DROP ROLE mallory'
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import exit_with
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold
from ansible_collections.mlfleet.stack.plugins.module_utils.postgres import converge


def main() -> None:
    role_options = {
        "name": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "member_of": {"type": "list", "elements": "str", "default": []},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    function_options = {key: {"type": "str", "required": True} for key in ("name", "returns", "query", "reader")}
    database_options = {
        "name": {"type": "str", "required": True},
        "owner": {"type": "str", "required": True},
        "encoding": {"type": "str", "default": "UTF8"},
        "locale": {"type": "str", "default": "C.UTF-8"},
        "functions": {"type": "list", "elements": "dict", "default": [], "options": function_options},
    }
    module = AnsibleModule(
        argument_spec={
            "roles": {"type": "list", "elements": "dict", "default": [], "options": role_options},
            "databases": {"type": "list", "elements": "dict", "default": [], "options": database_options},
            "port": {"type": "int", "default": 5432},
            "login_user": {"type": "str", "default": "postgres"},
            "timeout_seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    hold(module)
    exit_with(module, converge)


if __name__ == "__main__":
    main()
