# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One node of a RabbitMQ cluster: joins it, has a member of every quorum queue, and lets other nodes leave.

What a node knows is asked by the HTTP API of its management, in milliseconds; changes need the broker's own commands.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils import commands, stores
from ansible_collections.mlfleet.stack.plugins.module_utils.access import document
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import NotRunningError, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import signed_in
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray

REFUSED = 401
QUORUM = "quorum"
JOINED: document.State = {"in the cluster": True}
ANSWER_MILLISECONDS = 15000
CHANGE_SECONDS = 300
GROW_SECONDS = 60
PAUSE_SECONDS = 1
NAME = "list_to_binary(rabbit_misc:rs(Q))"
WANTING = "most of its members must be online"
# RabbitMQ's own command succeeds even if a queue refuses. Without a majority, a queue would count a new member later,
# after RabbitMQ has deleted it again.
GROW = f"""
[{NAME} || Queue <- rabbit_amqqueue:list(), amqqueue:get_type(Queue) =:= rabbit_quorum_queue,
    Q = {{resource, Host, _, Name}} <- [amqqueue:get_name(Queue)],
    [{{members, Members}}, {{online, Online}}] <- [rabbit_amqqueue:info(Queue, [members, online])],
    not lists:member(node(), Members),
    2 * length(Online) =< length(Members)
        orelse rabbit_quorum_queue:add_member(Host, Name, node(), {GROW_SECONDS * 1000}) =/= ok]
"""


def needed(options: Mapping[str, Any]) -> str:
    """Return why the other nodes cannot do without this one, or nothing; also if it cannot be asked.

    A queue with fewer members than nodes is no reason, because only a run can give it more.
    """
    http = signed_in(options)
    try:
        answer = http.ask("GET", "/api/nodes", columns="name,running")
        if answer.status != 200:
            return ""
        if away := [node["name"] for node in answer.data if not node.get("running")]:
            return f"{', '.join(away)} does not run"
        queues = http.call("GET", "/api/queues", columns="name,vhost,type,members,online")
    except ServiceError:
        return ""
    late = [
        _key(queue) for queue in queues if _is_quorum(queue) and set(queue["members"]) - set(queue.get("online", ()))
    ]
    return f"{', '.join(late)} has members that are not online" if late else ""


def wait_until_spare(options: Mapping[str, Any], seconds: float) -> str:
    """Wait until the others can do without this node; return why they cannot when the time is over."""
    deadline = time.monotonic() + seconds
    while (wrong := needed(options)) and time.monotonic() < deadline:
        time.sleep(PAUSE_SECONDS)
    return wrong


class Cluster(document.Document):
    """A node and its cluster: what it is a member of, and which queues have no member on it."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.node: str = options["node"]
        self.nodes: list[str] = options["nodes"]
        self.http = signed_in(options)
        self.members: list[str] = []
        self.running: list[str] = []
        self.queues: list[dict[str, Any]] = []
        self.seed = ""

    def find(self) -> document.Found:
        answer = self.http.ask("GET", "/api/nodes", columns="name,running")
        if answer.status == 200:
            self.members = [node["name"] for node in answer.data]
            self.running = [node["name"] for node in answer.data if node.get("running")]
            self.queues = self.http.call("GET", "/api/queues", columns="name,vhost,type,durable,node,members,messages")
        elif answer.status != REFUSED:  # as if it has never been in the cluster, whose accounts it would have
            raise ServiceError(f"{self.http.url} refuses {self.options['username']}: {answer.status} {answer.reason}")
        if self.members in ([], [self.node]):
            self._look_around()
        strangers = self._strangers()
        states = {f"node {node}": JOINED for node in ([] if self.seed else [self.node]) + strangers}
        states |= {_key(queue): {"members": sorted(queue["members"])} for queue in self.queues if _is_quorum(queue)}
        return document.Found(states, [] if self._removes else list(map(self._undeclared, strangers)))

    def _strangers(self) -> list[str]:
        """Return members that are not declared, which the first node sees to."""
        return [node for node in self.members if node not in self.nodes] if self.node == self.nodes[0] else []

    @property
    def _removes(self) -> bool:
        return self.options["others"] == "absent"

    def _undeclared(self, node: str) -> dict[str, str]:
        return stray("RabbitMQ node", node, ["sudo", *self.options["rabbitmqctl"], "forget_cluster_node", node])

    def _look_around(self) -> None:
        """Find the node to join: the first that answers, or for the first of all, one that has a cluster already."""
        others = [node for node in self.nodes if node != self.node]
        self.members, *views = self._evaluate(
            f"[case rpc:call(N, rabbit_mnesia, cluster_nodes, [all], {ANSWER_MILLISECONDS}) of "
            f"L when is_list(L) -> L; _ -> [] end || N <- [{', '.join(map(_atom, [self.node, *others]))}]]"
        )
        if len(self.members) > 1 or not others:
            return
        answering = [(node, view) for node, view in zip(others, views, strict=True) if view]
        if self.node == self.nodes[0]:
            self.seed = next((node for node, view in answering if len(view) > 1), "")
        elif answering:
            self.seed = answering[0][0]
        else:
            raise ServiceError(
                f"{self.node} reaches none of {', '.join(others)}: the port of the nodes must be open between them"
            )

    def compare(self, found: Mapping[str, document.State]) -> Iterator[document.Change]:
        own = f"node {self.node}"
        # One that does not run will join, except the first, which the others join, and one that has joined before.
        if self.members or (self.node != self.nodes[0] and len(stores.members(Path(self.options["data"]))) < 2):
            yield document.Change(own, found.get(own), JOINED, {"join": self.seed})
        for queue in filter(_is_quorum, self.queues):
            want = {"members": sorted({*queue["members"], self.node})}
            yield document.Change(_key(queue), found[_key(queue)], want, {"queue": queue})
        for node in self._strangers() if self._removes else []:
            yield document.Change(f"node {node}", JOINED, None, {"leave": node})

    def apply(self, changes: list[document.Change]) -> None:
        if any("join" in change.item for change in changes):
            self._join()
        if any("join" in change.item or "queue" in change.item for change in changes):
            self._grow()
        for change in changes:
            if "leave" in change.item:
                self._leave(change.item["leave"])

    def _join(self) -> None:
        """Join the cluster of the seed, which empties this node: only if it holds no message."""
        seed = _atom(self.seed)
        count = self._evaluate(
            "lists:sum([M || Q <- rabbit_amqqueue:list(), {messages, M} <- rabbit_amqqueue:info(Q, [messages])])"
        )
        if count:
            raise ServiceError(
                f"{self.node} is not in the cluster of {self.seed} and has {count} messages, which joining would "
                f"delete: let its consumers take them first"
            )
        # The cluster may know an earlier node of this name, whose data are gone.
        if self._evaluate(f"lists:member(node(), rpc:call({seed}, rabbit_mnesia, cluster_nodes, [all]))"):
            self._shrink(self.node, self.seed)
            self._evaluate(f"rpc:call({seed}, rabbit_mnesia, forget_cluster_node, [node(), false])")
        self._command("rabbitmqctl", "stop_app")
        try:
            self._command("rabbitmqctl", "join_cluster", self.seed)
        finally:
            self._command("rabbitmqctl", "start_app")

    def _grow(self) -> None:
        """Give every quorum queue a member here."""
        deadline = time.monotonic() + GROW_SECONDS
        # A queue has one change of its members at a time.
        while refusing := self._evaluate(GROW):
            if time.monotonic() > deadline:
                raise ServiceError(f"{self.node} does not become a member of {', '.join(refusing)}: {WANTING}")
            time.sleep(PAUSE_SECONDS)

    def _shrink(self, node: str, at: str) -> None:
        """Take a node's members from all quorum queues, as seen at another node."""
        call = f"rpc:call({_atom(at)}, rabbit_quorum_queue, shrink_all, [{_atom(node)}])"
        if refusing := self._evaluate(f"[{NAME} || {{Q, {{error, _, E}}}} <- {call}, E =/= last_node]"):
            raise ServiceError(f"{node} does not leave {', '.join(refusing)}: {WANTING}")

    def _leave(self, node: str) -> None:
        """Let a node leave: its queues' other members go on; nothing if a queue has messages there alone."""
        if not self.running:
            raise ServiceError(f"{node} cannot leave while {self.http.url} refuses {self.options['username']}")
        if streams := [_key(queue) for queue in self.queues if _is_stream_on(queue, node)]:
            raise ServiceError(
                f"{node}: {', '.join(streams)} is a stream, whose members only you can move: add one elsewhere and "
                f"remove this one with rabbitmq-streams add_replica and delete_replica"
            )
        if held := [_key(queue) for queue in self.queues if _is_on_one(queue, node)]:
            raise ServiceError(
                f"{node}: {', '.join(held)} has messages there alone, which would be lost: let its consumers take them "
                f"first, or move them to a quorum queue"
            )
        self._shrink(node, self.node)
        if node not in self.running:
            self._command("rabbitmqctl", "forget_cluster_node", node)
            return
        is_member = self._evaluate(
            f"rpc:call({_atom(node)}, rabbit, stop, []), rpc:call({_atom(node)}, rabbit_mnesia, reset, []), "
            f"lists:member({_atom(node)}, rabbit_mnesia:cluster_nodes(all))"
        )
        if is_member:
            raise ServiceError(f"{node} does not leave the cluster: see its log")

    def _evaluate(self, expression: str) -> Any:
        """Return the value of an Erlang expression, which JSON can express, at the node."""
        return json.loads(self._command("rabbitmqctl", "--formatter", "json", "eval", f"{expression}."))["value"]

    def _command(self, program: str, *words: str) -> str:
        *before, path = self.options["rabbitmqctl"]
        command = [*before, str(PurePosixPath(path).with_name(program)), "--quiet", *words]
        try:
            done = commands.run(command, CHANGE_SECONDS)
        except OSError as error:
            raise NotRunningError(f"{program}: {error}") from error
        if done.returncode:
            told = " ".join((done.stderr or done.stdout).split())[:500]
            raise ServiceError(f"{program} {words[0]}: {told}")
        return done.stdout


def _is_quorum(queue: Mapping[str, Any]) -> bool:
    return queue.get("type") == QUORUM and bool(queue.get("members"))


def _is_stream_on(queue: Mapping[str, Any], node: str) -> bool:
    return queue.get("type") == "stream" and node in queue.get("members", ())


def _is_on_one(queue: Mapping[str, Any], node: str) -> bool:
    """Return whether a queue's messages are on this node alone."""
    members = queue.get("members") or [queue.get("node")]
    return members == [node] and queue["durable"] and bool(queue.get("messages"))


def _key(queue: Mapping[str, Any]) -> str:
    return f"queue {queue['name']} in virtual host {queue['vhost']}"


def _atom(node: str) -> str:
    return f"'{node}'"


def converge(options: dict[str, Any], check_mode: bool) -> document.Result:
    return document.converge(Cluster(options), check_mode)
