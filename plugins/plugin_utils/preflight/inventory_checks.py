# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of the inventory's groups and hosts against each other."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.mlfleet.stack.plugins.plugin_utils import gpu_placement, services
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight.checks import ROLLOUT_SETTINGS
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight.role_files import Values

GPU_GROUP = "gpu"
SIMILAR = 0.9  # from 0 to 1, so that a swapped or a missing letter is found, and a further word is not
NAMED_HOSTS = 5  # of those that have the same problem
NO_TOOLKIT = (
    "containers get GPUs from the NVIDIA Container Toolkit, which is missing: install it, "
    "or set topology_worker_runtime: bare"
)
WORKER_PREFIX = "dioptra-worker-"
# Settings that are read for a whole group at once: by a play before it has a host, or on the controller.
SHARED_SETTINGS = {
    "all": ROLLOUT_SETTINGS,
    "frontend": (
        *("frontend_source", "frontend_checksum", "frontend_ref", "frontend_directory", "frontend_build_command"),
        *("frontend_output_directory", "frontend_node", "frontend_version"),
    ),
    "grafana": ("grafana_package_url", "grafana_package_sha256"),
    "minio": ("minio_version", "minio_release", "minio_binary_url", "minio_binary_sha256"),
    "restapi": ("restapi_resources",),
}


def flattened(wishes: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """Return the GPU requests of a host's workers, in the order of their roles."""
    return [wish for mine in wishes.values() for wish in mine]


def gpu_holders(environment_files: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], Sequence[str]]:
    """Replace the file of each instance, such as dioptra-worker-pytorch-gpu/1.env, by worker and instance."""
    paths = {Path(file): gpus for file, gpus in environment_files.items()}
    return {(path.parent.name.removeprefix(WORKER_PREFIX), path.stem): gpus for path, gpus in paths.items()}


def gpu_problems(wishes: Sequence[Mapping[str, Any]], groups: Iterable[str]) -> Iterator[str]:
    """Report invalid GPU requests, and workers that request GPUs on a host that is not declared to have any."""
    try:
        gpu_placement.check(wishes)
    except gpu_placement.PlacementError as error:
        yield str(error)
    workers = [wish["worker"] for wish in wishes if wish["count"] and wish["gpus"] not in (0, "0", [])]
    if workers and GPU_GROUP not in groups:
        yield f"{', '.join(workers)} on a host without GPUs: add it to group {GPU_GROUP}, or set their gpus to 0"


def empty_groups(missing: Mapping[str, Iterable[str]], inventory: str) -> Iterator[str]:
    """Report required groups without a host. C(missing) has those of each role."""
    for role, names in missing.items():
        for group in names:
            yield f"{role} needs group {group}, which has no host: add one to {inventory}, see inventories/prod"


def crowded_groups(roles: Iterable[str], groups: Mapping[str, list[str]]) -> Iterator[str]:
    """Report groups whose service supports only one host, or an odd number of them."""
    for role in roles:
        hosts = groups[role]
        if len(hosts) > 1 and services.is_for_one(role):
            yield f"group {role} has hosts {', '.join(hosts)}: at most 1 is supported"
        if hosts and len(hosts) % 2 == 0 and services.is_odd(role):
            yield (
                f"group {role} has hosts {', '.join(hosts)}: a cluster needs a majority, so an even number of them is "
                f"no safer than one less; add one, or take one out"
            )


def unknown_workers(roles: Iterable[str], groups: Mapping[str, list[str]]) -> Iterator[str]:
    """Report child groups of workers with hosts in no group of a kind of workers."""
    kinds = [role for role in roles if role.startswith("worker_")]
    of_a_kind = {host for kind in kinds for host in groups.get(kind, ())}
    for group in sorted(name for name in groups if name.startswith("worker")):
        if idle := [host for host in groups[group] if host not in of_a_kind]:
            yield f"group {group}: no workers would run on {', '.join(idle)}; the kinds are {', '.join(kinds)}"


def impatient_proxies(longest: Mapping[str, int], patience: Mapping[str, int]) -> Iterator[str]:
    """Report that nginx would not wait as long as a request to the serving API may take.

    :param longest: the duration of a request on each host of the API
    :param patience: the timeout of each host of nginx
    """
    for seconds in sorted(set(longest.values())):
        for timeout in sorted(set(patience.values())):
            if seconds >= timeout:
                yield (
                    f"serving_request_seconds: {seconds} is not below nginx_read_timeout_seconds, {timeout}, after "
                    f"which nginx answers with an error; lower serving_wait_seconds or serving_broker_wait_seconds, "
                    f"or raise the other one"
                )


def unserved_queues(sent: Mapping[str, str], served: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Report queues where the serving API sends tasks and that no worker of any host serves.

    :param sent: the queue of each host of the API
    :param served: the queues of each host of its workers; another check reports that there is none
    """
    known = {queue for queues in served.values() for queue in queues}
    for queue in sorted(set(sent.values()) - known) if served else ():
        hosts = " or ".join(served)
        yield f"serving_worker_queues: no worker serves {queue}, where the API sends its tasks; add it on {hosts}"


def strangers(values: Values, groups: Mapping[str, list[str]]) -> Iterator[str]:
    """Report what keeps the host of group drift from signing in on this one with the inventory's settings alone."""
    if groups.get("drift"):
        if not values.get("ansible_user"):
            yield "ansible_user: is not in the inventory; set it to the user that the host of group drift signs in as"
        if values.get("ansible_become") and values.get("ansible_user") != "root":
            yield "ansible_become: cannot be used with a host in group drift; leave it out, roles become root anyway"


def misspelled(names: Iterable[str], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield names that are not known, each with the known one that it seems to mean."""
    for name in sorted(set(names).difference(known)):
        if "_" in name and f"topology_{name}" in known:
            yield name, f"topology_{name}"
        elif found := difflib.get_close_matches(name, known, 1, SIMILAR):
            yield name, found[0]


def misspelled_groups(roles: Iterable[str], groups: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yield groups that are no role, each with the role that its hosts seem to be meant for and do not run."""
    for group, meant in misspelled(groups, {*roles, "workers", GPU_GROUP, "all", "ungrouped"}):
        if not set(groups[group]) <= set(groups.get(meant, ())):
            yield group, meant


def unwatched(groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Name the hosts of services that are not watched, in one line; exporters may not run on their release."""
    if groups.get("prometheus"):
        mine = {name for group in groups if services.service_of(group) in services.SERVICES for name in groups[group]}
        rest = sorted(mine.difference(groups.get("exporters", ())))
        yield from joined((name, "is not watched, because it is not in group exporters") for name in rest)


def scattered(host: str, groups: Mapping[str, Sequence[str]], declared: Callable[[str], Values]) -> Iterator[str]:
    """Report settings of a host that differ from the first host of a group that must share them.

    C(declared) has a host's variables before they are rendered, because some can be rendered only in a role.
    """
    for group, names in SHARED_SETTINGS.items():
        members = groups.get(group, ())
        if host in members and host != members[0]:
            mine, first = declared(host), declared(members[0])
            for name in names:
                if mine.get(name) != first.get(name):
                    yield f"{name}: differs from its value on {members[0]}; set it once, in group_vars/{group}"


def joined(problems: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Return each problem once, after the names of the hosts that have it, if it is of hosts.

    :param problems: pairs of a host's name, or an empty one, and a problem
    """
    hosts: dict[str, list[str]] = {}
    for host, problem in problems:
        hosts.setdefault(problem, []).append(host)
    for problem, names in hosts.items():
        named = list(filter(None, names))
        shown = [*named[:NAMED_HOSTS], *([f"{more} more"] if (more := len(named) - NAMED_HOSTS) > 0 else [])]
        yield f"{', '.join(shown)}: {problem}" if shown else problem


def secret_lines(missing: Iterable[str], malformed: Mapping[str, str], inventory: str) -> Iterator[str]:
    if names := ", ".join(missing):
        yield f"secrets are missing: {names} – run: mlfleet init {inventory}"  # noqa: RUF001
    for name, problem in malformed.items():
        yield (
            f"{name} {problem}: remove it from group_vars/all/vault.yml with ansible-vault edit, "
            f"then run: mlfleet init {inventory}"
        )


def inventory_directory(sources: Iterable[str], fallback: str | None, cwd: Path) -> str:
    """Return the inventory's path as the user would write it."""
    paths = [cwd / source for source in [*sources, fallback or "."]]
    path = next((path for path in paths if path.exists()), cwd)
    directory = path if path.is_dir() else path.parent
    return str(directory.relative_to(cwd) if directory.is_relative_to(cwd) else directory)
