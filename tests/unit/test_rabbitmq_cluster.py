"""Nodes of RabbitMQ that join, lack members of queues, or leave, and groups that cannot become a cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlfleet.stack.plugins.filter.topology import broker_nodes
from ansible_collections.mlfleet.stack.plugins.module_utils import rabbitmq_cluster, stores
from ansible_collections.mlfleet.stack.plugins.module_utils.access import document
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import Answer
from ansible_collections.mlfleet.stack.plugins.module_utils.rabbitmq_cluster import Cluster, needed
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight import checks, host_checks, inventory_checks

ONE, TWO, THREE, FOUR = NODES = [f"rabbit@mq{number}.rabbitmq" for number in range(1, 5)]
DECLARED = [
    {"host": f"mq{number}", "name": f"mq{number}.rabbitmq", "address": f"192.0.2.{number}"} for number in (1, 2, 3)
]
QUEUE = {"name": "q", "vhost": "/", "type": "quorum", "durable": True, "node": ONE, "messages": 5}
CLASSIC = {**QUEUE, "type": "classic"}


def cluster(
    node: str = ONE, others: str = "kept", answers: dict[str, Any] | None = None, data: str = "/nonexistent"
) -> Cluster:
    """Return a node that would get these answers from its management and by its command."""
    options = {
        "url": "http://127.0.0.1:1",
        "timeout_seconds": 1,
        "ca_file": None,
        "certificate_file": None,
        "username": "a",
        "password": "a",
    }
    options |= {"rabbitmqctl": ["rabbitmqctl"], "node": node, "nodes": NODES[:3], "others": others, "data": data}
    made = Cluster(options)
    told = {"nodes": NODES[:3], "queues": [], "views": None, "away": [], "status": 200, **(answers or {})}
    nodes = [{"name": name, "running": name not in told["away"]} for name in told["nodes"]]
    made.http.ask = lambda *_words, **_query: Answer(told["status"], nodes)  # type: ignore[method-assign]
    made.http.call = lambda *_words, **_query: told["queues"]  # type: ignore[method-assign]
    made._evaluate = lambda _expression: told["views"]  # type: ignore[method-assign]
    return made


@pytest.fixture
def management() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The answers of a management, by path, and the options that lead to it."""
    answers: dict[str, Any] = {}

    class Management(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = answers[self.path.partition("?")[0]]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Management) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield (
            answers,
            {
                "url": url,
                "timeout_seconds": 5,
                "ca_file": None,
                "certificate_file": None,
                "username": "a",
                "password": "a",
            },
        )
        server.shutdown()


def test_broker_is_restarted_when_all_nodes_and_members_are_there(
    management: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    answers, options = management
    nodes = [{"name": name, "running": True} for name in NODES[:3]]
    queue = {**QUEUE, "members": NODES[:3], "online": NODES[:3]}
    answers |= {"/api/nodes": (200, nodes), "/api/queues": (200, [queue, CLASSIC, {**queue, "members": [ONE]}])}
    assert needed(options) == ""
    answers["/api/queues"] = 200, [{**queue, "online": [ONE, TWO]}]
    assert needed(options) == "queue q in virtual host / has members that are not online"
    answers["/api/nodes"] = 200, [*nodes, {"name": FOUR, "running": False}]
    assert needed(options) == f"{FOUR} does not run"
    answers["/api/nodes"] = 401, {}
    assert needed(options) == ""
    assert needed(options | {"url": "http://127.0.0.1:1"}) == ""


def planned(made: Cluster) -> list[str]:
    return [change.name for change in document.plan(made, made.find())]


def test_member_with_all_queues_changes_nothing() -> None:
    assert planned(cluster(answers={"queues": [{**QUEUE, "members": NODES[:3]}, CLASSIC]})) == []


def test_queue_without_a_member_gets_one() -> None:
    queues = [{**QUEUE, "members": [TWO, THREE]}]
    assert planned(cluster(answers={"queues": queues})) == ["queue q in virtual host /"]


def test_queue_that_refuses_a_member_is_asked_again_and_named(monkeypatch) -> None:
    monkeypatch.setattr(rabbitmq_cluster, "PAUSE_SECONDS", 0)
    made = cluster(answers={"queues": [{**QUEUE, "members": [TWO, THREE]}]})
    changes = document.plan(made, made.find())
    refusals = iter([["queue 'q' in vhost '/'"], []])
    made._evaluate = lambda _expression: next(refusals)  # type: ignore[method-assign]
    made.apply(changes)
    monkeypatch.setattr(rabbitmq_cluster, "GROW_SECONDS", -1)
    made._evaluate = lambda _expression: ["queue 'q' in vhost '/'"]  # type: ignore[method-assign]
    with pytest.raises(document.ServiceError, match=f"{ONE} does not become a member of queue 'q' in vhost '/'"):
        made.apply(changes)


@pytest.mark.parametrize(
    ("node", "views", "seed"),
    [
        (ONE, [[ONE], [], []], ""),  # the first of a new cluster
        (ONE, [[ONE], [TWO], []], ""),  # which this one will join
        (ONE, [[ONE], [TWO, THREE], []], TWO),
        (TWO, [[TWO], [ONE], []], ONE),
        (TWO, [[TWO], [], [THREE, ONE]], THREE),
    ],
)
def test_lone_node_joins_the_first_that_answers(node: str, views: list[list[str]], seed: str) -> None:
    for status in (200, 401):
        made = cluster(node, answers={"nodes": [node], "views": views, "status": status})
        assert planned(made) == ([f"node {node}"] if seed else [])
        assert made.seed == seed


def test_node_that_reaches_nobody_does_not_stay_alone() -> None:
    with pytest.raises(document.ServiceError, match=f"{TWO} reaches none of {ONE}, {THREE}"):
        cluster(TWO, answers={"nodes": [TWO], "views": [[TWO], [], []]}).find()


def test_node_that_does_not_run_yet_will_join_unless_it_is_the_first() -> None:
    assert [change.name for change in document.plan(cluster(ONE), None)] == []
    assert [change.name for change in document.plan(cluster(TWO), None)] == [f"node {TWO}"]


@pytest.mark.parametrize(("members", "joins"), [([TWO], True), ([ONE, TWO], False)])
def test_node_that_does_not_run_joins_unless_its_data_are_of_a_cluster(tmp_path, members, joins) -> None:
    of_cluster(tmp_path / TWO, *members)
    planned = document.plan(cluster(TWO, data=str(tmp_path)), None)
    assert [change.name for change in planned] == ([f"node {TWO}"] if joins else [])


def test_first_node_reports_others_or_lets_them_leave() -> None:
    told = {"nodes": NODES}
    assert [each["name"] for each in cluster(answers=told).find().undeclared] == [FOUR]
    assert planned(cluster(answers=told)) == planned(cluster(TWO, "absent", told)) == []
    assert planned(cluster(ONE, "absent", told)) == [f"node {FOUR}"]


@pytest.mark.parametrize(
    ("queue", "refusal"),
    [
        ({**CLASSIC, "node": FOUR}, "has messages there alone"),
        ({**QUEUE, "members": [FOUR]}, "has messages there alone"),
        ({**QUEUE, "type": "stream", "members": NODES}, "is a stream"),
    ],
)
def test_node_that_has_what_would_be_lost_does_not_leave(queue: dict[str, Any], refusal: str) -> None:
    made = cluster(ONE, "absent", {"nodes": NODES, "queues": [queue]})
    changes = document.plan(made, made.find())
    made._command = lambda *words: ""  # type: ignore[method-assign]
    with pytest.raises(document.ServiceError, match=f"queue q in virtual host / {refusal}"):
        made.apply([change for change in changes if change.want is None])


def of_cluster(directory: Path, *members: str) -> None:
    directory.mkdir()
    nodes = ",".join(f"'{node}'" for node in members)
    (directory / "cluster_nodes.config").write_text(f"{{[{nodes}],['{members[0]}']}}.\n")


def test_cluster_on_disk_is_read(tmp_path) -> None:
    of_cluster(tmp_path / ONE, ONE, TWO)
    [place] = stores.places("rabbitmq", [str(tmp_path)])
    assert place["members"] == [ONE, TWO]


def places(*members: str) -> list[dict[str, Any]]:
    return [{"has_data": bool(members), "members": list(members)}]


def broker_lines(may_leave: bool = False, **found: list[dict[str, Any]]) -> list[str]:
    return list(host_checks.broker_problems(DECLARED, found, may_leave, "internal"))


def test_order_in_which_brokers_become_a_cluster_is_checked() -> None:
    assert broker_lines(mq1=[], mq2=[], mq3=[]) == broker_lines(mq1=places(ONE), mq2=[]) == []
    [line] = broker_lines(mq1=[], mq2=places(TWO), mq3=[])
    assert line.startswith("mq1 is first in group rabbitmq and has no data, but mq2 has: put mq2 first")
    old = places(*NODES)
    [line] = broker_lines(mq1=old, mq2=old, mq3=[])
    assert line.startswith(f"{FOUR} must leave the cluster of mq1 first: run playbooks/remove.yml -e remove=rabbitmq")
    before = places(ONE, TWO, FOUR)
    assert broker_lines(mq1=before, mq2=before, mq3=places(THREE))[0].startswith(f"{FOUR} must leave")
    assert broker_lines(True, mq1=old, mq2=old, mq3=[]) == broker_lines(mq1=old, mq2=old, mq3=old) == []
    [line] = host_checks.broker_problems(DECLARED[:1], {"mq1": old}, False, "off")
    assert line.startswith(f"{TWO}, {THREE}, {FOUR} must leave")


def test_data_that_were_moved_to_another_host_need_their_name_and_no_removal() -> None:
    [line] = host_checks.broker_problems(DECLARED[1:2], {"mq2": places(ONE)}, False, "internal")
    assert line.startswith(
        f"the data of RabbitMQ on mq2 have the name of {ONE}: set topology_rabbitmq_node_name: mq1 for"
    )
    moved = [{"host": "mq2", "name": DECLARED[0]["name"]}]
    assert list(host_checks.broker_problems(moved, {"mq2": places(ONE)}, False, "internal")) == []


def test_tls_stays_until_the_other_nodes_have_left() -> None:
    old = {"mq1": places(*NODES[:3])}
    assert list(host_checks.broker_problems(DECLARED[:1], old, True, "internal")) == []
    [line] = host_checks.broker_problems(DECLARED[:1], old, True, "off")
    assert line.startswith(
        f"topology_rabbitmq_tls_mode: {TWO}, {THREE} must leave the cluster of mq1 before it can be off"
    )
    assert list(host_checks.broker_problems(DECLARED[:1], {"mq1": places(ONE)}, False, "off")) == []


def test_number_of_brokers_is_odd() -> None:
    groups = {"rabbitmq": ["mq1", "mq2"]}
    [line] = inventory_checks.crowded_groups(groups, groups)
    assert line.startswith("group rabbitmq has hosts mq1, mq2: a cluster needs a majority")
    assert list(inventory_checks.crowded_groups(["rabbitmq"], {"rabbitmq": ["mq1", "mq2", "mq3"]})) == []


def test_nodes_of_a_cluster_have_certificates_addresses_and_names() -> None:
    good = {
        "rabbitmq_listen_address": "0.0.0.0",
        "topology_rabbitmq_nodes": DECLARED,
        "topology_rabbitmq_tls_mode": "internal",
        "topology_address": "192.0.2.1",
    }
    assert list(checks.rabbitmq_cluster(good)) == []
    twice = [*DECLARED[:2], DECLARED[0]]
    bad = {**good, "topology_rabbitmq_tls_mode": "off", "topology_address": "mq1", "topology_rabbitmq_nodes": twice}
    begun = [line.partition(":")[0] for line in checks.rabbitmq_cluster(bad)]
    assert begun == ["topology_rabbitmq_tls_mode", "topology_address", "topology_rabbitmq_node_name"]
    assert list(checks.rabbitmq_cluster({**bad, "topology_rabbitmq_nodes": DECLARED[:1]})) == []


def test_node_keeps_the_name_of_its_data() -> None:
    hostvars = {"db2": {"topology_rabbitmq_node_name": "db1", "ansible_host": "192.0.2.2"}, "db3": {}}
    assert broker_nodes(["db2", "db3"], hostvars) == [
        {"host": "db2", "name": "db1.rabbitmq", "address": "192.0.2.2"},
        {"host": "db3", "name": "db3.rabbitmq", "address": "db3"},
    ]
