# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""MinIO's policies and drives, from what the inventory says of folders and hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ACTIONS = {
    "get": ["s3:GetObject"],
    "put": ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
    "delete": ["s3:DeleteObject"],
}


def as_policy(item: Mapping[str, Any]) -> dict[str, Any]:
    """A named policy that allows C(rights), of list, get, put and delete, in C(folders) such as V(bucket/prefix/)."""
    wanted, paths = list(item["rights"]), list(item["folders"])
    statements: list[dict[str, Any]] = []
    if actions := [action for right in wanted if right != "list" for action in ACTIONS[right]]:
        objects = [f"arn:aws:s3:::{path}*" for path in paths]
        statements.append({"Effect": "Allow", "Action": actions, "Resource": objects})
    for bucket, _slash, prefix in (path.partition("/") for path in paths if "list" in wanted):
        statement = {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [f"arn:aws:s3:::{bucket}"]}
        if prefix:
            statement["Condition"] = {"StringLike": {"s3:prefix": [f"{prefix}*"]}}
        statements.append(statement)
    return {"name": item["name"], "policy": {"Version": "2012-10-17", "Statement": statements}}


def pool_endpoints(pool: Mapping[str, Any], addresses: Mapping[str, str], scheme: str, port: int) -> list[str]:
    """What MinIO calls the endpoints of a pool: each host's drives, by the address at which its peers know it."""
    return [f"{scheme}://{addresses[host]}:{port}{volume}" for host in pool["hosts"] for volume in pool["volumes"]]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"as_policy": as_policy, "pool_endpoints": pool_endpoints}
