# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assignment of a host's GPUs to its workers: plain data in and out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

from ansible_collections.mlfleet.stack.plugins.module_utils.gpu import Gpu

# Devices that every CUDA program opens in addition to its GPU.
CONTROL_DEVICES = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"]

# CUDA uses the devices before the first that does not exist. An empty value would work, but is easily taken for unset.
NO_DEVICE = "-1"


class Assignment(TypedDict):
    """The GPUs of one instance of a worker."""

    worker: str
    instance: str  # from 1
    gpus: list[str]  # GPUs as 0, slices as 0:1
    uuids: list[str]  # the index if the UUID is unknown
    environment: dict[str, str]
    devices: list[str]


class PlacementError(Exception):
    """Requests that the host's GPUs cannot meet: a line with the remedy, and a table of the requests."""


class _Unit(NamedTuple):
    """A unit of assignment: a GPU, or a slice of one."""

    name: str
    uuid: str
    devices: list[str]
    slice_of: tuple[str, ...] = ()  # index and UUID of the GPU


def assign(
    wishes: Sequence[Mapping[str, Any]],
    gpus: Sequence[Gpu],
    problem: str = "",
    held: Mapping[tuple[str, str], Sequence[str]] | None = None,
    may_move: bool = True,
) -> list[Assignment]:
    """Assign a host's GPUs to the instances of its workers.

    A wish has a C(worker), the C(count) of its instances, and the C(gpus) that it requests: a number for each instance
    (1 if omitted), a list of GPUs that its instances share evenly in this order, or V(all) for its only instance.
    In lists, a GPU is an index or a UUID, and a MIG slice a UUID or GPU:SLICE, quoted because 1:0 is a number in YAML.
    Named GPUs are reserved first. Other instances keep what they have, and get the lowest free ones, wish by wish, so
    that none moves when another changes its count: its jobs continue, and a run of one kind does not take another's.

    C(held) has the UUIDs or indices that a worker's instances have already; if the wishes do not fit around these,
    all are assigned again, provided that they C(may_move). C(problem) is the one in the host's facts; it explains why
    GPUs are missing. PlacementError gives the reason if an assignment is impossible.
    """
    units = list(_units(gpus))
    placed: list[list[list[_Unit]]] = [[] for _wish in wishes]
    try:
        _place(wishes, units, placed, problem, held or {})
    except PlacementError as error:
        if held and may_move:
            return assign(wishes, gpus, problem)
        raise PlacementError(f"{error}\n\n{_table(wishes, placed)}") from None
    return [
        _assignment(wish["worker"], str(number), mine)
        for wish, instances in zip(wishes, placed, strict=True)
        for number, mine in enumerate(instances, start=1)
    ]


def _units(gpus: Iterable[Gpu]) -> Iterator[_Unit]:
    for gpu in gpus:
        name, uuid = str(gpu["index"]), gpu["uuid"]
        devices = [] if gpu["minor"] is None else [f"/dev/nvidia{gpu['minor']}"]
        if not gpu["mig_enabled"]:
            yield _Unit(name, uuid, devices)
        for part in gpu["mig_slices"]:
            yield _Unit(f"{name}:{part['index']}", part["uuid"], [*devices, *part["devices"]], (name, uuid))


def _place(
    wishes: Sequence[Mapping[str, Any]],
    units: list[_Unit],
    placed: list[list[list[_Unit]]],
    problem: str,
    held: Mapping[tuple[str, str], Sequence[str]],
) -> None:
    """Fill C(placed) with the units of each instance, one list for each wish."""
    check(wishes)
    asked = sum(_asked(wish, len(units)) for wish in wishes)
    if asked and not units:
        raise PlacementError(
            f"GPUs are requested, but this host has none: {problem or 'install the NVIDIA driver, or request 0'}"
        )
    owners: dict[str, str] = {}
    for wish, instances in zip(wishes, placed, strict=True):
        for mine in _named(wish, units):
            for unit in mine:
                if unit.name in owners:
                    both = f"{owners[unit.name]} and {wish['worker']}"
                    raise PlacementError(f"GPU {unit.name} is assigned twice, to {both}: name it once")
                owners[unit.name] = wish["worker"]
            instances.append(mine)
    free = [unit for unit in units if unit.name not in owners]
    kept: dict[tuple[str, str], list[_Unit]] = {}
    for wish, instances in zip(wishes, placed, strict=True):
        for number in range(len(instances) + 1, wish["count"] + 1):
            instance = (wish["worker"], str(number))
            usable = _usable(free, _number_wanted(wish))
            mine = [unit for unit in usable if {unit.name, unit.uuid} & set(held.get(instance, ()))]
            kept[instance] = mine[: _number_wanted(wish)]
            free = [unit for unit in free if unit not in kept[instance]]
    for wish, instances in zip(wishes, placed, strict=True):
        for number in range(len(instances) + 1, wish["count"] + 1):
            wanted, mine = _number_wanted(wish), kept[wish["worker"], str(number)]
            mine += _usable(free, wanted)[: wanted - len(mine)]
            if len(mine) < wanted:
                raise PlacementError(_shortage(wish, asked, units) + (f" ({problem})" if problem else ""))
            free = [unit for unit in free if unit not in mine]
            instances.append(sorted(mine, key=units.index))


def _shortage(wish: Mapping[str, Any], asked: int, units: list[_Unit]) -> str:
    if asked > len(units):
        return f"{asked} GPUs are requested, but this host has {len(units)}: lower count or gpus"
    return (
        f"{wish['worker']} wants {_number_wanted(wish)} GPUs for an instance, and too few whole ones are left, "
        "as CUDA shows a program one MIG slice only: ask for 1, or turn MIG off"
    )


def check(wishes: Sequence[Mapping[str, Any]]) -> None:
    """Raise PlacementError for invalid wishes, regardless of the host's GPUs."""
    workers = [wish["worker"] for wish in wishes]
    for wish in wishes:
        worker, count, gpus = wish["worker"], wish["count"], wish.get("gpus", 1)
        if workers.count(worker) > 1:
            raise PlacementError(f"{worker} is listed twice: merge the entries, or give each its own name")
        if gpus == "all" and count > 1:
            raise PlacementError(f"{worker} wants all GPUs for each of {count} instances: set count to 1, or a number")
        if isinstance(gpus, list) and count and len(gpus) % count:
            raise PlacementError(
                f"{worker} names {len(gpus)} GPUs for {count} instances: name as many for each, or change count"
            )
        if gpus != "all" and not isinstance(gpus, list) and not str(gpus).isdecimal():
            raise PlacementError(f"gpus of {worker} is {gpus!r}: give a number, a list of GPUs, or all")


def _number_wanted(wish: Mapping[str, Any]) -> int:
    """Return the number of GPUs for each instance of a wish that does not name them."""
    gpus = wish.get("gpus", 1)
    return 0 if isinstance(gpus, list) else int(gpus)


def _asked(wish: Mapping[str, Any], available: int) -> int:
    gpus: Any = wish.get("gpus", 1)
    count: int = wish["count"]
    if isinstance(gpus, list):
        return len(gpus) if count else 0
    return count * (max(available, 1) if gpus == "all" else int(gpus))


def _named(wish: Mapping[str, Any], units: list[_Unit]) -> list[list[_Unit]]:
    """Return the named GPUs of each instance; nothing if the wish gives a number."""
    gpus, count = wish.get("gpus", 1), wish["count"]
    if not count or not (gpus == "all" or isinstance(gpus, list)):
        return []
    named = units if gpus == "all" else [_find(str(name), wish["worker"], units) for name in gpus]
    size = len(named) // count
    shares = [named[start : start + size] for start in range(0, size * count, size)] if size else [[]] * count
    for share in shares:
        if len(share) > 1 and any(unit.slice_of for unit in share):
            names = ", ".join(unit.name for unit in share)
            raise PlacementError(
                f"{wish['worker']} wants {names} for an instance, and CUDA shows a program one MIG slice only: "
                "name one for each instance, or turn MIG off"
            )
    return shares


def _find(name: str, worker: str, units: list[_Unit]) -> _Unit:
    for unit in units:
        if name in (unit.name, unit.uuid):
            return unit
    slices = [unit.name for unit in units if name in unit.slice_of]
    if slices:
        raise PlacementError(f"{worker} wants GPU {name}, which MIG divides: name one of {', '.join(slices)}")
    known = ", ".join(unit.name for unit in units)
    raise PlacementError(f"{worker} wants GPU {name}, which this host does not have: name one of {known}")


def _usable(free: list[_Unit], number: int) -> list[_Unit]:
    """Return the free units that fit: CUDA shows a program at most one MIG slice, so several must be whole GPUs."""
    return free if number <= 1 else [unit for unit in free if not unit.slice_of]


def _assignment(worker: str, instance: str, units: list[_Unit]) -> Assignment:
    are_known = all(unit.uuid for unit in units)
    uuids = [unit.uuid if are_known else unit.name for unit in units]
    devices = dict.fromkeys(device for unit in units for device in unit.devices)
    return {
        "worker": worker,
        "instance": instance,
        "gpus": [unit.name for unit in units],
        "uuids": uuids,
        "environment": {
            # For GPUs without a UUID: CUDA would count the fastest first, but nvidia-smi counts in bus order.
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": ",".join(uuids) or NO_DEVICE,
        },
        "devices": [*devices, *CONTROL_DEVICES] if units else [],
    }


def _table(wishes: Sequence[Mapping[str, Any]], placed: Sequence[Sequence[Sequence[_Unit]]]) -> str:
    """Return a table of the wishes, and what each instance got before the error; a hyphen for nothing."""
    rows = [("worker", "instances", "wants", "gets")]
    for wish, instances in zip(wishes, placed, strict=True):
        gpus = wish.get("gpus", 1)
        wants = ", ".join(map(str, gpus)) if isinstance(gpus, list) else "all" if gpus == "all" else f"{gpus} each"
        gets = ["+".join(unit.name for unit in mine) or "-" for mine in instances]
        gets += ["-"] * (wish["count"] - len(gets))
        rows.append((wish["worker"], str(wish["count"]), wants or "-", ", ".join(gets) or "-"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
