"""The API answers holders of the token alone, and no prediction is lost or made twice."""

import json
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import kombu
import pytest
import redis
import requests
from amqp.exceptions import AccessRefused, NotAllowed
from kombu import Queue

ROOT = Path(__file__).parents[3]
PAGE_PORT, API_PORT, METRICS_PORTS = 34789, 4789, (9808, 9809)
AMQPS_PORT, REDIS_PORT = 5671, 6379
WORKER, API = "serving-worker@1", "serving-api"
MODEL = "mlfleet-verify-serving"
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
SETOSA = 0
REQUESTS = 40
PATIENCE_SECONDS = 90
OWN_APPLICATION = {
    "serving_source": str(ROOT / "molecule/serving/application"),
    "serving_asgi_app": "api.routes:api",
    "serving_celery_app": "worker.celery",
    "serving_migration_command": "python database.py",
    "topology_serving_health_path": "/content/info",
    "topology_serving_queue": "celery",
    "topology_serving_routes": [{"path": "/"}],
    "topology_rabbitmq_serving_api_rights": {"configure": ".*", "write": ".*", "read": ".*"},
    "topology_rabbitmq_serving_worker_rights": {"configure": ".*", "write": ".*", "read": ".*"},
    "topology_redis_serving_api_rules": "~celery-* &celery-* +@all -@admin -@dangerous",
    "topology_redis_serving_worker_rules": "~celery-* &celery-* +@all -@admin -@dangerous",
}
SIGN_OF_DEPLOYMENT = f"systemctl is-active {API}"


@pytest.fixture
def model(ask, inventory):
    """A model with an alias, which verify.yml registers."""
    if MODEL in ask("GET", "/models").json():
        return MODEL
    words = ["ansible-playbook", "playbooks/verify.yml", "-i", inventory]
    output = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert f"model {MODEL}:" in output and "none failed" in " ".join(output.split()), output
    return MODEL


@pytest.fixture
def ask(forward, authority, secret):
    """Send a request to the API through nginx, as its users do."""

    def request(method, path, token=None, **options):
        headers = {"Authorization": f"Bearer {secret('serving_token') if token is None else token}"}
        with requests.Session() as session:
            session.trust_env = False
            url = f"https://127.0.0.1:{forward(PAGE_PORT)}{path}"
            return session.request(method, url, headers=headers, verify=authority, timeout=PATIENCE_SECONDS, **options)

    return request


@pytest.fixture
def predict(ask, model):
    return lambda inputs, **options: ask("POST", f"/models/{model}/predictions", json={"inputs": inputs}, **options)


@pytest.fixture
def rows(host):
    """Return how many of these predictions the database has, each with one answer."""

    def count(ids):
        listed = ",".join(f"'{each}'" for each in ids)
        query = f"SELECT count(*) FROM predictions WHERE id::text IN ({listed})"
        return int(host.check_output(f"cd / && runuser -u postgres -- psql -qtA serving -c {json.dumps(query)}"))

    return count


@pytest.fixture
def account(environment_of):
    """Return user name and password that a unit has for the service at this URL."""

    def of(unit, variable):
        (line,) = [line for line in environment_of(unit) if line.startswith(f"{variable}=")]
        url = urlsplit(line.partition("=")[2])
        return url.username, url.password

    return of


# --- who may ask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "wrong"])
@pytest.mark.parametrize(
    "path", ["/models", f"/models/{MODEL}/predictions", "/openapi.json", "/docs", "/predictions/1"]
)
def test_nothing_is_answered_without_the_token(ask, path, token):
    assert ask("GET", path, token=token).status_code == 401


def test_health_is_open_and_says_no_more_than_that(ask):
    answer = ask("GET", "/health", token="")
    assert answer.status_code == 200
    assert answer.json() == {"broker": True, "results": True, "database": True, "models": True}


def test_metrics_are_on_the_loopback_alone(ask, host, forward):
    assert ask("GET", "/metrics").status_code == 404
    for port in METRICS_PORTS:
        assert "serving_" in requests.get(f"http://127.0.0.1:{forward(port)}/metrics", timeout=10).text
    listening = host.check_output("ss --listening --tcp --numeric --no-header")
    addresses = {line.split()[3] for line in listening.splitlines()}
    for port in (API_PORT, *METRICS_PORTS):
        assert {address for address in addresses if address.endswith(f":{port}")} == {f"127.0.0.1:{port}"}


@pytest.mark.parametrize("unit", [WORKER, API])
def test_broker_grants_only_the_objects_of_the_application(forward, authority, account, unit):
    user, password = account(unit, "CELERY_BROKER_URL")
    tls = {"ca_certs": authority, "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    to = {"hostname": "localhost", "port": forward(AMQPS_PORT), "userid": user, "password": password, "ssl": tls}
    with kombu.Connection(transport="pyamqp", virtual_host="serving", **to) as connection:
        connection.connect()
        with pytest.raises(AccessRefused):
            Queue("other", channel=connection).declare()
    with (
        kombu.Connection(transport="pyamqp", virtual_host="/", **to) as connection,
        pytest.raises((NotAllowed, AccessRefused)),
    ):
        connection.connect()


@pytest.mark.parametrize(("unit", "denied"), [(WORKER, ["DEL", "celery-task-meta-1"]), (API, ["SETEX", "x", 1, 1])])
def test_result_store_grants_only_results(forward, authority, account, unit, denied):
    user, password = account(unit, "CELERY_BACKEND_URL")
    options = {"username": user, "password": password, "ssl": True, "ssl_ca_certs": authority}
    with redis.Redis(port=forward(REDIS_PORT), **options) as client:
        assert client.ping()
        for words in (denied, ["GET", "rq:queue:tensorflow-cpu"], ["KEYS", "*"], ["CONFIG", "GET", "*"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*words)


# --- predictions -----------------------------------------------------------------------------------------------------


def test_prediction_is_answered_and_read_again(ask, predict):
    answer = predict([FLOWER])
    assert (answer.status_code, answer.json()["outputs"]) == (200, [SETOSA]), answer.text
    again = ask("GET", f"/predictions/{answer.json()['id']}")
    assert again.json() == answer.json()


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        ([{**FLOWER, "sepal_length": "long"}], "sepal_length"),
        ([{"sepal_length": 1.0}], "sepal_width"),
    ],
)
def test_wrong_input_is_refused_with_its_column(predict, inputs, line):
    answer = predict(inputs)
    assert answer.status_code == 422
    assert line in answer.text


def test_unknown_model_is_told_with_the_mend(ask):
    answer = ask("POST", "/models/unknown/predictions", json={"inputs": [FLOWER]})
    assert answer.status_code == 404
    assert "set its alias champion" in answer.text


def answers(ask, ids):
    return [ask("GET", f"/predictions/{each}").json() for each in ids]


def test_no_prediction_is_lost_or_made_twice_when_a_worker_is_killed(host, ask, predict, rows, eventually):
    with ThreadPoolExecutor(8) as executor:
        asked = [executor.submit(predict, [FLOWER], params={"wait": 0}) for _number in range(REQUESTS)]
        host.check_output(f"systemctl kill --signal=KILL {WORKER}")
    assert {each.result().status_code for each in asked} <= {200, 202}
    ids = [each.result().json()["id"] for each in asked]
    assert eventually(lambda: {answer["state"] for answer in answers(ask, ids)} == {"SUCCESS"})
    assert rows(ids) == len(set(ids)) == REQUESTS


def test_accepted_predictions_outlive_the_broker(host, ask, predict, rows, eventually):
    """What was answered with 202 is kept; what could not be accepted says so."""
    host.check_output(f"systemctl stop {WORKER}")
    ids = [predict([FLOWER], params={"wait": 0}).json()["id"] for _number in range(5)]
    host.check_output("systemctl restart rabbitmq-server")
    host.check_output(f"systemctl start {WORKER}")
    assert eventually(lambda: {answer["state"] for answer in answers(ask, ids)} == {"SUCCESS"})
    assert rows(ids) == len(ids)
    assert eventually(lambda: predict([FLOWER]).status_code == 200)


@pytest.mark.fleet
def test_broker_that_stays_away_is_told(host, predict, eventually):
    host.check_output("systemctl stop rabbitmq-server")
    try:
        answer = predict([FLOWER])
    finally:
        host.check_output("systemctl start rabbitmq-server")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert eventually(lambda: predict([FLOWER]).status_code == 200)


def test_stop_is_warm(host, ask, predict, rows, eventually):
    ids = [predict([FLOWER], params={"wait": 0}).json()["id"] for _number in range(REQUESTS)]
    stops = f"journalctl --unit {WORKER} --output cat | grep --count 'Warm shutdown' || true"
    before = int(host.check_output(stops))  # other tests have stopped it as well
    host.check_output(f"systemctl restart {WORKER}")
    assert int(host.check_output(stops)) > before
    assert eventually(lambda: {answer["state"] for answer in answers(ask, ids)} == {"SUCCESS"})
    assert rows(ids) == REQUESTS


# --- another application ---------------------------------------------------------------------------------------------


@pytest.fixture
def own_application(play):
    """An application that is not ours, deployed from its tree as docs/howto/serving.md shows."""
    options = ("-e", json.dumps(OWN_APPLICATION))
    predicted = play("--check", *options)
    assert play(*options)["changed"] == predicted["changed"] > 0
    assert play(*options)["changed"] == 0
    yield
    assert play()["changed"] > 0


@pytest.mark.fleet
@pytest.mark.usefixtures("own_application")
def test_application_that_is_not_ours_runs_from_its_tree(ask, eventually):
    (identifier,) = ask("POST", "/inference/start/21").json().values()
    result = {"state": "SUCCESS", "result": 42, "stored": 42}
    assert eventually(lambda: ask("GET", f"/inference/results/{identifier}").json() == result)
