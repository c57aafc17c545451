#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_users
short_description: Manage the accounts of an MLflow tracking server with basic authentication
description:
  - Verifies each account by signing in, creates missing accounts and sets passwords that differ.
  - Grants each account its listed permissions on experiments and registered models; missing ones are created. Other
    permissions are left alone, such as those of creators on their own objects.
  - Unlisted objects are left alone.
  - MLflow creates its administrator when it first starts and ignores the configured password from then on. If the given
    password is wrong, the module reports it, but cannot change it.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.rest
  - mlfleet.stack.rest.sign_in
options:
  users:
    description: The accounts, in addition to O(username).
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
      state:
        description: Whether the account exists. Objects that it created stay.
        type: str
        choices: [present, absent]
        default: present
      is_admin:
        description: Whether the account is an administrator.
        type: bool
        default: false
      experiments:
        description:
          - Permissions by name of the experiment, each one of C(READ), C(USE), C(EDIT), C(MANAGE), C(DENY).
          - The first four take effect only if they exceed the server's default.
        type: dict
        default: {}
      models:
        description: The same by name of the registered model.
        type: dict
        default: {}
attributes:
  check_mode:
    description: Predicts what a run would change; everything if no server is running yet.
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
      - {name: ada, password: "{{ vault_mlflow_ada }}", experiments: {irises: MANAGE}}
"""

RETURN = r"""
changes:
  description: The accounts that were created, changed or removed.
  returned: success
  type: list
  elements: str
  sample: [user worker]
undeclared:
  description: Undeclared accounts other than the administrator, with the command that removes each.
  returned: success
  type: list
  elements: dict
  sample: [{kind: MLflow user, name: mallory, remove: curl …/users/delete}]
"""

import json
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import (
    SIGN_IN_OPTIONS,
    Http,
    HttpError,
    NotRunningError,
    run_module,
)
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray

API = "/api/2.0/mlflow"
USERS = f"{API}/users"
GRANTS = "/api/3.0/mlflow/users/permissions"
AS_DECLARED = "as declared"
REMOVAL = ["curl", "--user", "ADMIN", "--request", "DELETE", "--json"]
PERMISSIONS = ("READ", "USE", "EDIT", "MANAGE", "DENY")
NOBODYS = "__user_"  # how the role begins that MLflow keeps for the grants of a single account
TYPES = {"experiments": "experiment", "models": "registered_model"}  # of resources, by the option


def declared_state(user: dict) -> dict | None:
    if user.get("state") == "absent":
        return None
    permissions = {option: user[option] for option in TYPES if user.get(option)}
    return {"password": AS_DECLARED, "is_admin": user.get("is_admin") or False, **permissions}


def signs_in(options: dict, user: dict) -> bool:
    account = Http(options["url"], options["timeout_seconds"], options["ca_file"], user["name"], user["password"])
    answer = account.ask("GET", f"{USERS}/current")
    if answer.status not in (200, 401):
        raise HttpError(f"{account.url}: user {user['name']}: the server answered {answer.status}: {answer.reason}")
    return answer.status == 200


def grants(listed: dict) -> dict[tuple[str, str], str]:
    """What was granted to the account alone: a permission by type of resource and what that is known by."""
    return {
        (grant["resource_type"], grant["resource_pattern"]): grant["permission"]
        for role in listed["roles"]
        if role["name"].startswith(NOBODYS)
        for grant in role["permissions"]
    }


def resource_id(option: str, name: str, admin: Http) -> str | None:
    """What MLflow knows the experiment or the model by; nothing where there is none."""
    if option == "experiments":
        answer = admin.ask("GET", f"{API}/experiments/get-by-name", experiment_name=name)
        found = answer.data["experiment"]["experiment_id"] if answer.status == 200 else None
    else:
        answer = admin.ask("GET", f"{API}/registered-models/get", name=name)
        found = name if answer.status == 200 else None
    if answer.status not in (200, 404):
        raise HttpError(f"{admin.url}: {option} {name}: the server answered {answer.status}: {answer.reason}")
    return found


def grant(user: str, option: str, name: str, former: str | None, permission: str, admin: Http) -> None:
    identifier = resource_id(option, name, admin)
    if identifier is None:
        kind = option if option == "experiments" else "registered-models"
        made = admin.call("POST", f"{API}/{kind}/create", {"name": name})
        identifier = made.get("experiment_id", name)
    about = {"username": user, "resource_type": TYPES[option], "resource_id": identifier}
    if former:
        admin.call("POST", f"{GRANTS}/revoke", about)
    admin.call("POST", f"{GRANTS}/grant", about | {"permission": permission})


def accounts(admin: Http, name: str) -> dict[str, dict]:
    """What the server has of all accounts, by their names, asked by one that has to be an administrator."""
    answer = admin.ask("GET", f"{USERS}/list")
    if answer.status == 401:
        raise HttpError(
            f"{admin.url}: administrator {name!r} cannot sign in with the given password; MLflow took the one of its "
            "first start and ignores a later one in its configuration, so give that one"
        )
    if answer.status == 404:
        raise HttpError(f"{admin.url}: MLflow runs without sign-in; start it with --app-name basic-auth")
    if answer.status not in (200, 403):
        raise HttpError(f"{admin.url}: MLflow answered {answer.status}: {answer.reason}")
    listed = {user["username"]: user for user in answer.data["users"]} if answer.status == 200 else {}
    if not listed.get(name, {}).get("is_admin"):
        raise HttpError(f"{admin.url}: {name!r} is no administrator of MLflow")
    return listed


def states(options: dict, users: dict[str, dict], admin: Http) -> tuple[dict[str, dict], list[str]]:
    """What the server has of those of the accounts that are there, and the names of others.

    All is asked at once, for MLflow takes its time to compare a password.
    """
    resources = {(option, each) for user in users.values() for option in TYPES for each in user.get(option) or {}}
    with ThreadPoolExecutor() as pool:
        listing = pool.submit(accounts, admin, options["username"])
        passwords = {name: pool.submit(signs_in, options, user) for name, user in users.items()}
        known = {resource: pool.submit(resource_id, *resource, admin) for resource in resources}
    listed = listing.result()  # first, for what it says of what is wrong
    found = {}
    for name in users.keys() & listed.keys():
        granted = grants(listed[name])
        permissions = {
            option: {each: granted.get((TYPES[option], known[option, each].result() or "")) for each in declared}
            for option in TYPES
            if (declared := users[name].get(option))
        }
        password = AS_DECLARED if passwords[name].result() else "another one"
        found[name] = {"password": password, "is_admin": listed[name]["is_admin"], **permissions}
    return found, sorted(listed.keys() - users.keys() - {options["username"]})


def converge(options: dict, check_mode: bool) -> dict:
    users = {user["name"]: user for user in options["users"]}
    if options["username"] in users:
        raise HttpError(f"user {options['username']}: it is the administrator of this module; leave it out of users")
    for user in users.values():
        for option in TYPES:
            for name, permission in (user.get(option) or {}).items():
                if permission not in PERMISSIONS:
                    raise HttpError(f"user {user['name']}: {option}: {name}: give one of {', '.join(PERMISSIONS)}")
    declared = {name: declared_state(user) for name, user in users.items()}
    admin = Http(
        options["url"], options["timeout_seconds"], options["ca_file"], options["username"], options["password"]
    )
    found: dict[str, dict] = {}
    others: list[str] = []
    try:
        found, others = states(options, users, admin)
    except NotRunningError:
        if not check_mode:
            raise
    differing = [name for name in users if found.get(name) != declared[name]]
    if not check_mode:
        for name in differing:
            apply(users[name], found.get(name), declared[name], admin)
    diff = {
        "before": {f"user {name}": found[name] for name in differing if name in found},
        "after": {f"user {name}": declared[name] for name in differing if declared[name]},
    }
    undeclared = [
        stray("MLflow user", name, [*REMOVAL, json.dumps({"username": name}), f"{options['url']}{USERS}/delete"])
        for name in others
    ]
    return {
        "changed": bool(differing),
        "changes": [f"user {name}" for name in differing],
        "undeclared": undeclared,
        "diff": diff,
    }


def apply(user: dict, found: dict | None, wanted: dict | None, admin: Http) -> None:
    body = {"username": user["name"], "password": user["password"]}
    if wanted is None:
        admin.call("DELETE", f"{USERS}/delete", {"username": user["name"]})
        return
    if found is None:
        admin.call("POST", f"{USERS}/create", body)
    elif found["password"] != AS_DECLARED:
        admin.call("PATCH", f"{USERS}/update-password", body)
    if (found or {"is_admin": False})["is_admin"] != wanted["is_admin"]:
        admin.call("PATCH", f"{USERS}/update-admin", {"username": user["name"], "is_admin": wanted["is_admin"]})
    for option in TYPES:
        for name, permission in wanted.get(option, {}).items():
            former = (found or {}).get(option, {}).get(name)
            if former != permission:
                grant(user["name"], option, name, former, permission, admin)


def main() -> None:
    user_options = {
        "name": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "is_admin": {"type": "bool", "default": False},
        "experiments": {"type": "dict", "default": {}},
        "models": {"type": "dict", "default": {}},
    }
    run_module(
        SIGN_IN_OPTIONS | {"users": {"type": "list", "elements": "dict", "required": True, "options": user_options}},
        converge,
    )


if __name__ == "__main__":
    main()
