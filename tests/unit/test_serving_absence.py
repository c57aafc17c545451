"""How long requests wait for a broker that is away."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

FILE = Path(__file__).parents[2] / "roles/serving/files/application/mlfleet_serving/absence.py"


@pytest.fixture
def now():
    return SimpleNamespace(seconds=1000.0)


@pytest.fixture
def absence(now):
    spec = importlib.util.spec_from_file_location("absence", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Absence(patience=30, forgotten_after=40, clock=lambda: now.seconds)


def waits(absence, now, *moments):
    found = []
    for now.seconds in moments:
        found.append(absence.notice())
    return found


def test_all_requests_wait_for_the_same_time(absence, now):
    assert waits(absence, now, 1000, 1015, 1030, 1031, 1060) == [True, True, True, False, False]


def test_answer_ends_it(absence, now):
    assert waits(absence, now, 1000, 1031) == [True, False]
    absence.end()
    assert waits(absence, now, 1032, 1060, 1063) == [True, True, False]


def test_absence_that_was_not_noticed_for_long_is_a_new_one(absence, now):
    assert waits(absence, now, 1000, 1031, 1071, 1112) == [True, False, False, True]
