"""Which host reaches which service."""

from __future__ import annotations

import pytest
from ansible_collections.mlfleet.stack.plugins.filter.topology import clients, hosts_of

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
