# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which version of each model answers: one process of a host asks the registry, and all read what it writes.

A version is followed once a worker has loaded it; until then, and while the registry is away, the former one answers.
One that was loaded before is followed at once, so that the way back does not wait behind other tasks.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from prometheus_client import Gauge
from redis import RedisError

from mlfleet_serving import database, metrics
from mlfleet_serving.models import Reference
from mlfleet_serving.settings import ServedModel, settings
from mlfleet_serving.tasks import BROKER_ERRORS, load, reason_of, result_of

LOAD_SECONDS = 3600.0  # for which a task that loads a version may wait behind others
AGAIN_SECONDS = 300.0  # until a further one is sent, because results can be lost
FIRST_SECONDS = 60.0  # for which a new API waits for its models before it takes requests for those that it has
KNOWN_VERSIONS = 10  # of each model
DELETED_AT_ONCE = 10_000
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_log = logging.getLogger(__name__)


@dataclass
class Followed:
    """A version that a worker has loaded."""

    reference: dict[str, Any]
    signature: dict[str, Any]


@dataclass
class Entry:
    """A served model: its versions by role (primary, canary, shadow), and what is wrong with it, by role."""

    canary_percent: float = 0.0
    versions: dict[str, Followed] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    is_missing: bool = False  # in the registry
    known: list[Followed] = field(default_factory=list)  # that a worker has loaded, the latest last

    def role_for(self, prediction_id: str) -> str:
        """Draw who answers: the same for the same id on each host."""
        draw = int.from_bytes(hashlib.sha256(prediction_id.encode()).digest()[:4]) / 2**32
        return "canary" if "canary" in self.versions and draw * 100 < self.canary_percent else "primary"


@dataclass
class _Load:
    """The tasks that have a worker load a version."""

    reference: Reference
    task_ids: list[str] = field(default_factory=list)
    sent: float = 0.0  # the last of them, by the monotonic clock
    failure: str = ""  # of the last one that ended

    def send(self) -> None:
        task = load.apply_async((asdict(self.reference),), expires=LOAD_SECONDS)
        self.task_ids = [*self.task_ids, task.id][-int(LOAD_SECONDS / AGAIN_SECONDS) :]
        self.sent = time.monotonic()


class Catalog:
    """The served models, kept in a file that outlives a restart of the API while the registry is away."""

    def __init__(self) -> None:
        self._file = settings().cache_dir / "catalog.json"
        self._stamp = 0
        self._entries: dict[str, Entry] = {}
        self._is_complete = False
        self._is_answered = False
        self._loads: dict[tuple[str, str], _Load] = {}
        self._first = time.monotonic()
        # Without a registry, all models are directories.
        self._client = MlflowClient() if settings().registry_url else None

    @property
    def is_ready(self) -> bool:
        """Whether each served model was looked for once."""
        self.entries()
        return self._is_complete

    def entries(self) -> dict[str, Entry]:
        """Give the served models by name."""
        try:
            stamp = self._file.stat().st_mtime_ns
        except FileNotFoundError:
            return self._entries
        if stamp != self._stamp:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            self._entries = {name: _entry(entry) for name, entry in found["models"].items()}
            self._stamp, self._is_complete = stamp, found["is_complete"]
        return self._entries

    def run(self, stop: threading.Event) -> None:
        """Refresh the file until the event is set, as long as no other process of the host does."""
        settings().cache_dir.mkdir(parents=True, exist_ok=True)
        with (settings().cache_dir / "catalog.lock").open("w") as lock:
            while not stop.is_set():
                end = time.monotonic() + settings().alias_seconds
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.refresh()
                    if settings().retention_days > 0:
                        database.delete_older(settings().retention_days, DELETED_AT_ONCE)
                    self.collect(end, stop)
                except BlockingIOError:
                    pass
                except (*BROKER_ERRORS, *database.UNAVAILABLE, RedisError) as error:
                    _log.warning("The served models were not refreshed: %s", type(error).__name__)
                except Exception:
                    _log.exception("The served models were not refreshed")
                stop.wait(max(0.0, end - time.monotonic()))

    def refresh(self) -> None:
        """Ask for the versions, follow those that are known, and have workers load the others."""
        former = self.entries()
        entries: dict[str, Entry] = {}
        wanted: dict[tuple[str, str], Reference] = {}
        served, self._is_answered = self._served(former)
        for model in served:
            roles = _roles(model)
            known = former.get(model.name) or Entry()
            versions = {role: each for role, each in known.versions.items() if role in roles}
            entry = entries[model.name] = Entry(model.canary_percent, versions, known=known.known)
            for role, alias in roles.items():
                try:
                    wanted[model.name, role] = self._resolve(model, role, alias)
                except MlflowException as error:
                    if isinstance(error, RestException) and error.error_code in _MISSING:
                        entry.versions.pop(role, None)
                        entry.problems[role] = _mend(model, role, alias)
                        entry.is_missing |= role == "primary"
                    else:
                        self._is_answered = False
                        entry.problems[role] = f"the registry does not answer ({type(error).__name__})"
        metrics.REGISTRY_ANSWERS.set(self._is_answered)
        self._loads = {key: sent for key, sent in self._loads.items() if key in wanted}
        self._write(entries, self._is_complete)
        for (name, role), reference in wanted.items():
            _count(metrics.ALIAS_VERSION, name, role, reference.version)
            self._follow(entries[name], role, reference)
        self._write(entries, self._found_all(entries))

    def collect(self, end: float, stop: threading.Event) -> None:
        """Follow each version as soon as a worker has loaded it, until this time of the monotonic clock."""
        while time.monotonic() < end and not stop.is_set():
            awaited = {key: sent for key, sent in self._loads.items() if sent.task_ids}
            for (name, role), sent in awaited.items():
                if result := next(filter(None, map(result_of, sent.task_ids)), None):
                    self._end(name, role, sent, result)
            if not self.is_ready and self._found_all(self.entries()):
                self._write(self.entries(), True)
            stop.wait(0.1 if awaited else max(0.0, end - time.monotonic()))

    def _served(self, former: dict[str, Entry]) -> tuple[list[ServedModel], bool]:
        """Give the models to serve, and whether that is what the registry says now."""
        declared = settings().models()
        if declared or not self._client:
            return list(declared), True
        try:
            found, token = [], None
            while token != "":
                page = self._client.search_registered_models(page_token=token)
                found += [each.name for each in page if ServedModel.alias in each.aliases]
                token = page.token or ""
        except MlflowException as error:
            _log.warning("The registry does not list its models: %s", type(error).__name__)
            return [ServedModel(name) for name in former], False
        return [ServedModel(name) for name in found], True

    def _resolve(self, model: ServedModel, role: str, alias: str) -> Reference:
        if model.path:
            return Reference(model.name, "", path=model.path)
        if not self._client:
            raise MlflowException("there is no registry")
        if role == "primary" and model.version:
            found = self._client.get_model_version(model.name, model.version)
        else:
            found = self._client.get_model_version_by_alias(model.name, alias)
        return Reference(model.name, str(found.version), int(found.creation_timestamp))

    def _follow(self, entry: Entry, role: str, reference: Reference) -> None:
        key = reference.model, role
        # A directory is asked for each time, because only the worker sees whether it has changed.
        known = [each for each in entry.known if each.reference == asdict(reference) and not reference.path]
        if known:
            entry.versions[role] = known[0]
            self._loads.pop(key, None)
            return
        sent = self._loads.get(key)
        if not sent or sent.reference != reference:
            sent = self._loads[key] = _Load(reference)
        if not sent.task_ids or time.monotonic() > sent.sent + AGAIN_SECONDS:
            sent.send()
        if not reference.path or role not in entry.versions:
            entry.problems[role] = sent.failure or f"no worker has loaded version {reference.version} yet"

    def _end(self, name: str, role: str, sent: _Load, result: dict[str, Any]) -> None:
        """Follow what a worker has loaded. What it could not load is tried again."""
        entries = self.entries()
        entry, sent.task_ids = entries[name], []
        if result["status"] == "SUCCESS":
            answer = result["result"]
            followed = Followed(asdict(sent.reference) | {"version": answer["version"]}, answer["signature"])
            entry.versions[role] = followed
            if not sent.reference.path:
                entry.known = [*(each for each in entry.known if each != followed), followed][-KNOWN_VERSIONS:]
            entry.problems.pop(role, None)
            del self._loads[name, role]
        else:
            sent.failure = entry.problems[role] = f"version {sent.reference.version}: {reason_of(result)}"
        self._write(entries, self._found_all(entries))

    def _found_all(self, entries: dict[str, Entry]) -> bool:
        """Whether each model was looked for once: the registry said which there are, and none is being loaded."""
        awaited = [key for key, sent in self._loads.items() if sent.task_ids]
        is_waiting = any(role not in entries[name].versions for name, role in awaited)
        is_late = time.monotonic() > self._first + FIRST_SECONDS
        return self._is_complete or (self._is_answered and (is_late or not is_waiting))

    def _write(self, entries: dict[str, Entry], is_complete: bool) -> None:
        content = {"is_complete": is_complete, "models": {name: asdict(entry) for name, entry in entries.items()}}
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self._file)
        for name, entry in entries.items():
            for role, followed in entry.versions.items():
                _count(metrics.SERVED_VERSION, name, role, followed.reference["version"])


def _entry(found: dict[str, Any]) -> Entry:
    versions = {role: Followed(**each) for role, each in found["versions"].items()}
    return Entry(**found | {"versions": versions, "known": [Followed(**each) for each in found.get("known", ())]})


def _roles(model: ServedModel) -> dict[str, str]:
    """Tell the alias of each role."""
    aliases = {"primary": model.alias, "canary": model.canary_alias, "shadow": model.shadow_alias}
    return {role: alias for role, alias in aliases.items() if alias}


def _mend(model: ServedModel, role: str, alias: str) -> str:
    if role == "primary" and model.version:
        return f"the registry has no version {model.version} of {model.name}: register it, or declare another version"
    return (
        f"the registry has no version of {model.name} with alias {alias}: set it with"
        f" MlflowClient().set_registered_model_alias({model.name!r}, {alias!r}, VERSION)"
    )


def _count(gauge: Gauge, model: str, role: str, version: str) -> None:
    if version.isdigit():  # a directory has none
        gauge.labels(model, role).set(int(version))
