# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove a unit with everything that only it uses; its data stay with their owner unless they are purged."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils import environments, files, filesystem
from ansible_collections.mlfleet.stack.plugins.module_utils.containers import IMAGE_LABEL, DockerError, docker
from ansible_collections.mlfleet.stack.plugins.module_utils.stores import MARK
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import (
    UNIT_LABEL,
    UNITS,
    UnitError,
    command,
    remove_containers,
    units,
)

DEEPEST_SHARED = 3  # parts of a path such as /etc/mlfleet, in which other units have files


def remove(items: list[files.Item], options: dict[str, Any], check_mode: bool, with_diff: bool) -> dict[str, Any]:
    """Stop the unit and remove its files, and if requested its data with their owner; return the module's result.

    The files are removed last, because from them the next run knows what a killed one has left.

    Raises:
        FilesError: a file cannot be removed.
        UnitError: the unit does not stop, or its user still runs a process.
    """
    run, names = options["run"], names_of(items, options["run"])
    images = images_of(options["image_file"], names)
    held = data_of([options["home"], *options["data"]])
    data = held if options["state"] == "purged" else []
    gone = own(items, options, data)
    ending = [unit for unit in units(names) if unit.is_known and (unit.is_running or unit.is_enabled)]
    ended = [unit.id for unit in ending]
    if not check_mode:
        if ended:
            command("systemctl", "disable", "--now", "--", *ended, timeout=run["stop_timeout_seconds"])
        remove_containers(names, run["stop_timeout_seconds"])
        for image in images:
            with suppress(DockerError):  # an image of the user's own is built on it
                docker("image", "rm", image)
    going = [files.Item(str(path), "absent") for path in data]
    results = [files.install(going, check_mode=True, with_diff=with_diff)]
    if not check_mode:
        for path in data:
            empty(path)
        files.install(going)
    former = account(options["user"], check_mode) if options["user"] and held == data else []
    results.append(files.install([files.Item(str(path), "absent") for path in gone], check_mode, with_diff))
    if gone and not check_mode:
        command("systemctl", "daemon-reload")
        with suppress(UnitError):  # a unit that stopped cleanly has no state to reset
            command("systemctl", "reset-failed", "--", *ended)
        if run["template"]:
            slice_of_instances = "system-" + run["template"].replace("-", r"\x2d") + ".slice"
            with suppress(UnitError):  # systemd made it for the instances, and does not end it with them
                command("systemctl", "stop", "--", slice_of_instances)
    return {
        "changed": bool(ended or former or images) or any(result["changed"] for result in results),
        "changed_paths": [path for result in results for path in result["changed_paths"]],
        "actions": dict.fromkeys(ended, "stopped and disabled"),
        "tls": {},
        "undeclared": [],
        "diff": [entry for result in results for entry in result["diff"]]
        + ([*former, *map(goes, images)] if with_diff else []),
    }


def data_of(paths: Iterable[str | None]) -> list[Path]:
    return [Path(path) for path in paths if path and Path(path).is_dir()]


def empty(directory: Path) -> None:
    """Remove what is in it, except a mark, from which the next run knows what a killed one has left."""
    for part in filesystem.without_mounts(directory):
        is_whole = part == directory and not directory.is_symlink()
        for path in list(directory.iterdir()) if is_whole else [part]:
            if path.name != MARK:
                files.remove(str(path))


def names_of(items: list[files.Item], run: dict[str, Any]) -> list[str]:
    """Return the unit, its timer and mounts, and all its instances known to systemd, declared or not."""
    found = {*run["names"]}
    found |= {Path(item.path).name for item in items if Path(item.path).parent == UNITS and "@." not in item.path}
    found |= {path.name for path in mounts_of(items)}
    if run["template"]:
        pattern = f"{run['template']}@*.service"
        found |= {path.name for path in UNITS.glob(f"*.wants/{pattern}")}
        listed = command("systemctl", "list-units", "--all", "--plain", "--no-legend", pattern)
        found |= {line.split()[0] for line in listed.splitlines() if line.strip()}
    return sorted(found)


def own(items: list[files.Item], options: dict[str, Any], data: Iterable[Path] = ()) -> list[Path]:
    """Return the paths that nothing else needs, with a directory instead of all its contents; C(data) go before."""
    template, home, tls = options["run"]["template"], options["home"], options["tls"] or {}
    paths = {Path(item.path) for item in items if item.state != "directory" or item.purge or item.records}
    # Instances and mounts that are no longer declared may have files, too.
    paths |= {path.parent for path in paths if template and path.parent.name == template}
    paths |= {
        path for path in UNITS.glob(f"{template}@*.service.d/*.conf") if template and files.OURS in path.read_bytes()
    }
    paths |= mounts_of(items)
    paths |= {Path(path) for path in (tls.get("directory"), options["image_file"]) if path}
    # Beside an environment's link are the trees that it points to or has pointed to.
    paths |= {tree for path in map(Path, options["programs"]) for tree in [path, *environments.trees(path)]}
    recorded = {Path(path) for path in files.named_by_records(items)}
    paths |= {path for path in recorded if path.is_file() and files.OURS in path.read_bytes()}
    kept = named_by_others(paths)
    gone = {path for path in paths if os.path.lexists(path)} - kept
    around = {Path(item.path) for item in items if item.state == "directory" and item.path != home}
    # Directories of recorded files belong to others.
    around |= {parent for path in gone - recorded for parent in path.parents if len(parent.parts) > DEEPEST_SHARED}
    for directory in sorted(around - gone, key=lambda path: len(path.parts), reverse=True):
        if directory.is_dir() and set(directory.iterdir()) <= gone.union(data):
            gone.add(directory)
    return sorted(path for path in gone if gone.isdisjoint(path.parents))


def mounts_of(items: Iterable[files.Item]) -> set[Path]:
    """Return our mount units that the unit's own file names."""
    texts = [
        path.read_text() for path in (Path(item.path) for item in items) if path.parent == UNITS and path.is_file()
    ]
    named = {UNITS / name for text in texts for name in re.findall(r"[^\s=]+\.mount\b", text)}
    return {path for path in named if path.is_file() and files.OURS in path.read_bytes()}


def images_of(reference: str | None, names: Iterable[str]) -> list[str]:
    """Return our images of the unit's program, unless another unit or container uses them."""
    if not reference or not Path(reference).exists():
        return []
    program = Path(reference).read_text().strip().partition("@")[0].rpartition(":")[0]
    others = [path.read_text() for path in Path(reference).parent.iterdir() if path != Path(reference)]
    if any(program == text.strip().partition("@")[0].rpartition(":")[0] for text in others):
        return []
    try:
        listed = docker("image", "ls", "--filter", f"label={IMAGE_LABEL}={program}", "--format", "{{.ID}}").split()
        own = {name.removesuffix(".service") for name in names}
        return [image for image in dict.fromkeys(listed) if users_of(image) <= own]
    except DockerError:  # without an engine there are none
        return []


def users_of(image: str) -> set[str]:
    """The units of its containers, or the ID of a container that no unit runs."""
    shown = f'{{{{.ID}}}} {{{{.Label "{UNIT_LABEL}"}}}}'
    listed = docker("ps", "--all", "--filter", f"ancestor={image}", "--format", shown).splitlines()
    return {line.split()[-1] for line in listed}


def goes(image: str) -> dict[str, str]:
    header = "container images"
    return {"before_header": header, "after_header": header, "before": f"{image}\n", "after": ""}


def named_by_others(paths: Iterable[Path]) -> set[Path]:
    """Return the paths that another service's unit, or a file beside such a unit's files, still names."""
    mine = set(paths)
    readers = {path for directory in {UNITS, *(path.parent for path in mine)} for path in directory.glob("*.*")}
    readers |= {*UNITS.glob("*.d/*.conf")}
    texts = [path.read_bytes() for path in readers - mine if path.is_file() and mine.isdisjoint(path.parents)]
    return {path for path in mine if any(re.search(_name(path), text) for text in texts)}


def _name(path: Path) -> bytes:
    """Return a pattern of what names the path: a unit's file by systemd's name, another one also by its directory."""
    if path.parent == UNITS:
        return re.escape(path.name).encode() + rb"(?![\w.@-])"
    itself = re.escape(str(path)).encode() + rb"(?![\w.@-])"
    if len(path.parent.parts) <= DEEPEST_SHARED or UNITS in path.parents:
        return itself
    return itself + b"|" + re.escape(str(path.parent)).encode() + rb"/?(?![\w.@/-])"


def account(name: str, check_mode: bool) -> list[dict[str, str]]:
    """Remove the account and its group; return the entries of the diff."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return []
    if not check_mode:
        command("userdel", "--", name)
    texts = {"before": f"shell {found.pw_shell}\n", "after": ""}
    return [{"before_header": f"user {name}", "after_header": f"user {name}", **texts}]
