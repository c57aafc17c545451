# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data for the role unit."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.files import MADE
from ansible_collections.mlfleet.stack.plugins.module_utils.stores import USED, mark_file
from ansible_collections.mlfleet.stack.plugins.plugin_utils.mounts import Mount

UNITS = "/etc/systemd/system"


def instance_files(instances: list[str], directory: str, environment: Mapping[str, Mapping[str, Any]]) -> list[dict]:
    """The environment file of each instance of a template unit, in a directory that holds no others."""
    files = [
        {
            "path": f"{directory}/{instance}.env",
            "template": "environment.j2",
            "vars": {"environment_variables": environment.get(instance, {})},
        }
        for instance in instances
    ]
    return [{"path": directory, "state": "directory", "purge": True}, *files]


def device_files(instances: list[str], unit: str, devices: Mapping[str, Iterable[str]]) -> list[dict]:
    """Return the drop-in that limits each instance of a template unit to its devices; healthy_unit knows it too."""
    return [
        {"path": f"{UNITS}/{unit}@{instance}.service.d/devices.conf", **_devices(devices.get(instance) or ())}
        for instance in instances
    ]


def _devices(nodes: Iterable[str]) -> dict[str, str]:
    allowed = "".join(f"DeviceAllow={node} rw\n" for node in nodes)
    return (
        {"content": f"# {MADE}\n[Service]\nPrivateDevices=false\nDevicePolicy=closed\n{allowed}"}
        if allowed
        else {"state": "absent"}
    )


def account(unit: str) -> str:
    """Return the name of a unit's user: the unit's name, limited to the 32 characters that useradd accepts."""
    return unit if len(unit) <= 32 else f"{unit[:23]}-{hashlib.sha256(unit.encode()).hexdigest()[:8]}"


def systemd_word(text: object) -> str:
    """Quote a word of a command for a unit file; systemd replaces C(%) and C($) even within quotes."""
    escaped = str(text)
    for character, instead in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("%", "%%"), ("$", "$$")):
        escaped = escaped.replace(character, instead)
    return f'"{escaped}"'


def absent(path: str) -> dict[str, Any]:
    """Return the removal of one of our files; a file of the same path that is not ours stays."""
    return {"path": path, "state": "absent", "only_ours": True}


def mount_files(mounts: Iterable[Mapping[str, Any]]) -> list[dict]:
    """The mount unit of each mount."""
    return [{"path": f"{UNITS}/{mount.unit}", "content": mount.text} for mount in map(Mount.of, mounts)]


def mount_directories(mounts: Iterable[Mapping[str, Any]]) -> list[str]:
    """The sources that are directories of the host."""
    return [mount.source for mount in map(Mount.of, mounts) if not mount.is_nfs]


def mount_units(mounts: Iterable[Mapping[str, Any]]) -> list[str]:
    return [Mount.of(mount).unit for mount in mounts]


def bind_mounts(
    readable: Iterable[str], writable: Iterable[str], mounts: Iterable[Mapping[str, Any]] = ()
) -> list[str]:
    """Return the bind mounts of a container, under the same paths; they include data that is mounted later."""
    found = dict.fromkeys(readable, ",readonly") | dict.fromkeys(writable, "")
    for mount in map(Mount.of, mounts):
        found[mount.path] = f",bind-propagation=rslave{',readonly' if mount.read_only else ''}"
    return [f"type=bind,source={path},target={path}{options}" for path, options in found.items()]


def container_name(unit: str) -> str:
    """Return a name that no other container has."""
    return f"mlfleet-{unit.replace('@', '-')}"


def writable_paths(mounts: Iterable[Mapping[str, Any]]) -> list[str]:
    return [mount.path for mount in map(Mount.of, mounts) if not mount.read_only]


def in_docker(path: str, runtime: str, **file: Any) -> dict[str, Any]:
    """Return a file that exists only if the service runs in a container."""
    return {"path": path, **file} if runtime == "docker" else absent(path)


def checker(script: str, runtime: str, image_file: str) -> str:
    """Return a validator for config_files: a shell script with the file as $1, run in the image of a container."""
    if runtime != "docker":
        return f"{shlex.join(['sh', '-c', script, 'check'])} %s"
    # An image that is missing in check mode is built by a run before this.
    docker = "docker run --rm --network none --user 0 --cap-drop ALL --cap-add DAC_OVERRIDE"
    mounts = '--mount type=bind,source=/etc,target=/etc,readonly --mount "type=bind,source=$1,target=$1,readonly"'
    image = shlex.quote(image_file)
    inside = shlex.join(["-c", script, "check"])
    run = f'[ ! -e {image} ] || {docker} {mounts} --entrypoint /bin/sh "$(cat {image})" {inside} "$1"'
    return f"{shlex.join(['sh', '-c', run, 'check'])} %s"


def overridden(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the settings of a service whose names are not case-sensitive, each once."""
    return {**ours, **{name.lower(): value for name, value in theirs.items()}}


def mark_files(
    marks: Mapping[str, str], stores: Iterable[str], paths: Iterable[str], owner: str
) -> list[dict[str, Any]]:
    """Return the marks of these stores: on a host that uses them, and in the data of the host's own store."""
    known = [store for store in stores if store in marks]
    return [
        *({"path": str(USED / store), "content": f"{marks[store]}\n"} for store in known),
        *(
            {"path": f"{path}/{mark_file(store)}", "content": f"{marks[store]}\n", "owner": owner, "group": owner}
            for store in known
            for path in paths
        ),
    ]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "account": account,
            "instance_files": instance_files,
            "device_files": device_files,
            "absent": absent,
            "bind_mounts": bind_mounts,
            "checker": checker,
            "container_name": container_name,
            "in_docker": in_docker,
            "mark_files": mark_files,
            "mount_files": mount_files,
            "mount_directories": mount_directories,
            "mount_units": mount_units,
            "overridden": overridden,
            "systemd_word": systemd_word,
            "writable_paths": writable_paths,
        }
