"""The result of a check: plain data, its JSON form, and the differences from an earlier one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema

from mlfleet.project import MlfleetError, write_atomically

VERSION = 1
UNDECLARED_TAG = "undeclared"  # of the play that looks for objects that belong to no role
NAME = "%Y%m%dT%H%M%SZ.json"
Key = tuple[str, str, str]


class State(StrEnum):
    """How a host, or all hosts, compare with the inventory."""

    DECLARED = "declared"
    DRIFTED = "drifted"
    UNKNOWN = "unknown"  # the run ended before it had checked everything
    FAILED = "failed"
    UNREACHABLE = "unreachable"


class Kind(StrEnum):
    """Why an object is drift."""

    CHANGED = "changed"  # a run of site.yml would change it
    UNDECLARED = "undeclared"  # it is not declared, and site.yml leaves it alone


@dataclass(frozen=True)
class Acceptance:
    """Why an object may differ, and until which date (YYYY-MM-DD); host, role and object are shell patterns."""

    object: str
    reason: str
    until: str
    host: str = "*"
    role: str = "*"


@dataclass(frozen=True)
class Drift:
    """An object that is not as declared."""

    host: str
    role: str | None  # None for a task that is in no role
    task: str
    object: str
    kind: Kind = Kind.CHANGED
    diff: str = ""
    remove: str | None = None  # the command that removes an undeclared object by hand
    accepted: Acceptance | None = None

    @property
    def key(self) -> Key:
        return self.host, self.role or "", self.object


@dataclass(frozen=True)
class Problem:
    """A problem that kept a host, or a task on it, from being checked."""

    host: str
    message: str
    role: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class Host:
    """A host to check, and the roles that were checked."""

    name: str
    state: State
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Differences from an earlier report, in what both have checked; each object as host, role and object."""

    started: str
    new: tuple[Key, ...] = ()
    still: tuple[Key, ...] = ()
    gone: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Report:
    """The result of one check."""

    inventory: str
    started: str  # ISO 8601, UTC
    duration_seconds: float
    hosts: tuple[Host, ...]
    drift: tuple[Drift, ...] = ()
    unreachable: tuple[Problem, ...] = ()
    failed: tuple[Problem, ...] = ()
    not_checkable: tuple[Problem, ...] = ()
    expired: tuple[Acceptance, ...] = ()
    limit: str | None = None
    tags: str | None = None
    since: Comparison | None = None

    @property
    def counted(self) -> tuple[Drift, ...]:
        """The drift that is not accepted."""
        return tuple(drift for drift in self.drift if not drift.accepted)

    @property
    def accepted(self) -> tuple[Drift, ...]:
        return tuple(drift for drift in self.drift if drift.accepted)

    @property
    def state(self) -> State:
        """The overall state. It is not drift, even if some was found, as long as a host's state is unknown."""
        states = {host.state for host in self.hosts}
        if states & {State.UNKNOWN, State.FAILED, State.UNREACHABLE}:
            return State.UNKNOWN
        return State.DRIFTED if self.counted else State.DECLARED

    @property
    def exit_code(self) -> int:
        return {State.DECLARED: 0, State.DRIFTED: 2}.get(self.state, 1)

    @property
    def summary(self) -> dict[str, int]:
        states = Counter(host.state for host in self.hosts)
        return {
            "hosts": len(self.hosts),
            "hosts_drifted": len({drift.host for drift in self.counted}),
            "hosts_unreachable": states[State.UNREACHABLE],
            "hosts_failed": states[State.FAILED],
            "hosts_unknown": states[State.UNKNOWN],
            "drift": len(self.counted),
            "accepted": len(self.accepted),
            "not_checkable": len(self.not_checkable),
        }

    def unseen(self, keys: Iterable[Key]) -> set[Key]:
        """Return those of *keys* whose role this run has not completely checked on their host."""
        tags = set((self.tags or "all").split(","))
        beyond_roles = [""] if tags & {"all", UNDECLARED_TAG} else []
        looked_at = {
            (host.name, role)
            for host in self.hosts
            if host.state in (State.DECLARED, State.DRIFTED)
            for role in (*host.roles, *beyond_roles)
        }
        return {key for key in keys if key[:2] not in looked_at}

    def compared(self, earlier: Report) -> Report:
        """Add the differences from *earlier*. Objects that this run has not checked do not count as gone."""
        now, before = ({drift.key for drift in report.counted} for report in (self, earlier))
        gone = before - {drift.key for drift in self.drift} - self.unseen(before)
        return replace(
            self,
            since=Comparison(
                earlier.started, tuple(sorted(now - before)), tuple(sorted(now & before)), tuple(sorted(gone))
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report in the form that `report.schema.json` describes."""
        return {
            "version": VERSION,
            "state": self.state,
            "summary": self.summary,
            **json.loads(json.dumps(asdict(self))),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Report:
        """Read what `to_json` returned.

        Raises:
            jsonschema.ValidationError: it has another form.
        """
        jsonschema.validate(document, schema())
        fields = {name: value for name, value in document.items() if name not in ("version", "state", "summary")}
        since = fields.pop("since")
        if since:
            since = Comparison(since["started"], *(tuple(map(tuple, since[name])) for name in ("new", "still", "gone")))
        fields["hosts"] = tuple(
            Host(item["name"], State(item["state"]), tuple(item["roles"])) for item in fields["hosts"]
        )
        fields["drift"] = tuple(
            Drift(
                **item | {"kind": Kind(item["kind"]), "accepted": item["accepted"] and Acceptance(**item["accepted"])}
            )
            for item in fields["drift"]
        )
        for name in ("unreachable", "failed", "not_checkable"):
            fields[name] = tuple(Problem(**item) for item in fields[name])
        fields["expired"] = tuple(Acceptance(**item) for item in fields["expired"])
        return cls(**fields, since=since)


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of a report."""
    loaded: dict[str, Any] = json.loads(resources.files(__package__).joinpath("report.schema.json").read_text())
    return loaded


def as_text(report: Report) -> str:
    return json.dumps(report.to_json(), indent=2) + "\n"


def load(path: Path) -> Report:
    """Read an earlier report.

    Raises:
        MlfleetError: it cannot be read, or is not a report of this version.
    """
    try:
        return Report.from_json(json.loads(path.read_text()))
    except OSError as error:
        raise MlfleetError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, jsonschema.ValidationError) as error:
        raise MlfleetError(f"{path} is not a report of `mlfleet drift --json` (version {VERSION}).") from error


@dataclass(frozen=True)
class History:
    """A directory of reports, named by their start time."""

    directory: Path
    keep: int

    def reports(self) -> list[Report]:
        """Return all reports of this version, the oldest first."""
        found = []
        for path in sorted(self.directory.glob("*T*Z.json")):
            try:
                found.append(load(path))
            except MlfleetError as error:
                if isinstance(error.__cause__, OSError):
                    raise
                continue  # of another version
        return found

    def add(self, report: Report) -> None:
        """Store *report*, and keep only the last `keep` reports."""
        name = datetime.fromisoformat(report.started).astimezone(UTC).strftime(NAME)
        write_atomically(self.directory / name, as_text(report).encode(), mode=0o600)
        for path in sorted(self.directory.glob("*T*Z.json"))[: -self.keep]:
            path.unlink()


def merged(drift: Iterable[Drift]) -> tuple[Drift, ...]:
    """Merge what several tasks report about one object into one entry; the first names the task."""
    entries: dict[tuple[Key, Kind], Drift] = {}
    for item in drift:
        known = entries.setdefault((item.key, item.kind), item)
        if item.diff not in known.diff:
            entries[item.key, item.kind] = replace(known, diff="\n".join(filter(None, (known.diff, item.diff))))
    return tuple(entries.values())
