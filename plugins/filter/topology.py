# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Endpoints and clients of the services, from inventory values alone."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote
from zlib import crc32

from ansible_collections.mlfleet.stack.plugins.plugin_utils import services

LOOPBACK, ANY = "127.0.0.1", "0.0.0.0"
LOOPBACKS = re.compile(r"127(\.[0-9]+){3}|localhost(\..*)?")
Groups = Mapping[str, list[str]]


def hosts_of(groups: Groups, service: str) -> list[str]:
    """The hosts that run a service; C(workers) are those of all kinds."""
    names = [name for name in groups if name.startswith("worker")] if service == "workers" else [service]
    return list(dict.fromkeys(host for name in names for host in groups.get(name, [])))


def clients(groups: Groups, service: str) -> list[str]:
    """Return the hosts that connect to a service, or to another port of one.

    For nginx, those that reach through it what several hosts offer.
    """
    if service == "nginx":
        shared = [name for name in services.balanced() if len(hosts_of(groups, name)) > 1 and hosts_of(groups, "nginx")]
        names = [client for name in shared for client in services.clients_of(name)]
    else:
        names = services.clients_of(service)
    return list(dict.fromkeys(host for name in names for host in hosts_of(groups, name)))


def addresses(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The address of each host as its peers know it: topology_address, else ansible_host, else its name."""
    known = ((host, hostvars[host]) for host in hosts)  # each lookup in hostvars builds its result again
    return [str(own.get("topology_address") or own.get("ansible_host") or host) for host, own in known]


def broker_nodes(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """The RabbitMQ nodes of hosts: each with its name, which is in no DNS, and the address of its host."""
    known = list(hosts)
    names = (str(hostvars[host].get("topology_rabbitmq_node_name") or host) for host in known)
    return [
        {"host": host, "name": f"{name}.rabbitmq", "address": address}
        for host, name, address in zip(known, names, addresses(known, hostvars), strict=True)
    ]


def endpoint(hosts: list[str], clients: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> str:
    """Return where clients reach a service: loopback if they all share its only host, else its first host's address."""
    if len(hosts) == 1 and all(client in hosts for client in clients):
        return LOOPBACK
    return next(iter(addresses(hosts, hostvars)), "")


def nearest(hosts: list[str], host: str, clients: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> str:
    """Return where a host reaches a service of several hosts: on itself, else on the one that its name selects."""
    if len(hosts) < 2:
        return endpoint(hosts, clients, hostvars)
    return addresses([host if host in hosts else hosts[crc32(host.encode()) % len(hosts)]], hostvars)[0]


def units(groups: Iterable[str], kinds: Iterable[str] = (), containers: Iterable[str] = ()) -> list[str]:
    """The systemd units of a host in these groups, with kinds of workers and containers of the user's own."""
    mine = set(groups)
    workers = [group.removeprefix("worker_") for group in sorted(mine) if group.startswith("worker_")]
    kinds = [*(kind.replace("_", "-") for kind in workers if kind != "custom"), *kinds]
    return [
        *(unit for group, unit in services.UNITS.items() if group in mine),
        *(f"dioptra-worker-{kind}@" for kind in kinds),
        *(f"container-{name}" for name in containers),
    ]


def unreachable(host: str, groups: Mapping[str, list[str]], hostvars: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Report a service of this host that others would look for on themselves."""
    for service in services.SERVICES:
        # The clients of nginx take its address from topology_balancer.
        if service == services.BALANCER or host not in groups.get(service, ()):
            continue
        address = addresses([host], hostvars)[0]
        ports = [port for port in services.ports() if services.of_port(port) == service]
        looked_for = [port for port in ports if not hostvars[host].get(f"topology_{port.replace('.', '_')}_host")]
        others = [client for port in looked_for for client in clients(groups, port) if client != host]
        if not others:
            continue
        same = [client for client in others if addresses([client], hostvars)[0] == address]
        if LOOPBACKS.fullmatch(address):
            yield f"topology_address: {others[0]} would look for {service} at {address}; set the host's own address"
        elif same:
            yield f"topology_address: {address} is that of {same[0]}, too, which needs {service}; set each host's own"


def listen(host: str, clients: list[str] | None = None) -> str:
    """Return the address that a service with this endpoint binds to: loopback as it is, otherwise all interfaces.

    Where C(clients) are given and there are none, several hosts have no reason to listen on a network either.
    """
    return LOOPBACK if host == LOOPBACK or clients == [] else ANY


def ask_at(address: str) -> str:
    """Return where a service that listens on this address is reached from its own host."""
    return LOOPBACK if address == ANY else address


def cidr(address: str) -> str:
    """Return an address as pg_hba.conf requires it, with its full prefix length; a name stays a name."""
    try:
        return str(ipaddress.ip_network(address))
    except ValueError:
        return address


def pick(item: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Return the item with only these of its keys, such as those that a module accepts."""
    return {key: item[key] for key in keys if key in item}


def runtime_settings(groups: Iterable[str]) -> list[str]:
    """Return the runtime settings of the services of a host in these groups."""
    mine = (name for name in services.of_groups(groups) if services.SERVICES[name].may_be_contained)
    return [f"topology_{'worker' if name == services.WORKERS else name}_runtime" for name in mine]


def tls_settings(_groups: Iterable[str]) -> list[str]:
    """Return the TLS settings of all services."""
    return [f"topology_{name}_tls_mode" for name in services.with_tls()]


def site_settings(_groups: Iterable[str]) -> list[str]:
    """Return the settings in which services declare their nginx sites."""
    return [f"topology_{name}_sites" for name in sorted(services.SERVICES)]


def behind_balancer(groups: Iterable[str]) -> list[str]:
    """The names by which nginx knows the services of a host in these groups."""
    mine = services.of_groups(groups)
    return [name for name in services.behind_balancer() if name in mine]


def accounts(declared: Iterable[Mapping[str, Any]], unused: str, *keys: str) -> list[dict[str, Any]]:
    """Return accounts with these keys. Those that no host uses are left out, or absent if I(unused) says so."""
    listed = list(declared)
    gone = [{**pick(item, *keys), "state": "absent"} for item in listed if not item["clients"]]
    return [pick(item, *keys) for item in listed if item["clients"]] + (gone if unused == "absent" else [])


def removals(own_units: Iterable[str], command: str) -> dict[str, str]:
    """Return the removal command of each unit that belongs to a service."""
    return {unit: f"{command} -e remove={group}" for unit in own_units if (group := services.group_of(unit))}


def named(name: str) -> dict[str, str]:
    """Return a declaration that consists of a name only."""
    return {"name": name}


def userinfo(user: str, password: str) -> str:
    """Return user and password as they precede the @ of a URL; a slash, too, would end that part."""
    return f"{quote(user, safe='')}:{quote(password, safe='')}"


def rename(item: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """The item with keys renamed, from the keyword to its value."""
    return {names.get(key, key): value for key, value in item.items()}


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "accounts": accounts,
            "addresses": addresses,
            "behind_balancer": behind_balancer,
            "broker_nodes": broker_nodes,
            "endpoint": endpoint,
            "nearest": nearest,
            "listen": listen,
            "ask_at": ask_at,
            "cidr": cidr,
            "clients": clients,
            "hosts_of": hosts_of,
            "named": named,
            "leftovers": services.leftovers,
            "pick": pick,
            "kept_stores": services.kept_stores,
            "removal_problem": services.removal_problem,
            "removal_told": services.removal_told,
            "removals": removals,
            "rename": rename,
            "runtime_settings": runtime_settings,
            "site_settings": site_settings,
            "to_remove": services.to_remove,
            "tls_settings": tls_settings,
            "units": units,
            "userinfo": userinfo,
        }
