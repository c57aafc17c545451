"""Requests of users and their programs to the testbed while it is changed."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPSConnection

from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import Http
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra import client, smoke_job

from .conftest import Lab

DIOPTRA, MLFLOW = 30443, 35000
CALLS_PER_SECOND = 10
LIMITED_SECONDS = 60  # until nginx lets an address sign in again at the latest


def shown(address: str, port: int) -> str:
    """Return the fingerprint of the certificate that a port presents."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((address, port)))).hexdigest()


class Caller(threading.Thread):
    """Sends ten requests a second, and records errors."""

    def __init__(self, ask: Callable[[], object]) -> None:
        super().__init__()
        self.ask, self.over = ask, threading.Event()
        self.asked, self.failures = 0, []

    def run(self) -> None:
        start = time.monotonic()
        while not self.over.wait(max(0, start + self.asked / CALLS_PER_SECOND - time.monotonic())):
            self.asked += 1
            try:
                self.ask()
            except Exception as error:
                self.failures.append(f"{time.strftime('%X')}: {error}")

    def __enter__(self) -> Caller:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.over.set()
        self.join()


class Person:
    """A signed-in user who trusts the deployment's authorities, with a new connection for each request."""

    def __init__(self, lab: Lab, address: str) -> None:
        self.lab, self.address = lab, address
        secrets = lab.secrets()
        account = {"username": "admin", "password": secrets["topology_secret_dioptra_admin"]}
        deadline = time.monotonic() + LIMITED_SECONDS
        while True:
            status, self.cookie = self.request(DIOPTRA, "POST", "/api/v1/auth/login", json.dumps(account))
            if status != 429 or time.monotonic() > deadline:  # others at this address have used up its sign-ins
                break
            time.sleep(1)
        assert status == 200
        credentials = f"restapi:{secrets['topology_secret_mlflow_restapi']}"
        self.authorization = f"Basic {b64encode(credentials.encode()).decode()}"

    def request(self, port: int, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
        """Return the status of the answer and its cookie."""
        trusted = "".join(file.read_text() for file in sorted((self.lab.inventory / "ca").glob("*.crt")))
        context = ssl.create_default_context(cadata=trusted)
        connection = HTTPSConnection(self.address, port, context=context, timeout=30)
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, answer.headers.get("Set-Cookie", "").partition(";")[0]

    def ask_api(self) -> None:
        status, _cookie = self.request(DIOPTRA, "GET", "/api/v1/queues/", Cookie=self.cookie)
        assert status == 200, status

    def ask_mlflow(self) -> None:
        path = "/api/2.0/mlflow/experiments/search?max_results=1"
        status, _cookie = self.request(MLFLOW, "GET", path, Authorization=self.authorization)
        assert status == 200, status


@contextmanager
def callers(lab: Lab, address: str) -> Iterator[None]:
    """Send requests to the API and MLflow all the while, each of which must be answered."""
    person = Person(lab, address)
    with ExitStack() as stack:
        asking = {ask.__name__: stack.enter_context(Caller(ask)) for ask in (person.ask_api, person.ask_mlflow)}
        yield
    for name, caller in asking.items():
        print(f"{name}: {caller.asked} requests, {len(caller.failures)} failed")
    failures = [failure for caller in asking.values() for failure in caller.failures]
    assert not failures, failures[:20]


def job_options(lab: Lab, address: str) -> dict:
    """Return the options with which dioptra.run_jobs reaches a testbed whose pages are at this address."""
    secrets = lab.secrets()
    return {
        "url": f"https://{address}:{DIOPTRA}",
        "username": "admin",
        "password": secrets["topology_secret_dioptra_admin"],
        "queues": ["tensorflow-cpu"],
        "mlflow": {
            "url": f"https://{address}:{MLFLOW}",
            "username": "restapi",
            "password": secrets["topology_secret_mlflow_restapi"],
        },
        "s3": {
            "endpoint": f"https://{address}:39000",
            "access_key": "dioptra-restapi",
            "secret_key": secrets["topology_secret_minio_restapi"],
        },
        "name": "mlfleet-test",
        "ca_file": str(lab.inventory.resolve() / "ca/ca.crt"),
        "timeout_seconds": 30,
        "job_timeout_seconds": 300,
    }


def wrong_with(options: dict, former: dict) -> str:
    """Return the problem with the results of a job of run_jobs, or an empty text."""
    api, account = client.Dioptra(options), options["mlflow"]
    assert api.signs_in(options["username"], options["password"])
    seconds, ca_file = options["timeout_seconds"], options["ca_file"]
    mlflow = Http(account["url"], seconds, ca_file, account["username"], account["password"])
    s3 = smoke_job.s3_client(options["s3"], ca_file, seconds)
    job = smoke_job.Job(former["queue"], former["answer"], former["id"], 0, former["status"])
    return smoke_job.check(api, mlflow, s3, job, 0)
