# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can be said about an inventory before any host is touched: plain data in, one line for each error out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible_collections.mlfleet.stack.plugins.module_utils import gpu
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.client import MAX_RENEW_DAYS
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.listeners import overlap
from ansible_collections.mlfleet.stack.plugins.plugin_utils.mounts import DEFAULT_PATH, Mount

SUPPORTED_RELEASES = {"Debian": ["12", "13"]}
MINIMUM_PYTHON = "3.11"
SERVICE_MANAGER = "systemd"
COMMON_ROLE = "host"
GPU_GROUP = "gpu"
NO_TOOLKIT = (
    "containers get GPUs from the NVIDIA Container Toolkit, which is missing: install it, "
    "or set topology_worker_runtime: bare"
)
WORKER_PREFIX = "dioptra-worker-"
SERIAL = re.compile(r"[1-9][0-9]*%?")
ROLLOUT_SETTINGS = ("topology_rollout_serial", "topology_worker_rollout_serial")
# What is read for a whole group at once: by a play before it has a host, or on the controller.
SHARED_SETTINGS = {
    "all": ROLLOUT_SETTINGS,
    "frontend": (
        *("frontend_source", "frontend_checksum", "frontend_ref", "frontend_directory", "frontend_build_command"),
        *("frontend_output_directory", "frontend_node", "frontend_version"),
    ),
    "minio": ("minio_version", "minio_release", "minio_binary_url", "minio_binary_sha256"),
    "restapi": ("restapi_resources",),
}

SECRET_PREFIX = "topology_secret_"
SECRET_LENGTHS = range(16, 41)
# What PostgreSQL takes without surprise; the hyphen because the documents name a database mlflow-tracking.
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
PREDEFINED_ROLE = re.compile(r"postgres|pg_.*")
PORTS = range(1, 65536)
PRIVILEGED_PORTS = range(1, 1024)
ALWAYS_RUNNING = "systemd-journald"
# Those that say where a host's services listen.
PORT_OPTIONS = re.compile(r"topology_\w+_(port|enabled)|\w+_listen_address|nginx_sites_\w+")
# Names units, files and queues without quoting.
KIND = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
# Stands unquoted in a unit's command.
QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
# Without extras and addresses, which the environment could not compare with what is installed.
PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*( *;.*)?")
MOUNTS_OPTION = re.compile(r"worker_\w+_mounts")
SET_SIZES = range(2, 17)  # drives of an erasure set of MinIO
# What pgAdmin takes for an address, and domains of which it lets in nobody: those of its library, email_validator.
EMAIL = re.compile(
    r"[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*@([^\W_]([\w-]*[^\W_])?\.)+[^\W\d_][\w-]*[^\W\d_]"
)
RESERVED_DOMAINS = ("arpa", "invalid", "local", "localhost", "onion", "test")
# As dpkg lists one; apt takes architectures, versions and more in its place, and then it is never there.
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*([a-z0-9]|\+\+)")
# Settings of a service's own that the project decides, and what is to be set in their place.
NOBODYS = "is the deployment's own; leave it out"
DECIDED = {
    "postgres_settings": {
        "port": "topology_postgres_port",
        "listen_addresses": "postgres_listen_address",
        "ssl(_.*)?": "topology_postgres_tls_mode",
        "data_directory|(config|hba|ident|external_pid)_file|unix_socket_directories|include.*": "",
    },
    "redis_settings": {
        "port": "topology_redis_port",
        "bind": "redis_listen_address",
        "tls-.*": "topology_redis_tls_mode",
        "user|requirepass": "redis_users_extra",
        "dir|aclfile|include|daemonize|supervised|pidfile": "",
    },
    "restapi_gunicorn_settings": {
        "bind": "restapi_listen_address, topology_restapi_port",
        "certfile|keyfile|ca_certs|ciphers|ssl_version": "topology_restapi_tls_mode",
        "daemon|pidfile|chdir|user|group|wsgi_app|config": "",
    },
    "minio_environment": {
        "MINIO_ROOT_USER": "topology_minio_root_user",
        "MINIO_ROOT_PASSWORD": "topology_secret_minio_root",
        "MINIO_VOLUMES": "minio_pools",
        "MINIO_ADDRESS": "minio_listen_address, topology_minio_port",
        "MINIO_CONSOLE_ADDRESS": "topology_minio_console_port",
        "MINIO_OPTS|MINIO_CONFIG_ENV_FILE": "",
    },
}
# Lists of the wiring and of the user that make one, and what its entries are known by.
IDENTITIES = (
    ("topology_mlflow_users", "mlflow_users_extra", "name"),
    ("topology_dioptra_users", "restapi_users_extra", "name"),
    ("topology_dioptra_users", "restapi_users_extra", "email"),
    ("topology_postgres_databases", "pgadmin_servers_extra", "name"),
)

Values = Mapping[str, Any]


class UnsetError(Exception):
    """Neither the inventory nor a default says anything about the option."""


class UnresolvableError(Exception):
    """The option's value cannot be had; the text says why."""


@dataclass(frozen=True, eq=False)
class Role:
    """A role's interface, as its files declare it."""

    name: str
    path: Path
    options: Mapping[str, Any]
    defaults: Values
    vars: Values
    dependencies: list[str]
    is_building_block: bool = False  # what it requires, the role that uses it gives


@dataclass
class Findings:
    """What is wrong on one host; secrets apart, since all hosts share them."""

    missing_secrets: list[str] = field(default_factory=list)
    malformed_secrets: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def is_faultless(self) -> bool:
        return not (self.missing_secrets or self.malformed_secrets or self.lines)


# --- roles -----------------------------------------------------------------------------------------------------------


def roles_of_host(roles: Iterable[str], groups: Iterable[str]) -> list[str]:
    """A group is a role; the role host is everybody's."""
    mine = {COMMON_ROLE, *groups}
    return [role for role in roles if role in mine]


def load_roles(names: Iterable[str], roles_dir: Path, read: Callable[[Path], Any]) -> list[Role]:
    """The roles and, before each, what it depends on or uses. C(read) gives a YAML file's data, or nothing."""
    loaded: dict[str, Role | None] = {}

    def load(name: str, is_building_block: bool = False) -> None:
        if name in loaded:
            return
        loaded[name] = None
        role = replace(_load_role(roles_dir / name, read), is_building_block=is_building_block)
        for dependency in role.dependencies:
            load(dependency)
        for building_block in role.vars.get(f"__{name}_uses", []):
            load(building_block, is_building_block=True)
        del loaded[name]
        loaded[name] = role

    for name in names:
        load(name)
    return [role for role in loaded.values() if role]


def _load_role(path: Path, read: Callable[[Path], Any]) -> Role:
    if not path.is_dir():
        raise LookupError(f"there is no role {path.name} in {path.parent}")

    def load(file: str) -> dict[str, Any]:
        return read(path / file) or {}

    dependencies = load("meta/main.yml").get("dependencies") or []
    specs = load("meta/argument_specs.yml") or load("meta/shared_settings.yml")
    entry_points = specs.get("argument_specs", {}).values()
    options = {name: option for entry in entry_points for name, option in (entry.get("options") or {}).items()}
    names = [entry if isinstance(entry, str) else entry.get("role") or entry["name"] for entry in dependencies]
    return Role(
        name=path.name,
        path=path,
        options=options,
        defaults=load("defaults/main.yml"),
        vars=load("vars/main.yml"),
        dependencies=[name.rpartition(".")[2] for name in names],
    )


# --- arguments -------------------------------------------------------------------------------------------------------


def validated(name: str, option: Mapping[str, Any], value: Any) -> tuple[Any, list[str]]:
    """The value in the option's type, with what is wrong with it; no secret is ever quoted."""
    result = ArgumentSpecValidator({name: option}).validate({name: value})
    if option.get("no_log"):
        errors = [f"is no valid {option.get('type', 'str')}"] if result.error_messages else []
    else:
        errors = [
            " ".join(remove_values(message, result._no_log_values).removeprefix(f"argument '{name}' ").split())
            for message in result.error_messages
        ]
    return None if errors else result.validated_parameters[name], errors


def examine(
    roles: Iterable[Role],
    resolve: Callable[[Role, str], Any],
    validate: Callable[[str, Mapping[str, Any], Any], tuple[Any, list[str]]] = validated,
) -> Findings:
    """Every option of every role. C(resolve) gives its value or raises one of the two errors above."""
    found = Findings()
    values: dict[str, Any] = {}
    secrets: set[str] = set()
    for role in roles:
        for name, option in role.options.items():
            prefix = f"role {role.name}: argument {name}"
            is_secret = name.startswith(SECRET_PREFIX)
            try:
                value = resolve(role, name)
            except UnsetError:
                if option.get("required") and is_secret:
                    found.missing_secrets.append(name)
                elif option.get("required") and not role.is_building_block:
                    found.lines.append(f"{prefix}: is required")
                continue
            except UnresolvableError as error:
                if not role.is_building_block:
                    found.lines.append(f"{prefix}: {error}")
                continue
            if not is_secret:
                values[name], errors = validate(name, option, value)
                found.lines += [f"{prefix}: {error}" for error in errors]
            elif problem := secret_problem(value):
                found.malformed_secrets[name] = problem
            # Anything shorter would mask parts of ordinary words.
            if is_secret and isinstance(value, str) and len(value) >= 8:
                secrets.add(value)
    found.lines += [line for check in CHECKS for line in check(values)]
    names = [role.name for role in roles]
    found.lines += [*overlapping_ports(values, names), *privileged_ports(values, names)]
    # Whatever refers to a missing secret is undefined too, which is no news.
    known = [line for line in found.lines if not any(name in line for name in found.missing_secrets)]
    found.lines = [remove_values(line, secrets) for line in dict.fromkeys(known)]
    return found


def secret_problem(value: Any) -> str | None:
    """Why the value cannot be one of the secrets that mlfleet init makes."""
    if not isinstance(value, str):
        return "is not text"
    if len(value) not in SECRET_LENGTHS:
        return f"has {len(value)} characters, not {SECRET_LENGTHS[0]} to {SECRET_LENGTHS[-1]}"
    if not re.fullmatch("[!-~]*", value):
        return "contains a blank, a control character or a letter beyond ASCII"
    return None


# --- meaning: each check takes the values of all options of a host and gives a line for each error -------------------


def database_names(values: Values) -> Iterator[str]:
    for option, entry in _entries(values, "postgres_databases"):
        for key in ("name", "owner"):
            name = entry.get(key)
            if isinstance(name, str) and not IDENTIFIER.fullmatch(name):
                yield (
                    f"{option}: {key} {name!r} is no identifier: at most 63 letters, digits, _ and -, "
                    "of which the first is a letter or _"
                )
            elif key == "owner" and PREDEFINED_ROLE.fullmatch(str(name)):
                yield f"{option}: owner {name} is PostgreSQL's own, and would lose its rights; name another"


def ports(values: Values) -> Iterator[str]:
    for name, value in values.items():
        if name.endswith("_port") and isinstance(value, int) and value not in PORTS:
            yield f"{name}: {value} is no port ({PORTS[0]} to {PORTS[-1]})"


def addresses(values: Values) -> Iterator[str]:
    # Services bind and name endpoints as IPv4 addresses and names only.
    if ":" in str(values.get("topology_address", "")):
        yield "topology_address: IPv6 addresses are not supported; give a name or an IPv4 address"


def pools(values: Values) -> Iterator[str]:
    """Each host of MinIO's is in a pool, and each of its volumes in one."""
    hosts, declared = values.get("topology_minio_hosts"), values.get("minio_pools")
    if not isinstance(hosts, list) or not isinstance(declared, list):
        return
    drives = [(host, volume) for pool in declared for host in pool["hosts"] for volume in pool["volumes"]]
    members = {host for host, _volume in drives}
    yield from (f"minio_pools: {host} is not in group minio" for host in sorted(members - set(hosts)))
    yield from (f"minio_pools: {host} of group minio is in no pool" for host in sorted(set(hosts) - members))
    parity = values.get("minio_parity") or 0
    for pool in declared:
        count = len(pool["hosts"]) * len(pool["volumes"])
        # MinIO makes the largest sets that divide a pool evenly.
        largest = max((size for size in SET_SIZES if count % size == 0), default=1)
        if count > 1 and largest == 1:
            yield f"minio_pools: {count} drives cannot be divided into sets of 2 to 16; use another number"
        elif parity > largest // 2:
            yield f"minio_parity: {parity} drives cannot be lost of {largest}; at most half of a set, {largest // 2}"
        if count == 1 and len(declared) > 1:
            yield "minio_pools: a pool of one drive cannot be extended by another"
    for host, volume in sorted({drive for drive in drives if drives.count(drive) > 1}):
        yield f"minio_pools: {volume} on {host} is declared twice"


def site_routes(values: Values) -> Iterator[str]:
    for option, site in _entries(values, "nginx_sites"):
        for route in site.get("routes") or []:
            if not any(route.get(key) for key in ("upstream", "redirect", "directory")) and not site.get("servers"):
                answers = "neither upstream nor redirect nor directory nor servers"
                yield f"{option}: {site.get('name')} {route.get('path')} has {answers}"


def frontend_hosts(values: Values) -> Iterator[str]:
    for host in values.get("topology_frontend_hosts") or []:
        if host not in (values.get("topology_nginx_hosts") or [host]):
            yield f"group frontend: {host} is not in group nginx, which serves the front end's files"


def custom_kinds(values: Values) -> Iterator[str]:
    """Kinds of workers that the inventory defines are nobody else's, and can be installed."""
    fixed = {group.removeprefix("worker_").replace("_", "-") for group in _queues_of_groups(values)}
    kinds = values.get("worker_custom_kinds") or []
    names = [kind["name"] for kind in kinds]
    yield from _unit_names("worker_custom_kinds", names)
    for name in dict.fromkeys(names):
        if name in fixed:
            yield f"worker_custom_kinds: {name} is the kind of group worker_{name.replace('-', '_')}; use another name"
    for kind in kinds:
        file = kind.get("requirements_file")
        if file and not (file.startswith("/") and Path(file).is_file()):
            yield f"worker_custom_kinds: {kind['name']}: there is no {file}; give the file's whole path"
        for package in kind.get("packages") or []:
            if not PIN.fullmatch(package):
                yield f"worker_custom_kinds: package {package!r} of {kind['name']} is not pinned like name==1.2.3"


def _unit_names(option: str, names: Sequence[str]) -> Iterator[str]:
    for name in dict.fromkeys(names):
        if not KIND.fullmatch(name):
            yield f"{option}: name {name!r} is not at most 40 lower-case letters, digits and inner hyphens"
        if names.count(name) > 1:
            yield f"{option}: {name} is defined twice"


def containers(values: Values) -> Iterator[str]:
    """Containers of the user's own can be units, and their programs found."""
    declared = values.get("containers_extra") or []
    yield from _unit_names("containers_extra", [container["name"] for container in declared])
    for container in declared:
        if not container["command"].startswith("/"):
            yield f"containers_extra: command of {container['name']} has no absolute path: {container['command']}"


def queues(values: Values) -> Iterator[str]:
    """Each kind of workers listens to something that can be named in its command."""
    listened = {f"topology_worker_queues {group}": names for group, names in _queues_of_groups(values).items()}
    for kind in values.get("worker_custom_kinds") or []:
        listened[f"worker_custom_kinds {kind['name']}"] = kind["queues"]
    for kind, names in listened.items():
        if not names:
            yield f"{kind}: has no queue; name one"
        yield from (
            f"{kind}: queue {name!r} has other signs than letters, digits, . _ : and -"
            for name in names
            if not QUEUE.fullmatch(str(name))
        )


def _queues_of_groups(values: Values) -> Mapping[str, list[str]]:
    return values.get("topology_worker_queues") or {}


def identities(values: Values) -> Iterator[str]:
    """Of two entries that are known by the same the later one would win in silence, or be refused by the service."""
    for wiring, extra, key in IDENTITIES:
        if extra in values:
            entries = [*(values.get(wiring) or []), *(values[extra] or [])]
            known = [entry[key] for entry in entries if entry.get("clients") != []]
            for value in dict.fromkeys(known):
                if known.count(value) > 1:
                    yield f"{extra}: {key} {value} is declared twice; give each entry its own"


def pgadmin_account(values: Values) -> Iterator[str]:
    """pgAdmin makes any account, but signs in none whose address it refuses."""
    if "pgadmin_settings" not in values:
        return
    email = str(values.get("topology_pgadmin_email"))
    allowed = (values["pgadmin_settings"] or {}).get("ALLOW_SPECIAL_EMAIL_DOMAINS") or []
    domain = email.rpartition(".")[2].lower()
    if not EMAIL.fullmatch(email):
        yield f"topology_pgadmin_email: {email!r} is no e-mail address; give one like admin@example.org"
    elif domain in RESERVED_DOMAINS and domain not in (allowed.split(",") if isinstance(allowed, str) else allowed):
        yield (
            f"topology_pgadmin_email: pgAdmin signs in nobody of the reserved domain {domain}; give another address, "
            f"or set pgadmin_settings: {{ALLOW_SPECIAL_EMAIL_DOMAINS: [{domain}]}}"
        )


def packages(values: Values) -> Iterator[str]:
    for name in values.get("host_packages_extra") or []:
        if not PACKAGE.fullmatch(name):
            yield f"host_packages_extra: {name!r} is no plain name of a package; leave out its version and architecture"


def decided_settings(values: Values) -> Iterator[str]:
    """Settings of services that would contradict what the rest of the deployment is told."""
    for option, decided in DECIDED.items():
        for name in values.get(option) or {}:
            for pattern, instead in decided.items():
                if re.fullmatch(pattern, str(name), re.IGNORECASE):
                    yield f"{option}: {name} {f'is set by {instead}' if instead else NOBODYS}"


def password_renewal(values: Values) -> Iterator[str]:
    days = values.get("restapi_password_renew_days")  # nothing where its type is wrong
    if days is not None and not 0 <= days <= MAX_RENEW_DAYS:
        yield f"restapi_password_renew_days: {days} is not from 0 to {MAX_RENEW_DAYS}, for a password lasts a year"


def rollout_serial(values: Values) -> Iterator[str]:
    for name in ROLLOUT_SETTINGS:
        serial = values.get(name, "1")
        if not SERIAL.fullmatch(str(serial)):
            yield f"{name}: {serial!r} is neither a number of hosts from 1 nor a percentage such as 25%"


def mounts(values: Values) -> Iterator[str]:
    """Data mounts can be made, and those at one path are the same for all kinds of workers on the host."""
    declared = {name: value for name, value in values.items() if MOUNTS_OPTION.fullmatch(name)}
    for kind in values.get("worker_custom_kinds") or []:
        own = kind.get("mounts")
        declared[f"worker_custom_kinds {kind['name']}"] = values.get("topology_worker_mounts") if own is None else own
    for container in values.get("containers_extra") or []:
        declared[f"containers_extra {container['name']}"] = container.get("mounts")
    drives = [volume.rstrip("/") for pool in values.get("minio_pools") or [] for volume in pool["volumes"]]
    at: dict[str, dict[Mount, str]] = {}
    for name, entries in declared.items():
        for mount in map(Mount.of, entries or []):
            yield from (f"{name}: {problem}" for problem in mount.problems())
            yield from (
                f"{name}: path {mount.path} overlaps with MinIO's {drive}; use another, such as {DEFAULT_PATH}"
                for drive in drives
                if mount.overlaps(drive)
            )
            at.setdefault(mount.path, {}).setdefault(mount, name)
    for path, users in at.items():
        if len(users) > 1:
            wishes = " and ".join(f"{mount.described} by {name}" for mount, name in users.items())
            yield f"{path} is wanted from {wishes}; use another path, or the same source and options"


CHECKS: tuple[Callable[[Values], Iterator[str]], ...] = (
    addresses,
    containers,
    custom_kinds,
    database_names,
    decided_settings,
    frontend_hosts,
    identities,
    mounts,
    packages,
    password_renewal,
    pgadmin_account,
    pools,
    ports,
    queues,
    rollout_serial,
    site_routes,
)


def overlapping_ports(values: Values, services: Iterable[str]) -> Iterator[str]:
    """Ports that two of a host's services want: topology's, and those of nginx's sites, which all stand there."""
    wanted: dict[int, dict[str, None]] = {}
    for _service, name, port, _address in _wanted_ports(values, services):
        wanted.setdefault(port, {})[name] = None
    for port, names in wanted.items():
        if len(names) > 1:
            yield f"port {port} is wanted by {' and by '.join(names)}; give each a port of its own"


def privileged_ports(values: Values, services: Iterable[str]) -> Iterator[str]:
    """Ports that the user of a service in a container may not open."""
    for service, name, port, _address in _wanted_ports(values, services):
        runtime = f"topology_{service}_runtime"
        if port in PRIVILEGED_PORTS and values.get(runtime) == "docker":
            yield f"{name}: port {port} is for root alone; use one from {PRIVILEGED_PORTS.stop}, or {runtime}: bare"


def _wanted_ports(values: Values, services: Iterable[str]) -> Iterator[tuple[str, str, int, str]]:
    """Service, what names the port, the port, and the address that listens; of nginx those of its sites."""
    for service in services:
        for name, port in values.items():
            is_used = values.get(f"{name.removesuffix('_port')}_enabled", True)
            if name.startswith(f"topology_{service}_") and name.endswith("_port") and service != "nginx" and is_used:
                yield service, name, port, str(values.get(f"{service}_listen_address"))
    for _option, site in _entries(values, "nginx_sites"):
        if site.get("backends") != []:
            address = str(site.get("listen_address") or values.get("nginx_listen_address"))
            for port in dict.fromkeys((site.get("port"), site.get("http_port"))):
                if port is not None:
                    yield "nginx", f"nginx site {site.get('name')}", port, address


def _entries(values: Values, list_name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The dictionaries in every list of this family: the role's, the wiring's and the user's."""
    for option, value in values.items():
        if list_name in option and isinstance(value, list):
            yield from ((option, entry) for entry in value if isinstance(entry, Mapping))


# --- host and inventory ----------------------------------------------------------------------------------------------


def host_problems(host: str, facts: Mapping[str, Any], python_versions: Mapping[str, list[str]]) -> Iterator[str]:
    """What the roles cannot run on. C(python_versions) has the roles that want certain ones."""
    if "distribution" not in facts:
        yield "facts are missing: gather them before preflight"
        return
    distribution, release = facts["distribution"], facts.get("distribution_major_version", "")
    if release not in SUPPORTED_RELEASES.get(distribution, []):
        supported = [f"{name} {' or '.join(releases)}" for name, releases in SUPPORTED_RELEASES.items()]
        yield f"{distribution} {release} is not supported: use {', '.join(supported)}"
    if facts.get("service_mgr") != SERVICE_MANAGER:
        yield f"services are managed by {facts.get('service_mgr', 'nothing')}: {SERVICE_MANAGER} is needed"
    version = facts.get("python", {}).get("version", {})
    major, minor = int(version.get("major", 0)), int(version.get("minor", 0))
    if (major, minor) < tuple(int(part) for part in MINIMUM_PYTHON.split(".")):
        yield f"Python {MINIMUM_PYTHON} or newer is needed, {host} has {major}.{minor}"
    for role, wanted in python_versions.items():
        if f"{major}.{minor}" not in wanted:
            yield f"{role} needs Python {' or '.join(wanted)}, {host} has {major}.{minor}"


def idle_services(units: Mapping[str, str], facts: Mapping[str, Any]) -> set[str]:
    """Services whose unit does not run; C(units) has the unit of each."""
    if ALWAYS_RUNNING not in facts.get("running_units", {}):
        return set()  # the host shows nobody others' processes, so that who has a port cannot be said
    return {service for service, users in _users(units, facts).items() if not users}


def _users(units: Mapping[str, str], facts: Mapping[str, Any]) -> dict[str, list[int]]:
    running = facts.get("running_units", {})
    return {service: running.get(unit, []) for service, unit in units.items()}


def taken_ports(values: Values, units: Mapping[str, str], facts: Mapping[str, Any]) -> Iterator[str]:
    """Ports that another program has of those that idle services want.

    Args:
        values: options that PORT_OPTIONS matches.
        units: the host's services with the unit of each.
        facts: the host's, of M(mlfleet.stack.host_facts).
    """
    idle = idle_services(units, facts)
    # Another service of ours may leave its port in this run.
    ours = {user for users in _users(units, facts).values() for user in users if user}
    for service, name, port, address in _wanted_ports(values, units):
        for found in facts.get("listeners", []) if service in idle else []:
            if found["port"] != port or not overlap(address, found["address"]):
                continue
            is_same_user = units[service].startswith(found["user"])
            other = _other_instance(units[service], facts) if is_same_user else None
            # A container goes on when its unit does not, and is mended in this run.
            if other or not (is_same_user or found["uid"] in ours):
                taken = f"port {port}, which {name} wants, is taken by {other or 'a program of user ' + found['user']}"
                stop = f" with systemctl disable --now {other}" if other else ""
                yield f"{taken}: stop that one{stop}, or set another port"
                break


def _other_instance(unit: str, facts: Mapping[str, Any]) -> str | None:
    """The unit of another version, which runs as the same user."""
    template, is_instance, _name = unit.partition("@")
    running = facts.get("running_units", {})
    return next((name for name in sorted(running) if is_instance and name.startswith(f"{template}@")), None)


def flattened(wishes: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """What the workers of a host want of its GPUs, in the order of their roles."""
    return [wish for mine in wishes.values() for wish in mine]


def gpu_holders(environment_files: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], Sequence[str]]:
    """Worker and instance in place of each instance's file, such as dioptra-worker-pytorch-gpu/1.env."""
    paths = {Path(file): gpus for file, gpus in environment_files.items()}
    return {(path.parent.name.removeprefix(WORKER_PREFIX), path.stem): gpus for path, gpus in paths.items()}


def gpu_problems(wishes: Sequence[Mapping[str, Any]], groups: Iterable[str]) -> Iterator[str]:
    """Wishes that make no sense, and workers that want GPUs on a host that is not said to have any."""
    try:
        gpu.check(wishes)
    except gpu.PlacementError as error:
        yield str(error)
    workers = [wish["worker"] for wish in wishes if wish["count"] and wish["gpus"] not in (0, "0", [])]
    if workers and GPU_GROUP not in groups:
        yield f"{', '.join(workers)} on a host without GPUs: add it to group {GPU_GROUP}, or set their gpus to 0"


def empty_groups(required: Mapping[str, list[str]], groups: Mapping[str, list[str]], inventory: str) -> Iterator[str]:
    """Groups without a host that a role cannot do without. C(required) has the roles that need some."""
    for role, names in required.items():
        for group in names:
            if not groups.get(group):
                yield f"{role} needs group {group}, which has no host: add one to {inventory}, see inventories/single"


def crowded_groups(maxima: Mapping[str, int], groups: Mapping[str, list[str]]) -> Iterator[str]:
    """Groups with more hosts than their role can share the work with."""
    for role, maximum in maxima.items():
        if len(groups[role]) > maximum:
            yield f"group {role} has hosts {', '.join(groups[role])}: at most {maximum} is supported"


def unknown_workers(roles: Iterable[str], groups: Mapping[str, list[str]]) -> Iterator[str]:
    """Groups that count as workers, with hosts of no kind: neither a role's own nor made of such."""
    kinds = [role for role in roles if role.startswith("worker_")]
    of_a_kind = {host for kind in kinds for host in groups.get(kind, ())}
    for group in sorted(name for name in groups if name.startswith("worker")):
        if idle := [host for host in groups[group] if host not in of_a_kind]:
            yield f"group {group}: no workers would run on {', '.join(idle)}; the kinds are {', '.join(kinds)}"


def strangers(values: Values, groups: Mapping[str, list[str]]) -> Iterator[str]:
    """What keeps a host of group drift from signing in on this one, which it does as the inventory alone says."""
    if groups.get("drift"):
        if not values.get("ansible_user"):
            yield "ansible_user: is not in the inventory; say there as whom the host of group drift signs in"
        if values.get("ansible_become") and values.get("ansible_user") != "root":
            yield "ansible_become: does not go with a host in group drift; leave it out, since roles become root anyway"


def scattered(host: str, groups: Mapping[str, Sequence[str]], declared: Callable[[str], Values]) -> Iterator[str]:
    """What the inventory says of a host otherwise than of the first one of a group that shares it.

    C(declared) has a host's variables before they are rendered, for some can be rendered in a role alone.
    """
    for group, names in SHARED_SETTINGS.items():
        members = groups.get(group, ())
        if host in members and host != members[0]:
            mine, first = declared(host), declared(members[0])
            for name in names:
                if mine.get(name) != first.get(name):
                    yield f"{name}: is not what it is on {members[0]}; set it once, in group_vars/{group}"


def secret_lines(missing: Iterable[str], malformed: Mapping[str, str], inventory: str) -> Iterator[str]:
    if names := ", ".join(missing):
        yield f"secrets are missing: {names} – run: mlfleet init {inventory}"  # noqa: RUF001
    for name, problem in malformed.items():
        yield (
            f"{name} {problem}: remove it from group_vars/all/vault.yml with ansible-vault edit, "
            f"then run: mlfleet init {inventory}"
        )


def inventory_directory(sources: Iterable[str], fallback: str | None, cwd: Path) -> str:
    """The inventory as the user would name it."""
    paths = [cwd / source for source in [*sources, fallback or "."]]
    path = next((path for path in paths if path.exists()), cwd)
    directory = path if path.is_dir() else path.parent
    return str(directory.relative_to(cwd) if directory.is_relative_to(cwd) else directory)
