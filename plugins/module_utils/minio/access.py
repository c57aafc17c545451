# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A document with the desired objects of a MinIO server, and the changes that are needed.

Every kind of object has the same few functions, listed in KINDS in the order of their dependencies. A document is
checked on its own, then against the server, before the first change. Check mode ends with the plan.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils import filesystem
from ansible_collections.mlfleet.stack.plugins.module_utils.access import document as engine
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import Item, ServiceError, State
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold
from ansible_collections.mlfleet.stack.plugins.module_utils.minio import accounts, buckets
from ansible_collections.mlfleet.stack.plugins.module_utils.minio import policy as minio_policy
from ansible_collections.mlfleet.stack.plugins.module_utils.minio.client import (
    BUILT_IN_POLICIES,
    CONNECTION_OPTIONS,
    Client,
    is_present,
    with_state,
)

Document = dict[str, list[Item]]
GENERATED = "(to be generated)"
KEY_CHARACTERS = string.ascii_letters + string.digits
KEY_LENGTH, SECRET_LENGTH = 20, 40
SECRET_LENGTHS = range(8, 41)
# Pattern and words for the names of each kind.
NAMES = {
    "policy": (re.compile(r"[A-Za-z0-9_.@=+-]{1,128}"), "letters, digits and any of _.@=+-"),
    "bucket": (
        re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)(?!.*(\.\.|\.-|-\.))[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
        "3 to 63 lower-case letters, digits, dots and hyphens by the rules of S3",
    ),
    "user": (re.compile(r"[^\s,=/]{3,128}"), "3 to 128 characters without spaces, commas, slashes and equal signs"),
    "group": (re.compile(r"[^\s,=/]{1,128}"), "1 to 128 characters without spaces, commas, slashes and equal signs"),
    "service_account": (
        re.compile(r"[^\s,=/]{3,20}"),
        "3 to 20 characters without blanks, commas, slashes and equal signs",
    ),
}


# --- Policies, the only kind without a file of its own

POLICY_OPTIONS = with_state({"policy": {"type": "dict"}})


def found_policies(client: Client, items: list[Item]) -> dict[str, State]:
    existing = client.policies
    return {item["name"]: minio_policy.canonical(existing[item["name"]]) for item in items if item["name"] in existing}


def wanted_policy(item: Item, have: State | None) -> State:
    return minio_policy.canonical(item["policy"])


def put_policy(client: Client, item: Item, have: State | None, want: State) -> None:
    client.admin.policy_add(item["name"], policy=want)


def remove_policy(client: Client, item: Item, have: State) -> None:
    client.admin.policy_remove(item["name"])


class Kind(NamedTuple):
    plural: str
    options: dict[str, Any]  # as in an argument spec
    found: Callable[[Client, list[Item]], dict[str, State]]
    wanted: Callable[[Item, State | None], State]
    put: Callable[[Client, Item, State | None, State], None]
    remove: Callable[[Client, Item, State], None]


KINDS = {
    "policy": Kind("policies", POLICY_OPTIONS, found_policies, wanted_policy, put_policy, remove_policy),
    "bucket": Kind(
        "buckets",
        buckets.BUCKET_OPTIONS,
        buckets.found_buckets,
        buckets.wanted_bucket,
        buckets.put_bucket,
        buckets.remove_bucket,
    ),
    "user": Kind(
        "users",
        accounts.USER_OPTIONS,
        accounts.found_users,
        accounts.wanted_user,
        accounts.put_user,
        accounts.remove_user,
    ),
    "group": Kind(
        "groups",
        accounts.GROUP_OPTIONS,
        accounts.found_groups,
        accounts.wanted_group,
        accounts.put_group,
        accounts.remove_group,
    ),
    "service_account": Kind(
        "service_accounts",
        accounts.SERVICE_ACCOUNT_OPTIONS,
        accounts.found_service_accounts,
        accounts.wanted_service_account,
        accounts.put_service_account,
        accounts.remove_service_account,
    ),
}

# Commands that remove the object whose name follows, except buckets; ALIAS is mc's name of the server.
REMOVALS = {
    "policy": "mc admin policy remove ALIAS",
    "user": "mc admin user remove ALIAS",
    "group": "mc admin group remove ALIAS",
    "service_account": "mc admin user svcacct remove ALIAS",
}

# The parts of an argument spec besides the options.
RESTRICTIONS = {"service_account": {"required_one_of": [("name", "credentials_file")]}}


def blank(kind: str, **values: Any) -> Item:
    """Return an item with each option of its kind, as if only these were given."""
    return {name: option.get("default") for name, option in KINDS[kind].options.items()} | values


def label(kind: str, name: str | None) -> str:
    return f"{kind.replace('_', ' ')} {name}"


# --- Errors in a document that do not depend on the server


def validate(document: Document) -> None:
    """Raise ServiceError for the first part of the document that the server would refuse or misread."""
    for kind, items in document.items():
        pattern, rule = NAMES[kind]
        names = [item["name"] for item in items]
        for name in names:
            if name != GENERATED and not pattern.fullmatch(name or ""):
                raise ServiceError(f"{label(kind, repr(name))}: its name must be {rule}")
            if name != GENERATED and names.count(name) > 1:
                raise ServiceError(f"{label(kind, name)}: declared twice")
        for item in filter(is_present, items):
            for problem in VALIDATORS[kind](item):
                raise ServiceError(f"{label(kind, item['name'])}: {problem}")
    files = [account["credentials_file"] for account in document["service_account"] if account["credentials_file"]]
    for file in files:
        if files.count(file) > 1:
            raise ServiceError(f"credentials_file {file}: two service accounts cannot share it")
    for problem in _memberships(document):
        raise ServiceError(problem)


def _policy_problems(item: Item) -> Iterator[str]:
    if item["policy"] is None:
        yield "policy is missing"
    else:
        yield from minio_policy.problems(item["policy"])


def _bucket_problems(item: Item) -> Iterator[str]:
    if item["quota"] is not None:
        try:
            buckets.bytes_of(item["quota"])
        except ServiceError as error:
            yield str(error)
    if item["object_lock"] and item["versioning"] is False:
        yield "object_lock keeps versions; leave versioning out or make it true"
    retention = item["retention"]
    if retention and bool(retention["days"]) + bool(retention["years"]) != (retention["mode"] != "none"):
        yield "retention: either days or years is needed, and neither with mode none"
    if (item["encryption"] == "sse-kms") != (item["encryption_key"] is not None):
        yield "encryption_key goes with encryption sse-kms, and only with that"
    if item["anonymous"] and item["anonymous_policy"]:
        yield "anonymous and anonymous_policy exclude each other"
    if item["anonymous_policy"]:
        for problem in minio_policy.problems(item["anonymous_policy"], is_bucket_policy=True):
            yield f"anonymous_policy: {problem}"
    rules = item["lifecycle"] or []
    for rule in rules:
        if [other["id"] for other in rules].count(rule["id"]) > 1:
            yield f"lifecycle {rule['id']}: declared twice"
        limits = {key: rule[key] for key in rule if key.startswith(("expire", "noncurrent")) and rule[key]}
        if not limits:
            yield f"lifecycle {rule['id']}: it expires nothing; give one of expire_days, noncurrent_expire_days …"
        yield from (f"lifecycle {rule['id']}: {key} must be 1 or more" for key, days in limits.items() if days < 0)
        if {"expire_days", "expire_delete_markers"} <= limits.keys():
            yield f"lifecycle {rule['id']}: expire_days and expire_delete_markers need two separate rules"


def _secret_problems(item: Item) -> Iterator[str]:
    if item["secret"] is not None and len(item["secret"]) not in SECRET_LENGTHS:
        yield "its secret must have 8 to 40 characters"


def _service_account_problems(item: Item) -> Iterator[str]:
    yield from _secret_problems(item)
    if item["policy"]:
        yield from (f"policy: {problem}" for problem in minio_policy.problems(item["policy"]))
    if item["expires"] is not None:
        accounts.end_of(item)


VALIDATORS: dict[str, Callable[[Item], Iterable[str]]] = {
    "policy": _policy_problems,
    "bucket": _bucket_problems,
    "user": _secret_problems,
    "group": lambda item: (),
    "service_account": _service_account_problems,
}


def _memberships(document: Document) -> Iterator[str]:
    """Report where a user's groups and a group's members contradict each other."""
    for group in filter(is_present, document["group"]):
        for user in filter(is_present, document["user"]):
            if group["members"] is None or user["groups"] is None:
                continue
            if (user["name"] in group["members"]) != (group["name"] in user["groups"]):
                yield f"user {user['name']} and group {group['name']}: only one of the two declares the membership"


# --- References of a document to objects of the server


def require_references(document: Document, client: Client) -> None:
    """Raise ServiceError for the first policy, user or group that is referenced but will not exist."""
    declared = {kind: {item["name"] for item in items if is_present(item)} for kind, items in document.items()}
    gone = {kind: {item["name"] for item in items if not is_present(item)} for kind, items in document.items()}

    def require(kind: str, names: Iterable[str], who: str) -> None:
        undeclared = set(names) - declared[kind]
        if not undeclared:
            return
        existing = set(client.access_keys) if kind == "user" else client.names(kind)
        for name in sorted(undeclared - (existing - gone[kind])):
            fault = "is declared absent" if name in existing else "does not exist"
            raise ServiceError(f"{who}: {kind} {name!r} {fault}; declare it in {KINDS[kind].plural}")

    for account in filter(is_present, document["service_account"] if gone["user"] else []):
        if (parent := _parent(client, account["name"])) in gone["user"]:
            raise ServiceError(
                f"user {parent}: it cannot be removed while its service account {account['name']} is declared; "
                f"declare the user, or {account['name']} as absent"
            )
    for user in filter(is_present, document["user"]):
        require("policy", user["policies"] or [], label("user", user["name"]))
        require("group", user["groups"] or [], label("user", user["name"]))
        if user["name"] == client.access_key and client.access_key not in client.users:
            raise ServiceError(f"user {user['name']}: it is the root account, which the server's environment declares")
    for group in filter(is_present, document["group"]):
        require("policy", group["policies"] or [], label("group", group["name"]))
        require("user", group["members"] or [], label("group", group["name"]))
    for account in filter(is_present, document["service_account"]):
        require("user", [account["parent"]] if account["parent"] else [], label("service_account", account["name"]))


def _parent(client: Client, service_account: str) -> str | None:
    return next((user for user, keys in client.access_keys.items() if service_account in keys), None)


def unknown_buckets(document: Document, client: Client) -> Iterator[str]:
    """Report policies for buckets that do not exist, which may be intended but are more often a mistake."""
    declared = {item["name"] for item in document["bucket"]}
    for item in filter(is_present, document["policy"]):
        if unknown := minio_policy.buckets(item["policy"]) - declared:
            for name in sorted(unknown - client.buckets):
                yield f"policy {item['name']}: bucket {name!r} does not exist"


# --- From the present state to the changes


@dataclass
class Change(engine.Change):
    kind: str


def surplus(document: Document, client: Client, kept: Iterable[str]) -> Document:
    """Return objects of the server that the document does not list, as items to remove."""
    patterns = list(kept)
    declared = {kind: {item["name"] for item in items} for kind, items in document.items()}

    def is_surplus(kind: str, name: str) -> bool:
        return name not in declared[kind] and not any(fnmatchcase(label(kind, name), pattern) for pattern in patterns)

    # Removing a user removes its service accounts.
    needed = {
        user
        for user, keys in client.access_keys.items()
        if any(key == client.access_key or not is_surplus("service_account", key) for key in keys)
    }
    spared = {"policy": BUILT_IN_POLICIES, "user": needed | {client.access_key}, "service_account": {client.access_key}}
    return {
        kind: [
            blank(kind, name=name, state="absent", is_surplus=True)
            for name in sorted(client.names(kind) - spared.get(kind, set()))
            if is_surplus(kind, name)
        ]
        for kind in document
    }


def undeclared(others: Document) -> list[dict[str, str]]:
    """Return these objects as reports, with the command of MinIO's client that removes each."""
    return [
        stray(f"MinIO {kind.replace('_', ' ')}", item["name"], removal(kind, item["name"]))
        for kind, items in others.items()
        for item in items
    ]


def removal(kind: str, name: str) -> list[str]:
    return ["mc", "rb", f"ALIAS/{name}"] if kind == "bucket" else [*REMOVALS[kind].split(), name]


def open_buckets(document: Document, client: Client) -> list[dict[str, str]]:
    """Return undeclared buckets that allow access without an account, with the command that closes each."""
    others = client.buckets - {item["name"] for item in document["bucket"]}
    return [
        stray("MinIO bucket open to everybody", name, ["mc", "anonymous", "set", "none", f"ALIAS/{name}"])
        for name in sorted(others)
        if buckets.is_open(client, name)
    ]


# --- The whole document


def closed(document: Document) -> Document:
    """Return the document with users and groups that have exactly what it lists; what an entry omits is none.

    Whether an account is enabled stays as its entry says, because a disabled one has no access anyway.
    """
    users, groups = ([item for item in document[kind] if is_present(item)] for kind in ("user", "group"))

    def others(items: list[Item], option: str, name: str) -> list[str]:
        return [item["name"] for item in items if name in (item[option] or [])]

    return document | {
        "user": [_closed(user, groups=others(groups, "members", user["name"])) for user in document["user"]],
        "group": [_closed(group, members=others(users, "groups", group["name"])) for group in document["group"]],
    }


def _closed(item: Item, **membership: list[str]) -> Item:
    return item | {name: item[name] or value for name, value in {"policies": [], **membership}.items()}


def holders(policy: str, client: Client, changes: list[Change]) -> list[str]:
    """Return who still has the policy attached after the changes."""
    planned = {(change.kind, change.item["name"]): change.want for change in changes}
    found = []
    for kind, names in client.attached.items():
        for name, policies in names.items():
            want = planned.get((kind, name), {"policies": policies})
            if want is not None and policy in want.get("policies", policies):
                found.append(f"{kind} {name}")
    return sorted(found)


def is_possible(change: Change, changes: list[Change], client: Client) -> bool:
    """Return False for a surplus policy that is still needed; raise ServiceError for other removals that must fail."""
    name = change.item["name"]
    if change.kind == "policy" and change.want is None and (who := holders(name, client, changes)):
        if change.item.get("is_surplus"):
            return False
        raise ServiceError(f"policy {name}: it is attached to {', '.join(who)}; detach it there first")
    is_to_be_empty = change.kind == "bucket" and change.want is None and not change.item["force"]
    if is_to_be_empty and not buckets.is_empty(client, name):
        raise ServiceError(f"bucket {name}: it is not empty; force: true deletes it with its contents")
    return True


def apply(client: Client, change: Change) -> None:
    functions = KINDS[change.kind]
    with client.one_line(change.name, change.item.get("policy") or change.item.get("anonymous_policy")):
        if change.want is None:
            have = change.have or {}
            if have.keys() != {"credentials_file"}:
                functions.remove(client, change.item, have)
            forget_credentials(change.item)
            return
        change.item = keep_credentials(change.item)
        change.name = label(change.kind, change.item["name"])
        functions.put(client, change.item, change.have, change.want)


# --- Generated keys


def with_credentials(account: Item) -> Item:
    """Return the service account with name and secret from its file, or with placeholders until they are generated."""
    if account["credentials_file"] is None:
        return account
    file = Path(account["credentials_file"])
    try:
        keys = json.loads(file.read_text())
        keys = {"name": keys["access_key"], "secret": keys["secret_key"]}
    except FileNotFoundError:
        if is_present(account) and not file.parent.is_dir():
            raise ServiceError(f"credentials_file {file}: its directory does not exist; create it first") from None
        keys = {"name": account["name"] or GENERATED, "secret": GENERATED}
    except (OSError, ValueError, KeyError, TypeError):
        raise ServiceError(f"credentials_file {file}: it is not readable JSON with access_key and secret_key") from None
    if account["name"] not in (None, keys["name"]):
        raise ServiceError(f"service account {account['name']}: credentials_file {file} belongs to {keys['name']}")
    return account | keys


def keep_credentials(item: Item) -> Item:
    """Write generated keys to the item's file before the account is created, so that a killed run cannot lose them."""
    if item.get("secret") != GENERATED:
        return item
    name = item["name"] if item["name"] != GENERATED else _random(KEY_LENGTH)
    secret, file = _random(SECRET_LENGTH), Path(item["credentials_file"])
    try:
        filesystem.save(file, json.dumps({"access_key": name, "secret_key": secret}).encode())
    except OSError as error:
        raise ServiceError(f"credentials_file {file}: {error.strerror}") from None
    return item | {"name": name, "secret": secret}


def has_credentials(item: Item) -> bool:
    return bool(item.get("credentials_file")) and Path(item["credentials_file"]).exists()


def forget_credentials(item: Item) -> None:
    if has_credentials(item):
        try:
            Path(item["credentials_file"]).unlink()
        except OSError as error:
            raise ServiceError(f"credentials_file {item['credentials_file']}: {error.strerror}") from None


def _random(length: int) -> str:
    return "".join(secrets.choice(KEY_CHARACTERS) for _index in range(length))


# --- The objects of a server


def inspect(client: Client, subjects: Iterable[str]) -> dict[str, Any]:
    """Return the states of all objects of these kinds, by the plurals of the kinds, and of C(server)."""
    # Any value makes a setting count as declared, so that it is read.
    everything: dict[str, Item] = {
        "bucket": dict.fromkeys(buckets.ASPECTS, "read"),
        "user": {"policies": [], "groups": []},
        "group": {"policies": [], "members": []},
        "service_account": {"expires": accounts.NEVER, "description": ""},
    }
    found: dict[str, Any] = {}
    for kind, functions in KINDS.items():
        if functions.plural in subjects:
            items = [blank(kind, name=name, **everything.get(kind, {})) for name in sorted(client.names(kind))]
            found[functions.plural] = functions.found(client, items)
    if "server" in subjects:
        info = json.loads(client.admin.info())
        found["server"] = {
            "version": info["servers"][0]["version"],
            "deployment_id": info["deploymentID"],
            "pools": len(info["backend"]["totalSets"]),
            "drives": client.drives(),
            "uptime_seconds": min(server.get("uptime", 0) for server in info["servers"]),
        }
    return found


# --- The work of a module


class Access(engine.Document[Change]):
    """A document of one object, or with C(kept), patterns of additional objects, of the whole server."""

    client: Client | None = None  # None before the first query, or if the server cannot be queried

    def __init__(
        self, connection: Item, document: Document, prune: bool = False, kept: Iterable[str] | None = None
    ) -> None:
        self.connection, self.prune, self.kept = connection, prune, kept
        self.declared = {kind: list(document.get(kind, [])) for kind in KINDS}
        self.declared["service_account"] = list(map(with_credentials, self.declared["service_account"]))
        validate(self.declared)
        if kept is not None:
            self.declared = closed(self.declared)

    def find(self) -> engine.Found:
        client = Client(self.connection)
        with client.one_line("reading"):
            others = {} if self.kept is None else surplus(self.declared, client, self.kept)
            doors = [] if self.kept is None else open_buckets(self.declared, client)
            if self.prune:
                full = [item for item in others["bucket"] if not buckets.is_empty(client, item["name"])]
                self.declared = {
                    kind: items + [item for item in others[kind] if item not in full]
                    for kind, items in self.declared.items()
                }
                others = {"bucket": full}
            require_references(self.declared, client)
            self.warnings = list(unknown_buckets(self.declared, client))
            states = {
                label(kind, name): state
                for kind, items in self.declared.items()
                if items
                for name, state in KINDS[kind].found(client, items).items()
            }
        self.client = client
        return engine.Found(states, undeclared(others) + doors)

    def compare(self, found: Mapping[str, State]) -> list[Change]:
        changes = [change for change in self.entries(found) if change.have != change.want]
        if self.client is None:
            return changes
        with self.client.one_line("reading"):
            return [change for change in changes if is_possible(change, changes, self.client)]

    def entries(self, found: Mapping[str, State]) -> Iterator[Change]:
        for kind, items in self.declared.items():
            for item in items:
                name = label(kind, item["name"])
                have = found.get(name)
                if not is_present(item):
                    if have is None and has_credentials(item):
                        have = {"credentials_file": item["credentials_file"]}
                    yield Change(name, have, None, item, kind)
                elif kind == "service_account" and have is None and accounts.has_ended(item):
                    self.warnings = [*self.warnings, f"{name}: it has expired; set a later date, or declare it absent"]
                else:
                    yield Change(name, have, KINDS[kind].wanted(item, have), item, kind)

    def apply(self, changes: list[Change]) -> None:
        client = self.client or Client(self.connection)
        for change in changes:
            apply(client, change)


def run_module(kind: str) -> None:
    """Run the module for one object of a kind."""
    options = KINDS[kind].options
    module = AnsibleModule(
        argument_spec=options | CONNECTION_OPTIONS, supports_check_mode=True, **RESTRICTIONS.get(kind, {})
    )
    exit_with(module, {kind: [{name: module.params[name] for name in options}]})


def exit_with(module: AnsibleModule, document: Document, **settings: Any) -> None:
    hold(module)  # keys of service accounts may be stored in a file on the host
    connection = {name: module.params[name] for name in CONNECTION_OPTIONS}
    engine.exit_with(
        module,
        lambda _options, check_mode: engine.converge(Access(connection, document, **settings), check_mode),
    )
