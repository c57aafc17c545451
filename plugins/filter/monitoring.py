# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is watched, from inventory values alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import shlex
import string
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.mlfleet.stack.plugins.filter.nginx import listen_address
from ansible_collections.mlfleet.stack.plugins.filter.topology import ANY, LOOPBACKS, addresses, ask_at, units
from ansible_collections.mlfleet.stack.plugins.plugin_utils import services

LETTERS = (string.ascii_uppercase + string.ascii_lowercase + string.digits).encode()
BASE64, BASE64_OF_BCRYPT = LETTERS + b"+/", b"./" + LETTERS
WORKERS = "topology_serving_worker_count"
SECRET = "topology_secret_"
Scrape = Mapping[str, Any]


def setting_of(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], name: str, default: Any) -> dict:
    """Return a setting of each host, which may have a value of its own."""
    return {host: hostvars[host].get(name, default) for host in hosts}


def scrape_modules(scrapes: Iterable[Scrape], host: str) -> list[dict[str, Any]]:
    """Return what the door of a host hands on: names, and ports of the loopback interface, or a command to run."""
    found = []
    for scrape in scrapes:
        if host in scrape["hosts"] and scrape.get("command"):
            found.append({"name": scrape["job"], "suffix": "", "command": shlex.split(scrape["command"])})
        elif host in scrape["hosts"]:
            count = int(scrape.get("instances", {}).get(host, 1))
            suffixes = [""] if count == 1 else [f":{number + 1}" for number in range(count)]
            found += [
                {
                    "name": scrape["job"] + suffix.replace(":", "_"),
                    "suffix": suffix,
                    "port": int(scrape["port"]) + number,
                    "path": scrape.get("path", "/metrics"),
                }
                for number, suffix in enumerate(suffixes)
            ]
    return found


def scrape_targets(
    scrapes: Iterable[Scrape], watched: list[str], single: str, hostvars: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Return the targets of each job: address and labels.

    :param watched: hosts whose metrics are collected
    :param single: the address if there is only one of them
    """
    known = {watched[0]: single} if len(watched) == 1 else dict(zip(watched, addresses(watched, hostvars), strict=True))
    return {
        scrape["job"]: [
            {
                "address": address,
                "labels": {"__param_module": module["name"], "host": host, "instance": f"{host}{module['suffix']}"},
            }
            for host, address in known.items()
            for module in scrape_modules([scrape], host)
        ]
        for scrape in scrapes
    }


def collection_version(_value: Any = None) -> str:
    """Return the version of this collection, installed or as a project."""
    root = Path(__file__).parents[2]
    if (installed := root / "MANIFEST.json").exists():
        return str(json.loads(installed.read_text())["collection_info"]["version"])
    return str(yaml.safe_load((root / "galaxy.yml").read_text())["version"])


def secret_marks(secrets: Mapping[str, str], directory: str) -> list[dict[str, Any]]:
    """Return a file for each secret, which changes with its value, and so keeps the time of its last change.

    Four digits of a hash are enough for that, and of no use for guessing.
    """
    return [
        {
            "path": f"{directory}/{name.removeprefix(SECRET)}",
            "content": hashlib.sha256(f"{name}={value}".encode()).hexdigest()[:4] + "\n",
            "mode": "0600",
            "sensitive": True,
        }
        for name, value in sorted(secrets.items())
    ]


def page_targets(
    doors: Iterable[Mapping[str, Any]],
    here: str,
    pages: Iterable[Mapping[str, Any]],
    listen: Mapping[str, str],
    balancer: str,
    hostvars: Mapping[str, Mapping[str, Any]],
    scheme: str,
    name: str,
) -> list[dict[str, Any]]:
    """Return a target for each page at each host of nginx that a host of Prometheus reaches.

    :param doors: targets that ask for pages, of which a host uses its own
    :param listen: where the sites of each host of nginx listen by default
    :param balancer: where hosts reach sites that are for them
    :param name: a name that the certificates of all hosts of nginx have
    """
    found = []
    for door in (door for door in doors if door["labels"]["host"] == here):
        for (host, default), address in zip(listen.items(), addresses(listen, hostvars), strict=True):
            for page in pages:
                bound = listen_address(page, default, balancer)
                where = ask_at(bound) if host == here else address if bound == ANY else bound
                if host != here and LOOPBACKS.fullmatch(where):
                    continue
                path = page.get("path", "/") if page.get("is_page", True) else page.get("health", "/")
                url = f"{scheme}://{where}:{page['port']}{path}"
                labels = {"__param_target": url, "__param_hostname": name, "instance": url}
                found.append(
                    {
                        **door,
                        "labels": {
                            **door["labels"],
                            **labels,
                            "host": host,
                            "page": page["site"],
                            "service": page["service"],
                        },
                    }
                )
    return found


def minio_token(user: str, secret: str) -> str:
    """Return the token that MinIO expects from Prometheus: a JWT that is signed with the secret key of its user."""
    parts = ({"alg": "HS512", "typ": "JWT"}, {"iss": "prometheus", "sub": user})
    text = ".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{text}.{_base64url(hmac.digest(secret.encode(), text.encode(), 'sha512'))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bcrypt_hash(password: str, name: str) -> str:
    """Return the bcrypt hash of a password, whose salt follows from password and name."""
    # Imported here, because only roles of monitoring need it.
    import bcrypt

    digest = hmac.digest(password.encode(), name.encode(), "sha256")[:16]
    salt = base64.b64encode(digest).rstrip(b"=").translate(bytes.maketrans(BASE64, BASE64_OF_BCRYPT))
    return str(bcrypt.hashpw(password.encode(), b"$2b$10$" + salt).decode())


def unit_services(_value: Any = None) -> dict[str, str]:
    """Return the service of each unit, by the regular expression of its name."""
    patterns = {_pattern(unit): name for name, unit in services.UNITS.items()}
    return patterns | {f"{services.WORKER_UNIT}.+": services.WORKERS, f"{services.CONTAINER_UNIT}.+": "containers"}


def declared_units(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return a unit of each service that should run on these hosts."""
    return [
        {"host": host, "service": name, "name": services.UNITS[name]}
        for host in hosts
        for name in services.of_groups(hostvars[host]["group_names"])
        if name in services.UNITS and (name != "serving_worker" or int(hostvars[host].get(WORKERS, 1)))
    ]


def _pattern(unit: str) -> str:
    return re.escape(unit) + (".+" if unit.endswith("@") else r"\.(service|timer)")


def units_pattern(groups: Iterable[str]) -> str:
    """Return the regular expression of the units of a host in these groups, with their instances."""
    mine = list(groups)
    of_any_name = {"worker_custom": services.WORKER_UNIT, "containers": services.CONTAINER_UNIT}
    return "|".join(
        [*map(_pattern, units(mine)), *(f"{of_any_name[group]}.+" for group in mine if group in of_any_name)]
    )


def resting(packages: Iterable[str], directory: str) -> list[dict[str, str]]:
    """Return the drop-ins by which the units of packages stay off while this directory of ours exists."""
    # Without the mark of our units, because it is none.
    content = f"# Its program runs in the unit mlfleet-exporter@.\n[Unit]\nConditionPathExists=!{directory}\n"
    return [
        entry
        for home in (f"/etc/systemd/system/{package}.service.d" for package in packages)
        for entry in ({"path": home, "state": "directory"}, {"path": f"{home}/mlfleet.conf", "content": content})
    ]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "bcrypt": bcrypt_hash,
            "collection_version": collection_version,
            "declared_units": declared_units,
            "minio_token": minio_token,
            "page_targets": page_targets,
            "resting": resting,
            "scrape_modules": scrape_modules,
            "scrape_targets": scrape_targets,
            "secret_marks": secret_marks,
            "setting_of": setting_of,
            "unit_services": unit_services,
            "units_pattern": units_pattern,
        }
