# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sites of nginx and the pages behind them, as services declare them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from ansible_collections.mlfleet.stack.plugins.filter.topology import ANY, LOOPBACK, pick

Site = Mapping[str, Any]


def merged_sites(declared: Iterable[Iterable[Site]], settings: Iterable[str]) -> list[dict[str, Any]]:
    """Merge the sites by port: the lists of all services that declare a part of one, and the first of other values.

    :param settings: the names of these lists
    """
    merged: dict[str, dict[str, Any]] = {}
    for setting, part in ((setting, part) for setting, parts in zip(settings, declared, strict=True) for part in parts):
        if not part["backends"]:
            continue
        site = merged.setdefault(part["name"], {})
        service = setting.removeprefix("topology_").removesuffix("_sites")
        pages = [{**page, "hosts": part["backends"], "service": service} for page in part.get("pages", ())]
        for key, value in {**part, "pages": pages}.items():
            site[key] = [*site.get(key, ()), *value] if isinstance(value, list) else site.get(key, value)
    return sorted(merged.values(), key=itemgetter("port"))


def pages(sites: Iterable[Site]) -> list[dict[str, Any]]:
    """Return the pages that people open, followed by those that only programs do."""
    found = [
        {**page, "site": site["name"], **pick(site, "port", "listen_address", "for_hosts")}
        for site in sites
        for page in site["pages"]
    ]
    return sorted(found, key=lambda page: not page.get("is_page", True))


def site_names(sites: Iterable[Site], domain: str, subdomains: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each site in the domain. C(subdomains) has those that differ, and those of other sites."""
    own = {site["name"]: site.get("subdomain", site["name"]) for site in sites}
    return {site: f"{subdomain}.{domain}" for site, subdomain in {**own, **subdomains}.items()}


def origins(sites: Iterable[Site], scheme: str, host: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return where browsers reach each site: at its name, or at the host and its port."""
    return {site["name"]: scheme + names.get(site["name"], f"{host}:{site['port']}") for site in sites}


def listen_address(site: Site, default: str, balancer: str) -> str:
    """Return the address that a site listens on; one that is for hosts listens where they reach it."""
    is_reached = not site.get("for_hosts") or balancer in (LOOPBACK, default)
    return str(site.get("listen_address", default if is_reached else ANY))


def served(sites: Iterable[Site], address: str, balancer: str, body_sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the sites for nginx, each with the address that it listens on and its largest request in MB."""
    return [
        {
            "body_size_mb": body_sizes[site["name"]],
            "listen_address": listen_address(site, address, balancer),
        }
        | {key: value for key, value in site.items() if key not in ("for_hosts", "pages", "subdomain")}
        for site in sites
    ]


def listener(site: Site, default_address: str, port: int | None = None) -> str:
    """Return the address and port that a site listens on."""
    return f"{site.get('listen_address', default_address)}:{port or site['port']}"


def listener_files(
    listen: Mapping[str, str], names: Mapping[str, str], address_of_names: str, directory: str
) -> list[dict[str, Any]]:
    """Return the file that each site includes for the addresses it listens on, its own and the one of all names."""
    by_site = {
        site: {"listen": [address, address_of_names], "server_name": names[site]}
        if address_of_names and site in names
        else {"listen": [address], "server_name": ""}
        for site, address in listen.items()
    }
    if address_of_names:
        by_site["443"] = {"listen": [f"{address_of_names} default_server"], "server_name": ""}
    return [
        {"path": f"{directory}/{site}.conf", "template": "listener.conf.j2", "vars": {"listener": listener}}
        for site, listener in by_site.items()
    ]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "merged_sites": merged_sites,
            "pages": pages,
            "site_names": site_names,
            "origins": origins,
            "served": served,
            "listener": listener,
            "listener_files": listener_files,
        }
