# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Users, groups and service accounts: their present and desired state, and how to set it."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import (
    ANOTHER,
    AS_DECLARED,
    Item,
    ServiceError,
    State,
)
from ansible_collections.mlfleet.stack.plugins.module_utils.minio.client import Client, explain, with_state
from ansible_collections.mlfleet.stack.plugins.module_utils.minio.policy import canonical

with contextlib.suppress(ImportError):
    from minio.error import MinioAdminException

NEVER = "never"
AS_PARENT = "that of its parent"
# The server's limits for the expiry of service accounts, from its source (cmd/iam.go).
EXPIRY_BOUNDS = (timedelta(minutes=15), timedelta(days=365))
EPOCH = "1970-01-01T00:00:00Z"  # tells the server that an account does not expire
ATTACHMENT_OPTIONS: dict[str, Any] = {
    "policies": {"type": "list", "elements": "str"},
    "policies_mode": {"type": "str", "choices": ["exact", "append"], "default": "exact"},
    "enabled": {"type": "bool"},
}
UPDATE_SECRET: dict[str, Any] = {
    "type": "str",
    "choices": ["when_wrong", "always", "on_create"],
    "default": "when_wrong",
    "no_log": False,
}


# --- Users

USER_OPTIONS = with_state(
    {
        "secret": {"type": "str", "no_log": True},
        "update_secret": UPDATE_SECRET,
        **ATTACHMENT_OPTIONS,
        "groups": {"type": "list", "elements": "str"},
    }
)


def _secret_state(client: Client, item: Item, can_sign_in: bool) -> dict[str, str]:
    """Return the state of an account's secret, which is unknown for one that cannot sign in until it is enabled."""
    if item["secret"] is None or item["update_secret"] == "on_create":
        return {}
    if item["update_secret"] == "always":
        return {"secret": "not compared"}
    is_known = not can_sign_in or client.knows_secret(item["name"], item["secret"])
    return {"secret": AS_DECLARED if is_known else ANOTHER}


def _wanted_secret(item: Item, have: State | None) -> dict[str, str]:
    return {"secret": AS_DECLARED} if have is None or "secret" in have else {}


def _status(item: Item, have: State | None) -> str:
    """Return the desired status; a disabled account stays disabled unless declared otherwise."""
    if item["enabled"] is None:
        return have["status"] if have else "enabled"
    return "enabled" if item["enabled"] else "disabled"


def _attachments(item: Item, have: State | None) -> dict[str, list[str]]:
    if item["policies"] is None:
        return {}
    kept = have["policies"] if have and item["policies_mode"] == "append" else []
    return {"policies": sorted({*item["policies"], *kept})}


def found_users(client: Client, items: list[Item]) -> dict[str, State]:
    found = {}
    for item in items:
        user = client.users.get(item["name"])
        if user is None:
            continue
        status = user.get("status", "enabled")
        state: State = _secret_state(client, item, can_sign_in=status == "enabled") | {"status": status}
        if item["policies"] is not None:
            state["policies"] = sorted(filter(None, (user.get("policyName") or "").split(",")))
        if item["groups"] is not None:
            state["groups"] = sorted(user.get("memberOf") or [])
        found[item["name"]] = state
    return found


def wanted_user(item: Item, have: State | None) -> State:
    if have is None and item["secret"] is None:
        raise ServiceError(f"user {item['name']}: it does not exist; give its secret to create it")
    state = _wanted_secret(item, have) | {"status": _status(item, have)} | _attachments(item, have)
    if "policies" in state and state["status"] == "disabled":
        # MinIO does not change the policies of a disabled user.
        state["policies"] = have["policies"] if have else []
    if item["groups"] is not None:
        state["groups"] = sorted(set(item["groups"]))
    return state


def put_user(client: Client, item: Item, have: State | None, want: State) -> None:
    name, is_enabled = item["name"], want["status"] == "enabled"
    have = have or {"secret": "none", "status": "none", "policies": [], "groups": []}
    is_to_enable = is_enabled and have["status"] != "enabled"
    if want.get("secret") and (is_to_enable or have["secret"] != AS_DECLARED):
        client.put_user(name, item["secret"], is_enabled)
    elif is_to_enable:
        client.admin.user_enable(name)
    elif want["status"] != have["status"]:
        client.admin.user_disable(name)
    if "policies" in want and want["policies"] != have["policies"]:
        client.admin.policy_set(",".join(want["policies"]), user=name)
    for group in sorted(set(want.get("groups", [])) - set(have.get("groups", []))):
        client.admin.group_add(group, [name])
    for group in sorted(set(have.get("groups", [])) - set(want.get("groups", []))):
        client.admin.group_remove(group, [name])


def remove_user(client: Client, item: Item, have: State) -> None:
    client.admin.user_remove(item["name"])


# --- Groups

GROUP_OPTIONS = with_state({"members": {"type": "list", "elements": "str"}, **ATTACHMENT_OPTIONS})


def found_groups(client: Client, items: list[Item]) -> dict[str, State]:
    found = {}
    for item in items:
        if item["name"] not in client.groups:
            continue
        info = json.loads(client.admin.group_info(item["name"]))
        state: State = {"status": info.get("status", "enabled")}
        if item["policies"] is not None:
            # The server's answer about a disabled group omits its policies.
            state["policies"] = sorted(client.attached["group"].get(item["name"], []))
        if item["members"] is not None or item["state"] == "absent":
            state["members"] = sorted(info.get("members") or [])
        found[item["name"]] = state
    return found


def wanted_group(item: Item, have: State | None) -> State:
    state = {"status": _status(item, have)} | _attachments(item, have)
    if item["members"] is not None:
        state["members"] = sorted(set(item["members"]))
    return state


def put_group(client: Client, item: Item, have: State | None, want: State) -> None:
    name = item["name"]
    had = have or {"status": "enabled", "policies": [], "members": []}
    members, former = set(want.get("members", [])), set(had.get("members", []))
    if have is None or members - former:
        client.admin.group_add(name, sorted(members - former))
    if former - members and "members" in want:
        client.admin.group_remove(name, sorted(former - members))
    if "policies" in want and want["policies"] != had["policies"]:
        client.admin.policy_set(",".join(want["policies"]), group=name)
    if want["status"] != had["status"]:
        (client.admin.group_enable if want["status"] == "enabled" else client.admin.group_disable)(name)


def remove_group(client: Client, item: Item, have: State) -> None:
    if have["members"]:
        client.admin.group_remove(item["name"], have["members"])
    client.admin.group_remove(item["name"])


# --- Service accounts

SERVICE_ACCOUNT_OPTIONS = with_state(
    {
        "secret": {"type": "str", "no_log": True},
        "update_secret": UPDATE_SECRET,
        "credentials_file": {"type": "path"},
        "parent": {"type": "str"},
        "policy": {"type": "dict"},
        "expires": {"type": "str"},
        "description": {"type": "str"},
        "enabled": {"type": "bool"},
    }
) | {"name": {"type": "str"}}


def end_of(item: Item) -> str:
    """Return the expiry of the account as the server writes it: UTC, to the second."""
    if item["expires"] == NEVER:
        return NEVER
    try:
        end = datetime.fromisoformat(item["expires"])
    except ValueError:
        raise ServiceError(
            f"service account {item['name']}: expires {item['expires']!r} must be {NEVER} or like 2027-01-31T12:00:00Z"
        ) from None
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    return end.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def has_ended(item: Item) -> bool:
    """Return whether the declared expiry has passed: the server forgets such accounts, and accepts no past date."""
    end = NEVER if item["expires"] is None else end_of(item)
    return end != NEVER and datetime.fromisoformat(end) < datetime.now(UTC)


def _require_possible_end(item: Item, end: str) -> None:
    if end != NEVER:
        shortest, longest = EXPIRY_BOUNDS
        left = datetime.fromisoformat(end) - datetime.now(UTC)
        if not shortest <= left <= longest:
            raise ServiceError(
                f"service account {item['name']}: expires {end} must be between 15 minutes and 365 days from now"
            )


def found_service_accounts(client: Client, items: list[Item]) -> dict[str, State]:
    found = {}
    for item in items:
        name = item["name"]
        with client.one_line(f"reading service account {name}"):
            try:
                info = json.loads(client.admin.get_service_account(name))
            except MinioAdminException as error:
                if explain(error)[0] != "XMinioInvalidIAMCredentials":
                    raise
                continue
            found[name] = service_account_state(client, info, item)
    return found


def service_account_state(client: Client, info: dict[str, Any], item: Item) -> State:
    """Return the account's state on the server, always with its policy, which an update must repeat."""
    status = "enabled" if info["accountStatus"] == "on" else "disabled"
    policy = AS_PARENT if info["impliedPolicy"] else canonical(json.loads(info["policy"]))
    end = info.get("expiration") or NEVER
    has_ended = end != NEVER and datetime.fromisoformat(end) < datetime.now(UTC)
    state: State = _secret_state(client, item, can_sign_in=status == "enabled" and not has_ended)
    state |= {"parent": info["parentUser"], "status": status, "policy": policy}
    if item["expires"] is not None:
        state["expires"] = end
    if item["description"] is not None:
        state["description"] = info.get("description", "")
    return state


def wanted_service_account(item: Item, have: State | None) -> State:
    name = item["name"]
    if have is None and (item["secret"] is None or item["parent"] is None):
        raise ServiceError(
            f"service account {name}: it does not exist; to create it, give its parent and a secret or credentials_file"
        )
    if have and item["parent"] not in (None, have["parent"]):
        raise ServiceError(
            f"service account {name}: it belongs to {have['parent']} and cannot change to {item['parent']}; "
            "remove it first, or choose another name"
        )
    state: State = _wanted_secret(item, have)
    state |= {"parent": item["parent"] or (have or {})["parent"], "status": _status(item, have)}
    if item["policy"] is None:
        state["policy"] = have["policy"] if have else AS_PARENT
    else:
        state["policy"] = canonical(item["policy"]) if item["policy"] else AS_PARENT
    if item["expires"] is not None:
        state["expires"] = end_of(item)
        if state["expires"] != (have or {"expires": NEVER})["expires"]:
            _require_possible_end(item, state["expires"])
    if item["description"] is not None:
        state["description"] = item["description"]
        if have and have["description"] and not item["description"]:
            raise ServiceError(f"service account {name}: MinIO cannot remove a description; give another one")
    return state


def put_service_account(client: Client, item: Item, have: State | None, want: State) -> None:
    policy = None if want["policy"] == AS_PARENT else want["policy"]
    end = EPOCH if want.get("expires") == NEVER else want.get("expires")
    if have is None:
        client.add_service_account(
            accessKey=item["name"],
            secretKey=item["secret"],
            targetUser=want["parent"],
            policy=policy,
            description=want.get("description"),
            expiration=None if end == EPOCH else end,
        )
        if want["status"] == "enabled":
            return
    is_to_get_secret = have is not None and want.get("secret") != have.get("secret")
    is_to_enable = have is not None and want["status"] == "enabled" and have["status"] != "enabled"
    # Without its policy, the account would get all of its parent's rights.
    client.admin.update_service_account(
        access_key=item["name"],
        secret_key=item["secret"] if is_to_get_secret or (is_to_enable and want.get("secret")) else None,
        description=want.get("description"),
        policy=policy,
        expiration=end,
        status=want["status"],
    )


def remove_service_account(client: Client, item: Item, have: State) -> None:
    client.admin.delete_service_account(item["name"])
