# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""MinIO's policies and drives, from the folders and hosts in the inventory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.mlfleet.stack.plugins.filter.topology import addresses

ACTIONS = {
    "get": ["s3:GetObject"],
    "put": ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
    "delete": ["s3:DeleteObject"],
}


def as_policy(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a named policy that allows C(rights) (list, get, put, delete) in C(folders) such as V(bucket/prefix/)."""
    wanted, paths = list(item["rights"]), list(item["folders"])
    statements: list[dict[str, Any]] = []
    if actions := [action for right in wanted if right != "list" for action in ACTIONS[right]]:
        objects = [f"arn:aws:s3:::{path}*" for path in paths]
        statements.append({"Effect": "Allow", "Action": actions, "Resource": objects})
    for bucket, _slash, prefix in (path.partition("/") for path in paths if "list" in wanted):
        statement: dict[str, Any] = {
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": [f"arn:aws:s3:::{bucket}"],
        }
        if prefix:
            statement["Condition"] = {"StringLike": {"s3:prefix": [f"{prefix}*"]}}
        statements.append(statement)
    return {"name": item["name"], "policy": {"Version": "2012-10-17", "Statement": statements}}


def pool_endpoints(
    pools: list[Mapping[str, Any]], hostvars: Mapping[str, Mapping[str, Any]], scheme: str, port: int
) -> list[dict[str, list[str]]]:
    """Return the pools for MinIO's configuration file: each drive at the address by which its host's peers know it."""
    if len({host for pool in pools for host in pool["hosts"]}) == 1:
        return [{"args": list(pool["volumes"])} for pool in pools]
    return [
        {
            "args": [
                f"{scheme}://{host}:{port}{volume}"
                for host in addresses(pool["hosts"], hostvars)
                for volume in pool["volumes"]
            ]
        }
        for pool in pools
    ]


def directory_of(path: str, user: str) -> dict[str, str]:
    """Return a directory that only a service's user can access, as config_files takes it."""
    return {"path": path, "state": "directory", "owner": user, "group": user, "mode": "0750"}


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"as_policy": as_policy, "pool_endpoints": pool_endpoints, "directory_of": directory_of}
