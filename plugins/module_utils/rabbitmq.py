# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Virtual hosts, users, policies, exchanges and queues of a RabbitMQ broker, by the HTTP API of its management.

If the broker refuses the account to sign in with, as after its first start or after another password was declared, its
own command reads the contents and provides the account; only its host's root and its user may run that.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from ansible_collections.mlfleet.stack.plugins.module_utils import commands
from ansible_collections.mlfleet.stack.plugins.module_utils.access import document
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import NotRunningError, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import signed_in
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray

HASHING = "rabbit_password_hashing_sha256"
SALT_BYTES = 4
RIGHTS = ("configure", "write", "read")
REFUSED = 401
QUEUE_TYPE = "x-queue-type"
RESERVED = "amq."


def password_hash(password: str, salt: bytes) -> str:
    """Return the form in which RabbitMQ stores a password."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def has_password(user: Mapping[str, Any], password: str) -> bool:
    """Return whether a user of the broker's definitions has this password."""
    if user.get("hashing_algorithm") != HASHING:
        return False
    salt = base64.b64decode(user["password_hash"])[:SALT_BYTES]
    return hmac.compare_digest(user["password_hash"], password_hash(password, salt))


def rights(permission: Mapping[str, Any]) -> dict[str, str]:
    return {right: permission[right] for right in RIGHTS}


def key(kind: str, item: Mapping[str, Any]) -> str:
    """Return the name of an object in a virtual host, as messages have it."""
    return f"{kind} {item['name']} in virtual host {item['vhost']}"


def policy_state(policy: Mapping[str, Any], apply_to: str) -> document.State:
    return {**{name: policy[name] for name in ("pattern", "priority", "definition")}, "apply_to": apply_to}


def exchange_state(exchange: Mapping[str, Any]) -> document.State:
    """Return what cannot be changed; declared exchanges are durable."""
    return {name: exchange[name] for name in ("type", "durable", "auto_delete", "arguments")}


def queue_state(queue: Mapping[str, Any]) -> document.State:
    arguments = {name: value for name, value in queue["arguments"].items() if name != QUEUE_TYPE}
    kind = queue["arguments"].get(QUEUE_TYPE, "classic")
    return {"type": kind, "durable": queue["durable"], "auto_delete": queue["auto_delete"], "arguments": arguments}


def user_state(user: Mapping[str, Any], permissions: Iterable[Mapping[str, Any]], password: str) -> document.State:
    return {
        "password": document.AS_DECLARED if has_password(user, password) else document.ANOTHER,
        "tags": sorted(user["tags"]),
        "permissions": {each["vhost"]: rights(each) for each in permissions if each["user"] == user["name"]},
    }


def wanted_user(user: Mapping[str, Any]) -> document.State:
    permissions = {each["vhost"]: rights(each) for each in user["permissions"]}
    return {"password": document.AS_DECLARED, "tags": sorted(user["tags"]), "permissions": permissions}


LASTING = {"durable": True, "auto_delete": False}
OBJECTS = {"policy": "policies", "exchange": "exchanges", "queue": "queues"}


def problems(
    vhosts: Collection[str], users: Iterable[Mapping[str, Any]], objects: Mapping[str, Iterable[Mapping[str, Any]]]
) -> Iterator[str]:
    """Yield what the broker would refuse or misread in a document. C(objects) are lists by the options of OBJECTS."""
    for user in users:
        if user.get("state", "present") != "present":
            continue
        if not user["password"]:
            yield f"user {user['name']}: a password is required"
        for permission in user.get("permissions") or ():
            if permission["vhost"] not in vhosts:
                yield f"user {user['name']}: virtual host {permission['vhost']} is not declared"
    for kind, option in OBJECTS.items():
        names = [key(kind, item) for item in objects[option]]
        yield from (f"{name}: declared twice" for name in dict.fromkeys(names) if names.count(name) > 1)
        for item in objects[option]:
            if item["vhost"] not in vhosts:
                yield f"{key(kind, item)}: this virtual host is not declared"
            if item["name"].startswith(RESERVED):
                yield f"{key(kind, item)}: names that begin with {RESERVED} are RabbitMQ's own"
            if QUEUE_TYPE in (item.get("arguments") or ()):
                yield f"{key(kind, item)}: {QUEUE_TYPE} is its type, not one of its arguments"


def validate(options: Mapping[str, Any]) -> None:
    """Raise ServiceError for the first problem."""
    names = [user["name"] for user in options["users"]]
    for name in names:
        if names.count(name) > 1:
            raise ServiceError(f"user {name}: declared twice")
    for problem in problems(options["vhosts"], options["users"], options):
        raise ServiceError(problem)


class Broker(document.Document):
    """One broker, or one cluster: its objects are those of all nodes."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        validate(options)
        self.options = options
        self.users = {user["name"]: user for user in options["users"]}
        self.vhosts: list[str] = options["vhosts"]
        self.http = signed_in(options)

    def find(self) -> document.Found:
        answer = self.http.ask("GET", "/api/definitions")
        self.is_refused = answer.status == REFUSED and bool(self.options["rabbitmqctl"])
        if answer.status != 200 and not self.is_refused:
            raise ServiceError(f"{self.http.url} refuses {self.options['username']}: {answer.status} {answer.reason}")
        found = json.loads(self._control("export_definitions", "-")) if self.is_refused else answer.data
        return document.Found(self._states(found), list(self._undeclared(found)))

    def _states(self, found: Mapping[str, Any]) -> dict[str, document.State]:
        states: dict[str, document.State] = {
            f"virtual host {vhost['name']}": {"name": vhost["name"]} for vhost in found["vhosts"]
        }
        for user in found["users"]:
            if declared := self.users.get(user["name"]):
                states[f"user {user['name']}"] = user_state(user, found["permissions"], declared["password"] or "")
        states |= {key("policy", each): policy_state(each, each["apply-to"]) for each in found["policies"]}
        states |= {key("exchange", each): exchange_state(each) for each in found["exchanges"]}
        states |= {key("queue", each): queue_state(each) for each in found["queues"]}
        return states

    def _undeclared(self, found: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        """Yield other accounts, virtual hosts and policies. Applications make queues and exchanges themselves."""
        command = self.options["rabbitmqctl"] or ["rabbitmqctl"]
        for user in found["users"]:
            if user["name"] not in self.users:
                yield stray("RabbitMQ user", user["name"], ["sudo", *command, "delete_user", user["name"]])
        for vhost in found["vhosts"]:
            if vhost["name"] not in self.vhosts:
                name = vhost["name"]
                yield stray("RabbitMQ virtual host", name, ["sudo", *command, "delete_vhost", name])
        declared = {key("policy", policy) for policy in self.options["policies"]}
        for policy in found["policies"]:
            if key("policy", policy) not in declared:
                remove = ["sudo", *command, "clear_policy", "--vhost", policy["vhost"], policy["name"]]
                yield stray("RabbitMQ policy", f"{policy['name']} in {policy['vhost']}", remove)

    def compare(self, found: Mapping[str, document.State]) -> Iterator[document.Change]:
        for vhost in self.vhosts:
            name = f"virtual host {vhost}"
            request = {"path": f"/api/vhosts/{quoted(vhost)}", "body": {}}
            yield document.Change(name, found.get(name), {"name": vhost}, request)
        for user in self.users.values():
            name = f"user {user['name']}"
            want = wanted_user(user) if user["state"] == "present" else None
            yield document.Change(name, found.get(name), want, user)
        for policy in self.options["policies"]:
            want = policy_state(policy, policy["apply_to"])
            body = {
                **{name: policy[name] for name in ("pattern", "priority", "definition")},
                "apply-to": policy["apply_to"],
            }
            yield self._change("policy", policy, want, body, found)
        for exchange in self.options["exchanges"]:
            want = {"type": exchange["type"], **LASTING, "arguments": exchange["arguments"]}
            yield self._unchangeable(self._change("exchange", exchange, want, want, found))
        for queue in self.options["queues"]:
            want = {"type": queue["type"], **LASTING, "arguments": queue["arguments"]}
            body = {**LASTING, "arguments": {**queue["arguments"], QUEUE_TYPE: queue["type"]}}
            yield self._unchangeable(self._change("queue", queue, want, body, found))

    @staticmethod
    def _change(
        kind: str,
        item: document.Item,
        want: document.State,
        body: dict[str, Any],
        found: Mapping[str, document.State],
    ) -> document.Change:
        path = f"/api/{OBJECTS[kind]}/{quoted(item['vhost'])}/{quoted(item['name'])}"
        return document.Change(key(kind, item), found.get(key(kind, item)), want, {"path": path, "body": body})

    @staticmethod
    def _unchangeable(change: document.Change) -> document.Change:
        """Refuse to change what can only be created."""
        have, want = change.have, change.want or {}
        if have not in (None, want):
            differs = ", ".join(f"{name} {have[name]}" for name in want if have[name] != want[name])
            raise ServiceError(f"{change.name}: it has {differs}, which cannot be changed; declare that, or delete it")
        return change

    def apply(self, changes: list[document.Change]) -> None:
        if self.is_refused:
            self._provide_account()
        for change in changes:
            if "path" in change.item:
                self.http.call("PUT", change.item["path"], change.item["body"])
            else:
                self._set_user(change)

    def _set_user(self, change: document.Change) -> None:
        user, path = change.item, f"/api/users/{quoted(change.item['name'])}"
        if change.want is None:
            self.http.call("DELETE", path)
            return
        have: document.State = change.have or {"password": None, "tags": None, "permissions": {}}
        if (have["password"], have["tags"]) != (change.want["password"], change.want["tags"]):
            self.http.call("PUT", path, self._account(user))
        for vhost in have["permissions"].keys() - change.want["permissions"].keys():
            self.http.call("DELETE", f"/api/permissions/{quoted(vhost)}/{quoted(user['name'])}")
        for vhost, wanted in change.want["permissions"].items():
            if have["permissions"].get(vhost) != wanted:
                self.http.call("PUT", f"/api/permissions/{quoted(vhost)}/{quoted(user['name'])}", wanted)

    @staticmethod
    def _account(user: Mapping[str, Any]) -> dict[str, Any]:
        """Return a user for the API: the broker sees no password before somebody signs in."""
        hashed = password_hash(user["password"], secrets.token_bytes(SALT_BYTES))
        return {"password_hash": hashed, "hashing_algorithm": HASHING, "tags": sorted(user["tags"])}

    def _provide_account(self) -> None:
        """Let the broker's own command create the account to sign in with, or give it the declared password."""
        user = self.users.get(self.options["username"])
        if not user:
            raise ServiceError(f"user {self.options['username']}: the account to sign in with is not declared")
        account = {"name": user["name"], **self._account(user), "limits": {}}
        self._control("import_definitions", "--format", "json", text=json.dumps({"users": [account]}))

    def _control(self, *words: str, text: str = "") -> str:
        try:
            done = commands.run([*self.options["rabbitmqctl"], "--quiet", *words], input=text)
        except OSError as error:
            raise NotRunningError(f"rabbitmqctl: {error}") from error
        if done.returncode:
            told = " ".join((done.stderr or done.stdout).split())[:500]
            raise ServiceError(f"rabbitmqctl {words[0]}: {told}")
        return done.stdout


def quoted(name: str) -> str:
    return quote(name, safe="")


def converge(options: dict[str, Any], check_mode: bool) -> document.Result:
    return document.converge(Broker(options), check_mode)
