# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP API `api`.

Each request but GET /health needs `Authorization: Bearer TOKEN`, or the token as the password of a browser's sign-in,
with any user name. Metrics have a port of their own, on the loopback.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import secrets
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import BackgroundTasks, FastAPI, HTTPException, Query, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from mlflow.models import ModelSignature
from pydantic import BaseModel, Field
from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from mlfleet_serving import database, metrics
from mlfleet_serving.absence import Absence
from mlfleet_serving.catalog import Catalog, Entry, Followed
from mlfleet_serving.schema import InputError, convert, storable
from mlfleet_serving.settings import settings
from mlfleet_serving.tasks import BROKER_ERRORS, celery, predict, reason_of, result_of

ANSWER_SECONDS = 8.0  # until a service is taken for away
PAUSE_SECONDS = 0.5  # before a task is sent again
UNANSWERED_SECONDS = 7 * 24 * 3600  # for which a task may wait for workers, as over a weekend
HEALTH_SECONDS = 5.0  # for which an answer about health holds
_log = logging.getLogger(__name__)
_settings = settings()
_catalog = Catalog()
_health: dict[str, float] = {}
_health_lock = asyncio.Lock()
_broker_absence = Absence(
    patience=_settings.broker_wait_seconds - PAUSE_SECONDS,
    forgotten_after=_settings.broker_wait_seconds + ANSWER_SECONDS,
)
if not _settings.token:
    raise SystemExit("mlfleet_serving: set SERVING_TOKEN, without which nobody can sign in")


class PredictionRequest(BaseModel):
    """Rows by column or as lists, or tensors."""

    inputs: list[Any] | dict[str, Any]


class FeedbackRequest(BaseModel):
    """Whether the answer was right, said outright or by what would have been right."""

    correct: bool | None = None
    actual: Any = Field(default=None, description="compared with the outputs where `correct` is missing")


@asynccontextmanager
async def _lifespan(_api: FastAPI) -> AsyncIterator[None]:
    stop = threading.Event()
    refreshing = threading.Thread(target=_catalog.run, args=[stop], name="catalog", daemon=True)
    refreshing.start()
    metrics.serve(_settings.metrics_port)
    yield
    stop.set()


# The page /docs has its files from here. That a token is needed is only said by the scheme; `_guard` asks for it.
api = FastAPIOffline(
    title="mlfleet serving",
    lifespan=_lifespan,
    redoc_url=None,
    static_url="/docs/static",
    dependencies=[Security(HTTPBearer(auto_error=False))],
)


@api.middleware("http")
async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Sign in, limit the size, and count. In front of all routes, so that a new one is guarded as well."""
    start, status = time.monotonic(), 500
    try:
        response = _refusal(request) or await call_next(request)
        status = response.status_code
        return response
    finally:
        route = getattr(request.scope.get("route"), "path", "other")  # never the path, of which there are any number
        metrics.REQUESTS.labels(route, request.method, status).inc()
        metrics.REQUEST_SECONDS.labels(route).observe(time.monotonic() - start)


def _refusal(request: Request) -> Response | None:
    if (request.method, request.url.path) == ("GET", "/health"):
        return None
    if not hmac.compare_digest(_token(request.headers.get("authorization", "")), _settings.token.encode()):
        is_read = request.url.path.startswith(("/docs", "/openapi.json"))  # by people, whose browser asks for it
        scheme = 'Basic realm="The token is the password"' if is_read else "Bearer"
        return JSONResponse({"detail": "a token is needed"}, 401, {"WWW-Authenticate": scheme})
    length = request.headers.get("content-length", "")
    if request.method == "POST" and not length.isdigit():
        return JSONResponse({"detail": "Content-Length is needed"}, 411)
    if length and int(length) > _settings.body_size_mb * 2**20:
        return JSONResponse({"detail": f"at most {_settings.body_size_mb} MiB"}, 413)
    return None


def _token(authorization: str) -> bytes:
    scheme, _space, credentials = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.encode()
        case "basic":
            try:
                return base64.b64decode(credentials).partition(b":")[2]
            except ValueError:
                return b""
    return b""


@api.post("/models/{name}/predictions")
async def start_prediction(
    name: str,
    request: PredictionRequest,
    response: Response,
    background: BackgroundTasks,
    wait: float | None = Query(None, ge=0),
) -> dict[str, Any]:
    """Queue a prediction. Answers 200 with outputs, 500 with a reason, or after `wait` seconds 202 with its id."""
    entry, prediction_id = _entry(name), _new_id()
    role = entry.role_for(prediction_id)
    followed = entry.versions[role]
    await run_in_threadpool(_refuse, request.inputs, followed)
    await _queue(prediction_id, followed.reference, role, request.inputs)
    if shadow := entry.versions.get("shadow"):
        background.add_task(_queue_shadow, prediction_id, shadow.reference, request.inputs)
    until = time.monotonic() + min(_settings.wait_seconds, _settings.wait_seconds if wait is None else wait)
    found, pause = None, 0.005
    while not found and time.monotonic() + pause < until:
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.25)
        try:
            found = await run_in_threadpool(result_of, prediction_id)
        except RedisError as error:
            _log.warning("The result store does not answer: %s", type(error).__name__)
            break  # the task is queued all the same, and its answer will be in the database
    answer = _from_result(prediction_id, found) if found else {"id": prediction_id, "state": "PENDING"}
    response.status_code = {"SUCCESS": 200, "FAILURE": 500, "PENDING": 202}[answer["state"]]
    if answer["state"] == "PENDING":
        response.headers["Location"] = f"/predictions/{prediction_id}"
    return answer


@api.get("/predictions/{prediction_id}")
async def read_prediction(prediction_id: uuid.UUID) -> dict[str, Any]:
    """Give the state, and outputs or reason. An id without an answer counts as waiting for a week."""
    key = str(prediction_id)
    failures: list[Exception] = []
    try:
        if found := await run_in_threadpool(result_of, key):
            return _from_result(key, found)
    except RedisError as error:
        failures.append(error)
    try:
        if row := await run_in_threadpool(database.find, key):
            return _from_row(row)
    except SQLAlchemyError as error:
        failures.append(error)
    if failures:
        _log.warning("Predictions cannot be read: %s", ", ".join(type(error).__name__ for error in failures))
        raise _away("result store or database")
    if prediction_id.version == 7 and time.time() - (prediction_id.int >> 80) / 1000 < UNANSWERED_SECONDS:
        return {"id": key, "state": "PENDING"}
    raise HTTPException(404, "there is no such prediction")


@api.post("/predictions/{prediction_id}/feedback", status_code=201)
def give_feedback(prediction_id: uuid.UUID, request: FeedbackRequest) -> dict[str, Any]:
    """Store whether a prediction was right, once."""
    try:
        row = database.find(str(prediction_id))
        if not row:
            raise HTTPException(404, "there is no such prediction, or it is not answered yet")
        if row.reason:
            raise HTTPException(409, "the prediction failed")
        if request.correct is None and "actual" not in request.model_fields_set:
            raise HTTPException(422, "say `correct` or `actual`")
        storable(request.actual)
        correct = request.actual == row.outputs if request.correct is None else request.correct
        if not database.give_feedback(row.id, correct, request.actual):
            raise HTTPException(409, "there is feedback on this prediction")
    except InputError as error:
        raise HTTPException(422, str(error)) from error
    except SQLAlchemyError as error:
        _log.warning("Feedback cannot be stored: %s", type(error).__name__)
        raise _away("database") from error
    metrics.FEEDBACK.labels(row.model, row.version, "correct" if correct else "wrong").inc()
    return {"id": row.id, "correct": correct}


@api.get("/models")
def list_models() -> dict[str, Any]:
    """Give for each served model the versions by role, and what is wrong."""
    return {
        name: {
            "versions": {role: each.reference["version"] for role, each in entry.versions.items()},
            "canary_percent": entry.canary_percent,
            "problems": entry.problems,
        }
        for name, entry in _catalog.entries().items()
    }


@api.get("/health", openapi_extra={"security": []})
async def health(response: Response) -> dict[str, bool]:
    """Say whether requests can be answered: broker, result store and database answer, and models were looked for."""
    async with _health_lock:
        if time.monotonic() > _health.get("until", 0):
            questions = {"broker": _broker_answers, "results": _results_answer, "database": database.answers}
            answers = await asyncio.gather(*map(_answers, questions.values()))
            _health.update(zip(questions, answers, strict=True))
            _health["until"] = time.monotonic() + (HEALTH_SECONDS if all(answers) else 0)
    answer = {name: bool(value) for name, value in _health.items() if name != "until"} | {"models": _catalog.is_ready}
    response.status_code = 200 if all(answer.values()) else 503
    return answer


async def _answers(question: Callable[[], bool]) -> bool:
    try:
        return await asyncio.wait_for(run_in_threadpool(question), ANSWER_SECONDS)
    except Exception as error:
        _log.warning("%s: %s", question.__name__, type(error).__name__)
        return False


def _broker_answers() -> bool:
    with celery.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=ANSWER_SECONDS)
    return True


def _results_answer() -> bool:
    return bool(celery.backend.client.ping())


def _entry(name: str) -> Entry:
    entry = _catalog.entries().get(name)
    if entry and "primary" in entry.versions:
        return entry
    if entry and entry.is_missing:
        raise HTTPException(404, entry.problems["primary"])
    if entry:
        raise HTTPException(503, f"{name}: {entry.problems.get('primary', 'not loaded yet')}", {"Retry-After": "5"})
    if not _catalog.is_ready:
        raise HTTPException(503, "the models are being looked for", {"Retry-After": "5"})
    raise HTTPException(
        404, f"model {name} is not served: declare it among the served models, or set its alias champion"
    )


def _refuse(inputs: Any, followed: Followed) -> None:
    """Refuse inputs that the model cannot take, or that could not be stored."""
    try:
        storable(inputs)
        convert(inputs, ModelSignature.from_dict(followed.signature))
    except InputError as error:
        raise HTTPException(422, str(error)) from error


def _new_id() -> str:
    """Make a UUID of version 7, which has the time in it: so an id that waits is told from one that never was."""
    milliseconds, random = time.time_ns() // 10**6, secrets.randbits(74)
    return str(
        uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1)
    )


async def _queue(task_id: str, reference: dict[str, Any], role: str, inputs: Any, shadow_of: str | None = None) -> None:
    """Send the task, and return when the broker has it on its disks.

    It is sent again if that is unknown, because a task is recorded once for each id. Requests wait while the broker is
    restarted; once it was away for longer, they are refused at once.
    """
    is_resent = False
    while True:
        send = partial(
            predict.apply_async,
            (reference, role, inputs, time.time(), shadow_of),
            task_id=task_id,
            ignore_result=bool(shadow_of),
            argsrepr="",  # people's data, which Celery would put into the header
            headers={"resent": is_resent},
            confirm_timeout=ANSWER_SECONDS / 2,
        )
        try:
            await asyncio.wait_for(run_in_threadpool(send), ANSWER_SECONDS)
        except BROKER_ERRORS as error:
            _log.warning("The broker does not answer: %s", type(error).__name__)
            if not _broker_absence.notice():
                raise _away("broker") from error
        else:
            _broker_absence.end()
            return
        is_resent = True
        await asyncio.sleep(PAUSE_SECONDS)


async def _queue_shadow(prediction_id: str, reference: dict[str, Any], inputs: Any) -> None:
    """Send the task of the version that only listens; that it cannot be sent is nothing to the person who asked."""
    task_id = str(uuid.uuid5(uuid.UUID(prediction_id), "shadow"))
    try:
        await _queue(task_id, reference, "shadow", inputs, shadow_of=prediction_id)
    except HTTPException:
        _log.warning("A task for the shadow was not queued")


def _away(what: str) -> HTTPException:
    return HTTPException(503, f"the {what} does not answer; ask again", {"Retry-After": "5"})


def _from_result(prediction_id: str, found: dict[str, Any]) -> dict[str, Any]:
    if found["status"] == "SUCCESS":
        return {"id": prediction_id, "state": "SUCCESS", **found["result"]}
    return {"id": prediction_id, "state": "FAILURE", "reason": reason_of(found)}


def _from_row(row: database.Prediction) -> dict[str, Any]:
    if row.reason:
        return {"id": row.id, "state": "FAILURE", "reason": row.reason}
    answer = asdict(row)
    return {"id": row.id, "state": "SUCCESS"} | {name: answer[name] for name in ("model", "version", "role", "outputs")}
