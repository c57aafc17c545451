# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Dioptra job on each queue, which proves that the stack works."""

from __future__ import annotations

import html
import secrets
import time
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import Http
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.client import Dioptra, sign_in

FILENAME = "tasks.py"
TASKS = """\
import os

import mlflow
import structlog
from dioptra import pyplugs
from dioptra.sdk.utilities.auth_client import get_authenticated_worker_client

LOGGER = structlog.stdlib.get_logger()


@pyplugs.register
def answer(x: int) -> int:
    mlflow.log_metric("answer", x)
    with open("answer.txt", "w") as file:
        file.write(str(x))
    mlflow.log_artifact("answer.txt")
    get_authenticated_worker_client(LOGGER).jobs.append_metric_by_id(
        job_id=os.environ["__JOB_ID"], metric_name="answer", metric_value=float(x)
    )
    return x
"""
TASK_GRAPH = "step:\n  answer:\n    x: $x\n"
DESCRIPTION = "Proves that the stack works"
PARAMETERS = [{"name": "x", "defaultValue": "42", "parameterType": "integer"}]
LARGEST = 10**6
LOG_LINES = 50
POLL_SECONDS = 0.5


@dataclass
class Job:
    """A job on a queue, and what is known about it."""

    queue: str
    x: int
    id: int
    submitted: float
    status: str = "queued"
    seconds: float = 0.0
    run_id: str = ""
    artifact: str = ""

    @property
    def is_over(self) -> bool:
        return self.status in ("finished", "failed")

    def result(self) -> dict:
        return {
            "queue": self.queue,
            "id": self.id,
            "status": self.status,
            "seconds": round(self.seconds, 1),
            "run_id": self.run_id,
            "answer": self.x,
            "artifact": self.artifact,
        }


class Registry:
    """Register what is missing, update what differs, and record what was done."""

    def __init__(self, api: Dioptra, name: str) -> None:
        self.api = api
        self.name = name
        self.group = api.group()
        self.registered: list[str] = []

    def _note(self, kind: str, data: dict) -> dict:
        self.registered.append(kind)
        return data

    def queues(self, names: list[str]) -> dict[str, int]:
        ids = {}
        for name in names:
            found = self.api.find("/queues/", name, groupId=self.group)
            if found is None:
                raise ServiceError(f"queue {name}: it is not registered in the API")
            ids[name] = found["id"]
        return ids

    def plugin(self) -> dict:
        """Return the plugin with our file in it."""
        name = self.name.replace("-", "_")  # it becomes a Python module
        body = {"group": self.group, "name": name, "description": DESCRIPTION}
        plugin = self.api.find("/plugins/", name, groupId=self.group)
        if plugin is None:
            plugin = self._note("plugin", self.api.call("POST", "/plugins/", body))
        integer = self.api.find("/pluginParameterTypes/", "integer", groupId=self.group)
        if integer is None:
            raise ServiceError(f"{self.api.url}: the built-in parameter type integer is missing")
        files = f"/plugins/{plugin['id']}/files"
        file = self.api.find(files, FILENAME, field="filename")
        wanted = plugin_file(integer["id"])
        if file is None:
            self._note("file", self.api.call("POST", files, wanted))
        elif plugin_file_differs(file, wanted):
            self._note("file", self.api.call("PUT", f"{files}/{file['id']}", wanted))
        return self.api.call("GET", f"/plugins/{plugin['id']}")

    def entrypoint(self, plugin: dict, queues: list[int]) -> int:
        found = self.api.find("/entrypoints/", self.name, groupId=self.group)
        if found is None:
            body = entrypoint_body(self.name, queues)
            body |= {"group": self.group, "plugins": [plugin["id"]], "artifactPlugins": []}
            return self._note("entrypoint", self.api.call("POST", "/entrypoints/", body))["id"]
        attached = [queue["id"] for queue in found["queues"]]
        body = entrypoint_body(self.name, [*attached, *queues])
        body |= {"pluginSnapshotIds": [plugin["snapshot"]], "artifactPluginSnapshotIds": []}
        if entrypoint_differs(found, body):
            self._note("entrypoint", self.api.call("PUT", f"/entrypoints/{found['id']}", body))
        return found["id"]

    def experiment(self, entrypoint: int) -> int:
        found = self.api.find("/experiments/", self.name, groupId=self.group)
        if found is None:
            body = {"group": self.group, "name": self.name, "description": DESCRIPTION, "entrypoints": [entrypoint]}
            return self._note("experiment", self.api.call("POST", "/experiments/", body))["id"]
        if entrypoint not in [item["id"] for item in found["entrypoints"]]:
            path = f"/experiments/{found['id']}/entrypoints"
            self._note("experiment", self.api.call("POST", path, {"ids": [entrypoint]}))
        return found["id"]


def plugin_file(integer: int) -> dict:
    function = {
        "name": "answer",
        "inputParams": [{"name": "x", "parameterType": integer, "required": True}],
        "outputParams": [{"name": "y", "parameterType": integer}],
    }
    tasks = {"functions": [function], "artifacts": []}
    return {"filename": FILENAME, "contents": TASKS, "description": DESCRIPTION, "tasks": tasks}


def plugin_file_differs(found: dict, wanted: dict) -> bool:
    def task(function: dict) -> tuple:
        parameters = [*function["inputParams"], *function["outputParams"]]
        return function["name"], [parameter["name"] for parameter in parameters]

    functions = [list(map(task, file["tasks"]["functions"])) for file in (found, wanted)]
    return found["contents"] != wanted["contents"] or functions[0] != functions[1]


def entrypoint_body(name: str, queues: list[int]) -> dict:
    return {
        "name": name,
        "description": DESCRIPTION,
        "taskGraph": TASK_GRAPH,
        "artifactGraph": "",
        "parameters": PARAMETERS,
        "artifactParameters": [],
        "queues": sorted(set(queues)),
    }


def entrypoint_differs(found: dict, wanted: dict) -> bool:
    return (
        found["taskGraph"] != wanted["taskGraph"]
        or found["parameters"] != wanted["parameters"]
        or sorted(queue["id"] for queue in found["queues"]) != wanted["queues"]
        or [plugin["snapshotId"] for plugin in found["plugins"]] != wanted["pluginSnapshotIds"]
    )


def submit(api: Dioptra, experiment: int, entrypoint: int, queue: str, queue_id: int, timeout_seconds: int) -> Job:
    x = secrets.randbelow(LARGEST) + 1
    body = {
        "entrypoint": entrypoint,
        "queue": queue_id,
        "values": {"x": str(x)},
        "timeout": f"{timeout_seconds}s",
        "description": DESCRIPTION,
    }
    answer = api.ask("POST", f"/experiments/{experiment}/jobs", body)
    if answer.status >= 500:  # the job is in the database, but was never queued
        raise ServiceError(f"queue {queue}: the API answered {answer.status} to a job; does it reach Redis?")
    if answer.status >= 400:
        raise ServiceError(f"queue {queue}: the API refused a job with {answer.status}: {answer.reason}")
    return Job(queue, x, answer.data["id"], time.monotonic())


def wait(api: Dioptra, jobs: list[Job], timeout_seconds: int) -> None:
    """Wait until every job has ended or timed out."""
    while True:
        for job in jobs:
            if not job.is_over:
                job.status = api.call("GET", f"/jobs/{job.id}/status")["status"]
                job.seconds = time.monotonic() - job.submitted
        if all(job.is_over or job.seconds > timeout_seconds for job in jobs):
            return
        time.sleep(POLL_SECONDS)


def log_lines(api: Dioptra, job: Job) -> str:
    """Return the last lines of the job's log; the API sorts only by arrival, so the end is requested by position."""
    path = f"/jobs/{job.id}/log"
    total = api.call("GET", path, pageLength=1)["totalNumResults"]
    page = api.call("GET", path, index=max(0, total - LOG_LINES), pageLength=LOG_LINES)
    # The API stores messages as HTML.
    return "\n".join(f"{line['severity']}: {html.unescape(line['message'])}" for line in page["data"])


def check(api: Dioptra, mlflow: Http, s3: Any, job: Job, timeout_seconds: int) -> str:
    """Return the problem with the job and its results, or an empty text."""
    if job.status == "queued":
        return f"no worker answered within {timeout_seconds} s; does one run for this queue, and can it sign in?"
    if job.status == "failed":
        return f"job {job.id} failed. Its last log lines:\n{log_lines(api, job)}"
    if job.status != "finished":
        return f"job {job.id} is {job.status} and did not finish within {timeout_seconds} s"
    told = {metric["name"]: metric["value"] for metric in api.call("GET", f"/jobs/{job.id}/metrics")}
    if told.get("answer") != job.x:
        return f"job {job.id} finished, but Dioptra has the metrics {told} instead of answer = {job.x}"
    job.run_id = uuid.UUID(api.call("GET", f"/jobs/{job.id}/mlflowRun")["mlflowRunId"]).hex
    run = mlflow.call("GET", "/api/2.0/mlflow/runs/get", run_id=job.run_id)["run"]
    logged = {metric["key"]: metric["value"] for metric in run.get("data", {}).get("metrics", [])}
    if logged.get("answer") != job.x:
        return f"job {job.id} finished, but MLflow has the metrics {logged} instead of answer = {job.x}"
    job.artifact = f"{run['info']['artifact_uri']}/answer.txt"
    content = read_object(s3, job.artifact)
    if content != str(job.x).encode():
        return f"job {job.id} finished, but {job.artifact} holds {content[:80]!r} instead of {job.x}"
    return ""


def s3_client(options: dict, ca_file: str | None, timeout_seconds: int) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise ServiceError("the Python library boto3 is not installed for the interpreter of this module") from None
    return boto3.client(
        "s3",
        endpoint_url=options["endpoint"],
        aws_access_key_id=options["access_key"],
        aws_secret_access_key=options["secret_key"],
        region_name="us-east-1",
        verify=ca_file,
        config=Config(connect_timeout=timeout_seconds, read_timeout=timeout_seconds, retries={"max_attempts": 2}),
    )


def read_object(s3: Any, uri: str) -> bytes:
    from botocore.exceptions import BotoCoreError, ClientError

    parts = urlsplit(uri)
    try:
        return s3.get_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))["Body"].read()
    except (BotoCoreError, ClientError) as error:
        raise ServiceError(f"{uri}: {error}") from error


def run_jobs(options: dict) -> dict:
    """Register what is missing, run one job on each queue and check its results."""
    api = sign_in(options)
    seconds, ca_file = options["timeout_seconds"], options["ca_file"]
    account = options["mlflow"]
    mlflow = Http(account["url"], seconds, ca_file, account["username"], account["password"])
    s3 = s3_client(options["s3"], ca_file, seconds)

    registry = Registry(api, options["name"])
    queues = registry.queues(options["queues"])
    entrypoint = registry.entrypoint(registry.plugin(), list(queues.values()))
    experiment = registry.experiment(entrypoint)

    bound = options["job_timeout_seconds"]
    jobs = [submit(api, experiment, entrypoint, name, number, bound) for name, number in queues.items()]
    wait(api, jobs, bound)
    wrong = []
    for job in jobs:
        try:
            what = check(api, mlflow, s3, job, bound)
        except ServiceError as error:
            what = f"job {job.id} {job.status}, but {error}"
        if what:
            wrong.append(f"queue {job.queue}: {what}")
    return {
        "registered": registry.registered,
        "jobs": [job.result() for job in jobs],
        "wrong": wrong,
    }
