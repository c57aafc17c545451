"""Redis accepts only declared accounts, for RQ's keys only, and loses nothing."""

import uuid
from functools import partial

import pytest
from redis import Redis
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.retry import Retry

PORT = 6379
USERS = ["restapi", "worker"]


@pytest.fixture
def plain(forward):
    return partial(Redis, port=forward(PORT), retry=Retry(NoBackoff(), 0), socket_timeout=5)


@pytest.fixture
def connect(plain, authority):
    return partial(plain, ssl=True, ssl_ca_certs=authority)


@pytest.fixture
def client(connect, secret):
    """A connection as one of the users, patient while the server restarts."""
    retry = Retry(ConstantBackoff(0.5), 20)
    return lambda user: connect(username=user, password=secret(f"redis_{user}"), retry=retry)


@pytest.fixture
def key(client):
    name = f"rq:molecule:{uuid.uuid4()}"
    yield name
    client("worker").delete(name)


def test_anonymous_is_refused(connect):
    with pytest.raises(AuthenticationError):
        connect().ping()


@pytest.mark.parametrize("user", ["default", "restapi", "nobody"])
def test_wrong_password_is_refused(connect, user):
    with pytest.raises(AuthenticationError):
        connect(username=user, password="wrong").ping()


@pytest.mark.parametrize("user", USERS)
def test_user_queues_and_takes_work(client, key, user):
    assert client(user).lpush(key, "job") == 1
    assert client(user).rpop(key) == b"job"


@pytest.mark.parametrize("user", USERS)
def test_user_cannot_touch_other_keys(client, user):
    with pytest.raises(NoPermissionError):
        client(user).set("other", "value")


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    "words",
    [
        *(
            "CONFIG GET dir",
            "FLUSHALL",
            "ACL LIST",
            "SHUTDOWN",
            "REPLICAOF NO ONE",
            "KEYS *",
            "CLIENT KILL TYPE normal",
        ),
        *("SCRIPT FLUSH", "SCRIPT KILL", "FUNCTION FLUSH", "FUNCTION LIST", "FCALL f 0"),
        *("SELECT 1", "SCAN 0", "RANDOMKEY", "DBSIZE"),
    ],
)
def test_user_cannot_administer(client, user, words):
    with pytest.raises(NoPermissionError):
        client(user).execute_command(*words.split())


@pytest.mark.parametrize("user", USERS)
def test_user_runs_scripts_on_its_keys_as_rq_does(client, user, key):
    script = client(user).register_script("return redis.call('set', KEYS[1], 'value')")
    assert script(keys=[key])
    with pytest.raises(NoPermissionError):
        script(keys=["other"])


def test_writes_survive_a_crash(client, key, host, crash):
    client("restapi").lpush(key, "job")
    # Like RQ adds a job: in a transaction.
    client("restapi").pipeline(transaction=True).lpush(key, "another").execute()
    crash("redis-server")
    host.check_output("systemctl restart redis-server")
    assert client("worker").lrange(key, 0, -1) == [b"another", b"job"]


def test_plain_connection_is_refused(plain):
    with pytest.raises(RedisError, match=r"(?i)closed|reset"):
        plain().ping()


def test_queue_stays_when_tls_is_switched(request, client, connect, plain, key, secret):
    client("restapi").lpush(key, "job")
    request.getfixturevalue("without_tls")
    assert plain(username="worker", password=secret("redis_worker")).lrange(key, 0, -1) == [b"job"]
    with pytest.raises(RedisError, match=r"(?i)time|ssl"):
        connect().ping()


def test_only_the_loopback_listens(listens_on):
    assert listens_on(PORT) == {"127.0.0.1"}
