#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: minio_drives
short_description: Refuse a layout of MinIO's drives that does not match their data
description:
  - Reads the format that MinIO has written on the drives of a host, and fails if the declared pools have another number
    or order of drives. MinIO would then not start, or no longer find objects.
  - Changes nothing.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  host:
    description: This host, as named in O(pools).
    type: str
    required: true
  pools:
    description: The declared pools.
    type: list
    elements: dict
    required: true
    suboptions:
      hosts:
        description: Hosts of the pool, in their order.
        type: list
        elements: str
        required: true
      volumes:
        description: Directories on each host, in their order.
        type: list
        elements: path
        required: true
  config:
    description: MinIO's configuration file from the last run, in JSON, with the previous pools.
    type: path
  layout_change_allowed:
    description: Whether the pools may differ from those in O(config).
    type: bool
    default: false
  root_drives_allowed:
    description: Whether drives of a pool may be on the root file system, which MinIO otherwise refuses.
    type: bool
    default: false
extends_documentation_fragment: mlfleet.stack.reads
"""

EXAMPLES = r"""
- name: Compare the pools with the formatted drives
  mlfleet.stack.minio_drives:
    host: "{{ inventory_hostname }}"
    pools:
      - hosts: [store1, store2, store3, store4]
        volumes: [/srv/drive1, /srv/drive2]
"""

RETURN = r"""
formatted:
  description: Drives of this host that MinIO has formatted.
  returned: success
  type: list
  elements: str
  sample: [/srv/drive1]
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

FORMAT = ".minio.sys/format.json"


def position(pool: dict[str, Any], host: str, volume: str) -> int:
    """Return the drive's place in its pool: MinIO takes the first drive of each host, then the second of each."""
    return pool["volumes"].index(volume) * len(pool["hosts"]) + pool["hosts"].index(host)


def found_position(text: str) -> tuple[int, int]:
    """Return place and number of drives of the pool, as MinIO has written them on the drive."""
    erasure = json.loads(text)["xl"]
    drives = [drive for drives_of_set in erasure["sets"] for drive in drives_of_set]
    return drives.index(erasure["this"]), len(drives)


def is_on_root(volume: Path) -> bool:
    existing = next(path for path in (volume, *volume.parents) if path.exists())
    return existing.stat().st_dev == Path("/").stat().st_dev


def layout_problems(pool: dict[str, Any], host: str, formats: dict[str, str]) -> Iterator[str]:
    """Report drives of a host that are not as declared. C(formats) has the format of those that are in use."""
    count = len(pool["hosts"]) * len(pool["volumes"])
    for volume, text in formats.items():
        try:
            place, total = found_position(text)
        except (ValueError, KeyError, TypeError):
            yield f"{volume}: {FORMAT} is not MinIO's; restore it, or empty the drive to have it healed"
            continue
        if total != count:
            yield (
                f"{volume}: it belongs to a pool of {total} drives with data, and is declared in one of {count}; "
                "declare the former hosts and volumes, and add a second pool to minio_pools to grow"
            )
        elif place != position(pool, host, volume):
            yield (
                f"{volume}: it is drive {place + 1} of its pool, and is declared as drive "
                f"{position(pool, host, volume) + 1}; keep the order of hosts and volumes in minio_pools"
            )


def shape(endpoints: list[str]) -> tuple[int, list[str]]:
    """Return the number of hosts and the volumes on each, of a pool in MinIO's configuration file."""
    parts = [urlsplit(endpoint) for endpoint in endpoints]
    return len({part.netloc for part in parts}), list(dict.fromkeys(part.path for part in parts))


def former_shapes(config: Path) -> list[tuple[int, list[str]]]:
    lines = config.read_text().splitlines() if config.exists() else []
    text = "\n".join(line for line in lines if not line.startswith("#"))
    return [shape(pool["args"]) for pool in json.loads(text)["pools"]] if text.strip() else []


def lost_pools(former: list[tuple[int, list[str]]], declared: list[dict[str, Any]]) -> Iterator[str]:
    """Report pools of the last run whose declaration has changed; additional ones may follow them."""
    now = [(len(pool["hosts"]), pool["volumes"]) for pool in declared]
    for index, was in enumerate(former):
        if index >= len(now) or now[index] != was:
            hosts, volumes = was
            yield (
                f"pool {index + 1} had {', '.join(volumes)} on {hosts} host{'s' if hosts > 1 else ''}, and is declared "
                "otherwise, so that its objects would be out of sight; declare it as it was and add a pool, or, after "
                "mc admin decommission or when the drives were moved, set minio_layout_change_allowed"
            )


def problems(options: dict[str, Any]) -> Iterator[str]:
    host, declared = options["host"], options["pools"]
    for pool in (pool for pool in declared if host in pool["hosts"]):
        files = {volume: Path(volume, FORMAT) for volume in pool["volumes"]}
        formats = {volume: file.read_text() for volume, file in files.items() if file.exists()}
        yield from layout_problems(pool, host, formats)
        if len(pool["hosts"]) * len(pool["volumes"]) > 1 and not options["root_drives_allowed"]:
            for volume in filter(is_on_root, map(Path, pool["volumes"])):
                yield f"{volume}: it is on the root file system, which MinIO refuses to use; mount a drive there"
    if options["config"] and not options["layout_change_allowed"]:
        yield from lost_pools(former_shapes(Path(options["config"])), declared)


def main() -> None:
    pool_options = {
        "hosts": {"type": "list", "elements": "str", "required": True},
        "volumes": {"type": "list", "elements": "path", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "pools": {"type": "list", "elements": "dict", "required": True, "options": pool_options},
            "config": {"type": "path"},
            "layout_change_allowed": {"type": "bool", "default": False},
            "root_drives_allowed": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    found = list(problems(module.params))
    if found:
        module.fail_json(msg="\n".join(found))
    mine = (pool for pool in module.params["pools"] if module.params["host"] in pool["hosts"])
    volumes = {volume for pool in mine for volume in pool["volumes"]}
    module.exit_json(changed=False, formatted=sorted(volume for volume in volumes if Path(volume, FORMAT).exists()))


if __name__ == "__main__":
    main()
