# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Celery application `celery`: predictions are made by workers, from a quorum queue.

API and worker declare the queue and a topic exchange, and bind them, so that no task is lost before a worker came. The
worker also declares the exchanges and queues `celery_delayed_*`, through which a task comes back when the database
or the registry was away. The rights of the accounts on these, and on the keys of results in Redis, are settings of role
`topology`: `topology_rabbitmq_serving_api_rights`, `topology_redis_serving_api_rules`, and the same of the worker.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Any

import pandas as pd
from amqp.exceptions import AMQPError, MessageNacked
from celery import Celery, Task
from celery.backends.redis import RedisBackend
from celery.exceptions import Reject, SoftTimeLimitExceeded
from celery.signals import task_failure, worker_init, worker_ready
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError
from kombu.transport import pyamqp

from mlfleet_serving import database, metrics, models
from mlfleet_serving.schema import InputError, convert, plain, plain_text
from mlfleet_serving.settings import settings

DELIVERIES = 5  # of a task that ends its process each time, or cannot be sent again
RETRY_SECONDS = 5  # while the database is away
CONFIRM_SECONDS = 5  # for which the broker may take to have it on its disks
ANSWER_SECONDS = 8  # for which it may take to any other answer
LOAD_RETRIES = 6  # while the registry is away; the API leads requests to versions only that were loaded once
_settings = settings()
BROKER_ERRORS = (KombuError, AMQPError, MessageNacked, OSError)
_log = logging.getLogger(__name__)


class Transport(pyamqp.Transport):  # type: ignore[misc]
    """AMQP with a limit for each answer: to those who send, a broker short of memory does not even say goodbye."""

    def establish_connection(self) -> Any:
        connection = super().establish_connection()
        connection.transport.sock.settimeout(ANSWER_SECONDS)
        return connection


class Results(RedisBackend):  # type: ignore[misc]
    """Results in Redis, without the subscription that Celery makes for each task sent: the API reads the key."""

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Nothing is awaited."""


class PredictionFailed(Exception):  # noqa: N818
    """A prediction that will not come; the message is one line for the person who asked."""


celery = Celery("mlfleet_serving", broker=_settings.broker_url, backend=f"{__name__}:Results+{_settings.backend_url}")
_exchange = Exchange(f"{_settings.queue}.tasks", type="topic")  # type: ignore[no-untyped-call]
_queue = Queue(  # type: ignore[no-untyped-call]
    _settings.queue, _exchange, routing_key=_settings.queue, queue_arguments={"x-queue-type": "quorum"}
)
celery.conf.update(
    broker_use_ssl=_settings.broker_ssl,
    broker_transport=f"{__name__}:Transport",
    broker_connection_timeout=4,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_heartbeat=30,
    broker_transport_options={"confirm_publish": True},
    redis_backend_use_ssl=_settings.backend_ssl,
    redis_socket_timeout=5,
    redis_socket_connect_timeout=4,
    result_backend_thread_safe=True,
    result_expires=_settings.result_expires_seconds,
    task_queues=[_queue],
    task_default_queue=_settings.queue,
    task_default_exchange=_exchange.name,
    task_default_exchange_type="topic",
    task_default_routing_key=_settings.queue,
    task_create_missing_queues=False,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_time_limit=_settings.task_time_limit_seconds,
    task_soft_time_limit=_settings.task_time_limit_seconds * 0.9,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
)


@worker_init.connect  # type: ignore[untyped-decorator]
def _import_flavors(**_signal: Any) -> None:
    models.import_flavors()


@worker_ready.connect  # type: ignore[untyped-decorator]
def _serve_metrics(**_signal: Any) -> None:
    metrics.serve(_settings.metrics_port)


@task_failure.connect  # type: ignore[untyped-decorator]
def _count_failure(exception: BaseException | None = None, **_signal: Any) -> None:
    if not isinstance(exception, PredictionFailed):  # counted with its row
        metrics.FAILURES.labels(type(exception).__name__).inc()


@celery.task(name="mlfleet_serving.load", throws=(PredictionFailed,), resultrepr_maxsize=0)  # type: ignore[untyped-decorator]
def load(reference: dict[str, Any]) -> dict[str, Any]:
    """Load a version before requests are led to it, and return its signature, which the API compares inputs with."""
    try:
        loaded = models.load(models.Reference(**reference))
    except Exception as error:
        _log.exception("Load of model %s, version %s", reference["model"], reference["version"])
        raise PredictionFailed(f"the model cannot be loaded: {_one_line(error)}") from error
    return {"version": loaded.version, "signature": loaded.signature.to_dict()}


@celery.task(
    bind=True, name="mlfleet_serving.predict", max_retries=None, throws=(PredictionFailed,), resultrepr_maxsize=0
)  # type: ignore[untyped-decorator]
def predict(
    self: Task, reference: dict[str, Any], role: str, inputs: Any, queued_at: float, shadow_of: str | None = None
) -> dict[str, Any]:
    """Predict and store the answer, once for each id however often the task is delivered.

    :raises PredictionFailed: the model did not answer; this is stored as well
    """
    metrics.QUEUE_SECONDS.observe(max(0.0, time.time() - queued_at))
    try:
        answer = database.find(self.request.id) if _is_repeated(self) else None
        if not answer:
            attempt = _attempt(self, models.Reference(**reference), inputs)
            if attempt.failure == "load" and self.request.retries < LOAD_RETRIES:
                raise _later(self)
            answer = _stored(attempt, self.request.id, reference["model"], role, inputs, shadow_of)
    except database.UNAVAILABLE as error:
        _log.warning("The database does not answer: %s", _one_line(error))
        raise _later(self) from error
    if answer.reason:
        raise PredictionFailed(answer.reason)
    return {"model": answer.model, "version": answer.version, "role": answer.role, "outputs": answer.outputs}


def _later(task: Task) -> Exception:
    """Send the task again, for later; if the broker takes none now, have it deliver this one again.

    Celery itself would drop the task then.
    """
    options = {"throw": False, "retry": False, "confirm_timeout": CONFIRM_SECONDS}
    with contextlib.suppress(Reject):
        return task.retry(countdown=RETRY_SECONDS, **options)  # type: ignore[no-any-return]
    _log.warning("The broker takes no task to be tried again")
    with contextlib.suppress(SoftTimeLimitExceeded):
        time.sleep(1)
    return Reject("the broker takes no task", requeue=True)


@dataclass
class _Attempt:
    """What came of a model: outputs, or a reason why there are none and in which step it failed."""

    version: str
    outputs: Any = None
    reason: str | None = None
    failure: str = ""
    seconds: float = 0.0
    frame: Any = None


def _is_repeated(task: Task) -> bool:
    request = task.request
    return bool((request.delivery_info or {}).get("redelivered") or request.retries or request.get("resent"))


def _attempt(task: Task, reference: models.Reference, inputs: Any) -> _Attempt:
    made = _Attempt(reference.version)
    if (task.request.get("x-delivery-count") or 0) >= DELIVERIES:
        made.failure, made.reason = "worker_lost", f"the task was delivered {DELIVERIES} times, and never ended"
        return made
    try:
        made.failure = "load"
        loaded = models.load(reference)
        made.version, made.failure = loaded.version, "input"
        made.frame = convert(inputs, loaded.signature)
        made.failure, start = "model", time.monotonic()
        made.outputs = plain(loaded.model.predict(made.frame))
        made.failure, made.seconds = "", time.monotonic() - start
    except SoftTimeLimitExceeded:
        made.failure, made.reason = "time", f"the task took longer than {_settings.task_time_limit_seconds * 0.9:g} s"
    except InputError as error:
        made.reason = str(error)
    except Exception as error:
        made.reason = f"the model {'cannot be loaded' if made.failure == 'load' else 'failed'}: {_one_line(error)}"
        _log.exception("Step %s of model %s, version %s", made.failure, reference.model, reference.version)
    return made


def _stored(
    made: _Attempt, task_id: str, model: str, role: str, inputs: Any, shadow_of: str | None
) -> database.Prediction:
    """Store and count it, unless another delivery was faster, whose answer then holds."""
    answer = database.Prediction(
        task_id, model, made.version, role, made.outputs, made.reason, made.seconds, inputs, shadow_of
    )
    if not database.record(answer):
        return database.find(task_id) or answer
    metrics.PREDICTIONS.labels(model, made.version, role, "failed" if made.failure else "answered").inc()
    if made.failure:
        metrics.FAILURES.labels(made.failure).inc()
        return answer
    metrics.PREDICT_SECONDS.labels(model, made.version).observe(made.seconds)
    if isinstance(made.frame, pd.DataFrame) and role != "shadow":
        for name in made.frame.select_dtypes("number").columns:
            for value in made.frame[name].dropna():
                metrics.INPUTS.labels(model, str(name)).observe(float(value))
    return answer


def result_of(task_id: str) -> dict[str, Any] | None:
    """Read the end of a task from the result store, None while there is none.

    :raises redis.RedisError: the result store does not answer
    """
    backend = celery.backend
    found = backend.get(backend.get_key_for_task(task_id))
    result: dict[str, Any] | None = backend.decode(found) if found else None
    return result if result and result["status"] in ("SUCCESS", "FAILURE") else None


def reason_of(result: dict[str, Any]) -> str:
    """Say in one line why a task failed; what others than the model raised is for the log alone."""
    kind, message = result["result"]["exc_type"], result["result"]["exc_message"]
    if kind == PredictionFailed.__name__:
        return str(message[0] if isinstance(message, list | tuple) else message)
    if "TimeLimitExceeded" in kind:
        return f"the task took longer than {_settings.task_time_limit_seconds} s"
    return f"the task failed: {kind}"


def _one_line(error: BaseException) -> str:
    first, *_others = str(error).strip().splitlines() or [""]
    return plain_text(f"{type(error).__name__}: {first}"[:300])
