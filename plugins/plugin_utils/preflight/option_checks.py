# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Type checks of the options of a host's roles: one line for each error, without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight.checks import (
    CHECKS,
    overlapping_ports,
    privileged_ports,
)
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight.role_files import (
    Role,
    UnresolvableError,
    UnsetError,
)

SECRET_PREFIX = "topology_secret_"
SECRET_LENGTHS = range(16, 41)


@dataclass
class Findings:
    """The errors of one host; those of secrets are separate, because all hosts share them."""

    missing_secrets: list[str] = field(default_factory=list)
    malformed_secrets: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def is_faultless(self) -> bool:
        return not (self.missing_secrets or self.malformed_secrets or self.lines)


def validated(name: str, option: Mapping[str, Any], value: Any) -> tuple[Any, list[str]]:
    """Return the value in the option's type, and its errors; secrets are never quoted."""
    result = ArgumentSpecValidator({name: option}).validate({name: value})
    if option.get("no_log"):
        errors = [f"is not a valid {option.get('type', 'str')}"] if result.error_messages else []
    else:
        errors = [
            " ".join(remove_values(message, result._no_log_values).removeprefix(f"argument '{name}' ").split())
            for message in result.error_messages
        ]
    return None if errors else result.validated_parameters[name], errors


def examine(
    roles: Iterable[Role],
    resolve: Callable[[Role, str], Any],
    validate: Callable[[str, Mapping[str, Any], Any], tuple[Any, list[str]]] = validated,
) -> Findings:
    """Check every option of every role. C(resolve) returns its value or raises UnsetError or UnresolvableError."""
    found = Findings()
    values: dict[str, Any] = {}
    secrets: set[str] = set()
    for role in roles:
        for name, option in role.options.items():
            prefix = f"role {role.name}: argument {name}"
            is_secret = name.startswith(SECRET_PREFIX)
            try:
                value = resolve(role, name)
            except UnsetError:
                if option.get("required") and is_secret:
                    found.missing_secrets.append(name)
                elif option.get("required") and not role.is_building_block:
                    found.lines.append(f"{prefix}: is required")
                continue
            except UnresolvableError as error:
                if not role.is_building_block:
                    found.lines.append(f"{prefix}: {error}")
                continue
            if not is_secret:
                values[name], errors = validate(name, option, value)
                found.lines += [f"{prefix}: {error}" for error in errors]
            elif problem := secret_problem(value):
                found.malformed_secrets[name] = problem
            # Shorter values would mask parts of ordinary words.
            if is_secret and isinstance(value, str) and len(value) >= 8:
                secrets.add(value)
    found.lines += [line for check in CHECKS for line in check(values)]
    names = [role.name for role in roles]
    found.lines += [*overlapping_ports(values, names), *privileged_ports(values, names)]
    # Values that refer to a missing secret are undefined too, which need not be reported.
    known = [line for line in found.lines if not any(name in line for name in found.missing_secrets)]
    found.lines = [remove_values(line, secrets) for line in dict.fromkeys(known)]
    return found


def secret_problem(value: Any) -> str | None:
    """Return why the value cannot be one of the secrets that mlfleet init creates."""
    if not isinstance(value, str):
        return "is not text"
    if len(value) not in SECRET_LENGTHS:
        return f"has {len(value)} characters, not {SECRET_LENGTHS[0]} to {SECRET_LENGTHS[-1]}"
    if not re.fullmatch("[!-~]*", value):
        return "contains a space, a control character or a character beyond ASCII"
    return None
