"""Drift that the inventory accepts until a date: the variable `drift_ignore` of each host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

import jsonschema

from mlfleet.drift.report import Acceptance, Drift
from mlfleet.project import MlfleetError

VARIABLE = "drift_ignore"
_TEXT = {"type": "string", "minLength": 1}
_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": dict.fromkeys(("host", "role", "object", "reason"), _TEXT)
        | {"until": {"type": "string", "format": "date"}},
        "required": ["object", "reason", "until"],
        "additionalProperties": False,
    },
}


@dataclass(frozen=True)
class Accepted:
    """The drift that each host's variables accept on a day."""

    entries: Mapping[str, list[Acceptance]]
    today: date

    @classmethod
    def parse(cls, variables: Mapping[str, Mapping[str, Any]], today: date) -> Accepted:
        """Read the variables of each host.

        Raises:
            MlfleetError: an entry is malformed.
        """
        checker = jsonschema.Draft202012Validator(_SCHEMA, format_checker=jsonschema.FormatChecker(["date"]))
        entries = {host: values.get(VARIABLE, []) for host, values in variables.items()}
        for host, value in entries.items():
            for error in checker.iter_errors(value):
                where = f"entry {error.path[0] + 1} of {VARIABLE}" if error.path else VARIABLE
                raise MlfleetError(f"{where} of {host}: {_wrong(error)}.")
        return cls({host: [Acceptance(**entry) for entry in value] for host, value in entries.items()}, today)

    @property
    def expired(self) -> tuple[Acceptance, ...]:
        every = dict.fromkeys(entry for entries in self.entries.values() for entry in entries)
        return tuple(entry for entry in every if not self._counts(entry))

    def mark(self, drift: Drift) -> Drift:
        """Mark *drift* as accepted or not."""
        for entry in self.entries.get(drift.host, []):
            named = (drift.host, entry.host), (drift.role or "", entry.role), (drift.object, entry.object)
            if self._counts(entry) and all(fnmatchcase(name, pattern) for name, pattern in named):
                return replace(drift, accepted=entry)
        return drift

    def _counts(self, entry: Acceptance) -> bool:
        """Return whether the entry applies, which it does until the end of its day."""
        return date.fromisoformat(entry.until) >= self.today


def _wrong(error: jsonschema.ValidationError) -> str:
    if error.validator == "format":
        return f"{error.instance!r} is not a date like 2026-12-31"
    name = f"{error.path[1]}: " if len(error.path) > 1 else ""
    return f"{name}{error.message}"
