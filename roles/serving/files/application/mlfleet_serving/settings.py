# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings, from environment variables alone."""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class ServedModel:
    """A model that is served: which version answers, which one shares the requests, and which one only listens."""

    name: str
    alias: str = "champion"
    version: str | None = None  # in place of the alias
    path: str | None = None  # a directory on the workers' hosts, in place of the registry
    canary_alias: str | None = None
    canary_percent: float = 0.0
    shadow_alias: str | None = None


@dataclass(frozen=True)
class Settings:
    """All settings; durations are in seconds."""

    broker_url: str
    backend_url: str
    queue: str
    database_url: str
    models_file: Path | None
    registry_url: str | None
    token: str
    ca_file: str | None
    alias_seconds: float
    models_kept: int
    cache_dir: Path
    task_time_limit_seconds: int
    result_expires_seconds: int
    retention_days: int
    wait_seconds: float
    broker_wait_seconds: float
    metrics_port: int
    body_size_mb: int

    @property
    def broker_ssl(self) -> dict[str, Any] | None:
        """How Celery verifies the broker; kombu checks names only if the key `server_hostname` is there."""
        if urlsplit(self.broker_url).scheme != "amqps":
            return None
        return {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": self.ca_file, "server_hostname": None}

    @property
    def backend_ssl(self) -> dict[str, Any] | None:
        """How Celery verifies the result store; what the URL says of certificates has precedence."""
        if urlsplit(self.backend_url).scheme != "rediss":
            return None
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": self.ca_file, "ssl_check_hostname": True}

    def models(self) -> tuple[ServedModel, ...]:
        """Read the models that are served; none means each registered model that has the alias `champion`.

        :raises ValueError: the file is not such a list
        """
        if not self.models_file:
            return ()
        try:
            return tuple(_served(entry) for entry in json.loads(self.models_file.read_text(encoding="utf-8")))
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.models_file} is not a list of models: {error}") from error


def _served(entry: dict[str, Any]) -> ServedModel:
    canary, shadow = entry.get("canary") or {}, entry.get("shadow") or {}
    if entry.get("path") and (canary or shadow):
        raise ValueError(f"{entry['name']} is a directory, which has no aliases for a canary or a shadow")
    return ServedModel(
        name=entry["name"],
        alias=entry.get("alias") or ServedModel.alias,
        version=str(entry["version"]) if entry.get("version") else None,
        path=entry.get("path"),
        canary_alias=canary["alias"] if canary else None,
        canary_percent=float(canary["percent"]) if canary else 0.0,
        shadow_alias=shadow["alias"] if shadow else None,
    )


@cache
def settings() -> Settings:
    """Read the environment, once in a process.

    :raises SystemExit: a variable is missing, or no number
    """
    environment = os.environ
    try:
        return Settings(
            broker_url=environment["CELERY_BROKER_URL"],
            backend_url=environment["CELERY_BACKEND_URL"],
            queue=environment["CELERY_QUEUE"],
            database_url=environment["DATABASE_URL"],
            models_file=Path(environment["SERVING_MODELS_FILE"]) if environment.get("SERVING_MODELS_FILE") else None,
            registry_url=environment.get("MLFLOW_TRACKING_URI") or None,
            token=environment.get("SERVING_TOKEN") or "",
            ca_file=environment.get("SERVING_CA_FILE") or None,
            alias_seconds=float(environment["SERVING_ALIAS_SECONDS"]),
            models_kept=int(environment["SERVING_MODELS_KEPT"]),
            cache_dir=Path(environment["SERVING_CACHE_DIR"]),
            task_time_limit_seconds=int(environment["SERVING_TASK_TIME_LIMIT_SECONDS"]),
            result_expires_seconds=int(environment["SERVING_RESULT_EXPIRES_SECONDS"]),
            retention_days=int(environment["SERVING_RETENTION_DAYS"]),
            wait_seconds=float(environment["SERVING_WAIT_SECONDS"]),
            broker_wait_seconds=float(environment["SERVING_BROKER_WAIT_SECONDS"]),
            metrics_port=int(environment.get("SERVING_METRICS_PORT") or 0),
            body_size_mb=int(environment["SERVING_BODY_SIZE_MB"]),
        )
    except KeyError as error:
        raise SystemExit(f"mlfleet_serving: set the environment variable {error.args[0]}") from None
    except ValueError as error:
        raise SystemExit(f"mlfleet_serving: a number is expected: {error}") from None
