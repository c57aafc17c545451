"""All three stacks on one host, watched by its own Prometheus and by that of a second one; the tests share them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ..conftest import PLAIN_WORKER, Lab

HOST, SECOND, OTHER = "watched", "second", "other"
# One fires always, the others by what else runs on the machine that has the lab.
OTHERS = {"Watchdog", "LoadHigh", "ProcessKilledForMemory"}
RECEIVER_PORT, MESSAGES = 9099, "/var/tmp/messages"
ON_THE_HOST = [
    *["postgres", "redis", "rabbitmq", "minio", "mlflow", "restapi", "worker_tensorflow_cpu"],
    *["serving_worker", "serving_api", "alertmanager", "nginx", "pgadmin", "drift"],
]
GROUPS = {
    **{group: [HOST] for group in ON_THE_HOST},
    "exporters": [HOST, SECOND, OTHER],
    "prometheus": [HOST, SECOND],
}
SETTINGS = {
    **PLAIN_WORKER,
    "restapi_gunicorn_workers": 1,
    "alertmanager_receivers": [
        {"name": "loopback", "webhook_configs": [{"url": f"http://127.0.0.1:{RECEIVER_PORT}/", "send_resolved": True}]}
    ],
    # Services are stopped one soon after another, so that messages by host would be about several.
    "alertmanager_routes_extra": [
        {"receiver": "loopback", "group_by": ["host", "service"], "matchers": ['severity!="none"']}
    ],
    "alertmanager_group_interval_seconds": 30,
}


class Watched(Lab):
    """The lab, and ways to ask its monitoring."""

    def ask(self, host: str, account: str, url: str, **query: str) -> Any:
        """Return the answer of Prometheus or Alertmanager."""
        answer = requests.get(
            url.format(self.address(host)),
            params=query,
            auth=("admin", self.secrets_once()[f"topology_secret_{account}"]),
            verify=str(self.inventory / "ca/ca.crt"),
            timeout=20,
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def prometheus(self, path: str, host: str = SECOND, **query: str) -> Any:
        return self.ask(host, "prometheus", f"https://{{}}:9090/api/v1/{path}", **query)["data"]

    def secrets_once(self) -> dict[str, str]:
        if not hasattr(self, "_secrets"):
            self._secrets = self.secrets()
        return self._secrets

    def firing(self, host: str = SECOND) -> set[str]:
        """Return the alerts that fire, each with its service, except OTHERS."""
        alerts = (alert for alert in self.prometheus("alerts", host)["alerts"] if alert["state"] == "firing")
        return {name_of(alert["labels"]) for alert in alerts} - OTHERS

    def messages(self) -> list[tuple[str, set[str]]]:
        """Return whether each message was about a start or the end, and its alerts."""
        lines = map(json.loads, self.ssh(f"sudo cat {MESSAGES}", HOST).splitlines())
        return [(each["status"], {name_of(alert["labels"]) for alert in each["alerts"]}) for each in lines]

    def forget_messages(self) -> None:
        self.ssh(f"sudo sh -c ': >{MESSAGES}'", HOST)

    def receive(self) -> None:
        """Start a receiver on the loopback, which has no message yet."""
        program = Path(__file__).with_name("receiver.py").read_text()
        self.ssh("sudo tee /var/tmp/receiver.py", HOST, input=program)
        self.forget_messages()
        unit = "systemctl is-active receiver || sudo systemd-run --unit receiver"
        self.ssh(f"{unit} python3 /var/tmp/receiver.py {RECEIVER_PORT} {MESSAGES}", HOST)


def name_of(labels: dict[str, str]) -> str:
    return " ".join(labels[key] for key in ("alertname", "service") if key in labels)


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(2)
    return holds


@pytest.fixture(scope="package")
def watched() -> Iterator[Watched]:
    with Watched.anew("watch", GROUPS, **SETTINGS) as lab:
        lab.converge()
        lab.receive()
        yield lab
