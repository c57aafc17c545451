#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_users
short_description: Provides the accounts of an MLflow tracking server with basic sign-in
description:
  - Proves each account by signing in, creates those that do not exist and sets passwords that differ.
  - What the document does not list is left alone.
  - MLflow makes its administrator when it first starts and ignores the configured password from then on. When the given
    one does not sign in, the module says so; it cannot mend that.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.rest
  - mlfleet.stack.rest.sign_in
options:
  users:
    description: The accounts, besides O(username).
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
attributes:
  check_mode:
    description: Predicts what a run would change; all of it where no server runs yet.
    support: full
  diff_mode:
    description: Shows the accounts that differ, without passwords.
    support: full
"""

EXAMPLES = r"""
- name: Provide the clients' accounts
  mlfleet.stack.mlflow_users:
    url: http://127.0.0.1:5001
    username: admin
    password: "{{ topology_secret_mlflow_admin }}"
    users:
      - {name: worker, password: "{{ topology_secret_mlflow_worker }}"}
"""

RETURN = r"""
changes:
  description: The accounts that were created or got another password.
  returned: success
  type: list
  elements: str
  sample: [user worker]
undeclared:
  description: Accounts that are neither the administrator's nor declared, with the command that removes them.
  returned: success
  type: list
  elements: dict
  sample: [{kind: MLflow user, name: mallory, remove: curl …/users/delete}]
"""

import json
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.mlfleet.stack.plugins.module_utils.rest import (
    SIGN_IN_OPTIONS,
    Http,
    HttpError,
    NotRunningError,
    run_module,
)

USERS = "/api/2.0/mlflow/users"
AS_DECLARED = {"password": "as declared", "is_admin": False}


def state(options: dict, user: dict, admin: Http) -> dict | None:
    """What the server has of the account; nothing where it does not exist."""
    account = Http(options["url"], options["timeout_seconds"], options["ca_file"], user["name"], user["password"])
    own = account.ask("GET", f"{USERS}/current")
    if own.status == 200:
        return {"password": "as declared", "is_admin": own.data["user"]["is_admin"]}
    answer = admin.ask("GET", f"{USERS}/get", username=user["name"])
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise HttpError(f"{admin.url}: user {user['name']}: the server answered {answer.status}: {answer.reason}")
    return {"password": "another one", "is_admin": answer.data["user"]["is_admin"]}


def require_admin(admin: Http, name: str) -> None:
    answer = admin.ask("GET", f"{USERS}/current")
    if answer.status == 401:
        raise HttpError(
            f"{admin.url}: administrator {name!r} cannot sign in with the given password; MLflow took the one of its "
            "first start and ignores a later one in its configuration, so give that one"
        )
    if answer.status == 404:
        raise HttpError(f"{admin.url}: MLflow runs without sign-in; start it with --app-name basic-auth")
    if answer.status != 200:
        raise HttpError(f"{admin.url}: MLflow answered {answer.status}: {answer.reason}")
    if not answer.data["user"]["is_admin"]:
        raise HttpError(f"{admin.url}: {name!r} is no administrator of MLflow")


def converge(options: dict, check_mode: bool) -> dict:
    users = {user["name"]: user for user in options["users"]}
    if options["username"] in users:
        raise HttpError(f"user {options['username']}: it is the administrator of this module; leave it out of users")
    admin = Http(
        options["url"], options["timeout_seconds"], options["ca_file"], options["username"], options["password"]
    )
    found: dict[str, dict | None] = {}
    others: list[str] = []
    try:
        require_admin(admin, options["username"])
        with ThreadPoolExecutor() as pool:  # MLflow takes its time to compare a password, at each request
            found = dict(zip(users, pool.map(lambda user: state(options, user, admin), users.values()), strict=True))
        listed = [user["username"] for user in admin.call("GET", f"{USERS}/list")["users"]]
        others = sorted(set(listed) - {options["username"], *users})
    except NotRunningError:
        if not check_mode:
            raise
    differing = [name for name in users if found.get(name) != AS_DECLARED]
    if not check_mode:
        for name in differing:
            body = {"username": name, "password": users[name]["password"]}
            if found[name] is None:
                admin.call("POST", f"{USERS}/create", body)
                continue
            if found[name]["password"] != AS_DECLARED["password"]:
                admin.call("PATCH", f"{USERS}/update-password", body)
            if found[name]["is_admin"]:
                admin.call("PATCH", f"{USERS}/update-admin", {"username": name, "is_admin": False})
    diff = {
        "before": {f"user {name}": found[name] for name in differing if found.get(name)},
        "after": {f"user {name}": AS_DECLARED for name in differing},
    }
    undeclared = [
        {
            "kind": "MLflow user",
            "name": name,
            "remove": f"curl --user ADMIN --request DELETE --json '{json.dumps({'username': name})}' "
            f"{options['url']}{USERS}/delete",
        }
        for name in others
    ]
    return {"changed": bool(differing), "changes": list(diff["after"]), "undeclared": undeclared, "diff": diff}


def main() -> None:
    user_options = {
        "name": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
    }
    run_module(
        SIGN_IN_OPTIONS | {"users": {"type": "list", "elements": "dict", "required": True, "options": user_options}},
        converge,
    )


if __name__ == "__main__":
    main()
