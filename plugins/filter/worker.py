# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data for the kinds of workers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

NAME = re.compile(r"[A-Za-z0-9._-]+")
GPU_WORKERS = re.compile(r"worker_\w+_gpu")


def pins(requirements: str, packages: Iterable[str]) -> str:
    """Return a requirements file's text with additional pins, each replacing the file's own of that name."""
    replaced = {_name(package) for package in packages}
    kept = [line for line in requirements.splitlines() if _name(line) not in replaced]
    return "\n".join([*kept, *packages])


def _name(requirement: str) -> str:
    """Return a package's name, normalized as indexes compare it."""
    found = NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""


def gpu_wishes(kinds: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the GPU requests of the kinds of workers that have any."""
    return [
        {"worker": kind["name"], "count": int(kind.get("count", 1)), "gpus": kind["gpus"]}
        for kind in kinds
        if kind.get("gpus")
    ]


def interpreters(settings: Mapping[str, Any]) -> list[str]:
    """The interpreters that a host's settings name for environments of workers."""
    named = [settings.get("python_app_python"), settings.get("worker_python")]
    named += [kind.get("python") for kind in settings.get("worker_custom_kinds") or []]
    return list(dict.fromkeys(filter(None, named)))


def queue_workers(
    queues: Mapping[str, Iterable[str]], groups: Mapping[str, Iterable[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> dict[str, int]:
    """Return how many instances of Dioptra's own worker serve each queue; C(queues) has those of each group."""
    kinds = [
        {"queues": names, "count": hostvars[host].get(f"{group}_count", 1)}
        for group, names in queues.items()
        for host in groups.get(group, ())
    ]
    for host in groups.get("worker_custom", ()):
        kinds += hostvars[host].get("worker_custom_kinds") or []
    found: dict[str, int] = {}
    for kind in kinds:
        count = 0 if kind.get("command") else int(kind.get("count", 1))
        for queue in kind["queues"] if count else ():
            found[queue] = found.get(queue, 0) + count
    return found


def declared_gpus(groups: Mapping[str, Iterable[str]], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of GPUs, or slices of them, that workers of each host need; V(all) are at least one."""
    found: dict[str, int] = {}
    for host in groups.get("gpu", ()):
        settings = hostvars[host]
        kinds = [
            {"count": settings.get(f"{group}_count", 1), "gpus": settings.get(f"{group}_gpus", 1)}
            for group in groups
            if GPU_WORKERS.fullmatch(group) and host in groups[group]
        ]
        if host in groups.get("worker_custom", ()):
            kinds += settings.get("worker_custom_kinds") or []
        found[host] = sum(_gpus_of(int(kind.get("count", 1)), kind.get("gpus", 0)) for kind in kinds)
    return {host: gpus for host, gpus in found.items() if gpus}


def _gpus_of(count: int, gpus: Any) -> int:
    if gpus == "all" or isinstance(gpus, list):
        return (1 if gpus == "all" else len(gpus)) if count else 0
    return count * int(gpus)


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "declared_gpus": declared_gpus,
            "pins": pins,
            "gpu_wishes": gpu_wishes,
            "interpreters": interpreters,
            "queue_workers": queue_workers,
        }
