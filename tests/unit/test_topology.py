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
from ansible_collections.mlfleet.stack.plugins.filter.topology import clients, hosts_of, userinfo

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
