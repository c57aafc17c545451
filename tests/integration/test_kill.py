"""A fresh converge killed at ten different moments, each on a new host; the next run completes it and a job passes."""

from __future__ import annotations

import pytest

from .conftest import Lab

MOMENTS = [
    ("Gathering Facts", 1),
    ("Install the base packages", 2),
    ("Install PostgreSQL", 8),
    ("Provide the declared databases", 0.7),
    ("Install MinIO", 1),
    ("Install mlflow", 6),
    ("Run mlflow", 4),
    ("Run dioptra-restapi", 6),
    ("Provide the declared accounts", 0.7),
    ("Install worker-tensorflow-cpu", 20),
]


@pytest.mark.kill
@pytest.mark.parametrize(("task", "delay_seconds"), MOMENTS)
def test_killed_converge_is_completed_by_the_next(lab: Lab, task: str, delay_seconds: float) -> None:
    lab.down()
    lab.up()
    lab.init()
    lab.kill_at(task, delay_seconds)
    lab.converge()
    lab.verify()
