# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics of all processes of a service, for Prometheus on the loopback.

They have a port of their own there, because behind nginx on the same host each request comes from the loopback.
API and workers need a PROMETHEUS_MULTIPROC_DIR each, which is empty when they start.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Metric, Summary, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

# Of the API.
REQUESTS = Counter("serving_requests", "Requests that were answered", ["route", "method", "status"])
REQUEST_SECONDS = Histogram("serving_request_seconds", "Time until the answer", ["route"], buckets=SECONDS)
FEEDBACK = Counter("serving_feedback", "Feedback on predictions", ["model", "version", "outcome"])
ALIAS_VERSION = Gauge(
    "serving_alias_version", "Version that the registry names", ["model", "role"], multiprocess_mode="livemostrecent"
)
SERVED_VERSION = Gauge(
    "serving_served_version", "Version that answers", ["model", "role"], multiprocess_mode="livemostrecent"
)
REGISTRY_ANSWERS = Gauge(
    "serving_registry_answers", "Whether the registry answered last time", multiprocess_mode="livemostrecent"
)

# Of the workers.
PREDICTIONS = Counter("serving_predictions", "Predictions, each counted once", ["model", "version", "role", "outcome"])
PREDICT_SECONDS = Histogram("serving_predict_seconds", "Time of the model alone", ["model", "version"], buckets=SECONDS)
QUEUE_SECONDS = Histogram("serving_queue_seconds", "Time between request and start of the task", buckets=SECONDS)
LOADED = Gauge(
    "serving_model_loaded", "Processes that hold this version", ["model", "version"], multiprocess_mode="livesum"
)
FAILURES = Counter("serving_task_failures", "Tasks that failed", ["reason"])
INPUTS = Summary("serving_input", "Numbers that a model was given", ["model", "feature"])


class _Processes(MultiProcessCollector):
    """Samples of all processes; those that were killed could not remove their gauges themselves."""

    def collect(self) -> Iterable[Metric]:
        for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*.db"):
            process = int(re.findall(r"\d+", file.stem)[-1])
            if not Path(f"/proc/{process}").exists():
                mark_process_dead(process)  # type: ignore[no-untyped-call]
        return super().collect()  # type: ignore[no-any-return, no-untyped-call, unused-ignore]


class _Server(ThreadingMixIn, WSGIServer):
    """Each process of the API listens, and any of them answers for all."""

    daemon_threads = True
    allow_reuse_port = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """A scrape is not worth a line."""


def serve(port: int) -> None:
    """Answer /metrics on this port of the loopback, in a thread; 0 is none."""
    if not port:
        return
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        _Processes(registry)  # type: ignore[no-untyped-call, unused-ignore]
    server = make_server("127.0.0.1", port, make_wsgi_app(registry), _Server, _Silent)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
