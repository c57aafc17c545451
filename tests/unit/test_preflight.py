# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.mlfleet.stack.plugins.action.preflight import ARGUMENT_SPEC
from ansible_collections.mlfleet.stack.plugins.filter import topology
from ansible_collections.mlfleet.stack.plugins.modules.preflight import DOCUMENTATION
from ansible_collections.mlfleet.stack.plugins.plugin_utils import run_lock, services
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight import (
    checks,
    host_checks,
    inventory_checks,
    option_checks,
    role_files,
)
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight.role_files import (
    Role,
    UnresolvableError,
    UnsetError,
)
from ansible_collections.mlfleet.stack.plugins.plugin_utils.rendering import ROLES_DIR

ROOT = Path(__file__).parents[2]
SECRET = "Tr0ub4dor-and-three"
DEBIAN = {
    "distribution": "Debian",
    "distribution_major_version": "12",
    "service_mgr": "systemd",
    "python": {"version": {"major": 3, "minor": 11}},
}


def write_role(roles_dir, name, options=None, defaults=None, variables=None, dependencies=()):
    contents = {
        "meta/main.yml": {"dependencies": list(dependencies)},
        "meta/argument_specs.yml": {"argument_specs": {"main": {"options": options or {}}}},
        "defaults/main.yml": defaults or {},
        "vars/main.yml": variables,
    }
    for file, data in contents.items():
        if data is not None:
            path = roles_dir / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(data))


def read(path):
    return yaml.safe_load(path.read_text()) if path.exists() else None


def examine(options, **values):
    def resolve(_role, name):
        if name not in values:
            raise UnsetError
        return values[name]

    return option_checks.examine([Role("redis", Path("/"), options, {}, {}, [])], resolve)


def test_a_host_runs_the_roles_of_its_groups_and_host():
    assert role_files.roles_of_host(["host", "redis", "nginx"], ["nginx", "prod"]) == ["host", "nginx"]


def test_dependencies_are_loaded_first_and_once(tmp_path):
    write_role(tmp_path, "topology", defaults={"topology_port": 1})
    write_role(tmp_path, "common", dependencies=[{"role": "mlfleet.stack.topology"}])
    write_role(tmp_path, "special", dependencies=["mlfleet.stack.common", {"name": "topology"}])
    roles = role_files.load_roles(["special", "common"], tmp_path, read)
    assert [role.name for role in roles] == ["topology", "common", "special"]
    assert roles[0].defaults == {"topology_port": 1}
    with pytest.raises(LookupError, match="there is no role nothing"):
        role_files.load_roles(["nothing"], tmp_path, read)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("topology_serving_worker_conut", "topology_serving_worker_count"),
        ("topology_serving_worker_count", None),
        ("serving_queue", "topology_serving_queue"),
        ("topology_serving_worker_count_of_mine", None),
        ("site_name", None),
        ("state", None),
    ],
)
def test_misspelled_setting_is_told_from_a_name_of_your_own(name, meant):
    known = role_files.known_options(ROLES_DIR, read)
    assert list(inventory_checks.misspelled([name], known)) == ([(name, meant)] if meant else [])


def test_misspelled_group_is_told_from_a_part_of_a_role():
    groups = {"all": ["a", "b"], "serving_workers": ["a"], "redis": ["a", "b"], "redis1": ["a"], "staging": ["b"]}
    found = inventory_checks.misspelled_groups(["serving_worker", "redis"], groups)
    assert list(found) == [("serving_workers", "serving_worker")]


def test_hosts_that_are_not_watched_are_one_line():
    groups = {"all": ["a", "b", "c", "d"], "redis": ["a"], "worker_custom": ["b"], "drift": ["c"], "mine": ["d"]}
    assert list(inventory_checks.unwatched(groups)) == []
    (line,) = inventory_checks.unwatched(groups | {"prometheus": ["a"], "exporters": ["a"]})
    assert line == "b, c: is not watched, because it is not in group exporters"


def test_each_wrong_option_gets_a_line():
    found = examine(
        {
            "redis_limit": {"type": "int"},
            "redis_mode": {"choices": ["bare", "docker"]},
            "redis_name": {"required": True},
            "redis_extra": {"type": "list"},
            "redis_users": {"type": "list", "elements": "dict", "options": {"name": {"required": True}}},
        },
        redis_limit="many",
        redis_mode="vm",
        redis_users=[{"nmae": "x"}],
    )
    limit, mode, name, users, unsupported = sorted(found.lines, key=lambda line: line.split()[3])[0:5]
    assert limit.startswith("role redis: argument redis_limit: ") and "many" in limit and "int" in limit
    assert mode == "role redis: argument redis_mode: value of redis_mode must be one of: bare, docker, got: vm"
    assert name == "role redis: argument redis_name: is required"
    assert "missing required arguments: name" in users
    assert "nmae" in unsupported


def test_no_secret_is_quoted():
    options = {
        "topology_secret_redis": {"required": True, "no_log": True},
        "redis_password": {"type": "int", "no_log": True},
        "redis_url": {"choices": ["none"]},
        "redis_users": {
            "type": "list",
            "elements": "dict",
            "options": {"password": {"no_log": True, "choices": ["a"]}},
        },
    }
    found = examine(
        options,
        topology_secret_redis=SECRET,
        redis_password="hunter-twenty-two",
        redis_url=f"redis://{SECRET}@h",
        redis_users=[{"password": "one-of-a-kind"}],
    )
    assert len(found.lines) == 3
    assert not any(secret in str(found) for secret in (SECRET, "hunter-twenty-two", "one-of-a-kind"))


def test_what_a_missing_secret_makes_undefined_is_no_news():
    def resolve(_role, name):
        raise UnsetError if name.startswith("topology") else UnresolvableError("'topology_secret_redis' is undefined")

    options = {"topology_secret_redis": {"required": True, "no_log": True}, "redis_url": {}}
    found = option_checks.examine([Role("redis", Path("/"), options, {}, {}, [])], resolve)
    assert (found.missing_secrets, found.lines) == (["topology_secret_redis"], [])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("a" * 16, None),
        ("!" * 40, None),
        (12345678901234567890, "is not text"),
        (None, "is not text"),
        ("short", "has 5 characters, not 16 to 40"),
        ("a" * 41, "has 41 characters, not 16 to 40"),
        ("pass word pass word", "contains a space, a control character or a character beyond ASCII"),
        ("p\u00e4ssword-p\u00e4ssword", "contains a space, a control character or a character beyond ASCII"),
        ("password-password\n", "contains a space, a control character or a character beyond ASCII"),
    ],
)
def test_secrets_have_the_form_that_init_gives_them(value, problem):
    assert option_checks.secret_problem(value) == problem


def test_secrets_are_told_in_one_line_with_the_mend():
    [missing, malformed] = inventory_checks.secret_lines(["a", "b"], {"c": "is not text"}, "prod")
    assert missing == "secrets are missing: a, b – run: mlfleet init prod"  # noqa: RUF001
    assert malformed.startswith("c is not text: remove it from group_vars/all/vault.yml with ansible-vault edit")


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({"topology_exporters_tls_mode": "off", "exporters_listen_address": "127.0.0.1"}, []),
        (
            {"topology_exporters_tls_mode": "off", "exporters_listen_address": "0.0.0.0"},
            ["topology_exporters_tls_mode: without TLS the metrics of this host are open"],
        ),
        (
            {
                **{"topology_alertmanager_hosts": ["a", "b"], "alertmanager_listen_address": "0.0.0.0"},
                **{"topology_alertmanager_tls_mode": "off", "topology_address": "b.example.org"},
            },
            ["topology_alertmanager_tls_mode: several hosts verify", "topology_address: b.example.org is not an IPv4"],
        ),
        ({"topology_alertmanager_hosts": ["a"], "alertmanager_listen_address": "127.0.0.1"}, []),
    ],
)
def test_metrics_and_messages_are_not_open_to_everybody(values, lines):
    assert [line[: len(begin)] for line, begin in zip(checks.monitoring(values), lines, strict=True)] == lines


def test_metrics_of_the_user_come_from_one_place_under_a_name_of_their_own():
    scrapes = [
        {"job": "a", "hosts": [], "port": 9500},
        {"job": "b", "hosts": [], "command": "/usr/bin/b"},
        {"job": "c", "hosts": []},
        {"job": "node", "hosts": [], "port": 9500, "command": "/usr/bin/d"},
    ]
    values = {"topology_scrapes_auto": [{"job": "node", "hosts": [], "port": 9100}], "topology_scrapes_extra": scrapes}
    assert list(checks.monitoring(values)) == [
        "topology_scrapes_extra: c has neither port nor command; give it one of them",
        "topology_scrapes_extra: node has both port and command; give it one of them",
    ]
    assert list(checks.identities(values)) == [
        "topology_scrapes_extra: job node is declared twice; give each entry its own"
    ]


def test_problem_of_many_hosts_is_one_line():
    problems = [("", "no secrets"), ("a", "bad port"), ("a", "no file"), *((name, "bad port") for name in "bcdefg")]
    assert list(inventory_checks.joined(problems)) == [
        "no secrets",
        "a, b, c, d, e, 2 more: bad port",
        "a: no file",
    ]


@pytest.mark.parametrize("name", ["restapi", "mlflow-tracking", "_x1", "a" * 63])
def test_identifiers(name):
    assert not examine({"postgres_databases_extra": {"type": "list"}}, postgres_databases_extra=[{"name": name}]).lines


@pytest.mark.parametrize("name", ["1st", "my db", 'x"; drop', "", "a" * 64, "b\u00e4r", "x\n"])
def test_what_is_no_identifier(name):
    found = examine({"postgres_databases": {"type": "list"}}, postgres_databases=[{"name": "x", "owner": name}])
    [line] = found.lines
    assert line.startswith(f"postgres_databases: owner {name!r} is not an identifier")


def test_ports_are_ports_and_each_site_has_its_own():
    site = {"name": "mlflow", "port": 35000}
    lists = {"nginx_sites_default": [site], "nginx_sites_extra": [{"name": "mine", "port": 35000}]}
    options = {"redis_port": {"type": "int"}} | {name: {"type": "list"} for name in [*lists, "nginx_sites"]}
    assert examine(options, redis_port="70000", nginx_sites=[site], **lists).lines == [
        "redis_port: 70000 is not a port (1 to 65535)",
        "port 35000 is used by nginx site mlflow and by nginx site mine; give each its own port",
    ]


def test_services_of_a_host_have_ports_of_their_own():
    values = {
        "topology_minio_port": 9000,
        "topology_redis_port": 9000,
        "topology_nginx_minio_port": 9000,
        "nginx_sites_auto": [
            {"name": "minio", "port": 9000, "backends": []},
            {"name": "own", "port": 9000, "backends": ["h"]},
        ],
    }
    assert not list(checks.overlapping_ports(values | {"nginx_sites_auto": []}, ["minio", "nginx"]))
    assert list(checks.overlapping_ports(values, ["minio", "redis", "nginx"])) == [
        "port 9000 is used by topology_minio_port and by topology_redis_port and by nginx site own; "
        "give each its own port"
    ]


def test_metrics_of_further_instances_have_free_ports():
    values = {
        "topology_serving_worker_metrics_port": 9809,
        "topology_serving_worker_count": 3,
        "topology_minio_port": 9811,
    }
    (line,) = checks.overlapping_ports(values, ["serving_worker", "minio"])
    assert "port 9811 is used by topology_serving_worker_metrics_port and by topology_minio_port" in line
    assert not list(
        checks.overlapping_ports(values | {"topology_serving_worker_count": 2}, ["serving_worker", "minio"])
    )


def test_exporters_have_ports_of_their_own():
    values = {"topology_exporters_ports": {"node": 9100}, "topology_minio_port": 9100}
    assert not list(checks.overlapping_ports(values, ["minio"]))
    (line,) = checks.overlapping_ports(values, ["minio", "exporters"])
    assert "port 9100 is used by topology_minio_port and by node in topology_scrapes_auto" in line


def test_port_with_an_address_of_its_own_is_wanted_there():
    values = {"topology_minio_port": 9000, "topology_minio_console_port": 9001, "minio_listen_address": "0.0.0.0"}
    found = checks.wanted_ports(values | {"minio_console_listen_address": "127.0.0.1"}, ["minio"])
    assert {(port, address) for _service, _name, port, address in found} == {(9000, "0.0.0.0"), (9001, "127.0.0.1")}


def test_each_drive_of_minio_is_in_one_pool():
    pools = [{"hosts": ["s1", "s2"], "volumes": ["/d"]}, {"hosts": ["s2", "x"], "volumes": ["/d", "/e"]}]
    values = {"topology_minio_hosts": ["s1", "s2", "s3"], "minio_pools": pools}
    assert list(checks.pools(values)) == [
        "minio_pools: x is not in group minio",
        "minio_pools: s3 of group minio is in no pool",
        "minio_pools: /d on s2 is declared twice",
    ]


@pytest.mark.parametrize(
    ("hosts", "volumes", "parity", "line"),
    [
        (2, 1, 2, "minio_parity: 2 is too many for 2 drives a set; use at most half, 1"),
        (5, 4, 8, "minio_parity: 8 is too many for 10 drives a set; use at most half, 5"),
        (17, 1, 0, "minio_pools: 17 drives cannot be divided into sets of 2 to 16; use another number"),
    ],
)
def test_parity_and_drives_make_sets(hosts, volumes, parity, line):
    names = [f"s{index}" for index in range(hosts)]
    pool = {"hosts": names, "volumes": [f"/d{index}" for index in range(volumes)]}
    values = {"topology_minio_hosts": names, "minio_pools": [pool], "minio_parity": parity}
    assert list(checks.pools(values)) == [line]


def test_one_drive_cannot_be_extended():
    pools = [{"hosts": ["s1"], "volumes": ["/a"]}, {"hosts": ["s1"], "volumes": ["/b", "/c"]}]
    [line] = checks.pools({"topology_minio_hosts": ["s1"], "minio_pools": pools})
    assert line == "minio_pools: a pool of one drive cannot be extended by another"


def test_route_leads_somewhere():
    site = {"name": "mine", "routes": [{"path": "/"}, {"path": "/x", "redirect": "/"}]}
    [line] = checks.site_routes({"nginx_sites_extra": [site, site | {"servers": ["h:1"]}]})
    assert line == "nginx_sites_extra: mine / has neither upstream nor redirect nor directory nor servers"


NAMED = {
    "topology_nginx_domain": "example.org",
    "topology_nginx_scheme": "https",
    "topology_nginx_runtime": "bare",
    "topology_nginx_names": {"mlflow": "mlflow.example.org"},
    "nginx_sites_auto": [{"name": "mlflow"}, {"name": "minio"}],
    "nginx_traefik_file": "",
}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, None),
        (
            {"topology_nginx_domain": "lab", "nginx_traefik_file": "/etc/t/x.yaml", "topology_nginx_runtime": "docker"},
            None,
        ),
        ({"topology_nginx_domain": "", "topology_nginx_scheme": "http"}, None),
        *(
            (
                {"topology_nginx_domain": domain},
                f"topology_nginx_domain: {domain!r} is not a domain in lower case like example.org",
            )
            for domain in ("Example.org", "*.example.org", "192.0.2.1", "https://a.org", "a.org.", "a_b.org", "a.org\n")
        ),
        (
            {"topology_nginx_scheme": "http"},
            "topology_nginx_domain: names have TLS only; unset it, or topology_nginx_tls_mode: internal or provided",
        ),
        (
            {"topology_nginx_runtime": "docker"},
            "topology_nginx_domain: nginx in a container may not open port 443; set topology_nginx_runtime: bare, "
            "or nginx_traefik_file",
        ),
        (
            {"topology_nginx_subdomains": {"mlfow": "x"}},
            "topology_nginx_subdomains: nginx has no site mlfow; use one of minio, mlflow",
        ),
        (
            {"topology_nginx_names": {"mlflow": "My.example.org"}},
            "topology_nginx_subdomains: 'My.example.org' of mlflow is not a name in lower case like mlflow.example.org",
        ),
        (
            {"topology_nginx_names": {"mlflow": "x.example.org", "minio": "x.example.org"}},
            "topology_nginx_subdomains: mlflow and minio have the same name x.example.org; give each its own",
        ),
        (
            {"topology_nginx_domain": "", "nginx_traefik_file": "/etc/traefik/dynamic/mlfleet.yml"},
            "nginx_traefik_file: Traefik needs the names of the sites; set topology_nginx_domain",
        ),
        (
            {"nginx_traefik_file": "traefik.toml"},
            "nginx_traefik_file: traefik.toml is not an absolute path that ends in .yml or .yaml, as Traefik requires",
        ),
    ],
)
def test_sites_have_names_of_their_own(settings, line):
    assert list(checks.site_names(NAMED | settings)) == ([line] if line else [])


def test_port_of_names_belongs_to_no_site():
    mine = {"nginx_sites_extra": [{"name": "mine", "port": 443}]}
    assert list(checks.overlapping_ports(NAMED | mine, ["nginx"])) == [
        "port 443 is used by nginx site mine and by topology_nginx_domain; give each its own port"
    ]
    behind = {"nginx_traefik_file": "/etc/traefik/dynamic/mlfleet.yml"}
    assert list(checks.overlapping_ports(NAMED | mine | behind, ["nginx"])) == []
    assert list(checks.privileged_ports(NAMED | {"topology_nginx_runtime": "docker"}, ["nginx"])) == []


@pytest.mark.parametrize(("days", "is_good"), [(None, True), (0, True), (363, True), (364, False), (-1, False)])
def test_password_is_renewed_within_its_year(days, is_good):
    assert (list(checks.password_renewal({"restapi_password_renew_days": days})) == []) is is_good


@pytest.mark.parametrize(
    ("models", "line"),
    [
        ([{"name": "a", "canary": {"alias": "b", "percent": 10.0}, "shadow": {"alias": "c"}}], None),
        ([{"name": "a", "version": "3", "canary": {"alias": "champion", "percent": 10.0}}], None),
        ([{"name": "a"}, {"name": "a"}], "a is declared twice; give its other version as canary or shadow"),
        ([{"name": "a", "alias": "x", "path": "/m"}], "a: alias and path exclude each other; keep one"),
        (
            [{"name": "a", "canary": {"alias": "b", "percent": 101.0}}],
            "a: the canary's percent is 101; use a number from 0 to 100",
        ),
        (
            [{"name": "a", "shadow": {"alias": "champion"}}],
            "a: the shadow has the alias of the model itself; name another",
        ),
        (
            [{"name": "a", "path": "/m", "shadow": {"alias": "b"}}],
            "a: a model in a directory has one version, so it has no shadow",
        ),
        ([{"name": "a/b"}], "a/b: MLflow has no models with / or : in their names; name another"),
        ([{"name": "a", "path": "m"}], "a: path m is not absolute, like /srv/models/a"),
        ([{"name": "a", "version": "v3"}], "a: version 'v3' is not a number like 3; for a name use alias"),
        ([{"name": "a", "version": "0"}], "a: version '0' is not a number like 3; for a name use alias"),
        (
            [{"name": "a", "alias": "@champion"}],
            "a: '@champion' is no alias: use letters, digits, _ and -, and neither latest nor v1",
        ),
        (
            [{"name": "a", "shadow": {"alias": "v2"}}],
            "a: 'v2' is no alias: use letters, digits, _ and -, and neither latest nor v1",
        ),
    ],
)
def test_models_are_served_once_in_a_version_that_can_be_found(models, line):
    lines = [f"topology_serving_models: {line}"] if line else []
    assert list(checks.serving_models({"topology_serving_models": models})) == lines


def test_tasks_end_before_the_broker_gives_them_to_others():
    values = {"serving_task_time_limit_seconds": 300, "topology_rabbitmq_consumer_timeout_seconds": 1800}
    assert not list(checks.serving_times(values))
    [line] = checks.serving_times(values | {"serving_task_time_limit_seconds": 1800})
    assert "lower it, or raise the other one" in line


def test_nginx_waits_as_long_as_a_request_to_the_serving_api_may_take():
    proxies = {"web1": 300, "web2": 300}
    assert not list(inventory_checks.impatient_proxies({"api1": 299, "api2": 55}, proxies))
    [line] = inventory_checks.impatient_proxies({"api1": 300, "api2": 300}, proxies)
    assert line.startswith("serving_request_seconds: 300 is not below nginx_read_timeout_seconds, 300")
    assert len(list(inventory_checks.impatient_proxies({"api1": 55, "api2": 70}, {"web1": 60, "web2": 300}))) == 1
    assert not list(inventory_checks.impatient_proxies({"api1": 55}, {}))


def serving_times(**inventory: int) -> tuple[int, int]:
    """Return how long a request, and a stop of the API, may take, by the defaults of the role."""
    defaults = yaml.safe_load(Path("roles/serving/defaults/main.yml").read_text())
    values = {name: trust_as_template(value) if isinstance(value, str) else value for name, value in defaults.items()}
    templar = Templar(DataLoader(), values | inventory)
    found = [templar.template(values[name]) for name in ("serving_request_seconds", "serving_stop_timeout_seconds")]
    return found[0], found[1]


def test_request_may_take_all_waits_together_and_the_stop_of_the_api_as_long():
    longest, stop = serving_times(serving_broker_wait_seconds=100, serving_wait_seconds=400)
    assert longest >= 100 + 400 + 8 + 5  # the broker's and the results' own timeouts
    assert stop > longest
    assert serving_times(serving_task_time_limit_seconds=7000)[1] > 7000


def test_default_application_has_models_and_workers():
    values = {"serving_asgi_app": "mlfleet_serving.api:api", "topology_mlflow_hosts": [], "topology_serving_models": []}
    [line] = checks.serving_models(values)
    assert "name models, each with a path" in line
    assert not list(checks.serving_models(values | {"topology_mlflow_hosts": ["a"]}))
    assert not list(checks.serving_models(values | {"serving_asgi_app": "api.routes:api"}))
    values = {"serving_asgi_app": "mlfleet_serving.api:api", "serving_api_workers": 2}
    [line] = checks.serving_queues(values | {"topology_serving_worker_hosts": []})
    assert line.startswith("group serving_worker: has no host")
    assert not list(checks.serving_queues(values | {"topology_serving_worker_hosts": ["a"]}))


@pytest.mark.parametrize(("name", "minimum"), [(name, least) for name, (least, _) in checks.MINIMUMS.items()])
def test_numbers_of_the_serving_stack_have_a_minimum(name, minimum):
    assert not list(checks.serving_minimums({name: minimum}))
    [line] = checks.serving_minimums({name: minimum - 1})
    assert line.startswith(f"{name}: {minimum - 1} is below {minimum}")


def test_application_is_found(tmp_path):
    values = {"serving_source": str(tmp_path), "serving_requirements_file": str(tmp_path / "pins.txt")}
    [line] = checks.serving_application(values)
    assert line.startswith(f"serving_requirements_file: there is no {tmp_path}/pins.txt")
    (tmp_path / "pins.txt").touch()
    assert not list(checks.serving_application(values | {"serving_asgi_app": "api.routes:api"}))
    assert list(
        checks.serving_application({"serving_asgi_app": "api.routes", "topology_serving_health_path": "up"})
    ) == [
        "serving_asgi_app: 'api.routes' is not module:object, such as api.routes:api",
        "topology_serving_health_path: 'up' does not begin with /",
    ]


def test_packages_and_images_of_the_application_are_found():
    values = {"serving_packages_extra": ["a==1"], "serving_images": {"serving-api": "registry.example.org/a:1"}}
    assert not list(checks.serving_application(values))
    assert list(checks.serving_application({"serving_packages_extra": ["a>=1"], "serving_images": {"api": "b:1"}})) == [
        "serving_packages_extra: package 'a>=1' is not pinned like name==1.2.3",
        "serving_images: api is none of serving-api, serving-worker",
    ]


def test_share_of_memory_is_a_share():
    assert not list(checks.rabbitmq_memory({"rabbitmq_memory_high_watermark": 0.4}))
    [line] = checks.rabbitmq_memory({"rabbitmq_memory_high_watermark": 40.0})
    assert "40 is not a share" in line


def test_ports_and_numbers_of_a_wrong_type_are_no_ports():
    values = {
        "topology_serving_worker_metrics_port": 9809,
        "topology_serving_worker_count": None,
        "topology_minio_port": None,
    }
    assert not list(checks.wanted_ports(values, ["serving_worker", "minio"]))


@pytest.mark.parametrize("queue", ["my predictions", ""])
def test_queue_of_the_api_can_be_in_a_command(queue):
    values = {"topology_serving_queue": queue, "serving_worker_queues": [queue]}
    assert list(checks.serving_queues(values)) == [
        f"topology_serving_queue: queue {queue!r} is not made of letters, digits, . _ : and -"
    ]
    [line] = checks.serving_queues({"topology_serving_queue": "a", "serving_worker_queues": ["a", queue]})
    assert line.startswith("serving_worker_queues: queue")


def test_queue_of_the_api_has_a_worker_on_some_host():
    sent = {"api1": "predictions", "api2": "predictions"}
    assert not list(inventory_checks.unserved_queues(sent, {"a": ["other"], "b": ["other", "predictions"]}))
    [line] = inventory_checks.unserved_queues(sent, {"a": ["other"], "b": []})
    assert "no worker serves predictions" in line and line.endswith("add it on a or b")
    assert not list(inventory_checks.unserved_queues(sent, {}))


@pytest.mark.parametrize("queues", [["predictions", "other"], ["other"]])
def test_default_application_has_one_queue(queues):
    """Celery ends with a KeyError at the name of another."""
    values = {"serving_asgi_app": "mlfleet_serving.api:api", "topology_serving_queue": "predictions"}
    assert not list(checks.serving_queues(values | {"serving_worker_queues": ["predictions"]}))
    [line] = checks.serving_queues(values | {"serving_worker_queues": queues})
    assert "the default application has predictions alone" in line
    own = {"serving_asgi_app": "api.routes:api", "serving_worker_queues": queues}
    assert not list(checks.serving_queues(values | own))


def test_workers_of_the_serving_stack_have_a_queue():
    [line] = checks.serving_queues({"topology_serving_queue": "a", "serving_worker_queues": []})
    assert line == "serving_worker_queues: has no queue; name one"


def test_front_end_is_where_nginx_is():
    [line] = checks.frontend_hosts({"topology_frontend_hosts": ["a", "b"], "topology_nginx_hosts": ["a"]})
    assert line == "group frontend: b is not in group nginx, which serves the front end's files"


def test_ipv6_address_is_refused():
    [line] = examine({"topology_address": {"type": "str"}}, topology_address="fd00::1").lines
    assert line == "topology_address: IPv6 addresses are not supported; give a name or an IPv4 address"


SEEN = {"systemd-journald": [0]}


def listener(address, port=5050, uid=0):
    return {"address": address, "port": port, "uid": uid, "user": {0: "root", 990: "dioptra"}.get(uid, "eve")}


def test_ports_of_running_instances_are_their_own():
    values = {"topology_serving_worker_metrics_port": 9809, "topology_serving_worker_count": 2}
    units, found = {"serving_worker": "serving-worker@"}, [listener("127.0.0.1", 9810, 100)]
    running = {"running_units": SEEN | {"serving-worker@1": [100], "serving-worker@2": [100]}, "listeners": found}
    assert not list(host_checks.taken_ports(values, units, running))
    (line,) = host_checks.taken_ports(values, units, running | {"running_units": SEEN})
    assert "port 9810, which topology_serving_worker_metrics_port needs, is in use" in line


@pytest.mark.parametrize(
    ("listen_address", "found", "running", "is_told"),
    [
        ("127.0.0.1", [], {}, False),
        ("127.0.0.1", [listener("127.0.0.1")], {}, True),
        ("127.0.0.1", [listener("0.0.0.0")], {}, True),
        ("127.0.0.1", [listener("::")], {}, True),
        ("0.0.0.0", [listener("192.0.2.1")], {}, True),
        ("0.0.0.0", [listener("::1")], {}, False),
        ("127.0.0.1", [listener("192.0.2.1")], {}, False),
        ("127.0.0.1", [listener("127.0.0.1", 5051)], {}, False),
        ("127.0.0.1", [listener("127.0.0.1", uid=1)], {"pgadmin": [1]}, False),  # its own
        ("127.0.0.1", [listener("127.0.0.1", uid=990)], {"dioptra-restapi": [990]}, False),  # leaves it
        ("127.0.0.1", [listener("127.0.0.1", uid=1)], {"dioptra-restapi": [990]}, True),
        ("127.0.0.1", [listener("127.0.0.1")], {"nginx": [0, 33]}, True),
    ],
)
def test_port_of_another_program_is_told(listen_address, found, running, is_told):
    values = {"topology_pgadmin_port": 5050, "pgadmin_listen_address": listen_address}
    units = {"pgadmin": "pgadmin", "restapi": "dioptra-restapi", "nginx": "nginx"}
    lines = list(host_checks.taken_ports(values, units, {"listeners": found, "running_units": SEEN | running}))
    taken = "port 5050, which topology_pgadmin_port needs, is in use by a program of user {}"
    mend = "stop it, or set another port"
    assert lines == ([f"{taken.format(found[0]['user'])}: {mend}"] if is_told else [])


def test_ports_of_sites_and_units_of_templates():
    values = {
        "topology_nginx_listen_address": "0.0.0.0",
        "nginx_sites_auto": [{"name": "api", "port": 443, "http_port": 80}],
    }
    facts = {"listeners": [listener("0.0.0.0", 80), listener("0.0.0.0", 5432, 100)], "running_units": SEEN}
    (line,) = host_checks.taken_ports(values, {"nginx": "nginx"}, facts)
    assert line.startswith("port 80, which nginx site api needs, is in use by a program of user root: ")
    postgres = {"topology_postgres_port": 5432, "postgres_listen_address": "127.0.0.1"}
    units = {"postgres": "postgresql@15-main"}
    for running, count in (({}, 1), ({"postgresql@15-main": [100]}, 0)):
        lines = list(host_checks.taken_ports(postgres, units, facts | {"running_units": SEEN | running}))
        assert len(lines) == count
    former = {**listener("127.0.0.1", 5432, 100), "user": "postgres"}
    found = {"listeners": [former], "running_units": SEEN | {"postgresql@15-main": [100]}}
    (line,) = host_checks.taken_ports(postgres, {"postgres": "postgresql@17-main"}, found)
    assert "is in use by postgresql@15-main: stop it with systemctl disable --now postgresql@15-main" in line
    assert not list(host_checks.taken_ports(values, {"nginx": "nginx"}, {}))
    hidden = facts | {"running_units": {"user@1000": [1000]}}
    assert not list(host_checks.taken_ports(values, {"nginx": "nginx"}, hidden))


def test_container_that_outlived_its_unit_is_no_other_program():
    mine = {**listener("127.0.0.1", uid=991), "user": "pgadmin"}
    values = {"topology_pgadmin_port": 5050, "pgadmin_listen_address": "127.0.0.1"}
    assert not list(
        host_checks.taken_ports(values, {"pgadmin": "pgadmin"}, {"listeners": [mine], "running_units": SEEN})
    )


@pytest.mark.parametrize("email", ["admin@example.org", "a.b+c@intranet.lan", "\u00e4@x.org", "a@x.xn--p1ai"])
def test_address_that_pgadmin_lets_in(email):
    assert list(checks.pgadmin_account({"topology_pgadmin_email": email, "pgadmin_settings": {}})) == []


@pytest.mark.parametrize(
    "email",
    [
        "",
        "admin",
        "admin@localhost",
        "a b@x.org",
        "a@x..org",
        "a.@x.org",
        "a@-x.org",
        "a@x.1",
        "a@[1.2.3.4]",
        "a@x.org\n",
    ],
)
def test_address_that_is_none(email):
    (line,) = checks.pgadmin_account({"topology_pgadmin_email": email, "pgadmin_settings": {}})
    assert line == f"topology_pgadmin_email: {email!r} is not an e-mail address; use one like admin@example.org"


def test_reserved_domain_is_allowed_by_name():
    values = {"topology_pgadmin_email": "admin@home.LOCAL", "pgadmin_settings": {}}
    (line,) = checks.pgadmin_account(values)
    assert "reserved domain local; use another address, or set pgadmin_settings: {ALLOW_" in line
    for allowed in (["local"], "test,local"):
        assert not list(checks.pgadmin_account(values | {"pgadmin_settings": {"ALLOW_SPECIAL_EMAIL_DOMAINS": allowed}}))
    assert not list(checks.pgadmin_account({"topology_pgadmin_email": "of a host without pgAdmin"}))


def test_entries_are_known_by_something_of_their_own():
    wiring = [{"name": "a", "clients": ["h"]}, {"name": "b", "clients": []}]
    twice = {"topology_postgres_databases": wiring, "pgadmin_servers_extra": [{"name": "a"}, {"name": "b"}]}
    assert list(checks.identities(twice)) == [
        "pgadmin_servers_extra: name a is declared twice; give each entry its own"
    ]
    users = [{"name": "ada", "email": "a@x.org"}, {"name": "eve", "email": "a@x.org"}]
    assert list(checks.identities({"restapi_users_extra": users, "topology_dioptra_users": []})) == [
        "restapi_users_extra: email a@x.org is declared twice; give each entry its own"
    ]
    assert list(checks.identities({"topology_dioptra_users": users})) == []
    assert list(checks.identities({"topology_redis_users": wiring, "redis_users_extra": [{"name": "a"}]})) == [
        "redis_users_extra: name a is declared twice; give each entry its own"
    ]


@pytest.mark.parametrize(
    ("facts", "versions", "lines"),
    [
        ({}, [], []),
        ({"distribution_major_version": "13", "python": {"version": {"major": 3, "minor": 13}}}, [("3.13",)], []),
        ({"distribution_major_version": "11"}, [], ["Debian 11 is not supported: use Debian 12 or 13"]),
        ({"distribution": "Ubuntu"}, [], ["Ubuntu 12 is not supported: use Debian 12 or 13"]),
        ({"service_mgr": "sysvinit"}, [], ["services are managed by sysvinit: systemd is needed"]),
        (
            {"python": {"version": {"major": 3, "minor": 9}}},
            [("3.11", "3.12")],
            [
                "Python 3.11 or newer is needed, h1 has 3.9",
                "tf needs Python 3.11 or 3.12, /usr/bin/python3 of h1 is 3.9: name another",
            ],
        ),
    ],
)
def test_host_must_be_supported(facts, versions, lines):
    environments = [environment("/usr/bin/python3", *wanted) for wanted in versions]
    assert list(host_checks.host_problems("h1", DEBIAN | facts, environments)) == lines


def environment(python, *versions):
    return host_checks.Environment("tf", python, "name another", versions)


OWN = "/opt/python3.12/bin/python3"


@pytest.mark.parametrize(
    ("python", "versions", "lines"),
    [
        (OWN, ("3.11", "3.12"), []),
        (OWN, (), []),
        (OWN, ("3.11",), [f"tf needs Python 3.11, {OWN} of h1 is 3.12: name another"]),
        ("/opt/old/python3", (), ["tf needs Python 3.11 or newer, /opt/old/python3 of h1 is 3.8: name another"]),
        ("/opt/none", (), ["tf wants /opt/none, which does not run on h1: install it first"]),
        ("/usr/bin/python3", ("3.12",), ["tf needs Python 3.12, /usr/bin/python3 of h1 is 3.13: name another"]),
    ],
)
def test_environment_is_made_with_the_interpreter_that_is_named(python, versions, lines):
    pythons = {"/usr/bin/python3": "3.13.5", OWN: "3.12.11", "/opt/old/python3": "3.8.20"}
    environments = [environment(python, *versions)]
    assert list(host_checks.host_problems("h1", DEBIAN | {"pythons": pythons}, environments)) == lines


def test_without_facts_nothing_is_guessed():
    assert list(host_checks.host_problems("h1", {}, [environment(OWN)])) == [
        "facts are missing: gather them before preflight"
    ]


def test_worker_with_gpus_wants_a_host_with_gpus():
    wishes = [{"worker": "tensorflow-gpu", "count": 1, "gpus": 1}, {"worker": "torch", "count": 1, "gpus": 0}]
    (line,) = inventory_checks.gpu_problems(wishes, ["workers"])
    assert line.startswith("tensorflow-gpu on a host without GPUs: add it to group gpu")
    assert not list(inventory_checks.gpu_problems(wishes, ["workers", "gpu"]))
    assert not list(inventory_checks.gpu_problems(wishes[1:], ["workers"]))
    assert not list(inventory_checks.gpu_problems([wishes[0] | {"count": 0}], ["workers"]))


def test_required_groups_have_hosts():
    groups = {"redis": ["h1"], "mlflow": ["h1"], "postgres": []}
    settings = {"topology_postgres_host": "", "topology_minio_url": "https://:9000"}
    missing = {role: list(services.missing_groups(role, groups, settings.get)) for role in ("restapi", "mlflow")}
    assert missing == {"restapi": ["postgres"], "mlflow": ["postgres", "minio"]}
    assert list(inventory_checks.empty_groups({"restapi": ["postgres"]}, "prod")) == [
        "restapi needs group postgres, which has no host: add one to prod, see inventories/prod"
    ]


def test_service_of_your_own_needs_no_group():
    settings = {"topology_postgres_host": "db.example.org", "topology_minio_url": "https://s3.example.org"}
    assert not list(services.missing_groups("mlflow", {}, settings.get))


@pytest.mark.parametrize(("address", "missing"), [("10.0.0.1:9000", ["nginx"]), ("lb.example.org:9000", [])])
def test_several_hosts_of_minio_need_nginx_or_an_address_of_your_own(address, missing):
    settings = {"topology_minio_address": address, "topology_minio_host": "10.0.0.1", "topology_minio_port": 9000}
    assert list(services.missing_groups("minio", {"minio": ["h1", "h2"]}, settings.get)) == missing


def test_several_hosts_of_mlflow_need_nginx():
    groups = {"postgres": ["h1"], "minio": ["h1"], "mlflow": ["h1", "h2"]}
    assert list(services.missing_groups("mlflow", groups, {}.get)) == ["nginx"]


def test_group_of_a_service_that_is_for_one_host_has_one():
    groups = {"redis": ["h1", "h2"], "mlflow": ["h1", "h2"]}
    assert list(inventory_checks.crowded_groups(groups, groups)) == [
        "group redis has hosts h1, h2: at most 1 is supported"
    ]


@pytest.mark.parametrize(
    ("groups", "lines"),
    [
        ({"worker_tensorflow_cpu": ["n1"], "workers": ["n1"], "worker_gpus": []}, []),
        (
            {"worker_tensorflow": ["n1"], "worker_tensorflow_cpu": ["n2"], "workers": ["n2"]},
            ["group worker_tensorflow: no workers would run on n1; the kinds are worker_tensorflow_cpu, worker_custom"],
        ),
    ],
)
def test_misspelt_group_of_workers_is_told(groups, lines):
    roles = ["redis", "worker_tensorflow_cpu", "worker_custom"]
    assert list(inventory_checks.unknown_workers(roles, groups)) == lines


def test_inventory_is_named_as_the_user_would(tmp_path):
    (tmp_path / "inventories/lab").mkdir(parents=True)
    hosts = tmp_path / "inventories/lab/hosts.yml"
    hosts.touch()
    assert inventory_checks.inventory_directory([str(hosts)], None, tmp_path) == "inventories/lab"
    assert inventory_checks.inventory_directory(["localhost,"], str(hosts.parent), tmp_path) == "inventories/lab"
    assert inventory_checks.inventory_directory([str(hosts)], None, Path("/usr")) == str(hosts.parent)


def test_documentation_matches_the_arguments():
    documented = yaml.safe_load(DOCUMENTATION)["options"]
    keys = ("type", "elements", "default", "required")
    assert {
        name: {k: v for k, v in option.items() if k in keys} for name, option in documented.items()
    } == ARGUMENT_SPEC


# --- end to end: the real action in a collection with roles of our own -----------------------------------------------


@pytest.fixture
def play(tmp_path):
    collection = tmp_path / "ansible_collections/mlfleet/stack"
    shutil.copytree(ROOT / "plugins", collection / "plugins")
    shutil.copy(ROOT / "galaxy.yml", collection)
    write_role(
        collection / "roles",
        "topology",
        {"topology_secret_a": {"required": True, "no_log": True}, "topology_secret_b": {"required": True}},
    )
    table = {
        "services": {"redis": {"needs": ["minio"]}, "minio": {}, "nginx": {}, "workers": {}},
        "building_blocks": {},
    }
    (collection / "roles/topology/meta/services.yml").write_text(yaml.safe_dump(table))
    write_role(collection / "roles", "host", dependencies=["mlfleet.stack.topology"])
    write_role(
        collection / "roles",
        "redis",
        {name: {"type": "int"} for name in ("redis_port", "redis_gap", "redis_left_out", "redis_role")}
        | {"redis_url": {}, "redis_users": {"type": "list"}},
        {
            "redis_port": 6379,
            "redis_url": "redis://{{ topology_secret_a }}@{{ inventory_hostname }}",
            "redis_users": [{"password": "{{ topology_secret_b }}"}],
            "redis_left_out": "{{ omit }}",
            "redis_role": "{{ 1 if role_path.endswith('/redis') and __redis_x == 'x' else 'wrong' }}",
        },
        {"__redis_x": "x", "__redis_python_versions": ["3.11"]},
        ["mlfleet.stack.topology"],
    )
    inventory = tmp_path / "inventories/test"
    inventory.mkdir(parents=True)
    (inventory / "hosts.yml").write_text("all: {children: {redis: {hosts: {h1: {}, h2: {}}}}, hosts: {h3: {}}}")
    (tmp_path / "ansible.cfg").touch()
    tasks = [
        {"ansible.builtin.set_fact": DEBIAN | {"cacheable": True}},
        {"mlfleet.stack.preflight": {"roles": ["host", "redis"]}, "run_once": True},
    ]
    site = [{"hosts": "all", "gather_facts": False, "any_errors_fatal": True, "tasks": tasks}]
    (tmp_path / "site.yml").write_text(yaml.safe_dump(site))

    def run(*words, **variables):
        command = [Path(sys.executable).with_name("ansible-playbook"), "site.yml", "-i", "inventories/test", *words]
        command += ["-vvv", "-e", json.dumps(variables)]
        environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(tmp_path),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        }
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    run.inventory, run.cache = inventory, tmp_path / "cache"
    return run


def test_a_whole_inventory_is_validated_without_a_connection(play):
    hosts = play.inventory / "hosts.yml"
    secrets = {"topology_secret_a": SECRET, "topology_secret_b": SECRET[::-1]}

    code, output = play()
    assert code != 0
    assert "redis needs group minio, which has no host: add one to inventories/test, see inventories/prod" in output
    line = "secrets are missing: topology_secret_a, topology_secret_b – run: mlfleet init inventories/test"  # noqa: RUF001
    assert line in output and output.count("fatal:") == 1
    assert "role redis" not in output

    hosts.write_text(hosts.read_text().replace("children: {", "children: {minio: {hosts: {h3: {}}}, "))
    code, output = play(**secrets)
    assert code == 0, output
    assert SECRET not in output

    code, output = play(
        **secrets, redis_port="many", redis_gap="{{ nowhere }}", redis_url="{{ topology_secret_a | int(1, 2, 3) }}"
    )
    assert code != 0
    assert "h1, h2: role redis: argument redis_port: " in output
    assert "h1, h2: role redis: argument redis_gap: " in output and "'nowhere' is undefined" in output
    assert "h3: role" not in output and SECRET not in output


def test_each_host_is_validated_with_its_own_values(play):
    """Values that a template names by text, that the first host lacks, and that the play sets for all."""
    own = {
        "h1": {"mine": 1, "known_as": "none"},
        "h2": {"mine": "many", "known_as": "two", "ansible_host": "two"},
        "h4": {"mine": 4, "known_as": "none", "play_is_told": False},
    }
    groups = {"redis": {"hosts": own}, "minio": {"hosts": {"h3": {}}}}
    (play.inventory / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
    settings = {
        "redis_gap": "{{ vars['mine'] }}",
        "redis_port": "{{ 1 if ansible_host | default('none') == known_as else 'other' }}",
        "redis_left_out": "{{ 1 if play_is_told else 'not told' }}",
    }
    (play.inventory / "group_vars").mkdir()
    (play.inventory / "group_vars/all.yml").write_text(yaml.safe_dump(settings))
    site = play.inventory.parents[1] / "site.yml"
    site.write_text(yaml.safe_dump([{**yaml.safe_load(site.read_text())[0], "vars": {"play_is_told": True}}]))
    code, output = play(topology_secret_a=SECRET, topology_secret_b=SECRET[::-1])
    assert code != 0
    assert "h2: role redis: argument redis_gap: " in output
    assert [line for line in output.splitlines() if ": role redis: argument" in line and "h2" not in line] == []
    assert "argument redis_port" not in output and "redis_left_out" not in output


@pytest.fixture(scope="module")
def validated_serving(tmp_path_factory):
    """Validate an inventory with the real roles: API, two hosts of workers, and nginx on hosts of their own."""
    inventory = tmp_path_factory.mktemp("inventories") / "serving"
    shutil.copytree(ROOT / "inventories/serving", inventory)
    groups = {name: {"hosts": {"base": {}}} for name in ("postgres", "redis", "rabbitmq", "minio", "mlflow")}
    groups |= {"serving_api": {"hosts": {"api": {}}}, "nginx": {"hosts": {"edge": {}}}}
    groups |= {"serving_worker": {"hosts": {"work1": {"serving_worker_queues": ["slow"]}, "work2": {}}}}
    (inventory / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
    site = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())[0]
    (inventory.parent / "site.yml").write_text(yaml.safe_dump([site]))
    environment = {**os.environ, "XDG_CACHE_HOME": str(inventory.parent / "cache")}
    bin_dir = Path(sys.executable).parent
    subprocess.run([bin_dir / "mlfleet", "init", inventory], cwd=ROOT, env=environment, check=True, capture_output=True)

    def run(*words, **settings):
        command = [bin_dir / "ansible-playbook", inventory.parent / "site.yml", "-i", inventory, *words]
        command += ["-e", json.dumps(settings)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return run


def test_settings_of_the_serving_stack_fit_those_on_other_hosts(validated_serving):
    own = {"serving_asgi_app": "api:api"}
    code, output = validated_serving("--limit", "edge", **own)
    assert code == 0, output
    code, output = validated_serving("--limit", "edge", nginx_read_timeout_seconds=55, **own)
    assert code != 0
    assert "serving_request_seconds: 55 is not below nginx_read_timeout_seconds, 55" in output
    code, output = validated_serving(topology_serving_queue="fast", serving_worker_queues=["slow"], **own)
    assert code != 0
    assert "no worker serves fast, where the API sends its tasks; add it on work1 or work2" in output


def test_port_that_leads_to_https_is_a_port_of_the_host() -> None:
    sites = [{"name": "a", "port": 443, "http_port": 80}, {"name": "b", "port": 80}]
    (line,) = checks.overlapping_ports({"nginx_sites_extra": sites}, [])
    assert "port 80 is used by nginx site a and by nginx site b" in line
    same = [{"name": "a", "port": 80, "http_port": 80}]
    assert list(checks.overlapping_ports({"nginx_sites_extra": same}, [])) == []


def test_only_containers_are_refused_a_port_of_roots() -> None:
    site = {"nginx_sites_extra": [{"name": "a", "port": 443}]}
    told = {
        runtime: list(checks.privileged_ports(site | {"topology_nginx_runtime": runtime}, ["nginx"]))
        for runtime in ("bare", "docker")
    }
    line = "nginx site a: port 443 is reserved for root; use one from 1024, or topology_nginx_runtime: bare"
    assert told == {"bare": [], "docker": [line]}


def test_second_run_ends_before_anything_else(play, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(play.cache))
    path = run_lock.path_of(play.inventory)
    run_lock.claim(path, os.getpid())
    for words in ((), ("--check",)):
        code, output = play(*words)
        assert code != 0 and output.count("fatal:") == 1
        assert "test: another run is under way since 20" in output and f"(process {os.getpid()} of " in output
        assert "secrets are missing" not in output
    path.unlink()
    play("--check")
    assert not path.exists()
    play()
    assert json.loads(path.read_text())["process"] != os.getpid(), "of the run, which has ended"
    play()


def test_playbook_of_its_own_claims_the_inventory_and_validates_nothing(play, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(play.cache))
    shutil.copy(ROOT / "playbooks/claim.yml", play.inventory.parents[1] / "site.yml")
    path = run_lock.path_of(play.inventory)
    code, output = play()
    assert code == 0 and "secrets are missing" not in output, output
    assert path.exists()
    run_lock.claim(path, os.getpid())
    code, output = play()
    assert code != 0 and output.count("fatal:") == 1
    assert "test: another run is under way since 20" in output


DB = {"ansible_host": "127.0.0.1", "ansible_port": 2222}


@pytest.mark.parametrize(
    ("db", "app", "line"),
    [
        (DB, {"ansible_host": "127.0.0.1"}, "topology_address: app would look for postgres at 127.0.0.1; set"),
        ({"ansible_host": "localhost"}, {}, "topology_address: app would look for postgres at localhost; set"),
        (
            {"ansible_host": "192.0.2.10"},
            {"ansible_host": "192.0.2.10"},
            "topology_address: 192.0.2.10 is that of app, too",
        ),
        (DB | {"topology_address": "10.0.0.1"}, {"ansible_host": "127.0.0.1"}, ""),
        (DB | {"topology_postgres_host": "db.example.org"}, {}, ""),
        ({}, {}, ""),
    ],
)
def test_service_that_its_clients_would_look_for_on_themselves_is_refused(db, app, line):
    lines = list(topology.unreachable("db", {"postgres": ["db"], "mlflow": ["app"]}, {"db": db, "app": app}))
    assert len(lines) == bool(line) and all(line in each for each in lines)
    assert list(topology.unreachable("db", {"postgres": ["db"], "mlflow": ["db"]}, {"db": DB})) == []


def test_port_that_nginx_would_look_for_on_itself_is_refused():
    groups, both = {"rabbitmq": ["db"], "nginx": ["app"]}, {"db": DB, "app": {}}
    (line,) = topology.unreachable("db", groups, both)
    assert line.startswith("topology_address: app would look for rabbitmq at 127.0.0.1")
    both["db"] |= {"topology_rabbitmq_management_host": "db.example.org"}
    assert not list(topology.unreachable("db", groups, both))


def test_release_that_a_role_does_not_support_is_reported():
    releases = {"rabbitmq": ["12"]}
    line = "role rabbitmq supports Debian 12, and this host has 13: choose another host"
    assert list(host_checks.release_problems(releases, {"distribution_major_version": "13"})) == [line]
    assert list(host_checks.release_problems(releases, DEBIAN)) == []


def test_data_of_the_serving_stack_has_no_path_of_another_stack() -> None:
    spec = yaml.safe_load((ROOT / "roles/serving/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
    option = spec["serving_mounts"]
    assert option_checks.validated("serving_mounts", option, [{"source": "/srv/a", "path": "/srv/models"}])[1] == []
    [line] = option_checks.validated("serving_mounts", option, [{"source": "/srv/a"}])[1]
    assert "path" in line
