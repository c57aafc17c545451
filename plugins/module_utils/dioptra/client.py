# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accounts, queues and jobs of a Dioptra REST API."""

from __future__ import annotations

import hashlib
import hmac
import html
import secrets
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import Http, HttpError, NotRunningError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray

PAGE_LENGTH = 50
GROUP = "public"  # made with the first account; the API makes no others


class Dioptra(Http):
    """The REST API under at most one account."""

    def __init__(self, options: dict) -> None:
        secret = options.get("deployment_secret")
        super().__init__(
            f"{options['url'].rstrip('/')}/api/v1",
            options["timeout_seconds"],
            options["ca_file"],
            headers={"X-Mlfleet-Deployment": secret} if secret else {},
        )

    def signs_in(self, username: str, password: str) -> bool:
        """Whether the API lets this account in; from then on it is used."""
        answer = self.ask("POST", "/auth/login", {"username": username, "password": password})
        if answer.status not in (200, 401):
            raise HttpError(f"{self.url}: signing in as {username!r} answered {answer.status}: {answer.reason}")
        return answer.status == 200

    def pages(self, path: str, **query: Any) -> Iterator[dict]:
        """All items of a list."""
        index = 0
        while True:
            page = self.call("GET", path, index=index, pageLength=PAGE_LENGTH, **query)
            yield from page["data"]
            index += PAGE_LENGTH
            if index >= page["totalNumResults"]:
                return

    def find(self, path: str, name: str, field: str = "name", **query: Any) -> dict | None:
        """The one item of this name; the search itself may find more, such as another case."""
        items = self.pages(path, search=f'{field}:"{name}"', **query)
        return next((item for item in items if item[field] == name), None)

    def has_running_jobs(self) -> bool:
        return self.call("GET", "/jobs/", search='status:"started"', pageLength=1)["totalNumResults"] > 0

    def group(self) -> int:
        found = self.find("/groups/", GROUP)
        if found is None:
            raise HttpError(f"{self.url}: the group {GROUP} is not visible to this account")
        return found["id"]


def sign_in(options: dict, check_mode: bool) -> Dioptra | None:
    """The API under the module's account; None in a check before either is there."""
    api = Dioptra(options)
    try:
        if api.signs_in(options["username"], options["password"]):
            return api
    except NotRunningError:
        if not check_mode:
            raise
        return None
    if not check_mode:  # where it is made by a task before this one, a check sees no account yet
        raise HttpError(f"{api.url}: user {options['username']!r} cannot sign in with the given password")
    return None


# --- Accounts

VALID_DAYS = 365  # what the API gives each password (DAYS_TO_EXPIRE_PASSWORD_DEFAULT of Dioptra 1.2.2)
MAX_RENEW_DAYS = VALID_DAYS - 2  # a new password has one whole day less than it lasts
SECONDS_A_DAY = 24 * 60 * 60
HELPER = "mlfleet-renewal-"
SAME_PASSWORD = "New password matches old password."


@dataclass
class Account:
    """A declared account, as far as the API tells of it."""

    declared: dict
    api: Dioptra  # signed in, unless its password has expired
    id: int
    days_left: int = 0
    password: str = ""  # what it has, where that is not the declared one

    @property
    def name(self) -> str:
        return self.declared["name"]

    @property
    def object(self) -> str:
        return f"user {self.name}"


def passing_password(user: dict) -> str:
    """What the account has for a moment while its password is renewed; a run that comes after a killed one knows it."""
    return hmac.new(user["password"].encode(), f"mlfleet {user['name']}".encode(), hashlib.sha256).hexdigest()


def former_passwords(user: dict) -> list[str]:
    return [passing_password(user), *filter(None, [user.get("previous_password")])]


def wrong_password(name: str) -> str:
    return (
        f"user {name}: it exists, but not with the declared password; declare the former one as previous_password, "
        "or sign in and change it (POST /api/v1/users/current/password)"
    )


def create_user(api: Dioptra, user: dict) -> bool:
    """Registers the account and proves it. False when its name is taken, HttpError when its e-mail address is."""
    name, password = user["name"], user["password"]
    body = {"username": name, "email": user["email"], "password": password, "confirmPassword": password}
    answer = api.ask("POST", "/users/", body)
    if answer.status == 409:
        taken = answer.data.get("detail", {}).get("entity_attributes", {})
        if "email_address" in taken:
            raise HttpError(
                f"user {name}: another account has the e-mail address {user['email']}; declare one of its own"
            )
        return False
    if answer.status >= 400:
        raise HttpError(f"user {name}: the API refused it with {answer.status}: {answer.reason}")
    if not api.signs_in(name, password):
        raise HttpError(f"user {name}: created, but cannot sign in")
    return True


def change_password(api: Dioptra, account: Account, old: str, new: str) -> None:
    """Signs out all of the account's sessions, this one included if it is one of them."""
    body = {"oldPassword": old, "newPassword": new, "confirmNewPassword": new}
    answer = api.ask("POST", f"/users/{account.id}/password", body)
    if answer.status >= 400:
        raise HttpError(f"{account.object}: the API refused a change of its password: {answer.reason}")
    if not account.api.signs_in(account.name, new):
        raise HttpError(f"{account.object}: its password was changed, but it cannot sign in")


def has_password(api: Dioptra, number: int, password: str) -> bool:
    """Whether an account has this password, expired or not: the API refuses to change it to itself, and says why."""
    body = {"oldPassword": password, "newPassword": password, "confirmNewPassword": password}
    return api.ask("POST", f"/users/{number}/password", body).reason.endswith(SAME_PASSWORD)


def own_account(options: dict, user: dict, password: str) -> Account | None:
    """The account by its own session; None if it does not sign in."""
    api = Dioptra(options)
    if not api.signs_in(user["name"], password):
        return None
    current = api.call("GET", "/users/current")
    left = datetime.fromisoformat(current["passwordExpiresOn"])
    left = left if left.tzinfo else left.replace(tzinfo=UTC)
    days = int((left - datetime.now(UTC)).total_seconds() // SECONDS_A_DAY)
    return Account(user, api, current["id"], days, "" if password == user["password"] else password)


def other_account(options: dict, user: dict, someone: Dioptra) -> Account | None:
    """The account as another one sees it, for it does not sign in itself; None if there is none."""
    found = someone.find("/users/", user["name"], field="username")
    if found is None:
        return None
    for password in (user["password"], *former_passwords(user)):
        if has_password(someone, found["id"], password):
            return Account(user, Dioptra(options), found["id"], -1, "" if password == user["password"] else password)
    raise HttpError(wrong_password(user["name"]))


def find_accounts(options: dict, users: list[dict], someone: Dioptra | None = None) -> dict[str, Account]:
    """Those that exist. Only who is signed in may look for others, so on an empty API nobody is told more than "no"."""
    found = {}
    for user in users:
        for password in (user["password"], *former_passwords(user)):
            if account := own_account(options, user, password):
                found[user["name"]] = account
                break
    someone = someone or next((account.api for account in found.values()), None)
    for user in users if someone else []:
        if user["name"] not in found and (account := other_account(options, user, someone)):
            found[user["name"]] = account
    return found


def reopen(account: Account, someone: Dioptra) -> None:
    """Has somebody else change an expired password, which its owner cannot; what is left to do, she can."""
    passing = passing_password(account.declared)
    old = account.password or account.declared["password"]
    new = account.declared["password"] if old == passing else passing
    change_password(someone, account, old, new)
    account.password = "" if old == passing else passing
    account.days_left = VALID_DAYS


def renew(account: Account) -> None:
    """Makes the declared password the account's for another year; the API refuses to change it to itself."""
    declared = account.declared["password"]
    if not account.password:
        account.password = passing_password(account.declared)
        change_password(account.api, account, declared, account.password)
    change_password(account.api, account, account.password, declared)


def helper_password(user: dict) -> str:
    return hmac.new(user["password"].encode(), HELPER.encode(), hashlib.sha256).hexdigest()


def make_helper(options: dict, user: dict) -> Dioptra:
    """An account for the moment in which all others have expired. The API gives no name twice, so each has its own."""
    name, api = f"{HELPER}{secrets.token_hex(4)}", Dioptra(options)
    email = f"{name}@{user['email'].rpartition('@')[2]}"
    create_user(api, {"name": name, "email": email, "password": helper_password(user)})
    return api


def remove_helpers(options: dict, user: dict, someone: Dioptra) -> None:
    password = helper_password(user)
    for name in [other["username"] for other in someone.pages("/users/") if other["username"].startswith(HELPER)]:
        api = Dioptra(options)
        if api.signs_in(name, password):
            api.call("DELETE", "/users/current", {"password": password})


def remove(account: Account, someone: Dioptra) -> None:
    """Has the account delete itself, for the API lets nobody else; an expired password is changed first."""
    if account.days_left < 0:
        reopen(account, someone)
    account.api.call("DELETE", "/users/current", {"password": account.password or account.declared["password"]})


def undeclared(declared: list[dict], someone: Dioptra | None) -> list[dict]:
    """Accounts that nobody declared. No command removes them: who knows the password declares them absent."""
    names = {user["name"] for user in declared}
    others = [user["username"] for user in someone.pages("/users/")] if someone else []
    return [stray("Dioptra account", name) for name in others if name not in names and not name.startswith(HELPER)]


def converge_users(options: dict, check_mode: bool) -> dict:
    """Those that are to be present, then those that are to be absent."""
    declared = options["users"]
    present, absent = ([user for user in declared if user["state"] == state] for state in ("present", "absent"))
    result, someone = provide_users({**options, "users": present}, check_mode)
    try:
        leaving = find_accounts(options, absent, someone).values()
    except NotRunningError:
        if not check_mode:
            raise
        leaving = []
    for account in leaving if not check_mode else []:
        remove(account, someone)
    result["changes"] += [account.object for account in leaving]
    result["diff"]["before"] |= {account.object: {"email": account.declared["email"]} for account in leaving}
    others = undeclared(declared, someone)
    return result | {"changed": bool(result["changes"]), "undeclared": others}


def provide_users(options: dict, check_mode: bool) -> tuple[dict, Dioptra | None]:
    """The result, and a session of one of them where there is one."""
    users, bound = options["users"], options["renew_days"]
    if not 0 <= bound <= MAX_RENEW_DAYS:
        raise HttpError(f"renew_days {bound}: it is to be from 0 to {MAX_RENEW_DAYS}, for a password lasts a year")
    found: dict[str, Account] = {}
    made: list[dict] = []
    someone = helper = None
    try:
        found = find_accounts(options, users)
    except NotRunningError:
        if not check_mode:
            raise
    try:
        if users and not found and not check_mode:
            # Either there are none, or all have expired: who registers the first one sees which.
            someone = Dioptra(options)
            if create_user(someone, users[0]):
                made = users[:1]
            else:
                someone = helper = make_helper(options, users[0])
            found = find_accounts(options, users, someone)
        missing = [user for user in users if user["name"] not in found or user in made]
        due, warnings = sort_out([found[user["name"]] for user in users if user["name"] in found], bound)
        before = {account.object: {"password": told(account)} for account in due}
        if not check_mode:
            for user in missing:
                if user not in made and not create_user(Dioptra(options), user):
                    raise HttpError(wrong_password(user["name"]))
            renew_all(options, due, someone or session(found))
    except HttpError:
        if helper:
            remove_helpers(options, users[0], helper)
        raise
    after = {account.object: {"password": f"as declared, for {VALID_DAYS} days"} for account in due}
    after |= {f"user {user['name']}": {"email": user["email"], "password": "as declared"} for user in missing}
    result = {"changed": bool(after), "changes": list(after), "diff": {"before": before, "after": after}}
    return result | ({"warnings": warnings} if warnings else {}), session(found) or (someone if made else None)


def session(found: dict[str, Account]) -> Dioptra | None:
    return next((account.api for account in found.values() if account.days_left >= 0), None)


def renew_all(options: dict, due: list[Account], someone: Dioptra | None) -> None:
    for account in due:
        if account.days_left < 0:
            reopen(account, someone)
    # From here on all can sign in, so a helper goes now: a run that is killed before leaves an account that is due.
    if due:
        remove_helpers(options, options["users"][0], due[0].api)
    for account in due:
        if account.password != "" or account.days_left < VALID_DAYS:
            renew(account)


def sort_out(accounts: list[Account], bound: int) -> tuple[list[Account], list[str]]:
    """The accounts that get their declared password (again), and what is to be said of the others."""
    due, warnings = [], []
    are_jobs_running = None
    for account in accounts:
        if account.password:
            due.append(account)
        elif account.days_left > bound:
            continue
        elif not account.declared["renew"]:
            if account.days_left < 0:
                raise HttpError(f"{account.object}: its password has expired; renew: true renews it")
            warnings.append(f"{account.object}: {told(account)}, and it is not to be renewed here")
        elif account.days_left < 1:
            due.append(account)
        else:
            if are_jobs_running is None:
                are_jobs_running = account.api.has_running_jobs()
            if are_jobs_running:
                warnings.append(
                    f"{account.object}: {told(account)}; it is renewed on its last day, or by a run that finds no job "
                    "running, for jobs would be signed out"
                )
            else:
                due.append(account)
    return due, warnings


def told(account: Account) -> str:
    if account.password:
        return "another one"
    return f"expires in {account.days_left} days" if account.days_left >= 0 else "expired"


# --- Queues


def converge_queues(options: dict, check_mode: bool) -> dict:
    wanted = {
        queue["name"]: {"description": queue["description"]} if queue["state"] == "present" else None
        for queue in options["queues"]
    }
    found: dict[str, dict] = {}
    ids: dict[str, int] = {}
    if api := sign_in(options, check_mode):
        group = api.group()
        for name in wanted:
            if item := api.find("/queues/", name, groupId=group):
                found[name] = {"description": item["description"] or ""}
                ids[name] = item["id"]
    changes = {name: state for name, state in wanted.items() if found.get(name) != state}
    if not check_mode:
        for name, state in changes.items():
            if state is None:
                api.call("DELETE", f"/queues/{ids[name]}")
            elif name in ids:
                api.call("PUT", f"/queues/{ids[name]}", {"name": name, **state})
            else:
                api.call("POST", "/queues/", {"group": group, "name": name, **state})
    diff = {
        "before": {f"queue {name}": found[name] for name in changes if name in found},
        "after": {f"queue {name}": state for name, state in changes.items() if state is not None},
    }
    return {"changed": bool(changes), "changes": [f"queue {name}" for name in changes], "diff": diff}


# --- A job that proves the stack

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
    """A job on a queue, as far as it is known."""

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
    """Registers what is missing and updates what differs; remembers what it did."""

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
                raise HttpError(f"queue {name}: it is not registered in the API")
            ids[name] = found["id"]
        return ids

    def plugin(self) -> dict:
        """The plugin with our file in it."""
        name = self.name.replace("-", "_")  # it becomes a Python module
        body = {"group": self.group, "name": name, "description": DESCRIPTION}
        plugin = self.api.find("/plugins/", name, groupId=self.group)
        if plugin is None:
            plugin = self._note("plugin", self.api.call("POST", "/plugins/", body))
        integer = self.api.find("/pluginParameterTypes/", "integer", groupId=self.group)
        if integer is None:
            raise HttpError(f"{self.api.url}: the built-in parameter type integer is missing")
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
        raise HttpError(f"queue {queue}: the API answered {answer.status} to a job; does it reach Redis?")
    if answer.status >= 400:
        raise HttpError(f"queue {queue}: the API refused a job with {answer.status}: {answer.reason}")
    return Job(queue, x, answer.data["id"], time.monotonic())


def wait(api: Dioptra, jobs: list[Job], timeout_seconds: int) -> None:
    """Until every job is over or its time is."""
    while True:
        for job in jobs:
            if not job.is_over:
                job.status = api.call("GET", f"/jobs/{job.id}/status")["status"]
                job.seconds = time.monotonic() - job.submitted
        if all(job.is_over or job.seconds > timeout_seconds for job in jobs):
            return
        time.sleep(POLL_SECONDS)


def log_lines(api: Dioptra, job: Job) -> str:
    """The last lines of the job's log; the API sorts only by time of arrival, so its end is asked for by number."""
    path = f"/jobs/{job.id}/log"
    total = api.call("GET", path, pageLength=1)["totalNumResults"]
    page = api.call("GET", path, index=max(0, total - LOG_LINES), pageLength=LOG_LINES)
    # The API keeps messages as HTML.
    return "\n".join(f"{line['severity']}: {html.unescape(line['message'])}" for line in page["data"])


def check(api: Dioptra, mlflow: Http, s3: Any, job: Job, timeout_seconds: int) -> str:
    """What is wrong with the job and what it left behind; nothing is an empty text."""
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
        raise HttpError("the Python library boto3 is not installed for the interpreter of this module") from None
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
        raise HttpError(f"{uri}: {error}") from error


def run_jobs(options: dict) -> dict:
    """Registers what is missing, runs one job on each queue and checks what it left behind."""
    api = sign_in(options, check_mode=False)
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
        except HttpError as error:
            what = f"job {job.id} {job.status}, but {error}"
        if what:
            wrong.append(f"queue {job.queue}: {what}")
    return {
        "registered": registry.registered,
        "jobs": [job.result() for job in jobs],
        "wrong": wrong,
    }
