# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Track which data a deployment has used, so that no empty store replaces them; hosts read, the controller compares.

A mark is a line in a file: the identity of the data, and the host that they were on. It is stored with the data and on
each host that has used them. The identity is derived from the first host that had the data, so it is stored nowhere
else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USED = Path("/etc/mlfleet/stores")  # a mark for each store that the host has used
MARK = "mlfleet.mark"  # in the data
# Files of hosts that were deployed before marks existed; their first run creates USED.
FORMER = {"mlflow.secret.env": ("postgres", "minio"), "dioptra-restapi.secret.env": ("postgres", "redis")}
FIRST_OWN_DATABASE = 16384  # PostgreSQL's own have lower numbers
GUIDE = "docs/howto/move.md"
# What RabbitMQ itself keeps of its cluster, in the directory of its node.
CLUSTER_FILE, NODE = "*/cluster_nodes.config", re.compile(r"rabbit@[^',\]\s]+")


@dataclass(frozen=True)
class Mark:
    identity: str = ""
    host: str = ""

    @classmethod
    def of(cls, text: str) -> Mark:
        identity, _blank, host = text.strip().partition(" ")
        return cls(identity, host)

    def __str__(self) -> str:
        return f"{self.identity} {self.host}"


@dataclass(frozen=True)
class Place:
    """A directory of a store's host, and its contents."""

    host: str
    path: str
    mark: Mark
    has_data: bool
    is_declared: bool  # False for another version's
    members: Sequence[str] = ()  # of the cluster that they belong to


def mark_file(store: str) -> str:
    """Return where the mark is in a directory of the store; MinIO shows all but its own directory as buckets."""
    return f".minio.sys/{MARK}" if store == "minio" else MARK


# --- on a host ------------------------------------------------------------------------------------------------------


def used(directory: Path = USED) -> dict[str, str]:
    """Return the mark of each store that this host has used; an empty one if it did so before marks existed."""
    if directory.is_dir():
        return {file.name: file.read_text() for file in directory.iterdir()}
    former = [stores for name, stores in FORMER.items() if (directory.parent / name).exists()]
    return {store: "" for stores in former for store in stores}


def places(store: str, paths: Iterable[str], patterns: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the existing directories, each with its mark and whether it has data.

    Args:
        store: the store they belong to.
        paths: the declared ones.
        patterns: other places where data may be.
    """
    declared = set(paths)
    found = {str(path) for pattern in [*paths, *patterns] for path in Path("/").glob(pattern.lstrip("/"))}
    return [
        {
            "path": path,
            "mark": _text(Path(path, mark_file(store))),
            "has_data": _has_data(store, Path(path)),
            "is_declared": path in declared,
            "members": members(Path(path)) if store == "rabbitmq" else [],
        }
        for path in sorted(found)
    ]


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def members(path: Path) -> list[str]:
    """Return the nodes of the cluster that these data belong to."""
    return sorted({node for file in path.glob(CLUSTER_FILE) for node in NODE.findall(file.read_text())})


def _has_data(store: str, path: Path) -> bool:
    if store == "postgres":
        numbers = (entry.name for entry in (path / "base").glob("*"))
        return any(number.isdigit() and int(number) >= FIRST_OWN_DATABASE for number in numbers)
    if store == "minio":
        return (path / ".minio.sys/format.json").exists()
    return any(entry.name != MARK for entry in path.iterdir())


# --- on the controller ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """A store of the inventory, as known from the hosts in this run that have it or have used it."""

    name: str
    hosts: Sequence[str]
    asked: Sequence[str]  # of these
    places: Sequence[Place]
    users: Mapping[str, Mark]
    machine: str  # identity of the first of the hosts, if it is in this run

    @classmethod
    def of(
        cls,
        name: str,
        users: Iterable[str],
        groups: Mapping[str, Sequence[str]],
        asked: Sequence[str],
        facts: Callable[[str], Mapping[str, Any]],
    ) -> Store:
        hosts = groups.get(name) or []
        members = {host for group in users for host in groups.get(group) or []}
        used = {host: facts(host).get("used_stores", {}) for host in asked if host in members}
        own = [host for host in hosts if host in asked]
        places = [
            Place(
                host,
                place["path"],
                Mark.of(place["mark"]),
                place["has_data"],
                place["is_declared"],
                place.get("members", ()),
            )
            for host in own
            for place in facts(host).get("stores", {}).get(name, [])
        ]
        machine = facts(hosts[0]).get("machine_id") or hosts[0] if own[:1] == list(hosts[:1]) and own else ""
        return cls(name, hosts, own, places, {h: Mark.of(m[name]) for h, m in used.items() if name in m}, machine)

    @property
    def declared(self) -> list[Place]:
        return [place for place in self.places if place.is_declared]

    @property
    def beginning(self) -> str:
        """The identity of data that are created on the first of the hosts."""
        return hashlib.sha256(f"{self.name} {self.machine}".encode()).hexdigest()[:16] if self.machine else ""

    @property
    def mark(self) -> Mark | None:
        """The mark for data and users; nothing if the hosts that know it are not in this run."""
        marked = (place.mark.identity for place in self.declared if place.mark.identity)
        identity = next(marked, "") or self.beginning
        return Mark(identity, self.hosts[0]) if identity else None

    def problems(self, host: str) -> Iterator[str]:
        """Yield the problems that this host reports: the store's first, or each user of a store outside this run."""
        if self.asked[:1] == [host]:
            yield from self._refusals()
        elif self.hosts and not self.asked and host in self.users:
            yield from self._unasked(self.users[host])

    def _refusals(self) -> Iterator[str]:
        known = {place.mark.identity for place in self.declared} - {""}
        marked = {host: mark for host, mark in self.users.items() if mark.identity}
        strangers = {host: mark for host, mark in marked.items() if mark.identity not in known}
        if known:
            if strangers:
                yield self._told("other data than", strangers)
        elif self.users and len(self.asked) == len(self.hosts) and not self._is_adopted(marked):
            yield self._told("no data, and not those that", self.users)

    def _is_adopted(self, marked: Mapping[str, Mark]) -> bool:
        """Return whether the data are older than marks, or from a run that was killed before it marked them."""
        return any(place.has_data for place in self.declared) and all(
            mark.identity == self.beginning for mark in marked.values()
        )

    def _told(self, what: str, users: Mapping[str, Mark]) -> str:
        where = ", ".join(place.path for place in self.declared) or "its directory, which does not exist"
        former = ", ".join(dict.fromkeys(f", last on {mark.host}" for mark in users.values() if mark.host))
        others = [f"{place.path} on {place.host}" for place in self.places if not place.is_declared and place.has_data]
        elsewhere = f"; there are data in {', '.join(others)}" if others else ""
        return (
            f"{self.name} on {', '.join(self.hosts)} has {what} {', '.join(users)} used{former} (looked at {where}"
            f"{elsewhere}): mount or move them as {GUIDE} says, or let it start empty, once, with "
            f"-e topology_empty_store_accepted={self.name}"
        )

    def _unasked(self, mark: Mark) -> Iterator[str]:
        if mark.host and mark.host != self.hosts[0]:
            yield (
                f"{self.name} was on {mark.host} when this host last used it and is on {self.hosts[0]} now, "
                f"which is not in this run: add it to --limit, or omit --limit"
            )
