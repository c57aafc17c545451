"""The application, with the services it stands on: run by `pytest tests/serving`, in about three minutes."""

from __future__ import annotations

import json
import re
import signal
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.serving.conftest import Client
from tests.serving.services import OTHER, VERIFYING, Program, Services, until

ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
CONNECT = "connection_for_write().ensure_connection(max_retries=0); print('connected')"
FOREIGN = f"import os; from celery import Celery; Celery(broker=os.environ['CELERY_BROKER_URL']{{}}).{CONNECT}"
UNCHECKED = ", broker_use_ssl={'cert_reqs': __import__('ssl').CERT_NONE}"
PING = "print('connected' if Celery(backend=os.environ['CELERY_BACKEND_URL']).backend.client.ping() else '')"


def odd(action: str, seconds: float = 0) -> list[dict[str, object]]:
    return [{"seconds": seconds, "action": action}]


def test_prediction_is_answered_by_the_model(client: Client) -> None:
    answer = client.predict("irises", [ROW, {**ROW, "petal_length": 6, "petal_width": 2.3}])
    assert (answer.status_code, answer.json()["outputs"], answer.json()["version"]) == (200, [0, 2], "1"), answer.text
    assert client.predict("irises", [list(ROW.values())]).json()["outputs"] == [0]


def test_prediction_can_be_asked_for_later(client: Client) -> None:
    answer = client.predict("odd", odd("", 1), wait=0)
    assert (answer.status_code, answer.json()["state"]) == (202, "PENDING")
    path = answer.headers["location"]
    assert client.get(path).json()["state"] == "PENDING"
    assert client.answer(answer.json()["id"])["outputs"] == [2]
    assert client.get("/predictions/0b4d0f5c-0000-4000-8000-000000000000").status_code == 404
    for hours, state in (2, "PENDING"), (8 * 24, None):  # it may still be queued; or never was
        made = int((time.time() - hours * 3600) * 1000)
        waiting = uuid.UUID(int=made << 80 | 0x7 << 76 | 0b10 << 62)
        assert client.get(f"/predictions/{waiting}").json().get("state") == state


def test_feedback_is_stored_once(client: Client) -> None:
    url = f"{client.url}/predictions/{client.predict('irises', [ROW]).json()['id']}/feedback"
    assert [client.session.post(url, json={"actual": [1]}).status_code for _ in range(2)] == [201, 409]
    assert 'outcome="wrong"' in client.metrics()


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([{**ROW, "petal_length": "long"}], "row 0, column petal_length: double expected, not 'long'"),
        ([{**ROW, "colour": 1}], "row 0 has the unknown column colour"),
        ([{"sepal_length": 5.1}], "row 0 lacks column sepal_width"),
        ([[5.1, 3.5, 1.4, 0.2], [5.1]], "row 1 has 1 values, not 4"),
        ([], "at least one row"),
        ([ROW, 3], "rows must be all objects or all lists"),
    ],
)
def test_broken_inputs_are_refused_before_they_are_queued(client: Client, inputs: object, says: str) -> None:
    answer = client.predict("irises", inputs)
    assert answer.status_code == 422 and says in answer.json()["detail"], answer.text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("NaN", "numbers must be finite"),
        ("-Infinity", "numbers must be finite"),
        (r'"a\u0000b"', "U+0000"),
        (r'"\ud800"', "surrogate"),
    ],
)
def test_what_cannot_be_stored_is_refused(client: Client, text: str, says: str) -> None:
    prediction = client.predict("irises", [ROW]).json()["id"]
    bodies = {
        "/models/odd/predictions": f'{{"inputs": [{{"seconds": 0, "action": {text}}}]}}',
        "/models/irises/predictions": f'{{"inputs": [{json.dumps(ROW | {"petal_width": "X"})}]}}'.replace('"X"', text),
        f"/predictions/{prediction}/feedback": f'{{"actual": [{text}]}}',
    }
    for path, body in bodies.items():
        answer = client.session.post(client.url + path, data=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422 and says in answer.text, (path, answer.text)
    assert client.predict("odd", [{"seconds": 0, "action": r"a\u0000b"}]).ok  # six characters


def test_what_a_model_returns_is_stored_as_far_as_possible(client: Client) -> None:
    assert client.predict("odd", odd("nul")).json()["outputs"] == ["a\ufffdb", None]


def test_model_without_a_signature_is_not_served(client: Client, services: Services) -> None:
    services.serve([{"name": "irises"}, {"name": "odd"}, {"name": "unsigned"}])
    said = until(lambda: client.get("/models").json().get("unsigned", {}).get("problems"), 10, "unsigned")
    said = until(lambda: "no signature" in str(said := client.get("/models").json()["unsigned"]) and said, 10, "reason")
    assert not said["versions"] and "infer_signature" in said["problems"]["primary"]
    assert client.predict("unsigned", [{"a": 1}]).status_code == 503
    services.serve([{"name": "irises"}, {"name": "odd"}])


def test_nothing_but_health_without_a_token(client: Client, services: Services) -> None:
    for path in "/models", "/metrics", "/openapi.json", "/docs", "/nothing", "//health":
        assert requests.get(client.url + path, verify=client.session.verify, timeout=5).status_code == 401, path
    wrong = requests.post(
        f"{client.url}/models/odd/predictions", json={}, headers={"Authorization": "Bearer x"}, verify=services.ca
    )
    assert wrong.status_code == 401
    assert requests.get(f"{client.url}/health", verify=services.ca, timeout=5).json()["broker"] is True
    assert client.get("/metrics").status_code == 404


def test_documentation_is_a_page_with_files_of_its_own(client: Client, services: Services) -> None:
    """A browser asks for the token, as a password."""
    asked = requests.get(f"{client.url}/docs", verify=services.ca, timeout=5)
    assert asked.headers["www-authenticate"].startswith("Basic")
    with requests.Session() as browser:
        browser.trust_env, browser.verify, browser.auth = False, str(services.ca), ("any", services.secrets["token"])
        page = browser.get(f"{client.url}/docs").text
        files = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(files) == 3 and all(file.startswith("/docs/static/") for file in files), files
        assert {browser.get(client.url + file).status_code for file in files} == {200}
        described = browser.get(f"{client.url}/openapi.json").json()
    assert services.secrets["token"] not in page + json.dumps(described)
    assert "security" in described["paths"]["/models"]["get"]
    assert requests.get(f"{client.url}{files[0]}", verify=services.ca, timeout=5).status_code == 401


def test_old_predictions_are_deleted_with_their_feedback(client: Client, services: Services) -> None:
    old, new = (client.predict("irises", [ROW]).json()["id"] for _ in range(2))
    for each in old, new:
        url = f"{client.url}/predictions/{each}/feedback"
        assert client.session.post(url, json={"correct": True}).status_code == 201
    services.sql(f"UPDATE predictions SET created_at = now() - interval '31 days' WHERE id = '{old}'")
    left = f"SELECT prediction_id FROM feedback WHERE prediction_id IN ('{old}', '{new}')"
    until(lambda: services.sql(left) == [(new,)], 10, "the deletion")
    assert services.sql(f"SELECT count(*) FROM predictions WHERE id = '{old}'") == [(0,)]


def test_failing_task_says_its_reason_in_one_line(client: Client, services: Services) -> None:
    answer = client.predict("odd", odd("fail"))
    assert answer.status_code == 500
    found = {"state": "FAILURE", "reason": "the model failed: ValueError: the iris has withered"}
    assert answer.json().items() >= found.items()
    assert client.answer(answer.json()["id"]).items() >= found.items()
    assert services.sql(f"SELECT reason FROM predictions WHERE id = '{answer.json()['id']}'") == [(found["reason"],)]


def test_missing_model_and_alias_name_the_mend(client: Client, services: Services) -> None:
    assert "declare it" in client.predict("roses", [[1]]).text
    services.serve([{"name": "irises"}, {"name": "odd", "alias": "shy"}, {"name": "roses"}])
    for name, alias in ("roses", "champion"), ("odd", "shy"):
        mend = f"set_registered_model_alias('{name}', '{alias}'"
        until(lambda name=name, mend=mend: mend in client.predict(name, odd("")).text, 10, mend)
        assert client.predict(name, odd("")).status_code == 404
    services.serve([])  # each model with the alias champion
    until(lambda: client.predict("odd", odd("")).ok, 10, "odd")


def test_alias_moves_without_a_failed_request(client: Client, services: Services) -> None:
    def ask(number: int) -> tuple[int, str]:
        if number == 20:
            services.set_alias("irises", "champion", 2)
        time.sleep(0.1)
        answer = client.predict("irises", [ROW])
        return answer.status_code, answer.json().get("version")

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(100)))
    services.set_alias("irises", "champion", 1)
    assert Counter(status for status, _ in answers) == {200: 100}
    assert {version for _, version in answers} == {"1", "2"}
    until(lambda: client.versions("irises") == {"primary": "1"}, 10, "way back")


def test_way_back_does_not_wait_behind_other_tasks(client: Client, services: Services) -> None:
    waiting = [client.predict("odd", odd("", 2), wait=0).json()["id"] for _ in range(16)]  # 16 s for two workers
    services.set_alias("irises", "champion", 2)
    until(lambda: client.versions("irises") == {"primary": "2"}, 5, "version 2")
    services.set_alias("irises", "champion", 1)
    until(lambda: client.versions("irises") == {"primary": "1"}, 5, "way back")
    assert client.get(f"/predictions/{waiting[-1]}").json()["state"] == "PENDING"
    assert [client.answer(each, 60)["outputs"] for each in waiting] == [[4]] * 16


def test_canary_answers_its_share_and_shadow_only_listens(client: Client, services: Services) -> None:
    roles = {"canary": {"alias": "challenger", "percent": 50}, "shadow": {"alias": "challenger"}}
    services.serve([{"name": "irises", **roles}, {"name": "odd"}])
    until(lambda: client.versions("irises") == {"primary": "1", "canary": "2", "shadow": "2"}, 10, "versions")
    with ThreadPoolExecutor(4) as pool:
        answers = [answer.json() for answer in pool.map(lambda _: client.predict("irises", [ROW]), range(40))]
    assert {(answer["role"], answer["version"]) for answer in answers} == {("primary", "1"), ("canary", "2")}
    assert 5 <= sum(answer["role"] == "canary" for answer in answers) <= 35
    ids = ",".join(f"'{answer['id']}'" for answer in answers)
    question = f"SELECT version, outputs FROM predictions WHERE role = 'shadow' AND shadow_of IN ({ids})"
    until(lambda: services.sql(question) == [("2", [0])] * 40, 20, "rows of the shadow")
    services.serve([{"name": "irises"}, {"name": "odd"}])
    until(lambda: client.versions("irises") == {"primary": "1"}, 10, "versions")


def test_model_of_a_directory_is_served_and_followed(client: Client, services: Services) -> None:
    services.serve([{"name": "irises"}, {"name": "odd"}, {"name": "garden", "path": str(services.directory / "model")}])
    version = until(lambda: client.versions("garden"), 10, "garden")["primary"]
    assert client.predict("garden", [ROW]).json().items() >= {"version": version, "outputs": [0]}.items()
    with (services.directory / "model/MLmodel").open("a") as description:
        description.write("# trained anew\n")
    until(lambda: client.versions("garden")["primary"] != version, 10, "the new version")
    assert client.predict("garden", [ROW]).json()["version"] != version


def test_task_of_a_killed_worker_is_answered_once(client: Client, services: Services, workers: list[Program]) -> None:
    prediction = client.predict("odd", odd("", 3), wait=0).json()["id"]
    (holder,) = until(lambda: [each for each in workers if prediction in each.log.read_text()], 10, "start")
    holder.stop(signal.SIGKILL)
    assert client.answer(prediction)["outputs"] == [6]
    assert services.sql(f"SELECT count(*) FROM predictions WHERE id = '{prediction}'") == [(1,)]
    holder.start()


def test_task_that_ends_its_process_fails_in_the_end(client: Client, services: Services) -> None:
    prediction = client.predict("odd", odd("end"), wait=0).json()["id"]
    assert client.answer(prediction, 40)["reason"] == "the task was delivered 5 times, and never ended"
    assert client.predict("odd", odd("")).ok


def test_requests_outlive_the_broker(client: Client, services: Services) -> None:
    accepted = [client.predict("odd", odd("", 0.5), wait=0).json()["id"] for _ in range(6)]
    services.broker.stop()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.predict, "odd", odd(""))
        time.sleep(2)
        services.broker.start()
        services.broker_answers()
        assert waiting.result().ok, waiting.result().text  # as during a restart
    services.broker.stop()
    refused = client.predict("odd", odd(""))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5"), refused.text
    assert client.get("/health").status_code == 503
    services.broker.start()
    services.broker_answers()
    assert [client.answer(each, 60)["outputs"] for each in accepted] == [[1]] * 6
    until(lambda: client.predict("odd", odd("")).ok, 30, "a further one")


def test_answers_wait_for_the_database(client: Client, services: Services) -> None:
    services.database.stop(signal.SIGINT)  # at once
    prediction = client.predict("odd", odd(""), wait=1).json()
    assert prediction["state"] == "PENDING"
    time.sleep(1)
    services.database.start()
    assert client.answer(prediction["id"])["outputs"] == [0]


def test_accepted_task_outlives_a_broker_that_takes_no_other(client: Client, services: Services) -> None:
    """The database is away, and the broker, short of memory, blocks those who send, so also the task for later."""
    prediction = client.predict("odd", odd("", 3), wait=0).json()["id"]
    services.database.stop(signal.SIGINT)
    services.rabbitmqctl("set_vm_memory_high_watermark", "0")
    said = "The broker takes no task"
    until(lambda: any(said in file.read_text() for file in services.directory.glob("worker*.log")), 60, said)
    services.database.start()
    services.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
    assert client.answer(prediction, 60)["outputs"] == [6]


def test_results_are_found_without_the_result_store(client: Client, services: Services) -> None:
    prediction = client.predict("odd", odd("")).json()["id"]
    services.results.stop()
    services.results.start()  # empty
    assert until(lambda: client.get(f"/predictions/{prediction}").json().get("outputs"), 10, "result store") == [0]
    assert client.predict("odd", odd("")).ok


@pytest.mark.parametrize(
    "code",
    [f"from mlfleet_serving.tasks import celery; celery.{CONNECT}", FOREIGN.format(""), FOREIGN.format(UNCHECKED)],
)
def test_broker_of_another_name_is_refused(services: Services, code: str) -> None:
    further = {} if "mlfleet" in code else {"PYTHONPATH": str(VERIFYING)}
    assert "connected" in services.python(code, **services.variables("worker", **further)).stdout
    refused = services.python(code, **services.variables("worker", OTHER, **further))
    assert "connected" not in refused.stdout and "CERTIFICATE_VERIFY_FAILED" in refused.stderr, refused.stderr
    assert services.secrets["worker"] not in refused.stderr


def test_foreign_application_would_connect_without_the_guard(services: Services) -> None:
    variables = services.variables("worker", OTHER, PYTHONPATH="", SSL_CERT_FILE=str(services.ca))
    assert "connected" in services.python(FOREIGN.format(UNCHECKED), **variables).stdout


@pytest.mark.parametrize("query", ["ssl_cert_reqs=required", "ssl_cert_reqs=none"])
def test_result_store_of_another_name_is_refused(services: Services, query: str) -> None:
    for host, connects in ("127.0.0.1", True), (OTHER, False):
        variables = services.variables("worker", host, PYTHONPATH=str(VERIFYING))
        variables["CELERY_BACKEND_URL"] += f"?{query}"
        done = services.python(f"import os; from celery import Celery; {PING}", **variables)
        assert ("connected" in done.stdout) == connects, done.stderr
        assert connects or "CERTIFICATE_VERIFY_FAILED" in done.stderr


def test_metrics_count_each_prediction_once(client: Client, services: Services) -> None:
    found = client.metrics()
    assert 'serving_requests_total{method="POST",route="/models/{name}/predictions",status="422"}' in found
    assert 'serving_served_version{model="irises",role="primary"} 1.0' in found
    counted = re.findall(r"^serving_predictions_total{.*} (\S+)", services.worker_metrics(), re.MULTILINE)
    deleted = 1  # because it was old
    assert services.sql("SELECT count(*) FROM predictions") == [(sum(map(float, counted)) - deleted,)]


def test_known_versions_serve_while_the_registry_is_away(client: Client, services: Services) -> None:
    services.mlflow.stop(signal.SIGKILL)
    services.server.stop()
    services.server.start()
    until(lambda: client.get("/health").ok, 40, "health")
    assert client.predict("irises", [ROW]).json()["version"] == "1"


def test_new_api_takes_no_requests_while_the_registry_is_away(client: Client, services: Services) -> None:
    services.server.stop()
    fresh = services.api(SERVING_CACHE_DIR=str(services.directory / "empty"), SERVING_MODELS_FILE="")
    until(lambda: client.get("/health").status_code == 503, 40, "health")
    time.sleep(3)
    health, asked = client.get("/health"), client.predict("irises", [ROW])
    assert (health.status_code, health.json()["models"], health.json()["broker"]) == (503, False, True)
    assert asked.status_code == 503 and "being looked for" in asked.text
    fresh.stop()
    services.server.start()
    until(lambda: client.get("/health").ok, 40, "health")


def test_no_secret_is_in_a_log_or_a_command_line(client: Client, services: Services) -> None:
    texts = {file.name: file.read_text(errors="replace") for file in services.directory.glob("*.log")}
    texts |= {json.dumps(each.command): json.dumps(each.command) for each in services.programs}
    assert [name for name, text in texts.items() for secret in services.secrets.values() if secret in text] == []
    assert "petal_length" not in texts["worker1.log"] + texts["worker2.log"]
    assert all("Traceback" not in Path(services.directory / name).read_text() for name in ("api.log", "migrate.log"))
