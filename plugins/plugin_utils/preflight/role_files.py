# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles as declared by their files, in the order in which they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.mlfleet.stack.plugins.plugin_utils.services import blocks_of

COMMON_ROLE = "host"

Values = Mapping[str, Any]


class UnsetError(Exception):
    """Neither the inventory nor a default sets the option."""


class UnresolvableError(Exception):
    """The option's value cannot be determined; the text gives the reason."""


@dataclass(frozen=True, eq=False)
class Role:
    """A role's interface, as declared by its files."""

    name: str
    path: Path
    options: Mapping[str, Any]
    defaults: Values
    vars: Values
    dependencies: list[str]
    is_building_block: bool = False  # its required options are set by the role that uses it


def roles_of_host(roles: Iterable[str], groups: Iterable[str]) -> list[str]:
    """Return the roles of a host with these groups: each group is a role, and every host has the role host."""
    mine = {COMMON_ROLE, *groups}
    return [role for role in roles if role in mine]


def load_roles(names: Iterable[str], roles_dir: Path, read: Callable[[Path], Any]) -> list[Role]:
    """Return the roles, each preceded by those that it depends on or uses. C(read) returns a YAML file's data."""
    loaded: dict[str, Role | None] = {}

    def load(name: str, is_building_block: bool = False) -> None:
        if name in loaded:
            return
        loaded[name] = None
        role = replace(_load_role(roles_dir / name, read), is_building_block=is_building_block)
        for dependency in role.dependencies:
            load(dependency)
        for building_block in blocks_of(name):
            load(building_block, is_building_block=True)
        del loaded[name]
        loaded[name] = role

    for name in names:
        load(name)
    return [role for role in loaded.values() if role]


def known_options(roles_dir: Path, read: Callable[[Path], Any]) -> set[str]:
    """Return the names of the options of all roles."""
    return {name for path in roles_dir.iterdir() if path.is_dir() for name in _options(path, read)}


def _load_role(path: Path, read: Callable[[Path], Any]) -> Role:
    if not path.is_dir():
        raise LookupError(f"there is no role {path.name} in {path.parent}")

    dependencies = _load(path / "meta/main", read).get("dependencies") or []
    names = [entry if isinstance(entry, str) else entry.get("role") or entry["name"] for entry in dependencies]
    return Role(
        name=path.name,
        path=path,
        options=_options(path, read),
        defaults=_load(path / "defaults/main", read),
        vars=_load(path / "vars/main", read),
        dependencies=[name.rpartition(".")[2] for name in names],
    )


def _options(path: Path, read: Callable[[Path], Any]) -> dict[str, Any]:
    entry_points = _load(path / "meta/argument_specs", read).get("argument_specs", {}).values()
    options = {name: option for entry in entry_points for name, option in (entry.get("options") or {}).items()}
    return options | _load(path / "meta/shared_settings", read)


def _load(stem: Path, read: Callable[[Path], Any]) -> dict[str, Any]:
    """Load a file, or all files of a directory, like Ansible."""
    files = [stem.with_suffix(".yml"), *sorted(stem.glob("*.yml"))]
    return {key: value for file in files for key, value in (read(file) or {}).items()}
