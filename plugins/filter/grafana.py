# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of Grafana from settings by section and name, such as C(server.http_port)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.files import MADE

# Begin a comment, or are quotes, in Grafana's ini files.
SPECIAL = "#;\"`'\\"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return f'"""{text}"""' if any(character in text for character in SPECIAL) else text


def ini(settings: Mapping[str, Any]) -> str:
    """Return a file with these settings."""
    named = sorted((*name.rpartition(".")[::2], value) for name, value in settings.items())
    sections = (
        f"\n[{section}]\n" + "".join(f"{name} = {_value(value)}\n" for _section, name, value in entries)
        for section, entries in groupby(named, key=lambda setting: setting[0])
    )
    return f"# {MADE}\n" + "".join(sections)


def secret_files(secrets: Mapping[str, str], directory: str) -> list[dict[str, Any]]:
    """Return a file for each secret."""
    protected = {"group": "grafana", "mode": "0640", "sensitive": True}
    return [{"path": f"{directory}/{name}", "content": str(secret), **protected} for name, secret in secrets.items()]


def secret_references(secrets: Mapping[str, str], directory: str) -> dict[str, str]:
    """Return settings that name these files."""
    return {name: f"$__file{{{directory}/{name}}}" for name in secrets}


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "grafana_ini": ini,
            "grafana_secret_files": secret_files,
            "grafana_secret_references": secret_references,
        }
