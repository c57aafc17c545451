# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of services, which is data of role C(topology), read once, and values derived from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).parents[2] / "roles/topology/meta/services.yml"
WORKERS = "workers"
WORKER_UNIT, WORKER_GROUP, CONTAINER_UNIT = "dioptra-worker-", "worker_", "container-"  # prefixes of such names
BALANCER = "nginx"
DIRECT = "direct"
ONE, ODD, BALANCED = "one", "odd", "balanced"
OWN_TLS, TLS_OF_HOST = "own", "host"
Groups = Mapping[str, list[str]]


@dataclass(frozen=True)
class Service:
    """A row, as explained in roles/topology/meta/services.yml."""

    unit: str = ""
    block: tuple[str, ...] = ()
    hosts: str = ""
    tls: str = ""
    metrics: str = ""
    needs: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    own: str = ""
    runtime: str = ""
    store: bool = False

    @property
    def may_be_contained(self) -> bool:
        """Whether a setting selects if it runs in a container."""
        return bool(self.block) and not self.runtime


def _read(row: dict[str, Any]) -> Service:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return Service(**fields)


_table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
SERVICES: dict[str, Service] = {name: _read(row) for name, row in _table["services"].items()}
BLOCKS: dict[str, list[str]] = _table["building_blocks"]
STORES = [name for name, service in SERVICES.items() if service.store]
UNITS = {name: service.unit for name, service in SERVICES.items() if service.unit}


def service_of(group: str) -> str:
    """Return the row of a group; all kinds of workers share one."""
    return WORKERS if group.startswith("worker") else group


def clients_of(name: str) -> list[str]:
    """Return the services that connect to this one, or to another port of one."""
    return [other for other, service in SERVICES.items() if name in service.needs + service.calls]


def ports() -> list[str]:
    """Return the services and their other ports, as those who connect to them call them."""
    called = (name for service in SERVICES.values() for name in service.calls)
    return list(dict.fromkeys([*SERVICES, *called]))


def of_port(name: str) -> str:
    """Return the service of a port."""
    return name.partition(".")[0]


def behind_balancer() -> list[str]:
    """Return the services that have a port which nginx serves."""
    return list(dict.fromkeys(map(of_port, SERVICES[BALANCER].calls)))


def users_of(store: str) -> list[str]:
    """Return the services whose hosts may have used the data of a store, its own first."""
    return [store, *(name for name, service in SERVICES.items() if store in service.needs)]


def with_tls(*kinds: str) -> list[str]:
    return [name for name, service in SERVICES.items() if service.tls in (kinds or (OWN_TLS, TLS_OF_HOST))]


def asked_directly() -> list[str]:
    """Return the services that have metrics of their own."""
    return [name for name, service in SERVICES.items() if service.metrics == DIRECT]


def balanced() -> list[str]:
    return [name for name, service in SERVICES.items() if service.hosts == BALANCED]


def blocks_of(role: str) -> Iterator[str]:
    """Yield the building blocks that a role or a building block uses directly."""
    yield from BLOCKS.get(role, SERVICES.get(service_of(role), Service()).block)


def missing_groups(group: str, groups: Groups, option: Callable[[str], Any]) -> Iterator[str]:
    """Yield required groups without a host. C(option) returns a setting of topology, or None."""
    service = SERVICES.get(service_of(group), Service())
    for need in service.needs:
        if not groups.get(need) and not _is_yours(SERVICES[need].own, option):
            yield need
    if service.hosts == BALANCED and len(groups.get(group, ())) > 1 and not groups.get(BALANCER):
        if not service.own:
            yield BALANCER
            return
        # Unless another address is set, where a load balancer distributes the work.
        host, port = option(f"topology_{group}_host"), option(f"topology_{group}_port")
        if option(f"topology_{group}_address") == f"{host}:{port}":
            yield BALANCER


def _is_yours(setting: str, option: Callable[[str], Any]) -> bool:
    """Return whether a setting names a host, alone or in a URL. An unusable one is reported elsewhere."""
    value = option(setting) if setting else ""
    return value is None or (bool(value) and "//:" not in str(value))


def is_for_one(group: str) -> bool:
    """Return whether the service of this group supports only one host."""
    return SERVICES.get(service_of(group), Service()).hosts == ONE


def is_odd(group: str) -> bool:
    """Return whether the hosts of this group are a cluster, which needs a majority."""
    return SERVICES.get(service_of(group), Service()).hosts == ODD


def of_groups(groups: Iterable[str]) -> list[str]:
    """Return the services of a host in these groups."""
    mine = set(map(service_of, groups))
    return [name for name in SERVICES if name in mine]


def group_of(unit: str) -> str:
    """Return the group whose hosts have this unit, or the user's own container; empty if it is neither.

    Kept data are in a directory with the name of the unit, without the C(@) of instances.
    """
    name = unit.partition("@")[0]
    if name.startswith(CONTAINER_UNIT):
        return name
    if name.startswith(WORKER_UNIT):
        return WORKER_GROUP + name.removeprefix(WORKER_UNIT).replace("-", "_")
    return next((group for group, known in UNITS.items() if known.rstrip("@") == name), "")


def leftovers(own_units: Iterable[str], declared: Iterable[str]) -> list[str]:
    """Return the services that a host still has, according to our units there, but that are no longer declared."""
    wanted = set(map(group_of, declared))
    found = dict.fromkeys(group for group in map(group_of, own_units) if group and group not in wanted)
    return list(found)


def kept_stores(found: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[str]:
    """Return the units of the stores that have data of this deployment among these places."""
    return [
        UNITS[store]
        for store, places in found.items()
        if any(place["is_declared"] and place["mark"] for place in places)
    ]


def to_remove(
    own_units: Iterable[str], declared: Iterable[str], name: str, host: str, groups: Iterable[str]
) -> list[str]:
    """Return what is removed from a host in these groups with this service or host, dependent services first."""
    of_files = [service for service, row in SERVICES.items() if not row.unit and not row.block]
    found = [*leftovers(own_units, declared), *(service for service in of_files if service not in groups)]
    order = list(SERVICES)
    rank = {group: order.index(service_of(group)) for group in found if service_of(group) in order}
    going = [group for group in found if name in (group, host)]
    return sorted(going, key=lambda group: rank.get(group, len(order)), reverse=True)


def removal_told(name: str, groups: Groups, found: Mapping[str, Iterable[str]]) -> str:
    """Return what goes from which hosts."""
    if going := "; ".join(f"{', '.join(parts)} from {host}" for host, parts in found.items() if parts):
        return f"to remove: {going}"
    hosts = ", ".join(groups.get(name, ()))
    wanted = f"; {name} is wanted on {hosts}, and no other host has it" if hosts else ""
    return f"to remove: no service and no kept data{wanted}"


def removal_problem(name: str, data: str, groups: Groups, found: Iterable[Iterable[str]]) -> str:
    """Return why a service or host cannot be removed with these data, or nothing. C(found) is what hosts have of it."""
    if data not in ("", name):
        return f"remove_data: {data} is not what is removed, {name}"
    if name in groups["all"]:
        mine = [group for group in groups if name in groups[group] and service_of(group) in SERVICES]
        still = ", ".join(group for group in mine if group != WORKERS)
        return f"{name} is still in {still}: take it out of these groups in the inventory first" if still else ""
    if any(found):
        return ""
    wanted = groups.get(name, [])
    if wanted and set(wanted) >= set(groups["all"]):
        return f"{name} is wanted on every host: take hosts out of its group in the inventory first"
    if name in groups or name in UNITS:
        return ""
    known = [*(service for service, row in SERVICES.items() if row.unit or not row.block), f"{WORKER_GROUP}<kind>"]
    return f"remove: no host has {name or 'it'}; name a host, or one of {', '.join(known)}, {CONTAINER_UNIT}<name>"
