"""The proof of the serving stack: what it takes for a failure, and what it leaves in MLflow."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import mlflow_leftovers, serving
from ansible_collections.mlfleet.stack.plugins.modules import serving_prediction as proof

ROOT = Path(__file__).parents[2]
Api = proof.Api
NAME, FIRST, SECOND, FORMER = "proof", 7, 8, 6
OUTPUTS = {FIRST: [0, 1], SECOND: [1, 1], FORMER: [0, 0]}
LATER = {"id": "1", "state": "PENDING"}
FAILED = {"id": "1", "state": "FAILURE", "reason": "the model failed"}


class Session:
    """Gives the answers of a list, then that of the version that has the alias."""

    def __init__(self, *answers: tuple[int, dict]) -> None:
        self.answers, self.asked, self.version = list(answers), [], FORMER
        self.predictions = 0

    def answer(self, url: str) -> SimpleNamespace:
        self.asked.append(url)
        content = {"version": str(self.version), "outputs": OUTPUTS[self.version]}
        status, content = self.answers.pop(0) if self.answers else (200, content)
        return SimpleNamespace(status_code=status, text=str(content), url=url, json=lambda: content)

    def post(self, url: str, json: dict, timeout: int) -> SimpleNamespace:
        if "long" in str(json):
            return SimpleNamespace(status_code=422, text="", url=url)
        return self.answer(url)

    def get(self, url: str, timeout: int) -> SimpleNamespace:
        return self.answer(url)


@pytest.fixture
def api(monkeypatch):
    """Make an API with these answers; time passes only in pauses."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(proof, "time", clock)

    def made(*answers):
        session = Session(*answers)
        session.headers = {}
        monkeypatch.setattr(proof, "requests", SimpleNamespace(Session=lambda: session), raising=False)
        options = {"serving_url": "http://api", "name": NAME, "timeout_seconds": 1, "wait_seconds": 10}
        return Api(options | {"token": "t", "ca_file": None})

    return made


@pytest.fixture
def prove(api, monkeypatch):
    """Run the proof against an API with these answers, which follows the alias at once."""

    def run(*answers):
        made = api(*answers)
        client = SimpleNamespace(
            set_registered_model_alias=lambda _name, _alias, version: setattr(made.session, "version", int(version))
        )
        monkeypatch.setattr(proof, "mlflow", SimpleNamespace(MlflowClient=lambda: client), raising=False)
        monkeypatch.setattr(proof, "get_artifact_repository", None, raising=False)
        monkeypatch.setattr(proof, "register", lambda _client, _name: ({n: OUTPUTS[n] for n in (FIRST, SECOND)}, [1]))
        monkeypatch.setattr(proof, "Api", lambda _options: made)
        kept = []
        monkeypatch.setattr(mlflow_leftovers, "delete", lambda _client, _repository, _name, count: kept.append(count))
        result = proof.prove({})
        assert kept == [4]  # of this time and of the last one
        return result, made.session

    return run


SERVED = [(200, {"version": str(FORMER), "outputs": OUTPUTS[FORMER]})] * proof.ANSWERS_IN_A_ROW
NOT_YET = [(404, {}), (503, {})]


def test_accepted_prediction_is_followed_to_its_end(api):
    made = api((202, LATER), (200, LATER), (200, {"version": "7", "outputs": [1]}))
    assert made.predict([1]) == (7, [1])
    assert made.session.asked[1:] == ["http://api/predictions/1"] * 2
    assert made.slowest_seconds == proof.PAUSE_SECONDS


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([(202, LATER), (200, FAILED)], "the model failed"),
        ([(202, LATER), (404, {})], "answered 404"),
        ([(202, LATER), *[(200, LATER)] * 100], "has no answer after 10 s"),
        ([(500, FAILED)], "answered 500"),
    ],
)
def test_prediction_that_fails_or_does_not_come_is_an_error(api, answers, told):
    with pytest.raises(proof.ProofError, match=told):
        api(*answers).predict([1])


def test_hosts_may_first_learn_of_a_model_that_was_never_served(prove):
    result, session = prove(NOT_YET[0], *NOT_YET, *SERVED[:3], *NOT_YET)
    assert result["versions"] == [FIRST, SECOND]
    assert not session.answers


def test_no_request_fails_once_a_model_is_served(prove):
    """Neither while the first alias moves away from the version of an earlier proof, nor while the second does."""
    prove(*SERVED)
    for failure in (*NOT_YET, (500, {})):
        with pytest.raises(proof.ProofError, match=f"answered {failure[0]}"):
            prove(*SERVED, failure)
    first = (200, {"version": str(FIRST), "outputs": OUTPUTS[FIRST]})
    with pytest.raises(proof.ProofError, match="answered 404"):
        prove(NOT_YET[0], *NOT_YET, *[first] * (proof.ANSWERS_IN_A_ROW + 1), NOT_YET[0])


def test_waiting_for_a_model_takes_no_other_answer_for_an_absence(prove):
    with pytest.raises(proof.ProofError, match="answered 500"):
        prove(*NOT_YET, (500, {}))
    with pytest.raises(proof.ProofError, match="answered 404"):
        prove(*[NOT_YET[0]] * 100)


def test_alias_is_the_one_that_the_application_serves(monkeypatch):
    file = ROOT / "roles/serving/files/application/mlfleet_serving/settings.py"
    spec = importlib.util.spec_from_file_location("settings_of_application", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert module.ServedModel("x").alias == serving.DEFAULT_ALIAS


# --- what earlier proofs have left ----------------------------------------------------------------------------------


class Registry:
    """As much of MLflow's client as the deletion needs; each run has a version, a model and artifacts."""

    def __init__(self, runs: int, stopped_by: str = "") -> None:
        self.ids, self.deleted, self.stopped_by = [f"r{number}" for number in range(runs)], [], stopped_by

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="1") if self.ids else None

    def search_runs(self, experiments, filter_string, order_by, max_results):
        assert filter_string == f"tags.{mlflow_leftovers.TAG} = '{NAME}'" and order_by == ["attributes.start_time DESC"]
        return [SimpleNamespace(info=SimpleNamespace(run_id=each, artifact_uri=f"s3:{each}")) for each in self.ids]

    def search_model_versions(self, query):
        return [SimpleNamespace(version=query.split("'")[3])]

    def search_logged_models(self, experiments, query):
        run = query.split("'")[1]
        return [SimpleNamespace(model_id=f"m-{run}", artifact_location=f"s3:m-{run}")]

    def repository(self, uri):
        return SimpleNamespace(delete_artifacts=lambda: self.note(f"artifacts {uri}"))

    def note(self, what):
        if what == self.stopped_by:
            raise RuntimeError("refused")
        self.deleted.append(what)

    def delete_model_version(self, name, version):
        self.note(f"{name} {version}")

    def delete_logged_model(self, model):
        self.note(model)

    def delete_run(self, run):
        self.note(run)
        self.ids.remove(run)


def test_all_of_older_runs_goes_and_the_run_itself_last():
    registry = Registry(5)
    assert mlflow_leftovers.delete(registry, registry.repository, NAME, 4) == 1
    assert registry.deleted == ["proof r4", "artifacts s3:m-r4", "m-r4", "artifacts s3:r4", "r4"]
    assert mlflow_leftovers.delete(registry, registry.repository, NAME, 4) == 0
    assert mlflow_leftovers.delete(Registry(0), None, NAME, 4) == 0


def test_deletion_that_was_refused_is_told_and_completed_next_time():
    registry = Registry(3, stopped_by="artifacts s3:r2")
    with pytest.raises(mlflow_leftovers.LeftoverError, match="run r2 of an earlier one cannot be deleted: refused"):
        mlflow_leftovers.delete(registry, registry.repository, NAME, 2)
    registry.stopped_by = ""
    assert mlflow_leftovers.delete(registry, registry.repository, NAME, 2) == 1
    assert registry.ids == ["r0", "r1"]
