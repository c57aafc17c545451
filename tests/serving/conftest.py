"""One set of services, two workers and an API for all tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.serving.services import RIGHTS, Program, Services, running, until


class Client:
    """A person with a token."""

    def __init__(self, services: Services) -> None:
        self.url = f"https://127.0.0.1:{services.ports['api']}"
        self.metrics_url = f"http://127.0.0.1:{services.ports['metrics']}/metrics"
        self.session = requests.Session()
        self.session.trust_env = False  # whose authority would have precedence
        self.session.verify = str(services.ca)
        self.session.headers["Authorization"] = f"Bearer {services.secrets['token']}"

    def predict(self, name: str, inputs: Any, wait: float = 10) -> requests.Response:
        url = f"{self.url}/models/{name}/predictions"
        return self.session.post(url, json={"inputs": inputs}, params={"wait": wait}, timeout=60)

    def get(self, path: str) -> requests.Response:
        return self.session.get(f"{self.url}{path}", timeout=30)

    def answer(self, prediction_id: str, seconds: float = 30) -> Any:
        """Ask until the prediction has ended."""
        path = f"/predictions/{prediction_id}"
        return until(
            lambda: (found := self.get(path).json()).get("state", "PENDING") != "PENDING" and found, seconds, path
        )

    def metrics(self) -> str:
        return requests.get(self.metrics_url, timeout=10).text

    def versions(self, name: str) -> Any:
        return self.get("/models").json().get(name, {}).get("versions", {})


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    directory = Path(tempfile.mkdtemp(prefix="serving-"))
    directory.chmod(0o755)  # PostgreSQL runs as a user of its own
    try:
        with running(directory) as found:
            found.serve([{"name": "irises"}, {"name": "odd"}])
            yield found
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def workers(services: Services) -> list[Program]:
    migrations = [services.migrate(), services.migrate()]
    assert [each.process.wait(60) for each in migrations] == [0, 0], migrations[0].log.read_text()
    services.sql(RIGHTS)
    return [services.worker(1), services.worker(2)]


@pytest.fixture(scope="session")
def client(services: Services, workers: list[Program]) -> Client:
    services.server = services.api()
    found = Client(services)
    until(lambda: found.get("/health").ok, 60, "health")
    until(lambda: "primary" in found.versions("irises") and "primary" in found.versions("odd"), 60, "models")
    return found
