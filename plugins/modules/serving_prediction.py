#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: serving_prediction
short_description: Serve two versions of a small model, and compare the predictions
description:
  - Trains two classifiers on scikit-learn's iris data, and registers them as versions of one model in MLflow.
  - Gives the alias C(champion) to the first one, asks the serving API for predictions, and compares them with those of
    the model itself. Then moves the alias and asks until the second version answers.
  - Once the model is served, no request may fail. Only while hosts learn of a model that was not served before, they
    may answer that they do not know it yet.
  - An answer that only accepts the prediction is followed until the prediction is there.
  - Checks that a wrong input is refused.
  - At the end deletes the versions, runs and artifacts of earlier times, except those of the last one. Other runs and
    versions with the same names are left alone.
  - Runs on a host that can reach all of these, with an interpreter that has MLflow and scikit-learn, such as that of
    the serving API.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
requirements:
  - mlflow or mlflow-skinny
  - scikit-learn
extends_documentation_fragment:
  - mlfleet.stack.rest
  - mlfleet.stack.rest.sign_in
options:
  s3:
    description: Object storage of the artifacts, unless MLflow transfers them for its clients.
    type: dict
    suboptions:
      endpoint:
        description: URL of the storage.
        type: str
        required: true
      access_key:
        description: Account that may write and delete the artifacts.
        type: str
        required: true
      secret_key:
        description: Its secret.
        type: str
        required: true
  serving_url:
    description: URL of the serving API.
    type: str
    required: true
  token:
    description: Its token.
    type: str
    required: true
  name:
    description: Name of the registered model and of the experiment.
    type: str
    required: true
  wait_seconds:
    description: Timeout for a version to be served, and for a prediction that was accepted.
    type: int
    default: 120
attributes:
  check_mode:
    description: Does nothing; the task is skipped.
    support: full
  diff_mode:
    description: Nothing to show.
    support: none
seealso:
  - module: mlfleet.stack.mlflow_experiment
"""

EXAMPLES = r"""
- name: Predict with two versions of a model
  mlfleet.stack.serving_prediction:
    url: http://127.0.0.1:5001
    username: admin
    password: "{{ topology_secret_mlflow_admin }}"
    serving_url: http://127.0.0.1:4789
    name: proof
    token: "{{ topology_secret_serving_token }}"
  vars:
    ansible_python_interpreter: /opt/mlfleet/serving-api/bin/python
"""

RETURN = r"""
name:
  description: Name of the registered model.
  returned: when it was run
  type: str
  sample: proof
versions:
  description: Versions of the model that have answered, in this order.
  returned: when it was run
  type: list
  elements: int
  sample: [3, 4]
requests:
  description: Number of predictions since the model was served, all of which were right.
  returned: when it was run
  type: int
  sample: 57
slowest_seconds:
  description: Longest time until an answer.
  returned: when it was run
  type: float
  sample: 0.21
deleted:
  description: Number of runs of earlier times that were deleted with their versions.
  returned: when it was run
  type: int
  sample: 2
seconds:
  description: Total duration.
  returned: when it was run
  type: float
  sample: 14.8
"""

import logging
import os
import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlfleet.stack.plugins.module_utils import mlflow_leftovers
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import CONNECTION_OPTIONS, SIGN_IN_OPTIONS
from ansible_collections.mlfleet.stack.plugins.module_utils.serving import DEFAULT_ALIAS

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true")  # MLflow reads it on import
try:
    import mlflow
    import requests
    from mlflow.models import infer_signature
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB

    MISSING = ""
except ImportError as error:
    MISSING = error.name or "mlflow"

ANSWERS_IN_A_ROW = 10  # by which each host has answered
NOT_YET_SERVED = (404, 503)
OK = 200
ACCEPTED = 202
WRONG_INPUT = 422
TIMES_KEPT = 2  # this one, and the last one, whose version a host may still be using
PAUSE_SECONDS = 0.2
FLOWERS = slice(0, None, 15)  # that are asked for, of each kind some


class ProofError(Exception):
    """An answer differs from the expected one."""


class Api:
    """The serving API, which counts and times its answers."""

    def __init__(self, options: dict) -> None:
        self.base, self.name = options["serving_url"], options["name"]
        self.url = f"{self.base}/models/{self.name}/predictions"
        self.timeout, self.patience_seconds = options["timeout_seconds"], options["wait_seconds"]
        self.requests, self.slowest_seconds = 0, 0.0
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {options['token']}"
        self.session.verify = options["ca_file"] or True

    def post(self, inputs: object) -> requests.Response:
        return self.session.post(self.url, json={"inputs": inputs}, timeout=self.timeout)

    def predict(self, inputs: object) -> tuple[int, list]:
        """Return version and outputs of an answer."""
        started = time.monotonic()
        found = self._content(self.post(inputs), OK, ACCEPTED)
        if "outputs" not in found:
            found = self._awaited(f"{self.base}/predictions/{found['id']}", started)
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - started)
        self.requests += 1
        return int(found["version"]), found["outputs"]

    def _awaited(self, url: str, started: float) -> dict:
        """Ask for a prediction that was accepted until it is there."""
        while time.monotonic() < started + self.patience_seconds:
            found = self._content(self.session.get(url, timeout=self.timeout), OK)
            if "outputs" in found:
                return found
            if found["state"] != "PENDING":
                raise ProofError(f"{url} is {found['state']}: {found.get('reason')}")
            time.sleep(PAUSE_SECONDS)
        raise ProofError(f"{url} has no answer after {self.patience_seconds} s")

    def _content(self, answer: requests.Response, *wanted: int) -> dict:
        if answer.status_code not in wanted:
            told = f"{answer.url} answered {answer.status_code}: {answer.text}"
            raise ProofError(f"after {self.requests} predictions, {told}")
        return answer.json()


def environment(options: dict) -> dict[str, str]:
    """Return the settings that MLflow's client reads, so that no password is in a process list."""
    authorities, s3 = options["ca_file"], options["s3"]
    return {
        "MLFLOW_TRACKING_URI": options["url"],
        "MLFLOW_TRACKING_USERNAME": options["username"],
        "MLFLOW_TRACKING_PASSWORD": options["password"],
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(options["timeout_seconds"]),
        **({"REQUESTS_CA_BUNDLE": authorities, "AWS_CA_BUNDLE": authorities} if authorities else {}),
        **({"MLFLOW_S3_ENDPOINT_URL": s3["endpoint"], "AWS_ACCESS_KEY_ID": s3["access_key"]} if s3 else {}),
        **({"AWS_SECRET_ACCESS_KEY": s3["secret_key"]} if s3 else {}),
    }


def register(client: mlflow.MlflowClient, name: str) -> tuple[dict[int, list], list]:
    """Register two versions; return the predictions of each, and the inputs."""
    experiment = client.get_experiment_by_name(name)
    if experiment and experiment.lifecycle_stage == "deleted":  # until MLflow's garbage collection
        client.restore_experiment(experiment.experiment_id)
    data = load_iris(as_frame=True)
    frame, kinds = data.data.rename(columns=lambda column: column.removesuffix(" (cm)").replace(" ", "_")), data.target
    asked = frame[FLOWERS]
    expected = {}
    mlflow.set_experiment(name)
    for model in LogisticRegression(max_iter=500), GaussianNB():
        model.fit(frame, kinds)
        with mlflow.start_run(tags=mlflow_leftovers.tags(name)):
            logged = mlflow.sklearn.log_model(
                model,
                name="model",
                signature=infer_signature(frame, model.predict(frame)),
                registered_model_name=name,
                pip_requirements=["scikit-learn"],
            )
        expected[int(logged.registered_model_version)] = model.predict(asked).tolist()
    return expected, asked.to_dict(orient="records")


def answered_by(api: Api, version: int, expected: dict[int, list], inputs: list) -> None:
    """Ask until this version answers, and compare each answer with the model that gave it."""
    until = time.monotonic() + api.patience_seconds
    while time.monotonic() < until:
        found, outputs = api.predict(inputs)
        if found in expected and outputs != expected[found]:
            raise ProofError(f"{api.name} {found} answered {outputs}, and the model itself {expected[found]}")
        if found == version:
            return
        time.sleep(PAUSE_SECONDS)
    waited = f"within {api.patience_seconds} s after it got the alias {DEFAULT_ALIAS}"
    raise ProofError(f"{api.name} {version} has not answered {waited}")


def is_served(api: Api, inputs: list) -> bool:
    """Return whether all hosts of the API serve the model, as they do unless this is the first time."""
    answers = (api.post(inputs).status_code for _number in range(ANSWERS_IN_A_ROW))
    return all(status in (OK, ACCEPTED) for status in answers)


def wait_until_served(api: Api, inputs: list) -> None:
    """Wait until the model is served at all; hosts of the API learn of it one by one."""
    until, in_a_row = time.monotonic() + api.patience_seconds, 0
    while in_a_row < ANSWERS_IN_A_ROW:
        answer = api.post(inputs)
        if answer.status_code in (OK, ACCEPTED):
            in_a_row += 1
        elif answer.status_code not in NOT_YET_SERVED or time.monotonic() > until:
            raise ProofError(f"{api.url} answered {answer.status_code}: {answer.text}")
        else:
            in_a_row = 0
            time.sleep(PAUSE_SECONDS)


def prove(options: dict) -> dict:
    started = time.monotonic()
    client, api = mlflow.MlflowClient(), Api(options)
    expected, inputs = register(client, api.name)
    was_served = is_served(api, inputs)
    for version in expected:
        client.set_registered_model_alias(api.name, DEFAULT_ALIAS, str(version))
        if not was_served:
            wait_until_served(api, inputs)
            was_served = True
        answered_by(api, version, expected, inputs)
    refused = api.post([{"sepal_length": "long"}])
    if refused.status_code != WRONG_INPUT:
        raise ProofError(f"{api.url} answered {refused.status_code} to a wrong input: {refused.text}")
    kept = TIMES_KEPT * len(expected)
    return {
        "name": api.name,
        "versions": list(expected),
        "requests": api.requests,
        "slowest_seconds": round(api.slowest_seconds, 2),
        "deleted": mlflow_leftovers.delete(client, get_artifact_repository, api.name, kept),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    s3_options = {
        "endpoint": {"type": "str", "required": True},
        "access_key": {"type": "str", "required": True, "no_log": False},
        "secret_key": {"type": "str", "required": True, "no_log": True},
    }
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_OPTIONS,
            **SIGN_IN_OPTIONS,
            "s3": {"type": "dict", "options": s3_options},
            "serving_url": {"type": "str", "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "name": {"type": "str", "required": True},
            "wait_seconds": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(skipped=True, msg="A check predicts nothing")
    if MISSING:
        module.fail_json(msg=missing_required_lib(MISSING))
    logging.disable(logging.WARNING)
    os.environ.update(environment(module.params))
    try:
        result = prove(module.params)
    except Exception as error:  # whatever MLflow and its libraries raise
        module.fail_json(msg=f"{module.params['serving_url']}: {error}")
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
