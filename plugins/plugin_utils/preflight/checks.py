# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a host's options in combination: each check takes their values and yields a line for each error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils import rabbitmq
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.users import MAX_RENEW_DAYS
from ansible_collections.mlfleet.stack.plugins.module_utils.serving import DEFAULT_ALIAS
from ansible_collections.mlfleet.stack.plugins.plugin_utils.mounts import EXAMPLE_PATH, Mount
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight.role_files import Values

SERIAL = re.compile(r"[1-9][0-9]*%?")
ROLLOUT_SETTINGS = ("topology_rollout_serial", "topology_worker_rollout_serial")
# Names that are safe in PostgreSQL; with the hyphen, because the documentation names a database mlflow-tracking.
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
PREDEFINED_ROLE = re.compile(r"postgres|pg_.*")
PORTS = range(1, 65536)
LOOPBACK = "127.0.0.1"
PRIVILEGED_PORTS = range(1, 1024)
# Names of units, files and queues that need no quotes.
KIND = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
# Used unquoted in a unit's command.
QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
# Without extras and addresses, which cannot be compared with the installed packages.
PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*( *;.*)?")
MOUNTS_OPTION = re.compile(r"(worker_\w+|serving)_mounts")
FULL_PERCENT = 100
# What MLflow accepts as the alias of a version, and as its number.
ALIAS = re.compile(r"(?![vV][0-9]+$|(?i:latest)$)[A-Za-z0-9_-]+")
VERSION = re.compile(r"[1-9][0-9]*")
SERVING_UNITS = ("serving-api", "serving-worker")
DEFAULT_APPLICATION = "mlfleet_serving."
OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
# The least that settings of the serving stack may be, and what anything less would mean.
MINIMUMS = {
    "serving_api_workers": (1, ""),
    "topology_serving_worker_count": (0, ""),
    "serving_worker_concurrency": (1, ""),
    "serving_alias_seconds": (1, ""),
    "serving_models_kept": (1, ""),
    "serving_task_time_limit_seconds": (1, ""),
    "serving_result_expires_seconds": (1, ", and Redis would keep results for ever"),
    "serving_wait_seconds": (0, ""),
    "serving_broker_wait_seconds": (0, ""),
    "serving_request_seconds": (1, ""),
    "topology_serving_body_size_mb": (1, ""),
    "serving_retention_days": (0, ", by which predictions are kept for ever"),
}
SHA256 = re.compile(r"[0-9a-f]{64}")
# A name of DNS in lower case, as browsers send it. The last part tells it from an address.
DNS_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
PORT_OF_NAMES = 443
IPV4 = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
SET_SIZES = range(2, 17)  # drives of an erasure set of MinIO
# Addresses that pgAdmin accepts, and domains from which it lets no one sign in: those of its library, email_validator.
EMAIL = re.compile(
    r"[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*@([^\W_]([\w-]*[^\W_])?\.)+[^\W\d_][\w-]*[^\W\d_]"
)
RESERVED_DOMAINS = ("arpa", "invalid", "local", "localhost", "onion", "test")
# A name as dpkg lists it; apt also accepts architectures, versions and more, which would never count as installed.
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*([a-z0-9]|\+\+)")
# Settings of services that the project decides, and the settings to use instead.
NOBODYS = "is the deployment's own; leave it out"
GRAFANA_KEY = "\"{{ lookup('ansible.builtin.file', inventory_dir ~ '/grafana.asc') }}\""
GRAFANA = {
    "server\\.http_port": "topology_grafana_port",
    "server\\.http_addr": "grafana_listen_address",
    "server\\.(protocol|cert_.*|socket.*)": "topology_grafana_tls_mode",
    "security\\.admin_user": "topology_grafana_user",
    "security\\.admin_password": "topology_secret_grafana",
    "security\\.secret_key": "topology_secret_grafana_key",
    "paths\\..*": "",
}
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
    "rabbitmq_settings": {
        "listeners\\..*": "topology_rabbitmq_port, rabbitmq_listen_address",
        "management\\.((tcp|ssl)\\.port|listener\\..*)": "topology_rabbitmq_management_port",
        "management\\.(tcp|ssl)\\.ip": "rabbitmq_management_listen_address",
        "(ssl_options|management\\.ssl)\\.((cacert|cert|key)file|.*verify.*|.*peer_cert|(versions|ciphers).*)": (
            "topology_rabbitmq_tls_mode"
        ),
        "default_(user|pass|user_tags|permissions).*": "rabbitmq_users_extra",
        "cluster_formation\\..*": "the group rabbitmq",
        "prometheus\\.tcp\\.ip|log\\.(file|console)|default_vhost|(.*load_)?definitions.*": "",
    },
    "restapi_gunicorn_settings": {
        "bind": "restapi_listen_address, topology_restapi_port",
        "certfile|keyfile|ca_certs|ciphers|ssl_version": "topology_restapi_tls_mode",
        "daemon|pidfile|chdir|user|group|wsgi_app|config": "",
    },
    "grafana_settings": GRAFANA,
    "grafana_secret_settings": GRAFANA,
    "minio_environment": {
        "MINIO_ROOT_USER": "topology_minio_root_user",
        "MINIO_ROOT_PASSWORD": "topology_secret_minio_root",
        "MINIO_VOLUMES": "minio_pools",
        "MINIO_ADDRESS": "minio_listen_address, topology_minio_port",
        "MINIO_CONSOLE_ADDRESS": "topology_minio_console_port",
        "MINIO_OPTS|MINIO_CONFIG_ENV_FILE": "",
    },
}
# Lists of the wiring and of the user that are combined, and the key that identifies their entries. Those of all other
# services, topology_<service>_users and <service>_users_extra, are found by their names.
IDENTITIES = (
    ("topology_dioptra_users", "restapi_users_extra", "name"),
    ("topology_dioptra_users", "restapi_users_extra", "email"),
    ("topology_postgres_databases", "pgadmin_servers_extra", "name"),
    ("topology_scrapes_auto", "topology_scrapes_extra", "job"),
)


def database_names(values: Values) -> Iterator[str]:
    for option, entry in _entries(values, "postgres_databases"):
        for key in ("name", "owner"):
            name = entry.get(key)
            if isinstance(name, str) and not IDENTIFIER.fullmatch(name):
                yield (
                    f"{option}: {key} {name!r} is not an identifier: use at most 63 letters, digits, _ and -, "
                    "of which the first is a letter or _"
                )
            elif key == "owner" and PREDEFINED_ROLE.fullmatch(str(name)):
                yield f"{option}: owner {name} is PostgreSQL's own, and would lose its rights; name another"


def rabbitmq_objects(values: Values) -> Iterator[str]:
    """Check that objects are in declared virtual hosts, and that each of these has a user beside the administrator."""
    declared = [
        (option, vhost)
        for option in ("topology_rabbitmq_vhosts", "rabbitmq_vhosts_extra")
        for vhost in values.get(option) or ()
    ]
    users = [user for user in values.get("topology_rabbitmq_users") or () if user["clients"]]
    users += values.get("rabbitmq_users_extra") or ()
    admin = values.get("topology_rabbitmq_user_admin")
    yield from (f"rabbitmq: user {admin}: it is the administrator's" for user in users if user["name"] == admin)
    objects = {option: values.get(f"rabbitmq_{option}_extra") or () for option in rabbitmq.OBJECTS.values()}
    problems = rabbitmq.problems({"/", *(vhost for _option, vhost in declared)}, users, objects)
    yield from (f"rabbitmq: {problem}" for problem in problems)
    used = {permission["vhost"] for user in users for permission in user.get("permissions") or ()}
    for option, vhost in declared:
        if vhost not in used and option == "rabbitmq_vhosts_extra":
            yield f"{option}: virtual host {vhost} has no user; give one its permissions in rabbitmq_users_extra"


def rabbitmq_memory(values: Values) -> Iterator[str]:
    share = values.get("rabbitmq_memory_high_watermark")
    if share is not None and not 0 < share <= 1:
        yield f"rabbitmq_memory_high_watermark: {share:g} is not a share of the memory from 0 to 1, such as 0.4"


def rabbitmq_cluster(values: Values) -> Iterator[str]:
    """Check that the nodes of a cluster find and verify each other."""
    nodes = values.get("topology_rabbitmq_nodes") or ()
    if "rabbitmq_listen_address" not in values or len(nodes) < 2:
        return
    if (mode := values.get("topology_rabbitmq_tls_mode")) != "internal":
        yield (
            f"topology_rabbitmq_tls_mode: {mode} has no certificates with the names of the nodes, which verify each "
            f"other; with several hosts use internal"
        )
    yield from _name_for_peers(values, "the nodes of RabbitMQ")
    names = [node["name"] for node in nodes]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"topology_rabbitmq_node_name: {name} is the name of several nodes; give each host its own"


def _name_for_peers(values: Values, peers: str) -> Iterator[str]:
    """Report a name where peers know each other by addresses."""
    if not IPV4.fullmatch(address := str(values.get("topology_address"))):
        yield (
            f"topology_address: {address} is not an IPv4 address, by which {peers} find each other; "
            f"set it to the host's"
        )


def monitoring(values: Values) -> Iterator[str]:
    """Check that metrics and messages are not open to everybody on the network, and where own metrics come from."""
    if values.get("topology_exporters_tls_mode") == "off" and values.get("exporters_listen_address") != LOOPBACK:
        yield ("topology_exporters_tls_mode: without TLS the metrics of this host are open to all; set it to internal")
    if len(values.get("topology_alertmanager_hosts") or ()) > 1 and "alertmanager_listen_address" in values:
        if (mode := values.get("topology_alertmanager_tls_mode")) != "internal":
            yield (
                f"topology_alertmanager_tls_mode: several hosts verify each other by the deployment's certificates, "
                f"and {mode} has none; set it to internal, or keep one host"
            )
        yield from _name_for_peers(values, "several Alertmanagers")
    for scrape in values.get("topology_scrapes_extra") or ():
        if (scrape.get("port") is None) == (not scrape.get("command")):
            has = "neither port nor command" if scrape.get("port") is None else "both port and command"
            yield f"topology_scrapes_extra: {scrape['job']} has {has}; give it one of them"


def grafana(values: Values) -> Iterator[str]:
    """Check that Grafana's package comes from one place that is known, and that its settings are in sections."""
    url, checksum = values.get("grafana_package_url"), str(values.get("grafana_package_sha256"))
    repository, key = values.get("grafana_repository_url"), str(values.get("grafana_repository_key"))
    has_image = values.get("grafana_image") and values.get("topology_grafana_runtime") == "docker"
    if repository and not url and not has_image and "BEGIN PGP PUBLIC KEY" not in key:
        yield (
            f"grafana_repository_key: is not the text of a key; store it by curl -o INVENTORY/grafana.asc "
            f"{repository}/gpg.key, and set it to {GRAFANA_KEY}"
        )
    if url and values.get("grafana_image"):
        yield "grafana_package_url: excludes grafana_image; keep one"
    if url and not SHA256.fullmatch(checksum):
        yield f"grafana_package_sha256: {checksum!r} is not the SHA-256 of the file at grafana_package_url, 64 digits"
    for option in ("grafana_settings", "grafana_secret_settings"):
        for name in values.get(option) or {}:
            if "." not in str(name):
                yield f"{option}: {name} has no section; name it like smtp.enabled"


def serving_models(values: Values) -> Iterator[str]:
    """Check that each model is served once, in a version that can be found, and with a share of the requests."""
    models = values.get("topology_serving_models") or ()
    has_registry = values.get("topology_mlflow_hosts") != []
    if not models and not has_registry and _is_default_application(values):
        yield "topology_serving_models: is empty, and no host is in group mlflow; name models, each with a path"
    names = [model["name"] for model in models]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"topology_serving_models: {name} is declared twice; give its other version as canary or shadow"
    for model in models:
        where = f"topology_serving_models: {model['name']}"
        if not model.get("path") and not has_registry:
            yield f"{where} needs a path, because no host is in group mlflow"
        if {"/", ":"} & set(model["name"]):
            yield f"{where}: MLflow has no models with / or : in their names; name another"
        if not str(model.get("path") or "/").startswith("/"):
            yield f"{where}: path {model['path']} is not absolute, like /srv/models/{model['name']}"
        if model.get("version") and not VERSION.fullmatch(model["version"]):
            yield f"{where}: version {model['version']!r} is not a number like 3; for a name use alias"
        for alias in (model.get("alias"), *((model.get(part) or {}).get("alias") for part in ("canary", "shadow"))):
            if alias and not ALIAS.fullmatch(alias):
                yield f"{where}: {alias!r} is no alias: use letters, digits, _ and -, and neither latest nor v1"
        sources = [key for key in ("alias", "version", "path") if model.get(key)]
        if len(sources) > 1:
            yield f"{where}: {' and '.join(sources)} exclude each other; keep one"
        canary = model.get("canary") or {}
        if canary and not 0 <= canary["percent"] <= FULL_PERCENT:
            yield f"{where}: the canary's percent is {canary['percent']:g}; use a number from 0 to 100"
        own = "" if model.get("version") else model.get("alias") or DEFAULT_ALIAS
        for part in ("canary", "shadow"):
            if own and (model.get(part) or {}).get("alias") == own:
                yield f"{where}: the {part} has the alias of the model itself; name another"
            if model.get(part) and model.get("path"):
                yield f"{where}: a model in a directory has one version, so it has no {part}"


def serving_times(values: Values) -> Iterator[str]:
    """Check that the broker does not give a running task to another worker."""
    limit, timeout = (
        values.get("serving_task_time_limit_seconds"),
        values.get("topology_rabbitmq_consumer_timeout_seconds"),
    )
    if limit is not None and timeout is not None and limit >= timeout:
        yield (
            f"serving_task_time_limit_seconds: {limit} is not below topology_rabbitmq_consumer_timeout_seconds, "
            f"{timeout}, after which RabbitMQ gives the task to another worker; lower it, or raise the other one"
        )


def serving_minimums(values: Values) -> Iterator[str]:
    for name, (least, meaning) in MINIMUMS.items():
        if (value := values.get(name)) is not None and value < least:
            yield f"{name}: {value} is below {least}{meaning}"


def serving_queues(values: Values) -> Iterator[str]:
    """Check that queues can be in a command, and that the application knows them."""
    queues, queue = values.get("serving_worker_queues"), values.get("topology_serving_queue")
    hosts = values.get("topology_serving_worker_hosts")
    if "serving_api_workers" in values and hosts == [] and _is_default_application(values):
        yield "group serving_worker: has no host, and the API only sends tasks to workers; add one"
    named = [
        ("topology_serving_queue", queue),
        *(("serving_worker_queues", name) for name in queues or () if name != queue),
    ]
    for option, name in named:
        if name is not None and not QUEUE.fullmatch(name):
            yield f"{option}: queue {name!r} is not made of letters, digits, . _ : and -"
    if queues == []:
        yield "serving_worker_queues: has no queue; name one"
    if queues and queue and set(queues) != {queue} and _is_default_application(values):
        yield f"serving_worker_queues: {', '.join(queues)}: the default application has {queue} alone; leave this out"


def serving_application(values: Values) -> Iterator[str]:
    """Check that the application can be found: files on the controller, packages, images, its object and its paths."""
    for name in ("serving_source", "serving_requirements_file"):
        file = values.get(name)
        if file is not None and not (file.startswith("/") and Path(file).exists()):
            yield f"{name}: there is no {file}; give its absolute path"
    for name in ("serving_packages_extra", "serving_worker_packages_extra"):
        for package in values.get(name) or ():
            if not PIN.fullmatch(package):
                yield f"{name}: package {package!r} is not pinned like name==1.2.3"
    for unit in values.get("serving_images") or ():
        if unit not in SERVING_UNITS:
            yield f"serving_images: {unit} is none of {', '.join(SERVING_UNITS)}"
    app = values.get("serving_asgi_app")
    if app is not None and not OBJECT.fullmatch(app):
        yield f"serving_asgi_app: {app!r} is not module:object, such as api.routes:api"
    for name in ("topology_serving_health_path", "topology_serving_page_path"):
        path = values.get(name)
        if path is not None and not path.startswith("/"):
            yield f"{name}: {path!r} does not begin with /"


def _is_default_application(values: Values) -> bool:
    return str(values.get("serving_asgi_app")).startswith(DEFAULT_APPLICATION)


def ports(values: Values) -> Iterator[str]:
    for name, value in values.items():
        if name.endswith("_port") and isinstance(value, int) and value not in PORTS:
            yield f"{name}: {value} is not a port ({PORTS[0]} to {PORTS[-1]})"


def addresses(values: Values) -> Iterator[str]:
    # Services bind and name endpoints as IPv4 addresses and names only.
    if ":" in str(values.get("topology_address", "")):
        yield "topology_address: IPv6 addresses are not supported; give a name or an IPv4 address"


def pools(values: Values) -> Iterator[str]:
    """Check that each MinIO host is in a pool, and each of its volumes in only one."""
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
        # MinIO creates the largest sets that divide a pool evenly.
        largest = max((size for size in SET_SIZES if count % size == 0), default=1)
        if count > 1 and largest == 1:
            yield f"minio_pools: {count} drives cannot be divided into sets of 2 to 16; use another number"
        elif parity > largest // 2:
            yield f"minio_parity: {parity} is too many for {largest} drives a set; use at most half, {largest // 2}"
        if count == 1 and len(declared) > 1:
            yield "minio_pools: a pool of one drive cannot be extended by another"
    for host, volume in sorted({drive for drive in drives if drives.count(drive) > 1}):
        yield f"minio_pools: {volume} on {host} is declared twice"


def site_routes(values: Values) -> Iterator[str]:
    for option, site in _entries(values, "nginx_sites"):
        for route in site.get("routes") or []:
            has_answer = any(route.get(key) for key in ("upstream", "redirect", "directory", "links"))
            if not has_answer and not site.get("servers"):
                answers = "neither upstream nor redirect nor directory nor servers"
                yield f"{option}: {site.get('name')} {route.get('path')} has {answers}"


def site_names(values: Values) -> Iterator[str]:
    """Check that each site of nginx has its own name in the domain, and that nginx can answer there."""
    domain, file = values.get("topology_nginx_domain"), values.get("nginx_traefik_file")
    if "nginx_traefik_file" not in values:  # a host without nginx
        return
    if file and not (file.startswith("/") and file.endswith((".yml", ".yaml"))):
        yield f"nginx_traefik_file: {file} is not an absolute path that ends in .yml or .yaml, as Traefik requires"
    if file and not domain:
        yield "nginx_traefik_file: Traefik needs the names of the sites; set topology_nginx_domain"
    if not domain:
        return
    if not DNS_NAME.fullmatch(domain):
        yield f"topology_nginx_domain: {domain!r} is not a domain in lower case like example.org"
        return
    if values.get("topology_nginx_scheme") == "http":
        yield "topology_nginx_domain: names have TLS only; unset it, or topology_nginx_tls_mode: internal or provided"
    if values.get("topology_nginx_runtime") == "docker" and not file:
        yield (
            f"topology_nginx_domain: nginx in a container may not open port {PORT_OF_NAMES}; "
            "set topology_nginx_runtime: bare, or nginx_traefik_file"
        )
    names = values.get("topology_nginx_names") or {}
    sites = {str(site.get("name")) for _option, site in _entries(values, "nginx_sites")}
    for site in values.get("topology_nginx_subdomains") or {}:
        if site not in sites:
            yield f"topology_nginx_subdomains: nginx has no site {site}; use one of {', '.join(sorted(sites))}"
    for name in dict.fromkeys(names.values()):
        alike = [site for site, other in names.items() if other == name]
        if not DNS_NAME.fullmatch(name):
            yield f"topology_nginx_subdomains: {name!r} of {alike[0]} is not a name in lower case like mlflow.{domain}"
        elif len(alike) > 1:
            yield f"topology_nginx_subdomains: {' and '.join(alike)} have the same name {name}; give each its own"


def frontend_hosts(values: Values) -> Iterator[str]:
    for host in values.get("topology_frontend_hosts") or []:
        if host not in (values.get("topology_nginx_hosts") or [host]):
            yield f"group frontend: {host} is not in group nginx, which serves the front end's files"


def custom_kinds(values: Values) -> Iterator[str]:
    """Check that kinds of workers in the inventory have unused names, and can be installed."""
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
            yield f"worker_custom_kinds: {kind['name']}: there is no {file}; give its absolute path"
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
    """Check that the user's own containers can be units, and that their commands are absolute."""
    declared = values.get("containers_extra") or []
    yield from _unit_names("containers_extra", [container["name"] for container in declared])
    for container in declared:
        if not container["command"].startswith("/"):
            yield f"containers_extra: command of {container['name']} has no absolute path: {container['command']}"


def queues(values: Values) -> Iterator[str]:
    """Check that each kind of workers has queues, with names that can be in its command."""
    listened = {f"topology_worker_queues {group}": names for group, names in _queues_of_groups(values).items()}
    for kind in values.get("worker_custom_kinds") or []:
        listened[f"worker_custom_kinds {kind['name']}"] = kind["queues"]
    for kind, names in listened.items():
        if not names:
            yield f"{kind}: has no queue; name one"
        yield from (
            f"{kind}: queue {name!r} has characters other than letters, digits, . _ : and -"
            for name in names
            if not QUEUE.fullmatch(str(name))
        )


def _queues_of_groups(values: Values) -> Mapping[str, list[str]]:
    return values.get("topology_worker_queues") or {}


def identities(values: Values) -> Iterator[str]:
    """Report duplicate entries, of which the later one would win silently, or be refused by the service."""
    services = [name.removesuffix("_users_extra") for name in values if name.endswith("_users_extra")]
    named = {extra for _wiring, extra, _key in IDENTITIES}
    usual = [(f"topology_{service}_users", f"{service}_users_extra", "name") for service in services]
    for wiring, extra, key in (*IDENTITIES, *(lists for lists in usual if lists[1] not in named)):
        entries = [*(values.get(wiring) or []), *(values[extra] or [])] if extra in values else []
        known = [entry[key] for entry in entries if entry.get("clients") != []]
        for value in dict.fromkeys(known):
            if known.count(value) > 1:
                yield f"{extra}: {key} {value} is declared twice; give each entry its own"


def pgadmin_account(values: Values) -> Iterator[str]:
    """Check pgAdmin's account: it creates any, but does not sign in one with an address that it refuses."""
    if "pgadmin_settings" not in values:
        return
    email = str(values.get("topology_pgadmin_email"))
    allowed = (values["pgadmin_settings"] or {}).get("ALLOW_SPECIAL_EMAIL_DOMAINS") or []
    domain = email.rpartition(".")[2].lower()
    if not EMAIL.fullmatch(email):
        yield f"topology_pgadmin_email: {email!r} is not an e-mail address; use one like admin@example.org"
    elif domain in RESERVED_DOMAINS and domain not in (allowed.split(",") if isinstance(allowed, str) else allowed):
        yield (
            f"topology_pgadmin_email: pgAdmin refuses sign-ins from the reserved domain {domain}; use another address, "
            f"or set pgadmin_settings: {{ALLOW_SPECIAL_EMAIL_DOMAINS: [{domain}]}}"
        )


def packages(values: Values) -> Iterator[str]:
    for name in values.get("host_packages_extra") or []:
        if not PACKAGE.fullmatch(name):
            yield f"host_packages_extra: {name!r} is not a plain package name; leave out its version and architecture"


def decided_settings(values: Values) -> Iterator[str]:
    """Report settings of services that would contradict those of the rest of the deployment."""
    for option, decided in DECIDED.items():
        for name in values.get(option) or {}:
            for pattern, instead in decided.items():
                if re.fullmatch(pattern, str(name), re.IGNORECASE):
                    yield f"{option}: {name} {f'is set by {instead}' if instead else NOBODYS}"


def password_renewal(values: Values) -> Iterator[str]:
    days = values.get("restapi_password_renew_days")  # None if its type is wrong
    if days is not None and not 0 <= days <= MAX_RENEW_DAYS:
        yield f"restapi_password_renew_days: {days} is not from 0 to {MAX_RENEW_DAYS}, because a password lasts a year"


def rollout_serial(values: Values) -> Iterator[str]:
    for name in ROLLOUT_SETTINGS:
        serial = values.get(name, "1")
        if not SERIAL.fullmatch(str(serial)):
            yield f"{name}: {serial!r} is neither a number of hosts from 1 nor a percentage such as 25%"


def mounts(values: Values) -> Iterator[str]:
    """Check that data mounts are possible, and that those at one path are the same for all workers on the host."""
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
                f"{name}: path {mount.path} overlaps with MinIO's {drive}; use another, such as {EXAMPLE_PATH}"
                for drive in drives
                if mount.overlaps(drive)
            )
            at.setdefault(mount.path, {}).setdefault(mount, name)
    for path, users in at.items():
        if len(users) > 1:
            wishes = " and ".join(f"{mount.described} by {name}" for mount, name in users.items())
            yield f"{path} is requested from {wishes}; use another path, or the same source and options"


CHECKS: tuple[Callable[[Values], Iterator[str]], ...] = (
    addresses,
    containers,
    custom_kinds,
    database_names,
    decided_settings,
    frontend_hosts,
    grafana,
    identities,
    mounts,
    packages,
    password_renewal,
    pgadmin_account,
    pools,
    ports,
    queues,
    rabbitmq_objects,
    rabbitmq_cluster,
    monitoring,
    rabbitmq_memory,
    serving_models,
    serving_times,
    serving_minimums,
    serving_queues,
    serving_application,
    rollout_serial,
    site_names,
    site_routes,
)


def overlapping_ports(values: Values, services: Iterable[str]) -> Iterator[str]:
    """Report ports that two of a host's services use: those in topology, and those of nginx's sites."""
    wanted: dict[int, dict[str, None]] = {}
    for _service, name, port, _address in wanted_ports(values, services):
        wanted.setdefault(port, {})[name] = None
    for port, names in wanted.items():
        if len(names) > 1:
            yield f"port {port} is used by {' and by '.join(names)}; give each its own port"


def privileged_ports(values: Values, services: Iterable[str]) -> Iterator[str]:
    """Report ports that the user of a service in a container may not open."""
    for service, name, port, _address in wanted_ports(values, services):
        runtime = f"topology_{service}_runtime"
        if port in PRIVILEGED_PORTS and values.get(runtime) == "docker":
            yield f"{name}: port {port} is reserved for root; use one from {PRIVILEGED_PORTS.stop}, or {runtime}: bare"


def wanted_ports(values: Values, services: Iterable[str]) -> Iterator[tuple[str, str, int, str]]:
    """Yield service, setting, port and listening address of each port; for nginx, those of its sites."""
    for service in services:
        for job, port in (values.get("topology_exporters_ports") or {}).items() if service == "exporters" else ():
            yield service, f"{job} in topology_scrapes_auto", int(port), LOOPBACK
        for name, port in values.items():
            # None if its type is wrong, which the line of its option says.
            is_used = port is not None and values.get(f"{name.removesuffix('_port')}_enabled", True)
            if name.startswith(f"topology_{service}_") and name.endswith("_port") and service != "nginx" and is_used:
                is_of_metrics = name.endswith("_metrics_port")
                own = f"{name.removeprefix('topology_').removesuffix('_port')}_listen_address"
                address = LOOPBACK if is_of_metrics else str(values.get(own, values.get(f"{service}_listen_address")))
                # Each instance has its own metrics.
                for number in range(values.get(f"topology_{service}_count", 1) or 0 if is_of_metrics else 1):
                    yield service, name, port + number, address
    for _option, site in _entries(values, "nginx_sites"):
        if site.get("backends") != []:
            address = str(site.get("listen_address") or values.get("topology_nginx_listen_address"))
            for port in dict.fromkeys((site.get("port"), site.get("http_port"))):
                if port is not None:
                    yield "nginx", f"nginx site {site.get('name')}", port, address
    # Another check reports that a container may not open it.
    has_port_of_names = values.get("topology_nginx_domain") and values.get("topology_nginx_runtime") != "docker"
    if has_port_of_names and values.get("nginx_traefik_file") == "":
        yield "nginx", "topology_nginx_domain", PORT_OF_NAMES, str(values.get("topology_nginx_listen_address"))


def _entries(values: Values, list_name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the dictionaries in every list of this family: the role's, the wiring's and the user's."""
    for option, value in values.items():
        if list_name in option and isinstance(value, list):
            yield from ((option, entry) for entry in value if isinstance(entry, Mapping))
