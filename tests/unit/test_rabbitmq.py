"""RabbitMQ's objects as a document, and as declarations of an inventory."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import rabbitmq
from ansible_collections.mlfleet.stack.plugins.module_utils.access import document
from ansible_collections.mlfleet.stack.plugins.plugin_utils.preflight import checks

# The example in RabbitMQ's documentation of passwords.
HASH = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
SALT = bytes.fromhex("908DC60A")
ADMIN = {"name": "admin", "password": "test12", "tags": ["administrator"], "permissions": [], "state": "present"}
STORED = {"name": "admin", "password_hash": HASH, "hashing_algorithm": rabbitmq.HASHING, "tags": ["administrator"]}


def broker(**options: Any) -> rabbitmq.Broker:
    usual = {
        "url": "http://127.0.0.1:1",
        "timeout_seconds": 1,
        "ca_file": None,
        "certificate_file": None,
        "rabbitmqctl": [],
    }
    account = {"username": "admin", "password": "test12"}
    lists: dict[str, list] = {"vhosts": ["/"], "users": [ADMIN], "policies": [], "exchanges": [], "queues": []}
    return rabbitmq.Broker({**usual, **account, **lists, **options})


def contents(**found: Any) -> dict[str, Any]:
    """What the broker answers."""
    lists: dict[str, list] = {"permissions": [], "policies": [], "exchanges": [], "queues": []}
    return {"vhosts": [{"name": "/"}], "users": [STORED], **lists, **found}


def planned(broker: rabbitmq.Broker, **found: Any) -> list[str]:
    states = broker._states(contents(**found))
    return [change.name for change in document.plan(broker, document.Found(states, []))]


def test_passwords_are_hashed_as_the_broker_does() -> None:
    assert rabbitmq.password_hash("test12", SALT) == HASH
    assert rabbitmq.has_password(STORED, "test12") and not rabbitmq.has_password(STORED, "test13")
    assert not rabbitmq.has_password({**STORED, "hashing_algorithm": "rabbit_password_hashing_md5"}, "test12")


@pytest.mark.parametrize(
    "found",
    [
        {"users": [{**STORED, "tags": []}]},
        {"users": [{**STORED, "password_hash": rabbitmq.password_hash("other", SALT)}]},
        {"users": []},
        {"permissions": [{"user": "admin", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}]},
    ],
)
def test_user_that_differs_is_changed(found: dict[str, Any]) -> None:
    assert planned(broker()) == []
    assert planned(broker(), **found) == ["user admin"]


def test_objects_follow_their_virtual_host_and_removals_come_last() -> None:
    queue = {"vhost": "shop", "name": "orders", "type": "quorum", "arguments": {}}
    rights = [{"vhost": "gone", "configure": "", "write": "", "read": ""}]
    gone = {**ADMIN, "name": "gone", "password": None, "permissions": rights, "state": "absent"}
    found = contents()["users"] + [{**STORED, "name": "gone"}]
    wanted = broker(vhosts=["/", "shop"], users=[ADMIN, gone], queues=[queue])
    assert planned(wanted, users=found) == ["virtual host shop", "queue orders in virtual host shop", "user gone"]


def test_queue_of_another_type_is_an_error() -> None:
    queue = {"vhost": "/", "name": "orders", "type": "quorum", "arguments": {"x-max-length": 5}}
    there = {"vhost": "/", "name": "orders", "durable": True, "auto_delete": False}
    same = {**there, "arguments": {"x-queue-type": "quorum", "x-max-length": 5}}
    assert planned(broker(queues=[queue]), queues=[same]) == []
    line = r"queue orders in virtual host /: it has type classic, arguments {}, which cannot be changed"
    with pytest.raises(document.ServiceError, match=line):
        planned(broker(queues=[queue]), queues=[{**there, "arguments": {}}])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"users": [ADMIN, ADMIN]}, "user admin: declared twice"),
        ({"users": [{**ADMIN, "password": None}]}, "user admin: a password is required"),
        ({"users": [{**ADMIN, "permissions": [{"vhost": "no"}]}]}, "user admin: virtual host no is not declared"),
        ({"queues": [{"vhost": "no", "name": "q"}]}, "queue q in virtual host no: this virtual host is not declared"),
        ({"policies": [{"vhost": "/", "name": "p"}] * 2}, "policy p in virtual host /: declared twice"),
        (
            {"exchanges": [{"vhost": "/", "name": "amq.own"}]},
            "exchange amq.own in virtual host /: names that begin with amq. are RabbitMQ's own",
        ),
        (
            {"queues": [{"vhost": "/", "name": "q", "arguments": {"x-queue-type": "stream"}}]},
            "queue q in virtual host /: x-queue-type is its type, not one of its arguments",
        ),
    ],
)
def test_contradictions_are_found_before_the_broker_is_asked(options: dict[str, Any], line: str) -> None:
    with pytest.raises(document.ServiceError, match=f"^{line}$"):
        broker(**options)


def test_contradictions_of_an_inventory_are_found() -> None:
    values = {
        "topology_rabbitmq_user_admin": "admin",
        "topology_rabbitmq_vhosts": ["serving"],
        "topology_rabbitmq_users": [{"name": "idle", "permissions": [{"vhost": "shop"}], "clients": []}],
        "rabbitmq_users_extra": [
            {"name": "clerk", "password": "long", "permissions": [{"vhost": "offices"}]},
            {"name": "guard", "password": ""},
            {"name": "admin", "password": "own"},
        ],
        "rabbitmq_vhosts_extra": ["shop", "office"],
        "rabbitmq_queues_extra": [{"vhost": "/", "name": "q"}, {"vhost": "home", "name": "q"}],
    }
    advice = "has no user; give one its permissions in rabbitmq_users_extra"
    assert list(checks.rabbitmq_objects(values)) == [
        "rabbitmq: user admin: it is the administrator's",
        "rabbitmq: user clerk: virtual host offices is not declared",
        "rabbitmq: user guard: a password is required",
        "rabbitmq: queue q in virtual host home: this virtual host is not declared",
        f"rabbitmq_vhosts_extra: virtual host shop {advice}",
        f"rabbitmq_vhosts_extra: virtual host office {advice}",
    ]
    assert list(checks.rabbitmq_objects({})) == []
