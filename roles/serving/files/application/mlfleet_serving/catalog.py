# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which version of each model answers: one process of a host asks the registry, and all read what it writes.

A version is followed once a worker has loaded it; until then, and while the registry is away, the former one answers.
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

LOAD_SECONDS = 60.0  # until a version that no worker has loaded is asked for again
DELETED_AT_ONCE = 10_000
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_log = logging.getLogger(__name__)


@dataclass
class Followed:
    """A version that a worker has loaded."""

    reference: dict[str, Any]
    signature: dict[str, Any] | None


@dataclass
class Entry:
    """A served model: its versions by role (primary, canary, shadow), and what is wrong with it, by role."""

    canary_percent: float = 0.0
    versions: dict[str, Followed] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    is_missing: bool = False  # in the registry

    def role_for(self, prediction_id: str) -> str:
        """Draw who answers: the same for the same id on each host."""
        draw = int.from_bytes(hashlib.sha256(prediction_id.encode()).digest()[:4]) / 2**32
        return "canary" if "canary" in self.versions and draw * 100 < self.canary_percent else "primary"


class Catalog:
    """The served models, kept in a file that outlives a restart of the API while the registry is away."""

    def __init__(self) -> None:
        self._file = settings().cache_dir / "catalog.json"
        self._stamp = 0
        self._entries: dict[str, Entry] = {}
        self._is_complete = False
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
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.refresh(stop)
                    if settings().retention_days > 0:
                        database.delete_older(settings().retention_days, DELETED_AT_ONCE)
                except BlockingIOError:
                    pass
                except (*BROKER_ERRORS, *database.UNAVAILABLE, RedisError) as error:
                    _log.warning("The served models were not refreshed: %s", type(error).__name__)
                except Exception:
                    _log.exception("The served models were not refreshed")
                stop.wait(settings().alias_seconds)

    def refresh(self, stop: threading.Event) -> None:
        """Ask for the versions, have workers load the new ones, and follow each one that is loaded."""
        former = self.entries()
        entries: dict[str, Entry] = {}
        wanted: dict[tuple[str, str], Reference] = {}
        is_answered = True
        for model in self._served(former):
            roles = _roles(model)
            known = former[model.name].versions if model.name in former else {}
            entry = Entry(model.canary_percent, {role: each for role, each in known.items() if role in roles})
            for role, alias in roles.items():
                try:
                    wanted[model.name, role] = self._resolve(model, role, alias)
                except MlflowException as error:
                    if isinstance(error, RestException) and error.error_code in _MISSING:
                        entry.versions.pop(role, None)
                        entry.problems[role] = _mend(model, role, alias)
                        entry.is_missing |= role == "primary"
                    else:
                        is_answered = False
                        entry.problems[role] = f"the registry does not answer ({type(error).__name__})"
            entries[model.name] = entry
        metrics.REGISTRY_ANSWERS.set(is_answered)
        self._write(entries, self._is_complete)
        self._follow(entries, wanted, stop)
        self._write(entries, True)

    def _served(self, former: dict[str, Entry]) -> list[ServedModel]:
        declared = settings().models()
        if declared or not self._client:
            return list(declared)
        try:
            found, token = [], None
            while token != "":
                page = self._client.search_registered_models(page_token=token)
                found += [each.name for each in page if ServedModel.alias in each.aliases]
                token = page.token or ""
        except MlflowException as error:
            _log.warning("The registry does not list its models: %s", type(error).__name__)
            found = list(former)
        return [ServedModel(name) for name in found]

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

    def _follow(
        self, entries: dict[str, Entry], wanted: dict[tuple[str, str], Reference], stop: threading.Event
    ) -> None:
        tasks = {}
        for (name, role), reference in wanted.items():
            _count(metrics.ALIAS_VERSION, name, role, reference.version)
            followed = entries[name].versions.get(role)
            # A directory is asked for each time, because only the worker sees whether it has changed.
            if reference.path or not followed or followed.reference != asdict(reference):
                tasks[name, role] = load.apply_async((asdict(reference),), expires=LOAD_SECONDS).id
                entries[name].problems[role] = f"no worker has loaded version {reference.version} yet"
        end = time.monotonic() + LOAD_SECONDS
        while tasks and time.monotonic() < end and not stop.is_set():
            for (name, role), task_id in list(tasks.items()):
                if not (result := result_of(task_id)):
                    continue
                del tasks[name, role]
                if result["status"] == "SUCCESS":
                    answer, entry = result["result"], entries[name]
                    loaded = asdict(wanted[name, role]) | {"version": answer["version"]}
                    entry.versions[role] = Followed(loaded, answer["signature"])
                    del entry.problems[role]
                    self._write(entries, self._is_complete)
                else:
                    entries[name].problems[role] = f"version {wanted[name, role].version}: {reason_of(result)}"
            stop.wait(0.1)
        for name, entry in entries.items():
            for role, followed in entry.versions.items():
                _count(metrics.SERVED_VERSION, name, role, followed.reference["version"])

    def _write(self, entries: dict[str, Entry], is_complete: bool) -> None:
        content = {"is_complete": is_complete, "models": {name: asdict(entry) for name, entry in entries.items()}}
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self._file)


def _entry(found: dict[str, Any]) -> Entry:
    return Entry(**found | {"versions": {role: Followed(**each) for role, each in found["versions"].items()}})


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
