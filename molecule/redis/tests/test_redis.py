"""Redis lets in declared accounts only, to RQ's keys only, and forgets nothing."""

import uuid

import pytest
from redis import AuthenticationError, NoPermissionError, Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as NotConnectedError
from redis.retry import Retry

PORT = 6379
USERS = ["restapi", "worker"]


@pytest.fixture
def client(forward, secret):
    """A connection as one of the users."""
    retry = Retry(ConstantBackoff(0.5), 20)  # for the moments of a restart

    def connect(user):
        password = secret(f"redis_{user}")
        return Redis(
            port=forward(PORT), username=user, password=password, retry=retry, retry_on_error=[NotConnectedError]
        )

    return connect


@pytest.fixture
def key(client):
    name = f"rq:molecule:{uuid.uuid4()}"
    yield name
    client("worker").delete(name)


def test_anonymous_is_refused(forward):
    with pytest.raises(AuthenticationError, match="required"):
        Redis(port=forward(PORT)).ping()


@pytest.mark.parametrize("user", ["default", "restapi", "nobody"])
def test_wrong_password_is_refused(forward, user):
    with pytest.raises(AuthenticationError):
        Redis(port=forward(PORT), username=user, password="wrong").ping()


@pytest.mark.parametrize("user", USERS)
def test_user_queues_and_takes_work(client, key, user):
    assert client(user).lpush(key, "job") == 1
    assert client(user).rpop(key) == b"job"


@pytest.mark.parametrize("user", USERS)
def test_user_cannot_touch_other_keys(client, user):
    with pytest.raises(NoPermissionError):
        client(user).set("other", "value")


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("words", ["CONFIG GET dir", "FLUSHALL", "ACL LIST", "SHUTDOWN", "DEBUG SLEEP 0"])
def test_user_cannot_administer(client, user, words):
    with pytest.raises(NoPermissionError):
        client(user).execute_command(*words.split())


def test_writes_survive_a_crash(client, key, host):
    client("restapi").lpush(key, "job")
    host.check_output("systemctl kill --signal=KILL redis-server")
    host.check_output("systemctl restart redis-server")
    assert client("worker").rpop(key) == b"job"


def test_only_the_loopback_listens(listens_on):
    assert listens_on(PORT) == {"127.0.0.1"}
