#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: undeclared
short_description: Gather the units, containers and listening ports of a host that are not declared
description:
  - Finds units with names of this collection or created by it that the inventory does not declare for this host, their
    containers, and ports that are open to the network and belong to no declared unit.
  - Other modules report their undeclared objects themselves, in a result of the same name.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  units:
    description: Names of the declared units, without C(.service); a template ends with C(@).
    type: list
    elements: str
    required: true
  prefixes:
    description: Prefixes of the names of this collection's units.
    type: list
    elements: str
    default: [dioptra-, serving-api, serving-worker, container-, mlfleet-]
  removals:
    description: Command that removes the service of a unit, by the unit's name; by default the unit alone is removed.
    type: dict
    default: {}
  ports:
    description: TCP ports that other programs may listen on.
    type: list
    elements: int
    default: []
  directories:
    description: Directories with secrets that this host should not have.
    type: list
    elements: path
    default: []
extends_documentation_fragment: mlfleet.stack.reads
"""

EXAMPLES = r"""
- name: Report undeclared units, containers and ports
  mlfleet.stack.undeclared:
    units: [redis-server, dioptra-worker-tensorflow-cpu@]
    ports: [22, 9100]
"""

RETURN = r"""
undeclared:
  description: Undeclared objects, with the command that removes each.
  returned: success
  type: list
  elements: dict
  sample:
    - kind: listening port
      name: 0.0.0.0:8888 (python3)
      remove: ""
"""

import ipaddress
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray
from ansible_collections.mlfleet.stack.plugins.module_utils.containers import DockerError, docker
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.listeners import UNIT, listeners
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import UNIT_LABEL, ours

CONTAINER = re.compile(r"(?:docker[-/])([0-9a-f]{64})")


def template_of(name: str) -> str:
    """Return worker@ for worker@1, and other names unchanged."""
    return re.sub("@.*", "@", name)


def is_declared(unit: str, units: list[str]) -> bool:
    return unit in units or template_of(unit) in units


def stray_units(units: list[str], prefixes: list[str], removals: dict[str, str]) -> Iterator[dict[str, str]]:
    """Report unit files with our names, or made by us if a package has a unit of the same name."""
    for unit, file in ours(prefixes):
        if is_declared(unit, units):
            continue
        if unit in removals:
            yield stray("unit", f"{unit}.service", shlex.split(removals[unit]))
            continue
        running = f"{unit}*" if unit.endswith("@") else file.name
        disable, reload = ["systemctl", "disable", "--now", running], ["systemctl", "daemon-reload"]
        yield stray("unit", file.name, disable, ["rm", str(file)], reload, separator="; ")


def containers() -> dict[str, tuple[str, str]]:
    """Return name and unit of each container by its id; the unit is empty if the container is not ours."""
    shown = f'{{{{.ID}}}} {{{{.Names}}}} {{{{.Label "{UNIT_LABEL}"}}}}'
    try:
        listed = docker("ps", "--all", "--no-trunc", "--format", shown)
    except DockerError:  # without an engine there are none
        return {}
    rows = [line.split(" ") for line in listed.splitlines()]
    return {identifier: (name, unit) for identifier, name, unit in rows}


def stray_containers(found: dict[str, tuple[str, str]], units: list[str]) -> Iterator[dict[str, str]]:
    for name, unit in found.values():
        if unit and not is_declared(unit, units):
            yield stray("container", name, ["docker", "rm", "--force", name])


def owners(inodes: set[str]) -> dict[str, tuple[str, str]]:
    """Return, for each of these sockets, the program and control groups of a process that has it open."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [link.readlink().name for link in (process / "fd").iterdir()]
            for inode in inodes.intersection(link[8:-1] for link in links if link.startswith("socket:[")):
                found[inode] = ((process / "comm").read_text().strip(), (process / "cgroup").read_text())
        except OSError:  # it has ended meanwhile
            continue
    return found


def unit_of(cgroup: str, known: dict[str, tuple[str, str]]) -> str:
    """Return the unit that a process belongs to, even if it is in a container that one of our units runs."""
    for identifier in CONTAINER.findall(cgroup):
        if identifier in known:
            return known[identifier][1]
    units = UNIT.findall(cgroup)
    return units[-1] if units else ""


def stray_ports(units: list[str], ports: list[int], known: dict[str, tuple[str, str]]) -> Iterator[dict[str, str]]:
    reached = [each for each in listeners() if not ipaddress.ip_address(each.address).is_loopback]
    sockets = {each.inode: each for each in reached if each.port not in ports}
    programs = owners(set(sockets))
    strays = set()
    for inode, found in sockets.items():
        address, port = found.address, found.port
        program, cgroup = programs.get(inode, ("unknown", ""))
        if not is_declared(unit_of(cgroup, known), units):
            strays.add(f"{f'[{address}]' if ':' in address else address}:{port} ({program})")
    yield from (stray("listening port", name) for name in sorted(strays))


def stray_directories(paths: list[str]) -> Iterator[dict[str, str]]:
    for path in filter(os.path.lexists, paths):
        yield stray("directory with secrets", path, ["rm", "-r", path])


def stray_library() -> Iterator[dict[str, str]]:
    """Report our module library if the caller found it changed and did not use it."""
    if path := os.environ.get("MLFLEET_LIBRARY_CHANGED"):
        yield stray("library of modules that was changed by hand", path, ["rm", path])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "required": True},
            "prefixes": {
                "type": "list",
                "elements": "str",
                "default": ["dioptra-", "serving-api", "serving-worker", "container-", "mlfleet-"],
            },
            "removals": {"type": "dict", "default": {}},
            "ports": {"type": "list", "elements": "int", "default": []},
            "directories": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    units, known = module.params["units"], containers()
    found = [
        *stray_units(units, module.params["prefixes"], module.params["removals"]),
        *stray_containers(known, units),
        *stray_directories(module.params["directories"]),
        *stray_ports(units, module.params["ports"], known),
        *stray_library(),
    ]
    module.exit_json(changed=False, undeclared=found)


if __name__ == "__main__":
    main()
