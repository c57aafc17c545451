#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dioptra_job
short_description: Run a job on each queue of a Dioptra testbed
description:
  - Registers a small plugin, entrypoint and experiment once, and reuses them in later runs.
  - Submits a job to each queue, and then waits until all have ended.
  - Then verifies the results of each job, which are its metric in the REST API and in MLflow, and the contents of its
    file in the object storage.
  - Runs on a host that can reach all three, with an interpreter that has boto3, such as the REST API's own.
  - A job only tests the testbed and does not count as a change; the result is changed only if something was registered.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
requirements:
  - boto3
extends_documentation_fragment:
  - mlfleet.stack.rest
  - mlfleet.stack.rest.sign_in
options:
  queues:
    description: Names of the queues, which must be registered and have a worker.
    type: list
    elements: str
    required: true
  mlflow:
    description: The tracking server that the workers log to.
    type: dict
    required: true
    suboptions:
      url:
        description: URL of the server.
        type: str
        required: true
      username:
        description: Account that may read the runs.
        type: str
        required: true
      password:
        description: Its password.
        type: str
        required: true
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
        description: Account that may read the artifacts.
        type: str
        required: true
      secret_key:
        description: Its secret.
        type: str
        required: true
  name:
    description: Name of the entrypoint and the experiment; the plugin's name has underscores instead of hyphens.
    type: str
    default: mlfleet-verify
  job_timeout_seconds:
    description: Timeout for each job from its submission to its end.
    type: int
    default: 300
attributes:
  check_mode:
    description: Does nothing; the task is skipped.
    support: full
  diff_mode:
    description: Nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Run a job on each queue
  mlfleet.stack.dioptra_job:
    url: http://127.0.0.1:5000
    username: admin
    password: "{{ topology_secret_dioptra_admin }}"
    queues: [tensorflow-cpu]
    mlflow:
      url: http://127.0.0.1:5001
      username: restapi
      password: "{{ topology_secret_mlflow_restapi }}"
    s3:
      endpoint: http://127.0.0.1:9000
      access_key: dioptra-restapi
      secret_key: "{{ topology_secret_minio_restapi }}"
  vars:
    ansible_python_interpreter: /opt/mlfleet/restapi/bin/python
"""

RETURN = r"""
jobs:
  description: Job of each queue.
  returned: when all jobs have passed
  type: list
  elements: dict
  contains:
    queue:
      description: Name of the queue.
      type: str
      returned: always
    id:
      description: Number of the job in the REST API.
      type: int
      returned: always
    status:
      description: Final status.
      type: str
      returned: always
    seconds:
      description: Time from its submission to its end.
      type: float
      returned: always
    run_id:
      description: Its run in MLflow.
      type: str
      returned: always
    answer:
      description: Number that the job was given and that all three services must report.
      type: int
      returned: always
    artifact:
      description: URI of its file.
      type: str
      returned: always
  sample:
    - queue: tensorflow-cpu
      id: 42
      status: finished
      seconds: 3.1
      run_id: 0123456789abcdef0123456789abcdef
      answer: 618033
      artifact: s3://mlflow-tracking/artifacts/0/0123456789abcdef0123456789abcdef/artifacts/answer.txt
registered:
  description: Objects that were registered or updated for the jobs.
  returned: when all jobs have passed
  type: list
  elements: str
  sample: [plugin, file, entrypoint, experiment]
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import (
    CONNECTION_OPTIONS,
    SIGN_IN_OPTIONS,
    run_module,
)
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.smoke_job import run_jobs


def prove(options: dict, check_mode: bool) -> dict:
    if check_mode:
        return {"skipped": True, "msg": "A check runs no job", "jobs": []}
    result = run_jobs(options)
    if wrong := result.pop("wrong"):
        raise ServiceError("\n".join(wrong))
    return {"changed": bool(result["registered"]), **result}


def main() -> None:
    s3_options = {
        "endpoint": {"type": "str", "required": True},
        "access_key": {"type": "str", "required": True, "no_log": False},
        "secret_key": {"type": "str", "required": True, "no_log": True},
    }
    run_module(
        {
            **SIGN_IN_OPTIONS,
            "queues": {"type": "list", "elements": "str", "required": True},
            "mlflow": {
                "type": "dict",
                "required": True,
                "options": {"url": CONNECTION_OPTIONS["url"], **SIGN_IN_OPTIONS},
            },
            "s3": {"type": "dict", "required": True, "options": s3_options},
            "name": {"type": "str", "default": "mlfleet-verify"},
            "job_timeout_seconds": {"type": "int", "default": 300},
        },
        prove,
    )


if __name__ == "__main__":
    main()
