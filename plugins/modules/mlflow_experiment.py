#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_experiment
short_description: Log a small experiment to a tracking stack, and read it back
description:
  - Trains a classifier on scikit-learn's iris data, and logs the run through MLflow's own client, with a parameter, a
    metric, a text file, and the model, which it registers.
  - Then reads the run and its file back, loads the model from the registry and classifies with it, and checks the
    model's files in the object storage.
  - At the end deletes the runs of earlier times with their versions and artifacts, except the last one. Other runs and
    versions with the same names are left alone.
  - Runs on a host that can reach all of these, with an interpreter that has MLflow, scikit-learn and boto3, such as
    that of MLflow's server.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
requirements:
  - mlflow
  - scikit-learn
  - boto3
extends_documentation_fragment:
  - mlfleet.stack.rest
  - mlfleet.stack.rest.sign_in
options:
  s3:
    description: Object storage of the artifacts.
    type: dict
    required: true
    suboptions:
      endpoint:
        description: URL of the storage.
        type: str
        required: true
      access_key:
        description: Account that may read the artifacts, and write and delete them unless MLflow does so for clients.
        type: str
        required: true
      secret_key:
        description: Its secret.
        type: str
        required: true
      bucket:
        description: Bucket of the artifacts.
        type: str
        required: true
      prefix:
        description: Prefix of the artifacts in the bucket.
        type: str
        default: ""
  name:
    description: Name of the experiment and of the registered model.
    type: str
    default: mlfleet-verify
attributes:
  check_mode:
    description: Does nothing; the task is skipped.
    support: full
  diff_mode:
    description: Nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Run an experiment
  mlfleet.stack.mlflow_experiment:
    url: http://127.0.0.1:5001
    username: admin
    password: "{{ topology_secret_mlflow_admin }}"
    s3:
      endpoint: http://127.0.0.1:9000
      access_key: dioptra-mlflow-tracking
      secret_key: "{{ topology_secret_minio_mlflow }}"
      bucket: mlflow-tracking
  vars:
    ansible_python_interpreter: /opt/mlfleet/mlflow/bin/python
"""

RETURN = r"""
name:
  description: Name of the experiment and of the registered model.
  returned: when it was run
  type: str
  sample: mlfleet-verify
run_id:
  description: The run in MLflow.
  returned: when it was run
  type: str
  sample: 0123456789abcdef0123456789abcdef
accuracy:
  description: Share of correctly classified samples, the metric of the run.
  returned: when it was run
  type: float
  sample: 0.9733
version:
  description: Version of the registered model.
  returned: when it was run
  type: int
  sample: 3
artifact:
  description: URI of the model's description in the object storage.
  returned: when it was run
  type: str
  sample: s3://mlflow-tracking/artifacts/1/models/m-0123456789abcdef0123456789abcdef/artifacts/MLmodel
deleted:
  description: Number of runs of earlier times that were deleted with their versions.
  returned: when it was run
  type: int
  sample: 1
seconds:
  description: Total duration.
  returned: when it was run
  type: float
  sample: 9.2
"""

import logging
import os
import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlfleet.stack.plugins.module_utils import mlflow_leftovers
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import CONNECTION_OPTIONS, SIGN_IN_OPTIONS

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true")  # MLflow reads it on import
try:
    import boto3
    import mlflow
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    MISSING = ""
except ImportError as error:
    MISSING = error.name or "mlflow"

REPORT = "report.txt"
MODEL_FILE = "MLmodel"
ITERATIONS = 200
TIMES_KEPT = 2  # this one, and the last one


class ProofError(Exception):
    """The data read back differs from the data logged."""


def environment(options: dict) -> dict[str, str]:
    """Return the settings that MLflow's client reads, so that no password is in a process list."""
    authorities = options["ca_file"]
    return {
        "MLFLOW_TRACKING_URI": options["url"],
        "MLFLOW_TRACKING_USERNAME": options["username"],
        "MLFLOW_TRACKING_PASSWORD": options["password"],
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(options["timeout_seconds"]),
        "MLFLOW_S3_ENDPOINT_URL": options["s3"]["endpoint"],
        "AWS_ACCESS_KEY_ID": options["s3"]["access_key"],
        "AWS_SECRET_ACCESS_KEY": options["s3"]["secret_key"],
        **({"REQUESTS_CA_BUNDLE": authorities, "AWS_CA_BUNDLE": authorities} if authorities else {}),
    }


def prove(options: dict) -> dict:
    started = time.monotonic()
    flowers, kinds = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=ITERATIONS).fit(flowers, kinds)
    accuracy = float(model.score(flowers, kinds))

    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(options["name"])
    if experiment and experiment.lifecycle_stage == "deleted":  # until MLflow's garbage collection
        client.restore_experiment(experiment.experiment_id)
    mlflow.set_experiment(options["name"])
    with mlflow.start_run(tags=mlflow_leftovers.tags(options["name"])) as run:
        mlflow.log_param("max_iter", ITERATIONS)
        mlflow.log_metric("accuracy", accuracy)
        mlflow.log_text(f"accuracy {accuracy}\n", REPORT)
        logged = mlflow.sklearn.log_model(model, name="model", registered_model_name=options["name"])

    found = client.get_run(run.info.run_id).data
    if (found.params, found.metrics) != ({"max_iter": str(ITERATIONS)}, {"accuracy": accuracy}):
        raise ProofError(f"run {run.info.run_id} is read back with {found.params} and {found.metrics}")
    text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/{REPORT}")
    if text != f"accuracy {accuracy}\n":
        raise ProofError(f"{REPORT} of run {run.info.run_id} is read back as {text!r}")
    (registered, *_earlier) = sorted(
        client.search_model_versions(f"name = '{options['name']}' and run_id = '{run.info.run_id}'"),
        key=lambda version: -int(version.version),
    )
    loaded = mlflow.sklearn.load_model(f"models:/{options['name']}/{registered.version}")
    if (loaded.predict(flowers) != model.predict(flowers)).any():
        raise ProofError(
            f"model {options['name']} {registered.version} classifies otherwise than the one that was logged"
        )
    return {
        "name": options["name"],
        "run_id": run.info.run_id,
        "accuracy": round(accuracy, 4),
        "version": int(registered.version),
        "artifact": stored(options["s3"], logged.model_id),
        "deleted": mlflow_leftovers.delete(client, get_artifact_repository, options["name"], TIMES_KEPT),
        "seconds": round(time.monotonic() - started, 1),
    }


def stored(s3: dict, model: str) -> str:
    """Return the model's description from the object storage."""
    storage = boto3.client("s3", endpoint_url=s3["endpoint"])
    for page in storage.get_paginator("list_objects_v2").paginate(Bucket=s3["bucket"], Prefix=s3["prefix"]):
        for entry in page.get("Contents", []):
            if f"/{model}/" in entry["Key"] and entry["Key"].endswith(f"/{MODEL_FILE}"):
                return f"s3://{s3['bucket']}/{entry['Key']}"
    raise ProofError(f"bucket {s3['bucket']} of {s3['endpoint']} has no {MODEL_FILE} of model {model}")


def main() -> None:
    s3_options = {
        "endpoint": {"type": "str", "required": True},
        "access_key": {"type": "str", "required": True, "no_log": False},
        "secret_key": {"type": "str", "required": True, "no_log": True},
        "bucket": {"type": "str", "required": True},
        "prefix": {"type": "str", "default": ""},
    }
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_OPTIONS,
            **SIGN_IN_OPTIONS,
            "s3": {"type": "dict", "required": True, "options": s3_options},
            "name": {"type": "str", "default": "mlfleet-verify"},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(skipped=True, msg="A check runs no experiment")
    if MISSING:
        module.fail_json(msg=missing_required_lib(MISSING))
    logging.disable(logging.WARNING)
    os.environ.update(environment(module.params))
    try:
        result = prove(module.params)
    except Exception as error:  # whatever MLflow, boto3 and their libraries raise
        module.fail_json(msg=f"{module.params['url']}: {error}")
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
