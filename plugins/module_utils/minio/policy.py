# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Meaning, form and errors of access policies: plain data, without a server."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

VERSION = "2012-10-17"
POLICY_KEYS = {"Version", "Id", "ID", "Statement"}
STATEMENT_KEYS = {"Sid", "Effect", "Action", "Resource", "NotResource", "Condition"}
LISTS = ("Action", "Resource", "NotResource")
ADDRESS_OPERATORS = ("IpAddress", "NotIpAddress")
DATE_OPERATOR = re.compile(r"(\w+:)?Date\w+")
ACTION = re.compile(r"\*|(s3|admin|kms|sts):[A-Za-z*?]+")
S3_ARN = "arn:aws:s3:::"
RESOURCE = re.compile(rf"\*|{S3_ARN}[^/].*|arn:minio:kms:::[^/\\.]+", re.DOTALL)
# The rights of `mc anonymous set`, as actions on the bucket and on its objects.
ANONYMOUS_ACTIONS = {
    "none": ([], []),
    "download": (["s3:GetBucketLocation", "s3:ListBucket"], ["s3:GetObject"]),
    "upload": (
        ["s3:GetBucketLocation", "s3:ListBucketMultipartUploads"],
        ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:ListMultipartUploadParts", "s3:PutObject"],
    ),
    "public": (
        ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"],
        [
            "s3:AbortMultipartUpload",
            "s3:DeleteObject",
            "s3:GetObject",
            "s3:ListMultipartUploadParts",
            "s3:PutObject",
        ],
    ),
}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(policy: Mapping[str, Any]) -> list[Any]:
    return _as_list(policy.get("Statement") or [])


def _texts(values: Any) -> list[str]:
    return sorted({str(value).lower() if isinstance(value, bool) else str(value) for value in _as_list(values)})


def _condition_values(operator: str, values: Any) -> list[str]:
    texts = _texts(values)
    with contextlib.suppress(ValueError):  # the server reports an invalid address or date
        if operator.rpartition(":")[2] in ADDRESS_OPERATORS:
            return sorted({str(ipaddress.ip_network(text, strict=False)) for text in texts})
        if DATE_OPERATOR.fullmatch(operator):
            return sorted({datetime.fromisoformat(text).isoformat().replace("+00:00", "Z") for text in texts})
    return texts


def canonical(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return the policy in a normal form, since order, repetition and scalar or list make no difference.

    Of statements that differ only in their Sid, MinIO keeps the first.
    """
    entries: list[dict[str, Any]] = []
    meanings: list[dict[str, Any]] = []
    for statement in statements(policy):
        entry = {key: value for key, value in statement.items() if value}
        entry.update({key: _texts(entry[key]) for key in LISTS if key in entry})
        # MinIO returns the resource * as **.
        entry.update({key: ["*"] for key in LISTS[1:] if entry.get(key) == ["**"]})
        if "Principal" in entry:
            principal = entry["Principal"]
            entry["Principal"] = _texts(principal.get("AWS", []) if isinstance(principal, Mapping) else principal)
        if "Condition" in entry:
            entry["Condition"] = {
                operator: {key: _condition_values(operator, values) for key, values in sorted(keys.items())}
                for operator, keys in sorted(entry["Condition"].items())
            }
        meaning = {key: value for key, value in entry.items() if key != "Sid"}
        if meaning not in meanings:
            meanings.append(meaning)
            entries.append(entry)
    entries.sort(key=lambda entry: json.dumps(entry, sort_keys=True))
    return {"Version": policy.get("Version") or VERSION, "Statement": entries}


def anonymous(bucket: str, rights: str) -> dict[str, Any]:
    """Return the bucket policy that gives everyone these rights: V(none), V(download), V(upload) or V(public)."""
    resources = (f"{S3_ARN}{bucket}", f"{S3_ARN}{bucket}/*")
    return {
        "Version": VERSION,
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": actions, "Resource": [resource]}
            for actions, resource in zip(ANONYMOUS_ACTIONS[rights], resources, strict=True)
            if actions
        ],
    }


def buckets(policy: Mapping[str, Any]) -> set[str]:
    """Return the buckets that the policy names, except patterns."""
    resources = [text for entry in statements(policy) for key in LISTS[1:] for text in _as_list(entry.get(key) or [])]
    names = {text.removeprefix(S3_ARN).partition("/")[0] for text in resources if text.startswith(S3_ARN)}
    return {name for name in names if not re.search(r"[*?$]", name)}


def problems(policy: Any, is_bucket_policy: bool = False) -> Iterator[str]:
    """Yield what the server would refuse or misread, each with its path; only the server knows names of actions."""
    if not isinstance(policy, Mapping):
        yield "it must be a dictionary with Version and Statement"
        return
    yield from (f"{key}: no such key" for key in sorted(set(policy) - POLICY_KEYS))
    if policy.get("Version", VERSION) != VERSION:
        yield f"Version: {policy['Version']!r} must be {VERSION}, in quotes"
    if not statements(policy):
        yield "Statement: at least one is needed"
    known = STATEMENT_KEYS | {"Principal"} if is_bucket_policy else STATEMENT_KEYS
    for index, statement in enumerate(statements(policy)):
        path = f"Statement[{index}]"
        if not isinstance(statement, Mapping):
            yield f"{path}: it must be a dictionary"
            continue
        if "NotAction" in statement:
            # The server accepts one, but cannot list any policy from then on.
            yield f"{path}.NotAction: MinIO cannot read it back; list the actions instead"
        yield from (f"{path}.{key}: no such key" for key in sorted(set(statement) - known - {"NotAction"}))
        if statement.get("Effect") not in ("Allow", "Deny"):
            yield f"{path}.Effect: {statement.get('Effect')!r} must be Allow or Deny"
        if is_bucket_policy and not statement.get("Principal"):
            yield f"{path}.Principal: it is missing"
        yield from _list_problems(statement, "Action", path, ACTION, "s3:GetObject or admin:*")
        yield from _list_problems(statement, "Resource", path, RESOURCE, f"{S3_ARN}BUCKET or {S3_ARN}BUCKET/KEY")
        yield from _list_problems(statement, "NotResource", path, RESOURCE, f"{S3_ARN}BUCKET or {S3_ARN}BUCKET/KEY")
        actions = _as_list(statement.get("Action") or [])
        if not actions and "NotAction" not in statement:
            yield f"{path}.Action: at least one is needed"
        is_for_objects = any(str(action).startswith(("s3:", "*")) for action in actions)
        if is_for_objects and not (statement.get("Resource") or statement.get("NotResource")):
            yield f"{path}.Resource: at least one is needed"
        condition = statement.get("Condition") or {}
        if not isinstance(condition, Mapping) or not all(isinstance(keys, Mapping) for keys in condition.values()):
            yield f"{path}.Condition: it must have the form {{operator: {{key: values}}}}"


def _list_problems(
    statement: Mapping[str, Any], key: str, path: str, pattern: re.Pattern[str], example: str
) -> Iterator[str]:
    is_list = isinstance(statement.get(key), list)
    for index, text in enumerate(_as_list(statement.get(key) or [])):
        if not isinstance(text, str) or not pattern.fullmatch(text):
            yield f"{path}.{key}{f'[{index}]' if is_list else ''}: {text!r} must be like {example}"


def path_of(value: str, policy: Any, path: str = "") -> str | None:
    """Return the path of a value or key in the policy that the server complains about."""
    if isinstance(policy, Mapping):
        for key, item in policy.items():
            here = f"{path}.{key}" if path else str(key)
            if key == value:
                return here
            if (found := path_of(value, item, here)) is not None:
                return found
    elif isinstance(policy, list):
        for index, item in enumerate(policy):
            if (found := path_of(value, item, f"{path}[{index}]")) is not None:
                return found
    elif str(policy) == value:
        return path
    return None
