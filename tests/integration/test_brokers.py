"""One RabbitMQ becomes three, which lose no message when a host is lost, restarted, exchanged or removed.

Each event has a publisher with confirms and a consumer with acknowledgements, which connect as Celery does, with the
URLs of all brokers. `pytest -rP` shows what they counted.
"""

from __future__ import annotations

import json
import shlex
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import kombu
import pytest
from amqp.exceptions import MessageNacked
from kombu.exceptions import KombuError

from .conftest import Lab, Run, write_inventory
from .removal import assert_removed, traces

pytestmark = pytest.mark.fleet

HOSTS = FIVE = ["mq1", "mq2", "mq3", "mq4", "mq5"]
THREE = FIVE[:3]
EXCHANGED = ["mq1", "mq2", "mq4"]
AMQP_PORT, NODES_PORT, EPMD_PORT, MANAGEMENT_PORT = 5671, 25672, 4369, 15672
QUEUE = "orders"
PASSWORD = "orders-of-the-shop"
UNIT = "rabbitmq-server"
RIGHTS = {"configure": ".*", "write": ".*", "read": ".*"}
SETTINGS = {
    "rabbitmq_listen_address": "0.0.0.0",  # the clients are outside
    "rabbitmq_vhosts_extra": ["shop"],
    "rabbitmq_users_extra": [{"name": "orders", "password": PASSWORD, "permissions": [{"vhost": "shop", **RIGHTS}]}],
    "rabbitmq_queues_extra": [{"vhost": "shop", "name": QUEUE}],
}
MESSAGES = 200
# Debian's packages are removed, not purged.
LEFT_BY_PACKAGES = (
    "/etc/default/",
    "/etc/init.d/",
    "/etc/logrotate.d/",
    "/etc/rc",
    "/var/lib/systemd/deb-systemd-helper-enabled/",
    "rabbitmq:x:",
)


def assign(lab: Lab, *hosts: str) -> None:
    """Put these hosts into the group, in this order; all of them stay in the inventory."""
    write_inventory(str(lab.inventory), {"spare": HOSTS, "rabbitmq": hosts})


@pytest.fixture(scope="module", params=["bare", "docker"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    words = ["--docker-inside"] if request.param == "docker" else []
    groups = {"spare": HOSTS, "rabbitmq": HOSTS[:1]}
    with Lab.anew("brokers", groups, *words, topology_runtime=request.param, **SETTINGS) as made:
        made.converge("--limit", HOSTS[0])
        yield made


@pytest.fixture
def connect(lab: Lab, tmp_path: Path) -> Callable[..., kombu.Connection]:
    trusted = tmp_path / "trusted.crt"

    def made(*hosts: str) -> kombu.Connection:
        urls = [f"amqps://orders:{PASSWORD}@{lab.address(host)}:{AMQP_PORT}/shop" for host in hosts or THREE]
        # While the authority is replaced, there are two.
        trusted.write_text("".join(file.read_text() for file in (lab.inventory / "ca").glob("*.crt")))
        verified = {
            "ca_certs": str(trusted),
            "cert_reqs": ssl.CERT_REQUIRED,
            "server_hostname": "rabbitmq",  # in all of their certificates
        }
        confirmed = {"confirm_publish": True}
        return kombu.Connection(";".join(urls), ssl=verified, connect_timeout=4, transport_options=confirmed)

    return made


class Load:
    """Publishes numbers and consumes them, until it is stopped; a number that was not confirmed is sent again."""

    def __init__(self, connect: Callable[[], kombu.Connection]) -> None:
        self.connect = connect
        self.over, self.is_empty = threading.Event(), threading.Event()
        self.confirmed: list[int] = []
        self.moments: list[float] = []
        self.delivered: Counter[int] = Counter()
        self.interruptions: Counter[str] = Counter()
        works = ((self.publish, self.over), (self.consume, self.is_empty))
        self.threads = [threading.Thread(target=self.keep, args=work) for work in works]

    def keep(self, work: Callable[[kombu.Connection], None], end: threading.Event) -> None:
        while not end.is_set():
            with self.connect() as connection:
                try:
                    connection.ensure_connection(max_retries=60, interval_start=0.2, interval_max=1)
                    return work(connection)
                except (*connection.connection_errors, *connection.channel_errors, OSError, KombuError, MessageNacked):
                    self.interruptions[work.__name__] += 1

    def publish(self, connection: kombu.Connection) -> None:
        with connection.Producer() as producer:
            while not self.over.is_set():
                producer.publish(len(self.confirmed), routing_key=QUEUE, delivery_mode=2, confirm_timeout=10)
                self.confirmed.append(len(self.confirmed))
                self.moments.append(time.monotonic())
                time.sleep(0.005)

    def consume(self, connection: kombu.Connection) -> None:
        def take(body: int, message: kombu.Message) -> None:
            self.delivered[body] += 1
            message.ack()

        queue = kombu.Queue(QUEUE, no_declare=True)
        with connection.Consumer(queue, callbacks=[take], accept=["json"], prefetch_count=20):
            while not (self.is_empty.is_set() and len(self.delivered) >= len(self.confirmed)):
                try:
                    connection.drain_events(timeout=2)
                except TimeoutError:
                    if self.is_empty.is_set():
                        return

    @contextmanager
    def during(self, event: str) -> Iterator[None]:
        """Run while something happens; then let the consumer take what is left, and print and check the counts."""
        self.moments.append(time.monotonic())
        for thread in self.threads:
            thread.start()
        try:
            time.sleep(3)
            yield
            time.sleep(3)
        finally:
            self.over.set()
            self.threads[0].join()
            self.moments.append(time.monotonic())
            time.sleep(3)
            self.is_empty.set()
            self.threads[1].join()
        lost = set(self.confirmed) - set(self.delivered)
        doubled = [number for number, times in self.delivered.items() if times > 1]
        gaps = [after - before for before, after in zip(self.moments, self.moments[1:], strict=False)]
        print(
            f"| {event} | {len(self.confirmed)} | {self.interruptions['publish']} | {self.interruptions['consume']} | "
            f"{len(lost)} | {len(doubled)} | {max(gaps):.1f} s |"
        )
        assert not lost and max(gaps) < 60
        assert len(self.confirmed) > MESSAGES


def members(lab: Lab, host: str = "mq1") -> list[str]:
    """Return the hosts with a member of the queue that is online; none while the broker starts."""
    queue = f'rabbit_amqqueue:lookup(rabbit_misc:r(<<"shop">>, queue, <<"{QUEUE}">>))'
    online = (
        f"case {queue} of {{ok, Q}} -> proplists:get_value(online, rabbit_amqqueue:info(Q, [online])); _ -> [] end."
    )
    told = control(lab, host, "--formatter", "json", "eval", online, check=False)
    found = json.loads(told)["value"] if told else []
    return sorted(node.removeprefix("rabbit@").removesuffix(".rabbitmq") for node in found)


def is_contained(lab: Lab) -> bool:
    return json.loads((lab.inventory / "group_vars/all/test.yml").read_text())["topology_runtime"] == "docker"


def control(lab: Lab, host: str, *words: str, program: str = "rabbitmqctl", check: bool = True) -> str:
    before = f"docker exec mlfleet-{UNIT} /usr/lib/rabbitmq/bin/" if is_contained(lab) else ""
    return lab.ssh(f"cd / && sudo {before}{program} --quiet {shlex.join(words)}", host, check=check)


def started(lab: Lab, host: str) -> str:
    return lab.ssh(f"systemctl show {UNIT} -p ExecMainStartTimestampMonotonic", host)


def wait_for_members(lab: Lab, *hosts: str) -> None:
    deadline = time.monotonic() + 180
    while members(lab) != sorted(hosts):
        assert time.monotonic() < deadline, members(lab)
        time.sleep(2)


def assert_settled(lab: Lab, *options: str) -> None:
    for words in (["--check"], []):
        assert lab.converge(*words, *options).count("changed") == 0


def refused(lab: Lab, *words: str, playbook: str = "site.yml") -> Run:
    run = lab.playbook(*words, playbook=playbook)
    assert run.code != 0
    return run


def test_groups_that_cannot_be_a_cluster_are_refused(lab: Lab) -> None:
    assign(lab, "mq1", "mq2")
    run = refused(lab)
    assert run.count("changed") == 0 and "group rabbitmq has hosts mq1, mq2: a cluster needs a majority" in run.text
    assign(lab, "mq2", "mq1", "mq3")
    run = refused(lab)
    assert run.count("changed") == 0 and "mq2 is first in group rabbitmq and has no data, but mq1 has" in run.text


def test_single_broker_becomes_three_and_keeps_its_messages(lab: Lab, connect) -> None:
    with connect("mq1") as connection, connection.Producer() as producer:
        for number in range(MESSAGES):
            producer.publish(number, routing_key=QUEUE, delivery_mode=2, confirm_timeout=10)
    assign(lab, *THREE)
    predicted = lab.converge("--check")
    assert predicted.count("changed") == lab.converge().count("changed") > 0
    assert_settled(lab)
    wait_for_members(lab, *THREE)
    with connect("mq3") as connection, connection.channel() as channel:
        taken = [channel.basic_get(QUEUE, no_ack=True).body for _ in range(MESSAGES)]
        assert sorted(map(int, taken)) == list(range(MESSAGES))
        assert channel.basic_get(QUEUE, no_ack=True) is None


def test_nodes_talk_only_to_nodes(lab: Lab, tmp_path: Path) -> None:
    """Neither without TLS, nor without a certificate; epmd, and the management without nginx, are not open at all."""
    address = lab.address("mq1")
    with socket.create_connection((address, NODES_PORT), timeout=10) as plain:
        # A handshake of Erlang's distribution, by a node that says it is one of the cluster.
        name = b"rabbit@mq2.rabbitmq"
        plain.sendall((15 + len(name)).to_bytes(2, "big") + b"N" + bytes(14)[:12] + len(name).to_bytes(2, "big") + name)
        assert b"ok" not in plain.recv(100)[:5]
    context = ssl.create_default_context(cafile=str(lab.inventory / "ca/ca.crt"))
    context.check_hostname = False
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shake(context, address)
    # The authority of another deployment.
    foreign = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=mq2.rabbitmq -keyout key -out crt"
    subprocess.run(foreign.split(), check=True, capture_output=True, cwd=tmp_path)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shake(context, address)
    for port in (EPMD_PORT, MANAGEMENT_PORT):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port), timeout=10)
    # Its certificate has the name of its node, which the other nodes compare.
    names = lab.ssh("sudo openssl x509 -noout -ext subjectAltName -in /etc/rabbitmq/tls/certificate.pem", "mq2")
    assert "DNS:mq2.rabbitmq" in names and "DNS:mq1.rabbitmq" not in names


def shake(context: ssl.SSLContext, address: str) -> None:
    with (
        socket.create_connection((address, NODES_PORT), timeout=10) as plain,
        context.wrap_socket(plain) as connection,
    ):
        connection.sendall(b"\0\0")
        if not connection.recv(1):
            raise ConnectionError("closed")


def test_messages_go_on_when_a_host_is_lost(lab: Lab, connect) -> None:
    with Load(connect).during("a host lost (power off), and back"):
        lab.command("docker", "kill", f"mlfleet-{lab.inventory.name}-mq1")
        time.sleep(20)
        lab.up()
        wait_for_members(lab, *THREE)
    assert_settled(lab)


def test_rolling_restart_loses_nothing(lab: Lab, connect) -> None:
    before = [started(lab, host) for host in THREE]
    (lab.inventory / "group_vars/rabbitmq.yml").write_text("rabbitmq_disk_free_limit_mb: 900\n")
    with Load(connect).during("rolling restart by site.yml"):
        assert lab.converge().count("changed") == len(THREE)
    assert not set(before) & {started(lab, host) for host in THREE}
    assert_settled(lab)


def test_certificates_and_authority_are_replaced_without_a_restart(lab: Lab, connect) -> None:
    before = [started(lab, host) for host in THREE]
    with Load(connect).during("certificates renewed by site.yml"):
        assert (
            lab.converge("-e", "topology_tls_valid_days=500", "-e", "topology_tls_renew_days=400").count("changed") > 0
        )
    lab.command("mlfleet", "ca", lab.name, "next")
    with Load(connect).during("authority replaced by rotate_ca.yml"):
        run = lab.playbook(playbook="playbooks/rotate_ca.yml")
        assert run.code == 0, run.output[-4000:]
    assert before == [started(lab, host) for host in THREE]
    # A node that starts with the new pair comes back to those that have only read it.
    lab.ssh(f"sudo systemctl restart {UNIT}", "mq2")
    wait_for_members(lab, *THREE)
    assert_settled(lab)


def test_broker_is_not_restarted_while_another_one_is_down(lab: Lab) -> None:
    before = started(lab, "mq1")
    lab.ssh(f"sudo systemctl stop {UNIT}", "mq3")
    change = ("-e", "rabbitmq_disk_free_limit_mb=800", "-e", "rabbitmq_start_timeout_seconds=10", "--limit", "mq1")
    run = refused(lab, *change)
    assert "not restarted within 10 s, because rabbit@mq3.rabbitmq does not run" in run.text
    assert "The former files are back, and rabbitmq-server.service runs with them" in run.text
    assert started(lab, "mq1") == before
    assert lab.converge("--limit", "mq1,mq2").count("changed") == 0  # nothing to restart
    assert lab.converge("--limit", "mq3").count("changed") == 1
    wait_for_members(lab, *THREE)


def test_node_out_of_the_cluster_and_missing_member_are_drift(lab: Lab) -> None:
    for node in ("rabbit@mq2.rabbitmq", "rabbit@mq3.rabbitmq"):
        control(lab, "mq1", "delete_member", "--vhost", "shop", QUEUE, node, program="rabbitmq-queues")
    for command in ("stop_app", "reset", "start_app"):
        control(lab, "mq3", command)
    checked = lab.converge("--check", "--diff")
    assert checked.count("changed") == 2
    assert "node rabbit@mq3.rabbitmq" in checked.text and "queue orders in virtual host shop" in checked.text
    assert lab.converge().count("changed") == 2
    wait_for_members(lab, *THREE)
    assert_settled(lab)


def test_stopped_application_is_started(lab: Lab) -> None:
    control(lab, "mq3", "stop_app")
    checked = lab.converge("--check", "--diff")
    assert checked.count("changed") == 1 and "node rabbit@mq3.rabbitmq" not in checked.text
    assert lab.converge().count("changed") == 1
    wait_for_members(lab, *THREE)


def test_join_that_was_killed_is_completed(lab: Lab) -> None:
    for command in ("stop_app", "reset"):  # and neither join_cluster nor start_app
        control(lab, "mq3", command)
    checked = lab.converge("--check")
    assert checked.count("changed") == lab.converge().count("changed") == 2
    wait_for_members(lab, *THREE)
    assert_settled(lab)


def test_three_become_five(lab: Lab, connect) -> None:
    assign(lab, *FIVE)
    with Load(connect).during("three hosts become five by site.yml"):
        predicted = lab.converge("--check")
        assert predicted.count("changed") == lab.converge().count("changed") > 0
    wait_for_members(lab, *FIVE)
    assert_settled(lab)


def test_hosts_are_removed_by_their_names(lab: Lab, connect) -> None:
    assign(lab, *THREE)
    for host in FIVE[3:]:
        with Load(connect).during(f"{host} of five removed by remove.yml"):
            assert_removed(lab, host, "-e", f"remove_data={host}", again=False)
        left = traces(lab, "rabbitmq", host)
        assert left == [] or not is_contained(lab)
        assert [trace for trace in left if not trace.startswith(LEFT_BY_PACKAGES)] == []
    wait_for_members(lab, *THREE)
    # The next run would prepare the removed hosts as hosts again, so people take them out of the inventory.
    assert_settled(lab, "--limit", ",".join(THREE))


def test_removed_host_opens_no_port(lab: Lab) -> None:
    """Nor at its next boot, when the socket of Erlang's package would open epmd to the network."""
    lab.command("docker", "restart", f"mlfleet-{lab.inventory.name}-{FIVE[-1]}")
    lab.up()
    ports = [line.split()[3].rpartition(":")[2] for line in lab.ssh("ss -Hltn", FIVE[-1]).splitlines()]
    assert not {"4369", str(AMQP_PORT), str(NODES_PORT)}.intersection(ports)


def test_host_is_exchanged(lab: Lab, connect) -> None:
    assign(lab, *EXCHANGED)
    run = refused(lab)
    assert run.count("changed") == 0 and "rabbit@mq3.rabbitmq must leave the cluster of mq1 first" in run.text
    remove = ("-e", "remove=rabbitmq")
    with Load(lambda: connect(*THREE, "mq4")).during("a host exchanged by remove.yml"):
        run = lab.playbook(*remove, playbook="playbooks/remove.yml")
        assert run.code == 0, run.output[-4000:]
    wait_for_members(lab, *EXCHANGED)
    assert "mq3" not in control(lab, "mq1", "eval", "rabbit_mnesia:cluster_nodes(all).")
    assert lab.ssh(f"systemctl is-active {UNIT} || true", "mq3").strip() != "active"
    assert_settled(lab)


def test_host_that_is_lost_for_good_is_replaced(lab: Lab, connect) -> None:
    lost = EXCHANGED[2]
    lab.command("docker", "kill", f"mlfleet-{lab.inventory.name}-{lost}")
    assign(lab, *THREE)
    without = ("--limit", f"all,!{lost}")
    run = refused(lab, *without)
    assert run.count("changed") == 0 and f"rabbit@{lost}.rabbitmq must leave the cluster of mq1 first" in run.text
    with Load(lambda: connect(*THREE)).during("a host lost for good replaced by site.yml"):
        lab.converge(*without, "-e", "topology_rabbitmq_unused_nodes=absent")
    wait_for_members(lab, *THREE)
    assert lost not in control(lab, "mq1", "eval", "rabbit_mnesia:cluster_nodes(all).")
    lab.up()


def test_all_but_one_leave(lab: Lab, connect) -> None:
    assign(lab, "mq1")
    run = refused(lab)
    assert run.count("changed") == 0 and "must leave the cluster of mq1 first" in run.text
    with Load(connect).during("two of three hosts removed by remove.yml"):
        run = lab.playbook("-e", "remove=rabbitmq", playbook="playbooks/remove.yml")
        assert run.code == 0, run.output[-4000:]
    wait_for_members(lab, "mq1")
    lab.converge()  # back to the loopback interface, for its node
    assert_settled(lab)
    listening = lab.ssh("ss -Hltn", "mq1")
    assert f"127.0.0.1:{NODES_PORT}" in listening and f"0.0.0.0:{NODES_PORT}" not in listening
