# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of a worker: downloaded by version, kept on the disk and, the last used ones, in memory."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import shutil
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mlflow.artifacts import download_artifacts
from mlflow.models import ModelSignature
from mlflow.pyfunc import PyFuncModel, load_model

from mlfleet_serving import metrics
from mlfleet_serving.settings import settings

UNUSED_SECONDS = 24 * 3600  # until a directory that is not among the kept ones is removed


@dataclass(frozen=True)
class Reference:
    """A version of a model. `created` (milliseconds) tells it from one of a former registry with the same number."""

    model: str
    version: str
    created: int = 0
    path: str | None = None  # a directory in place of the registry; the version then follows from its file MLmodel

    @property
    def directory_name(self) -> str:
        return f"{quote(self.model, safe='')}@{self.version}-{self.created}"


class NoSignatureError(Exception):
    """A model that takes anything, and so fails in its own way, and names its columns as requests do."""


@dataclass(frozen=True)
class Loaded:
    """A model in memory."""

    version: str
    signature: ModelSignature
    model: PyFuncModel


_loaded: OrderedDict[Reference, Loaded] = OrderedDict()


def import_flavors() -> None:
    """Import what most models need, before a worker forks, so that its processes load their first one sooner."""
    for name in ("mlflow.sklearn", "sklearn", "skops.io"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def load(reference: Reference) -> Loaded:
    """Give the model from memory, from the disk or from the registry.

    :raises NoSignatureError: nothing says what the model takes
    :raises OSError: the directory is missing
    :raises mlflow.MlflowException: the registry does not have it, or does not answer
    """
    if reference.path:
        reference = Reference(reference.model, file_version(reference.path), 0, reference.path)
    if reference not in _loaded:
        model = load_model(reference.path or str(_downloaded(reference)))
        signature = model.metadata.signature
        if not signature or not signature.inputs:
            raise NoSignatureError("it has no signature of inputs; log it with one: mlflow.models.infer_signature")
        _loaded[reference] = Loaded(reference.version, signature, model)
        metrics.LOADED.labels(reference.model, reference.version).inc()
        while len(_loaded) > max(1, settings().models_kept):
            dropped, _model = _loaded.popitem(last=False)
            metrics.LOADED.labels(dropped.model, dropped.version).dec()
    _loaded.move_to_end(reference)
    return _loaded[reference]


def file_version(path: str) -> str:
    """Tell the version of a directory: MLmodel has the time and an id in it, so another model has another one."""
    return hashlib.sha256((Path(path) / "MLmodel").read_bytes()).hexdigest()[:12]


def _downloaded(reference: Reference) -> Path:
    """Download beside and rename, so that a directory is complete and processes of a host do not meet."""
    cache = settings().cache_dir
    directory = cache / reference.directory_name
    if not directory.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=cache) as temporary:
            uri = f"models:/{reference.model}/{reference.version}"
            found = Path(download_artifacts(artifact_uri=uri, dst_path=temporary))
            try:
                found.rename(directory)
            except OSError:
                if not directory.exists():  # another process was faster
                    raise
        _prune(cache)
    os.utime(directory)
    return directory


def _prune(cache: Path) -> None:
    used: dict[Path, float] = {}
    for directory in cache.iterdir():
        with contextlib.suppress(FileNotFoundError):  # such as a temporary one of another process
            if directory.is_dir():
                used[directory] = directory.stat().st_mtime
    for directory in sorted(used, key=lambda each: used[each])[: -settings().models_kept]:
        if used[directory] < time.time() - UNUSED_SECONDS:
            shutil.rmtree(directory, ignore_errors=True)
