# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Buckets: their present and desired state, and how to set it, one setting at a time."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import Item, ServiceError, State
from ansible_collections.mlfleet.stack.plugins.module_utils.minio.client import Client, is_present, with_state
from ansible_collections.mlfleet.stack.plugins.module_utils.minio.policy import ANONYMOUS_ACTIONS, anonymous, canonical

with contextlib.suppress(ImportError):
    from minio import lifecycleconfig
    from minio.commonconfig import AndOperator, Filter, Tag, Tags
    from minio.deleteobjects import DeleteObject
    from minio.error import S3Error
    from minio.objectlockconfig import DAYS, YEARS, ObjectLockConfig
    from minio.sseconfig import Rule, SSEConfig
    from minio.versioningconfig import VersioningConfig

UNITS = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("KMGTP", 1)
    for suffix, base in (("B", 1000), ("iB", 1024))
}

LIFECYCLE_OPTIONS: dict[str, Any] = {
    "id": {"type": "str", "required": True},
    "enabled": {"type": "bool", "default": True},
    "prefix": {"type": "str", "default": ""},
    "tags": {"type": "dict", "default": {}},
    "expire_days": {"type": "int"},
    "expire_delete_markers": {"type": "bool", "default": False},
    "noncurrent_expire_days": {"type": "int"},
    "noncurrent_keep_versions": {"type": "int"},
}
RETENTION_OPTIONS: dict[str, Any] = {
    "mode": {"type": "str", "choices": ["none", "governance", "compliance"], "required": True},
    "days": {"type": "int"},
    "years": {"type": "int"},
}
BUCKET_OPTIONS = with_state(
    {
        "versioning": {"type": "bool"},
        "object_lock": {"type": "bool"},
        "retention": {"type": "dict", "options": RETENTION_OPTIONS},
        "quota": {"type": "str"},
        "lifecycle": {"type": "list", "elements": "dict", "options": LIFECYCLE_OPTIONS},
        "encryption": {"type": "str", "choices": ["none", "sse-s3", "sse-kms"]},
        "encryption_key": {"type": "str", "no_log": False},
        "tags": {"type": "dict"},
        "anonymous": {"type": "str", "choices": ["none", "download", "upload", "public"]},
        "anonymous_policy": {"type": "dict"},
        "force": {"type": "bool", "default": False},
    }
)


def bytes_of(quota: str) -> int:
    """Return the number of bytes of a quota such as V(10GiB) or V(500MB); V(0) is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", quota.strip())
    if not match or match[2] not in UNITS:
        raise ServiceError(f"quota {quota!r}: it must be a number of bytes or one with a unit, {', '.join(UNITS)[2:]}")
    return int(float(match[1]) * UNITS[match[2]])


def _read_versioning(client: Client, bucket: str) -> str:
    return (client.s3.get_bucket_versioning(bucket_name=bucket).status or "Off").lower()


def _want_versioning(item: Item, have: str | None) -> str:
    if item["versioning"]:
        return "enabled"
    # Once a bucket has kept versions, suspending is the most that is possible.
    return "suspended" if have in ("enabled", "suspended") else "off"


def _write_versioning(client: Client, bucket: str, want: str) -> None:
    if want != "off":
        client.s3.set_bucket_versioning(bucket_name=bucket, config=VersioningConfig(want.title()))


def _read_object_lock(client: Client, bucket: str) -> bool:
    return _read_lock_config(client, bucket) is not None


def _read_lock_config(client: Client, bucket: str) -> Any:
    try:
        return client.s3.get_object_lock_config(bucket_name=bucket)
    except S3Error as error:
        if error.code != "ObjectLockConfigurationNotFoundError":
            raise
        return None


def _want_object_lock(item: Item, have: bool | None) -> bool:
    if have is not None and have != item["object_lock"]:
        told = "has none, and it can be enabled" if item["object_lock"] else "has one, and it can be omitted"
        raise ServiceError(f"bucket {item['name']}: object lock: it {told} only when the bucket is created")
    return item["object_lock"]


def _read_retention(client: Client, bucket: str) -> State:
    config = _read_lock_config(client, bucket)
    if config is None:
        return {"mode": "none, without object lock"}
    if config.mode is None:
        return {"mode": "none"}
    return {"mode": config.mode.lower(), config.duration_unit.lower(): config.duration}


def _want_retention(item: Item, have: State | None) -> State:
    can_lock = item["object_lock"] if have is None else have["mode"] != "none, without object lock"
    if not can_lock:
        if item["retention"]["mode"] != "none":
            raise ServiceError(
                f"bucket {item['name']}: retention requires object_lock, which is set only when the bucket is created"
            )
        return have or {"mode": "none"}
    return {key: value for key, value in item["retention"].items() if value is not None}


def _write_retention(client: Client, bucket: str, want: State) -> None:
    if want["mode"] == "none":
        client.s3.delete_object_lock_config(bucket_name=bucket)
        return
    unit, duration = (DAYS, want["days"]) if "days" in want else (YEARS, want["years"])
    config = ObjectLockConfig(want["mode"].upper(), duration, unit)
    client.s3.set_object_lock_config(bucket_name=bucket, config=config)


def _read_quota(client: Client, bucket: str) -> int:
    return json.loads(client.admin.bucket_quota_get(bucket)).get("quota") or 0


def _want_quota(item: Item, have: int | None) -> int:
    return bytes_of(item["quota"])


def _write_quota(client: Client, bucket: str, want: int) -> None:
    client.admin.bucket_quota_set(bucket, want)


def _read_lifecycle(client: Client, bucket: str) -> list[State]:
    config = client.s3.get_bucket_lifecycle(bucket_name=bucket)
    return sorted(map(_rule_state, config.rules if config else []), key=lambda rule: rule["id"])


def _rule_state(rule: Any) -> State:
    selected, combined = rule.rule_filter, rule.rule_filter and rule.rule_filter.and_operator
    tags = dict(combined.tags or {}) if combined else {}
    if selected and selected.tag:
        tags = {selected.tag.key: selected.tag.value}
    state = {
        "id": rule.rule_id or "",
        "enabled": rule.status == "Enabled",
        "prefix": (combined.prefix if combined else selected and selected.prefix) or "",
        "tags": tags,
        "expire_days": rule.expiration and rule.expiration.days,
        "expire_date": rule.expiration and rule.expiration.date and str(rule.expiration.date),
        "expire_delete_markers": bool(rule.expiration and rule.expiration.expired_object_delete_marker),
        "noncurrent_expire_days": rule.noncurrent_version_expiration
        and rule.noncurrent_version_expiration.noncurrent_days,
        "noncurrent_keep_versions": rule.noncurrent_version_expiration
        and rule.noncurrent_version_expiration.newer_noncurrent_versions,
        # Cannot be declared, but shows if someone has set one by hand.
        "transition": bool(rule.transition or rule.noncurrent_version_transition),
    }
    return {key: value for key, value in state.items() if value or key in ("id", "enabled")}


def _want_lifecycle(item: Item, have: list[State] | None) -> list[State]:
    return sorted(
        (
            {key: value for key, value in rule.items() if value or key in ("id", "enabled")}
            | ({"tags": _as_texts(rule["tags"])} if rule.get("tags") else {})
            for rule in item["lifecycle"]
        ),
        key=lambda rule: rule["id"],
    )


def _write_lifecycle(client: Client, bucket: str, want: list[State]) -> None:
    if want:
        config = lifecycleconfig.LifecycleConfig(list(map(_rule, want)))
        client.s3.set_bucket_lifecycle(bucket_name=bucket, config=config)
    else:
        client.s3.delete_bucket_lifecycle(bucket_name=bucket)


def _rule(state: State) -> Any:
    prefix, tags = state.get("prefix", ""), state.get("tags") or {}
    expire, markers = state.get("expire_days"), state.get("expire_delete_markers") or None
    old, keep = state.get("noncurrent_expire_days"), state.get("noncurrent_keep_versions")
    if not tags:
        selected = Filter(prefix=prefix)
    elif len(tags) == 1 and not prefix:
        selected = Filter(tag=Tag(*next(iter(tags.items()))))
    else:
        selected = Filter(and_operator=AndOperator(prefix=prefix, tags=_tags(tags)))
    return lifecycleconfig.Rule(
        "Enabled" if state["enabled"] else "Disabled",
        rule_filter=selected,
        rule_id=state["id"],
        expiration=lifecycleconfig.Expiration(days=expire, expired_object_delete_marker=markers)
        if expire or markers
        else None,
        noncurrent_version_expiration=lifecycleconfig.NoncurrentVersionExpiration(
            noncurrent_days=old, newer_noncurrent_versions=keep
        )
        if old or keep
        else None,
    )


def _read_encryption(client: Client, bucket: str) -> str:
    config = client.s3.get_bucket_encryption(bucket_name=bucket)
    if config is None:
        return "none"
    return f"sse-kms {config.rule.kms_master_key_id}" if config.rule.kms_master_key_id else "sse-s3"


def _want_encryption(item: Item, have: str | None) -> str:
    return f"sse-kms {item['encryption_key']}" if item["encryption"] == "sse-kms" else item["encryption"]


def _write_encryption(client: Client, bucket: str, want: str) -> None:
    if want == "none":
        client.s3.delete_bucket_encryption(bucket_name=bucket)
        return
    method, _blank, key = want.partition(" ")
    rule = Rule.new_sse_kms_rule(key) if method == "sse-kms" else Rule.new_sse_s3_rule()
    client.s3.set_bucket_encryption(bucket_name=bucket, config=SSEConfig(rule))


def _as_texts(values: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}


def _tags(values: dict[str, Any]) -> Any:
    tags = Tags.new_bucket_tags()
    tags.update(_as_texts(values))
    return tags


def _read_tags(client: Client, bucket: str) -> dict[str, str]:
    return dict(client.s3.get_bucket_tags(bucket_name=bucket) or {})


def _want_tags(item: Item, have: dict[str, str] | None) -> dict[str, str]:
    return _as_texts(item["tags"])


def _write_tags(client: Client, bucket: str, want: dict[str, str]) -> None:
    if want:
        client.s3.set_bucket_tags(bucket_name=bucket, tags=_tags(want))
    else:
        client.s3.delete_bucket_tags(bucket_name=bucket)


def _read_anonymous(client: Client, bucket: str) -> str | State:
    try:
        return _name_of_anonymous(bucket, json.loads(client.s3.get_bucket_policy(bucket_name=bucket)))
    except S3Error as error:
        if error.code != "NoSuchBucketPolicy":
            raise
        return "none"


def _name_of_anonymous(bucket: str, policy: dict[str, Any]) -> str | State:
    meaning = canonical(policy)
    names = [name for name in ANONYMOUS_ACTIONS if canonical(anonymous(bucket, name)) == meaning]
    return names[0] if names else meaning


def _want_anonymous(item: Item, have: str | State | None) -> str | State:
    if item["anonymous_policy"]:
        return _name_of_anonymous(item["name"], item["anonymous_policy"])
    return item["anonymous"] or "none"


def _write_anonymous(client: Client, bucket: str, want: str | State) -> None:
    if want == "none":
        client.s3.delete_bucket_policy(bucket_name=bucket)
        return
    policy = anonymous(bucket, want) if isinstance(want, str) else _with_principals(want)
    client.s3.set_bucket_policy(bucket_name=bucket, policy=json.dumps(policy))


def _with_principals(policy: State) -> State:
    """Return a canonical policy in the form that the server accepts."""
    return policy | {"Statement": [entry | {"Principal": {"AWS": entry["Principal"]}} for entry in policy["Statement"]]}


class Aspect(NamedTuple):
    """A setting of a bucket; if it is omitted, the bucket is created with the server's default."""

    read: Callable[[Client, str], Any]
    want: Callable[[Item, Any], Any]
    write: Callable[[Client, str, Any], None] | None
    by_itself: Any


# In the order in which they can be set. Object lock is set when the bucket is created.
ASPECTS = {
    "object_lock": Aspect(_read_object_lock, _want_object_lock, None, False),
    "versioning": Aspect(_read_versioning, _want_versioning, _write_versioning, "off"),
    "retention": Aspect(_read_retention, _want_retention, _write_retention, {"mode": "none"}),
    "quota": Aspect(_read_quota, _want_quota, _write_quota, 0),
    "lifecycle": Aspect(_read_lifecycle, _want_lifecycle, _write_lifecycle, []),
    "encryption": Aspect(_read_encryption, _want_encryption, _write_encryption, "none"),
    "tags": Aspect(_read_tags, _want_tags, _write_tags, {}),
    "anonymous": Aspect(_read_anonymous, _want_anonymous, _write_anonymous, "none"),
}


def _declared_aspects(item: Item) -> dict[str, Aspect]:
    """Return the declared settings; anonymous access always counts as declared."""
    return {
        name: aspect
        for name, aspect in ASPECTS.items()
        if item.get(name) is not None or (name == "anonymous" and is_present(item))
    }


def is_open(client: Client, bucket: str) -> bool:
    return _read_anonymous(client, bucket) != "none"


def is_empty(client: Client, bucket: str) -> bool:
    return next(iter(client.s3.list_objects(bucket_name=bucket, recursive=True, include_version=True)), None) is None


def found_buckets(client: Client, items: list[Item]) -> dict[str, State]:
    found = {}
    for item in items:
        name = item["name"]
        if name in client.buckets:
            with client.one_line(f"reading bucket {name}"):
                found[name] = {key: aspect.read(client, name) for key, aspect in _declared_aspects(item).items()}
                if item["versioning"] is False and is_present(item) and _read_object_lock(client, name):
                    raise ServiceError(f"bucket {name}: with object lock it keeps versions; leave versioning out")
    return found


def wanted_bucket(item: Item, have: State | None) -> State:
    return {name: aspect.want(item, have and have[name]) for name, aspect in _declared_aspects(item).items()}


def put_bucket(client: Client, item: Item, have: State | None, want: State) -> None:
    name = item["name"]
    if have is None:
        client.s3.make_bucket(bucket_name=name, object_lock=bool(item["object_lock"]))
        have = {aspect: ASPECTS[aspect].by_itself for aspect in want}
    for aspect, value in want.items():
        write = ASPECTS[aspect].write
        if value != have[aspect] and write:
            write(client, name, value)


def remove_bucket(client: Client, item: Item, have: State) -> None:
    name = item["name"]
    if item["force"]:
        found = client.s3.list_objects(bucket_name=name, recursive=True, include_version=True)
        objects = (DeleteObject(entry.object_name, entry.version_id) for entry in found)
        for error in client.s3.remove_objects(bucket_name=name, delete_object_list=objects):
            raise ServiceError(f"bucket {name}: object {error.name}: {error.message}")
    client.s3.remove_bucket(bucket_name=name)
