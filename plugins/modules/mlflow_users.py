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
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.mlfleet.stack.plugins.module_utils.access import document
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import AS_DECLARED, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import SIGN_IN_OPTIONS, Http, run_module
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray

API = "/api/2.0/mlflow"
USERS = f"{API}/users"
GRANTS = "/api/3.0/mlflow/users/permissions"
REMOVAL = ["curl", "--user", "ADMIN", "--request", "DELETE", "--json"]
PERMISSIONS = ("READ", "USE", "EDIT", "MANAGE", "DENY")
NOBODYS = "__user_"  # prefix of the role in which MLflow keeps the grants of a single account
TYPES = {"experiments": "experiment", "models": "registered_model"}  # of resources, by the option


def declared_state(user: dict) -> dict | None:
    if user.get("state") == "absent":
        return None
    permissions = {option: user[option] for option in TYPES if user.get(option)}
    return {"password": AS_DECLARED, "is_admin": user.get("is_admin") or False, **permissions}


def grants(listed: dict) -> dict[tuple[str, str], str]:
    """Return the grants of the account alone: permissions by type and identifier of the resource."""
    return {
        (grant["resource_type"], grant["resource_pattern"]): grant["permission"]
        for role in listed["roles"]
        if role["name"].startswith(NOBODYS)
        for grant in role["permissions"]
    }


def resource_id(option: str, name: str, admin: Http) -> str | None:
    """Return MLflow's identifier of the experiment or model, or nothing if there is none."""
    if option == "experiments":
        answer = admin.ask("GET", f"{API}/experiments/get-by-name", experiment_name=name)
        found = answer.data["experiment"]["experiment_id"] if answer.status == 200 else None
    else:
        answer = admin.ask("GET", f"{API}/registered-models/get", name=name)
        found = name if answer.status == 200 else None
    if answer.status not in (200, 404):
        raise ServiceError(f"{admin.url}: {option} {name}: the server answered {answer.status}: {answer.reason}")
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
    """Return all accounts of the server by name; the account that asks must be an administrator."""
    answer = admin.ask("GET", f"{USERS}/list")
    if answer.status == 401:
        raise ServiceError(
            f"{admin.url}: administrator {name!r} cannot sign in with the given password; MLflow took the one of its "
            "first start and ignores a later one in its configuration, so give that one"
        )
    if answer.status == 404:
        raise ServiceError(f"{admin.url}: MLflow runs without sign-in; start it with --app-name basic-auth")
    if answer.status not in (200, 403):
        raise ServiceError(f"{admin.url}: MLflow answered {answer.status}: {answer.reason}")
    listed = {user["username"]: user for user in answer.data["users"]} if answer.status == 200 else {}
    if not listed.get(name, {}).get("is_admin"):
        raise ServiceError(f"{admin.url}: {name!r} is no administrator of MLflow")
    return listed


class Users(document.Document):
    def __init__(self, options: dict) -> None:
        self.options = options
        self.users = {user["name"]: user for user in options["users"]}
        if options["username"] in self.users:
            raise ServiceError(
                f"user {options['username']}: it is the administrator of this module; leave it out of users"
            )
        for name, user in self.users.items():
            for option in TYPES:
                for each, permission in (user.get(option) or {}).items():
                    if permission not in PERMISSIONS:
                        raise ServiceError(f"user {name}: {option}: {each}: give one of {', '.join(PERMISSIONS)}")
        self.admin = self.client(options["username"], options["password"])

    def client(self, username: str, password: str) -> Http:
        return Http(self.options["url"], self.options["timeout_seconds"], self.options["ca_file"], username, password)

    def signs_in(self, user: dict) -> bool:
        answer = self.client(user["name"], user["password"]).ask("GET", f"{USERS}/current")
        if answer.status not in (200, 401):
            who = f"{self.admin.url}: user {user['name']}"
            raise ServiceError(f"{who}: the server answered {answer.status}: {answer.reason}")
        return answer.status == 200

    def find(self) -> document.Found:
        """Send all requests at once, because MLflow is slow to compare a password."""
        users, admin = self.users, self.admin
        resources = {(option, each) for user in users.values() for option in TYPES for each in user.get(option) or {}}
        with ThreadPoolExecutor() as pool:
            listing = pool.submit(accounts, admin, self.options["username"])
            passwords = {name: pool.submit(self.signs_in, user) for name, user in users.items()}
            known = {resource: pool.submit(resource_id, *resource, admin) for resource in resources}
        listed = listing.result()  # first, because its error describes the problem best
        states = {}
        for name in users.keys() & listed.keys():
            granted = grants(listed[name])
            permissions = {
                option: {each: granted.get((TYPES[option], known[option, each].result() or "")) for each in declared}
                for option in TYPES
                if (declared := users[name].get(option))
            }
            password = AS_DECLARED if passwords[name].result() else document.ANOTHER
            states[f"user {name}"] = {"password": password, "is_admin": listed[name]["is_admin"], **permissions}
        others = sorted(listed.keys() - users.keys() - {self.options["username"]})
        delete = f"{self.options['url']}{USERS}/delete"
        return document.Found(
            states,
            [stray("MLflow user", name, [*REMOVAL, json.dumps({"username": name}), delete]) for name in others],
        )

    def compare(self, found: Mapping[str, dict]) -> Iterator[document.Change]:
        for name, user in self.users.items():
            yield document.Change(f"user {name}", found.get(f"user {name}"), declared_state(user), user)

    def apply(self, changes: list[document.Change]) -> None:
        for change in changes:
            if change.want is None:
                self.admin.call("DELETE", f"{USERS}/delete", {"username": change.item["name"]})
            else:
                self.provide(change.item, change.have or {}, change.want)

    def provide(self, user: dict, have: dict, want: dict) -> None:
        credentials = {"username": user["name"], "password": user["password"]}
        if not have:
            self.admin.call("POST", f"{USERS}/create", credentials)
        elif have["password"] != AS_DECLARED:
            self.admin.call("PATCH", f"{USERS}/update-password", credentials)
        if have.get("is_admin", False) != want["is_admin"]:
            status = {"username": user["name"], "is_admin": want["is_admin"]}
            self.admin.call("PATCH", f"{USERS}/update-admin", status)
        for option in TYPES:
            for name, permission in want.get(option, {}).items():
                former = have.get(option, {}).get(name)
                if former != permission:
                    grant(user["name"], option, name, former, permission, self.admin)


def converge(options: dict, check_mode: bool) -> document.Result:
    return document.converge(Users(options), check_mode)


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
