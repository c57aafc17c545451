# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Predictions and feedback in PostgreSQL. The tables are made by `migrate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import InterfaceError, OperationalError

from mlfleet_serving.schema import storable
from mlfleet_serving.settings import settings

UNAVAILABLE = (OperationalError, InterfaceError)

_INSERT = text(
    "INSERT INTO predictions (id, model, version, role, shadow_of, inputs, outputs, reason, seconds)"
    " VALUES (:id, :model, :version, :role, :shadow_of, CAST(:inputs AS jsonb), CAST(:outputs AS jsonb),"
    " :reason, :seconds) ON CONFLICT (id) DO NOTHING"
)
_SELECT = text("SELECT model, version, role, outputs, reason FROM predictions WHERE id = :id")
_DELETE = text(
    "DELETE FROM predictions WHERE id IN (SELECT id FROM predictions"
    " WHERE created_at < now() - make_interval(days => :days) ORDER BY created_at LIMIT :number)"
)
_FEEDBACK = text(
    "INSERT INTO feedback (prediction_id, correct, actual) VALUES (:id, :correct, CAST(:actual AS jsonb))"
    " ON CONFLICT (prediction_id) DO NOTHING"
)


@dataclass(frozen=True)
class Prediction:
    """The answer to a request: outputs, or the reason why there are none."""

    id: str
    model: str
    version: str
    role: str
    outputs: Any = None
    reason: str | None = None
    seconds: float = 0.0
    inputs: Any = field(default=None, repr=False)
    shadow_of: str | None = None


@cache
def engine() -> Engine:
    """Connect when asked first, which in a worker is after the fork."""
    return create_engine(
        settings().database_url,
        pool_pre_ping=True,
        hide_parameters=True,  # they are people's data, and errors are logged
        connect_args={"connect_timeout": 5},
    )


def record(prediction: Prediction) -> bool:
    """Store it unless there is one of this id, and say whether it was stored.

    :raises OperationalError, InterfaceError: the database does not answer
    """
    values = {
        name: getattr(prediction, name) for name in ("id", "model", "version", "role", "reason", "seconds", "shadow_of")
    }
    values |= {name: _json(getattr(prediction, name)) for name in ("inputs", "outputs")}
    with engine().begin() as connection:
        return connection.execute(_INSERT, values).rowcount == 1


def find(prediction_id: str) -> Prediction | None:
    """Read what was stored under this id."""
    with engine().connect() as connection:
        row = connection.execute(_SELECT, {"id": prediction_id}).mappings().first()
    return Prediction(prediction_id, **row) if row else None


def delete_older(days: int, number: int) -> int:
    """Delete the oldest predictions of more than these days, with their feedback, and return how many were deleted."""
    with engine().begin() as connection:
        return connection.execute(_DELETE, {"days": days, "number": number}).rowcount


def give_feedback(prediction_id: str, correct: bool, actual: Any) -> bool:
    """Store it unless there is some for this prediction, and say whether it was stored."""
    with engine().begin() as connection:
        values = {"id": prediction_id, "correct": correct, "actual": _json(actual)}
        return connection.execute(_FEEDBACK, values).rowcount == 1


def answers() -> bool:
    """Whether the tables are there."""
    with engine().connect() as connection:
        connection.execute(text("SELECT 1 FROM predictions LIMIT 1"))
    return True


def _json(value: Any) -> str | None:
    return None if value is None else storable(value)
