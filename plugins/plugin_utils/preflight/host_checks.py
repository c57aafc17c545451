# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a host's facts against its roles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.interpreters import OF_DEBIAN
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.listeners import overlap
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight.checks import wanted_ports
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight.role_files import Values

SUPPORTED_RELEASES = {"Debian": ["12", "13"]}
MINIMUM_PYTHON = "3.11"
SERVICE_MANAGER = "systemd"
ALWAYS_RUNNING = "systemd-journald"
# The options that determine where a host's services listen.
PORT_OPTIONS = re.compile(
    r"topology_\w+_(port|enabled)|topology_exporters_ports|\w+_(listen_address|count)|topology_nginx_(domain|runtime)|"
    r"nginx_(sites_\w+|traefik_file)"
)


@dataclass(frozen=True)
class Environment:
    """A virtual environment on a host: its owner and its interpreter.

    C(versions) are those that it supports, by default all of the collection's; C(remedy) is how to use another one.
    """

    owner: str
    python: str
    remedy: str
    versions: tuple[str, ...] = ()


def host_problems(host: str, facts: Mapping[str, Any], environments: Iterable[Environment] = ()) -> Iterator[str]:
    """Report a system that the roles do not support."""
    if "distribution" not in facts:
        yield "facts are missing: gather them before preflight"
        return
    distribution, release = facts["distribution"], facts.get("distribution_major_version", "")
    if release not in SUPPORTED_RELEASES.get(distribution, []):
        supported = [f"{name} {' or '.join(releases)}" for name, releases in SUPPORTED_RELEASES.items()]
        yield f"{distribution} {release} is not supported: use {', '.join(supported)}"
    if facts.get("service_mgr") != SERVICE_MANAGER:
        yield f"services are managed by {facts.get('service_mgr', 'nothing')}: {SERVICE_MANAGER} is needed"
    if _is_too_old(version := _own_python(facts)):
        yield f"Python {MINIMUM_PYTHON} or newer is needed, {host} has {version}"
    yield from _python_problems(host, facts, environments)


def release_problems(releases: Mapping[str, Iterable[str]], facts: Mapping[str, Any]) -> Iterator[str]:
    """Report roles that do not support this release, unlike others. C(releases) are those of each such role."""
    own = facts.get("distribution_major_version", "")
    for role, supported in releases.items():
        if own not in supported:
            yield f"role {role} supports Debian {' or '.join(supported)}, and this host has {own}: choose another host"


def _python_problems(host: str, facts: Mapping[str, Any], environments: Iterable[Environment]) -> Iterator[str]:
    """Report environments whose interpreter does not exist, or has an unsupported version."""
    found = {OF_DEBIAN: _own_python(facts), **facts.get("pythons", {})}
    for environment in environments:
        if environment.python not in found:
            yield f"{environment.owner} wants {environment.python}, which does not run on {host}: install it first"
            continue
        version = ".".join(found[environment.python].split(".")[:2])
        if environment.versions and version not in environment.versions:
            needed = " or ".join(environment.versions)
        elif _is_too_old(version):
            needed = f"{MINIMUM_PYTHON} or newer"
        else:
            continue
        one = f"{environment.python} of {host} is {version}"
        yield f"{environment.owner} needs Python {needed}, {one}: {environment.remedy}"


def _own_python(facts: Mapping[str, Any]) -> str:
    """Return the version of the Python that runs the modules."""
    version = facts.get("python", {}).get("version", {})
    return f"{version.get('major', 0)}.{version.get('minor', 0)}"


def _is_too_old(version: str) -> bool:
    return [int(part) for part in version.split(".")] < [int(part) for part in MINIMUM_PYTHON.split(".")]


def broker_problems(
    nodes: Sequence[Mapping[str, str]],
    found: Mapping[str, Iterable[Mapping[str, Any]]],
    may_leave: bool,
    tls_mode: str,
) -> Iterator[str]:
    """Report nodes that cannot become one cluster in their order, or that the others could not verify meanwhile.

    Args:
        nodes: the declared ones.
        found: the data directories of each of their hosts in this run.
        may_leave: whether this run lets other nodes leave.
        tls_mode: RabbitMQ's; that of several declared nodes has been checked before.
    """
    data = {host: [place for place in places if place["has_data"]] for host, places in found.items()}
    full = [host for host in data if data[host]]
    first = nodes[0]["host"]
    if full and first in data and first not in full:
        yield (
            f"{first} is first in group rabbitmq and has no data, but {full[0]} has: put {full[0]} first, so that the "
            f"others join it"
        )
    declared = {f"rabbit@{node['name']}" for node in nodes}
    members = {member for places in data.values() for place in places for member in place["members"]}
    strangers = ", ".join(sorted(members - declared)) if full else ""
    cluster = {member for place in data[full[0]] for member in place["members"]} if full else set()
    # Whoever joins must reach all nodes, and does not know these. Its data may be those of an earlier membership.
    joins = any(
        node["host"] in data and not (data[node["host"]] and f"rabbit@{node['name']}" in cluster) for node in nodes
    )
    if len(nodes) == 1 and len(cluster) == 1 and strangers:
        # A node knows itself, so these data were moved here, or the host was renamed.
        name = strangers.removeprefix("rabbit@").removesuffix(".rabbitmq")
        yield (
            f"the data of RabbitMQ on {full[0]} have the name of {strangers}: set topology_rabbitmq_node_name: {name} "
            f"for this host, as docs/howto/move.md says"
        )
    elif strangers and not may_leave and (len(nodes) == 1 or joins):
        yield (
            f"{strangers} must leave the cluster of {full[0]} first: run playbooks/remove.yml -e remove=rabbitmq, or "
            f"for a host that is lost site.yml -e topology_rabbitmq_unused_nodes=absent"
        )
    elif strangers and len(nodes) == 1 and tls_mode != "internal":
        yield (
            f"topology_rabbitmq_tls_mode: {strangers} must leave the cluster of {full[0]} before it can be {tls_mode}, "
            f"which has no certificates with the names of the nodes"
        )


def idle_services(units: Mapping[str, str], facts: Mapping[str, Any]) -> set[str]:
    """Return the services whose unit is not running; C(units) has the unit of each."""
    if ALWAYS_RUNNING not in facts.get("running_units", {}):
        return set()  # the host hides processes of other users, so the owner of a port is unknown
    return {service for service, users in _users(units, facts).items() if not users}


def _users(units: Mapping[str, str], facts: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the users of each service's running processes; those of a template are those of its instances."""
    running = facts.get("running_units", {})
    return {
        service: [
            user
            for name, users in running.items()
            if name == unit or (unit.endswith("@") and name.startswith(unit))
            for user in users
        ]
        for service, unit in units.items()
    }


def taken_ports(values: Values, units: Mapping[str, str], facts: Mapping[str, Any]) -> Iterator[str]:
    """Report ports of idle services that another program uses.

    Args:
        values: options that PORT_OPTIONS matches.
        units: the host's services with the unit of each.
        facts: the host's, of M(mlfleet.stack.host_facts).
    """
    idle = idle_services(units, facts)
    # Another service of ours may give up its port in this run.
    ours = {user for users in _users(units, facts).values() for user in users if user}
    for service, name, port, address in wanted_ports(values, units):
        for found in facts.get("listeners", []) if service in idle else []:
            if found["port"] != port or not overlap(address, found["address"]):
                continue
            is_same_user = units[service].startswith(found["user"])
            other = _other_instance(units[service], facts) if is_same_user else None
            # A container may outlive its unit, which this run repairs.
            if other or not (is_same_user or found["uid"] in ours):
                taken = f"port {port}, which {name} needs, is in use by {other or 'a program of user ' + found['user']}"
                stop = f" with systemctl disable --now {other}" if other else ""
                yield f"{taken}: stop it{stop}, or set another port"
                break


def _other_instance(unit: str, facts: Mapping[str, Any]) -> str | None:
    """Return the unit of another version, which runs as the same user."""
    template, is_instance, _name = unit.partition("@")
    running = facts.get("running_units", {})
    return next((name for name in sorted(running) if is_instance and name.startswith(f"{template}@")), None)
