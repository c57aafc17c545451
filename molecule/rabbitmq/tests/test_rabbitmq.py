"""RabbitMQ accepts only declared accounts, with their rights only, over TLS, and loses no message."""

import json
import ssl
from contextlib import contextmanager, suppress

import kombu
import pytest
import requests
from amqp.exceptions import AccessRefused, NotAllowed
from requests.auth import HTTPBasicAuth

TLS_PORT, PLAIN_PORT = 5671, 5672
MANAGEMENT_PORT, METRICS_PORT, NODES_PORT, EPMD_PORT = 15672, 15692, 25672, 4369
PAGE_PORT = 35671
PASSWORDS = {"orders": "orders-of-the-shop", "watcher": "watcher-of-all", "clerk": "clerk-of-the-office"}
UNIT = "rabbitmq-server"
REFUSED = r"(?i)closed|reset|refused|unexpected|invalid"


@pytest.fixture
def verified(authority):
    """kombu compares names only if it is given this key."""
    return {"ca_certs": authority, "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}


@pytest.fixture
def connect(forward, verified):
    """Return a connection as Celery makes it."""

    @contextmanager
    def opened(user="orders", vhost="shop", password=None, port=TLS_PORT, tls=True):
        account = {"userid": user, "password": password or PASSWORDS[user], "virtual_host": vhost}
        to = {"hostname": "localhost", "port": forward(port), "ssl": verified if tls else False}
        confirmed = {"confirm_publish": True}  # a message is in the queue when it was published
        with kombu.Connection(
            transport="pyamqp", connect_timeout=10, transport_options=confirmed, **to, **account
        ) as connection:
            connection.connect()
            yield connection

    return opened


def send(connection, queue, body):
    with connection.Producer() as producer:
        producer.publish(body, routing_key=queue, delivery_mode=2, confirm_timeout=10)


def take(connection, queue):
    """Return the message that waits longest, and acknowledge it; nothing if there is none."""
    with connection.channel() as channel:
        message = channel.basic_get(queue, no_ack=True)
        return message and message.body


@pytest.fixture
def is_up(connect):
    """Return whether the broker answers, which takes it some seconds after a start."""

    def asked():
        with suppress(OSError), connect():
            return True
        return False

    return asked


@pytest.fixture
def clean(connect):
    """The declared queue, empty before and after."""

    def purge():
        with connect() as connection, connection.channel() as channel:
            channel.queue_purge("orders")

    purge()
    yield "orders"
    purge()


@pytest.fixture
def management(forward, secret, authority):
    """Ask the management's API, as the administrator if nobody else is named."""

    def ask(path, user=None, method="GET", **body):
        account = HTTPBasicAuth(user or "admin", PASSWORDS[user] if user else secret("rabbitmq_admin"))
        url = f"https://localhost:{forward(MANAGEMENT_PORT)}/api/{path}"
        return requests.request(method, url, auth=account, verify=authority, json=body or None, timeout=30)

    return ask


def test_account_writes_and_reads_its_queue(connect, clean):
    with connect() as connection:
        send(connection, clean, "one")
        assert take(connection, clean) == "one"


@pytest.mark.parametrize("user", ["admin", "guest", "orders", "nobody"])
def test_wrong_password_is_refused(connect, user):
    with pytest.raises(AccessRefused, match="ACCESS_REFUSED"), connect(user, password="guest"):
        pass


@pytest.mark.parametrize(("user", "vhost"), [("orders", "office"), ("clerk", "shop"), ("orders", "/")])
def test_foreign_virtual_host_is_refused(connect, user, vhost):
    with pytest.raises(NotAllowed, match=r"access to vhost .* refused"), connect(user, vhost):
        pass


def test_foreign_queue_is_refused(connect):
    with connect() as connection, connection.channel() as channel, pytest.raises(AccessRefused, match="queue"):
        channel.queue_declare("reorders", durable=True)
    with connect("watcher") as connection, connection.channel() as channel, pytest.raises(AccessRefused, match="queue"):
        channel.basic_get("orders")


def test_declared_objects_are_there(management):
    queues = {queue["name"]: queue for queue in management("queues/shop").json()}
    assert {name: queue["type"] for name, queue in queues.items()} == {"orders": "quorum", "orders.short": "classic"}
    assert queues["orders.short"]["policy"] == "short"
    assert management("exchanges/shop/orders.topic").json()["type"] == "topic"


def test_policy_has_its_effect(connect):
    with connect() as connection:
        for body in "abc":
            send(connection, "orders.short", body)
        assert [take(connection, "orders.short") for _ in range(3)] == ["b", "c", None]


def test_management_has_rights_too(management):
    assert management("overview", "watcher").status_code == 200
    assert management("overview", "orders").status_code == 401
    assert management("users", "watcher").status_code == 401
    assert management("vhosts/stolen", "watcher", "PUT").status_code in (401, 403)


def test_page_asks_for_an_account(forward, secret, authority):
    url = f"https://localhost:{forward(PAGE_PORT)}/"
    assert "RabbitMQ Management" in requests.get(url, verify=authority, timeout=30).text
    accounts = {"admin": secret("rabbitmq_admin"), "guest": "guest"}
    answers = [
        requests.get(f"{url}api/whoami", auth=account, verify=authority, timeout=30) for account in accounts.items()
    ]
    assert [answer.status_code for answer in answers] == [200, 401]


def test_unknown_authority_is_refused(forward, verified):
    unknown = {**verified, "ca_certs": ssl.get_default_verify_paths().cafile}
    account = {"userid": "orders", "password": PASSWORDS["orders"], "virtual_host": "shop"}
    to = {"hostname": "localhost", "port": forward(TLS_PORT), "ssl": unknown, "connect_timeout": 10}
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        kombu.Connection(transport="pyamqp", **to, **account).connect()


def test_plain_connection_is_refused(connect):
    with pytest.raises(OSError, match=REFUSED), connect(tls=False):
        pass
    with pytest.raises(OSError, match=REFUSED), connect(port=PLAIN_PORT, tls=False):
        pass


def test_only_the_loopback_listens(listens_on):
    ports = (TLS_PORT, MANAGEMENT_PORT, METRICS_PORT, NODES_PORT, EPMD_PORT)
    assert [listens_on(port) for port in ports] == [{"127.0.0.1"}] * len(ports)
    assert listens_on(PLAIN_PORT) == set()


def test_it_has_never_run_with_the_settings_of_its_package(host):
    own = f"rabbit@{host.backend.get_hostname()}.rabbitmq"
    assert host.check_output("ls /var/lib/rabbitmq/mnesia | grep rabbit@ | grep -v %s || true", own) == ""
    assert not host.file("/usr/sbin/policy-rc.d").exists


def test_messages_survive_a_crash_and_another_host_name(host, connect, clean, crash, eventually, is_up):
    with connect() as connection:
        send(connection, clean, "kept")
    former = host.check_output("hostname")
    crash(UNIT)
    try:
        host.check_output("hostname other")
        host.check_output(f"systemctl restart {UNIT}")
        assert eventually(is_up)
        with connect() as connection:
            assert take(connection, clean) == "kept"
    finally:
        host.check_output(f"hostname {former}")


def test_messages_stay_when_tls_is_switched(request, connect, clean):
    with connect() as connection:
        send(connection, clean, "kept")
    request.getfixturevalue("without_tls")
    with connect(port=PLAIN_PORT, tls=False) as connection:
        assert take(connection, clean) == "kept"
    with pytest.raises(OSError, match=REFUSED), connect():
        pass


def started(host):
    return host.check_output(f"systemctl show {UNIT} -p ActiveEnterTimestampMonotonic")


def test_changes_by_hand_are_predicted_and_undone(host, management, play):
    """Of a password, permissions, a policy and the administrator, without a restart."""
    before = started(host)
    assert management("users/clerk", method="PUT", password="another", tags="administrator").ok
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    assert management("permissions/office/orders", method="PUT", **rights).ok
    policy = {"pattern": ".*", "definition": {"max-length": 1}, "apply-to": "queues"}
    assert management("policies/shop/short", method="PUT", **policy).ok
    assert management("users/admin", method="PUT", password="lost", tags="").ok
    assert management("overview").status_code == 401
    assert play("--tags", "rabbitmq", "--check")["changed"] == 1
    assert play("--tags", "rabbitmq")["changed"] == 1
    assert play("--tags", "rabbitmq", "--check")["changed"] == 0
    assert management("overview").status_code == 200
    assert started(host) == before


def test_undeclared_objects_are_reported(host, management, secret):
    assert management("vhosts/stray", method="PUT").ok
    assert management("users/stray", method="PUT", password="stray-password", tags="").ok
    try:
        account = {"username": "admin", "password": secret("rabbitmq_admin")}
        url = f"https://localhost:{MANAGEMENT_PORT}"
        found = host.ansible("mlfleet.stack.rabbitmq_access", json.dumps({"url": url, **account}), become=True)
        removals = {(each["kind"], each["name"]): each["remove"] for each in found["undeclared"]}
        assert removals["RabbitMQ virtual host", "stray"] == "sudo rabbitmqctl delete_vhost stray"
        assert removals["RabbitMQ user", "stray"] == "sudo rabbitmqctl delete_user stray"
        assert removals["RabbitMQ policy", "short in shop"] == "sudo rabbitmqctl clear_policy --vhost shop short"
    finally:
        assert management("users/stray", method="DELETE").ok and management("vhosts/stray", method="DELETE").ok


def test_renewed_certificate_is_taken_up_without_a_restart(host, forward, play):
    def shown():
        return ssl.get_server_certificate(("127.0.0.1", forward(TLS_PORT))), ssl.get_server_certificate(
            ("127.0.0.1", forward(MANAGEMENT_PORT))
        )

    before, former = started(host), shown()
    host.check_output("rm /etc/mlfleet/tls/host.crt")
    assert play("--tags", "host,rabbitmq")["changed"] > 0
    assert all(new != old for new, old in zip(shown(), former, strict=True))
    assert started(host) == before
