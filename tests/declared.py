"""What the examples declare; the labs of one host are made like inventories/single."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .rendered_settings import rendered

ROOT = Path(__file__).parents[1]
SINGLE = ROOT / "inventories/single"


def groups(inventory: Path) -> dict[str, list[str]]:
    """The hosts of each group itself."""
    found, waiting = {}, dict(yaml.safe_load((inventory / "hosts.yml").read_text()))
    while waiting:
        name, group = waiting.popitem()
        found[name] = list((group or {}).get("hosts") or ())
        waiting |= (group or {}).get("children") or {}
    return found


def groups_of_single() -> list[str]:
    """Those that have a host."""
    return [name for name, hosts in groups(SINGLE).items() if hosts]


@cache
def settings_of_single() -> dict[str, Any]:
    """Without the secrets, which the example has not."""
    return rendered(SINGLE, "testbed")["together"]["testbed"]


def pages() -> dict[str, int]:
    """The port of each site of nginx."""
    return {site["name"]: site["port"] for site in settings_of_single()["nginx_sites_auto"]}


def sign_ins(site_name: str) -> list[str]:
    """The paths at which people sign in on a site of nginx."""
    patterns = [
        pattern
        for site in settings_of_single()["nginx_sites_auto"]
        for pattern in site.get("sign_in_paths", ())
        if site["name"] == site_name
    ]
    paths = [pattern.removeprefix(".*") for pattern in patterns]
    assert all(map(re.fullmatch, patterns, paths)), f"{site_name}: sign_in_paths {patterns} are more than .* and a path"
    return paths


def ports() -> set[int]:
    """Those of the services themselves."""
    named = re.compile(r"topology_(?!nginx_)\w+_port")
    return {value for name, value in settings_of_single().items() if named.fullmatch(name)}
