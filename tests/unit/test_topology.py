"""The hosts that reach each service."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.mlfleet.stack.plugins.filter.topology import clients, endpoint, hosts_of, listen, userinfo

GROUPS = {
    "mlflow": ["app"],
    "restapi": ["app"],
    "worker_tensorflow_cpu": ["node1", "node2"],
    "worker_custom": ["node2"],
    "workers": ["node1", "node2"],
    "nginx": ["edge"],
}


def test_workers_are_those_of_all_kinds():
    assert hosts_of(GROUPS, "workers") == ["node1", "node2"]
    assert hosts_of(GROUPS, "redis") == []


@pytest.mark.parametrize(
    ("service", "hosts"),
    [
        ("postgres", {"app"}),
        ("redis", {"app", "node1", "node2"}),
        ("mlflow", {"app", "node1", "node2", "edge"}),
        ("nginx", set()),
    ],
)
def test_clients_of_a_service_follow_from_the_groups(service: str, hosts: set[str]):
    assert set(clients(GROUPS, service)) == hosts


ONE = {
    "rabbitmq": ["a"],
    "minio": ["a"],
    "mlflow": ["a"],
    "serving_api": ["a"],
    "serving_worker": ["a"],
    "nginx": ["a"],
}
THREE = {"rabbitmq": ["a", "b", "c"]}
CLOSED, OPEN = "127.0.0.1", "0.0.0.0"


def bound(port: str, groups: dict[str, list[str]]) -> str:
    """Return where a port listens, as the defaults of topology and roles put it together."""
    hosts = dict.fromkeys(host for group in groups.values() for host in group)
    hostvars = {host: {"ansible_host": f"10.0.0.{number}"} for number, host in enumerate(hosts, 1)}
    callers = clients(groups, port)
    return listen(endpoint(groups[port.partition(".")[0]], callers, hostvars), callers)


@pytest.mark.parametrize(
    ("groups", "amqp", "management"),
    [
        (ONE, CLOSED, CLOSED),
        (ONE | {"nginx": []}, CLOSED, CLOSED),
        (ONE | {"nginx": ["b"]}, CLOSED, OPEN),
        (ONE | {"nginx": ["a", "b"]}, CLOSED, OPEN),
        (ONE | {"serving_api": ["a", "b"]}, OPEN, CLOSED),
        (ONE | {"serving_worker": ["b"], "nginx": ["b"]}, OPEN, OPEN),
        (ONE | THREE, OPEN, OPEN),
        (ONE | THREE | {"nginx": []}, OPEN, CLOSED),
        (THREE, CLOSED, CLOSED),
        (THREE | {"nginx": ["a"]}, CLOSED, OPEN),
    ],
)
def test_each_port_of_the_broker_listens_where_its_own_clients_are(groups, amqp, management):
    assert [bound("rabbitmq", groups), bound("rabbitmq.management", groups)] == [amqp, management]


@pytest.mark.parametrize(
    ("groups", "api", "console"),
    [
        (ONE, CLOSED, CLOSED),
        (ONE | {"nginx": []}, CLOSED, CLOSED),
        (ONE | {"nginx": ["b"]}, OPEN, OPEN),  # which has a page of both
        (ONE | {"nginx": ["a", "b"]}, OPEN, OPEN),
        (ONE | {"mlflow": ["b"]}, OPEN, CLOSED),
        (ONE | {"workers": ["b"], "worker_custom": ["b"], "nginx": []}, OPEN, CLOSED),
        (ONE | {"minio": ["a", "b"]}, OPEN, OPEN),
        (ONE | {"minio": ["a", "b"], "nginx": []}, OPEN, CLOSED),
    ],
)
def test_each_port_of_the_storage_listens_where_its_own_clients_are(groups, api, console):
    assert [bound("minio", groups), bound("minio.console", groups)] == [api, console]


def test_clients_of_what_several_hosts_offer_reach_it_through_nginx():
    several = GROUPS | {"mlflow": ["app", "app2"]}
    assert set(clients(several, "nginx")) == {"app", "node1", "node2", "edge"}
    assert clients(several | {"nginx": []}, "nginx") == []


@pytest.mark.parametrize("password", ["q3V/9uWn2+0pQ1rT8sYx4Zb6Lm/KdEf=", "12/def:gh@i?j#k%2F[]", "plain"])
def test_password_in_a_url_is_read_back(password):
    url = f"redis://{userinfo('wor/ker', password)}@10.0.0.5:6379/0"
    parts = urlsplit(url)
    assert (parts.hostname, parts.port, unquote(parts.password)) == ("10.0.0.5", 6379, password)
    settings = redis.ConnectionPool.from_url(url).connection_kwargs
    assert (settings["username"], settings["password"], settings["host"]) == ("wor/ker", password, "10.0.0.5")


def test_no_url_has_a_password_encoded_in_another_way():
    files = [path for role in Path("roles").iterdir() for path in role.rglob("*") if path.suffix in (".yml", ".j2")]
    assert [str(path) for path in files if re.search(r"secret\w+ *\| *urlencode", path.read_text())] == []


def test_no_value_has_another_order_in_each_run():
    """Ansible's set filters use the order of Python's sets, which differs in each process."""
    of_sets = r"\| *(ansible\.builtin\.)?(intersect|union|difference|symmetric_difference)\("
    files = [path for role in Path("roles").iterdir() for path in role.rglob("*") if path.suffix in (".yml", ".j2")]
    assert [str(path) for path in files if re.search(of_sets, path.read_text())] == []


def test_mlflow_is_told_its_names_as_browsers_send_them():
    names = yaml.safe_load(Path("roles/mlflow/vars/main.yml").read_text())
    values = {name: trust_as_template(text) for name, text in names.items() if isinstance(text, str)} | {
        "topology_nginx_server_names": ["Pages.Lab.Example"],
        "topology_nginx_names": {"mlflow": "mlflow.lab.example", "minio": "minio.lab.example"},
        "topology_nginx_scheme": "https",
        "topology_nginx_mlflow_port": 35000,
        "topology_nginx_hosts": [],
        "__mlflow_service_names": ["App-01.Lab.Example"],
        "mlflow_allowed_hosts_extra": [],
    }
    templar = Templar(DataLoader(), values)
    hosts = templar.template(values["__mlflow_allowed_hosts"]).split(",")
    assert {"App-01.Lab.Example", "app-01.lab.example", "app-01.lab.example:*", "pages.lab.example:*"} <= set(hosts)
    origins = templar.template(values["__mlflow_allowed_origins"]).split(",")
    assert {"https://pages.lab.example:35000", "https://mlflow.lab.example"} <= set(origins)
    assert "mlflow.lab.example" in hosts and "minio.lab.example" not in hosts
