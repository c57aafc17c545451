"""A fresh converge killed at ten different moments, each on a new host; the next run completes it and a job passes."""

from __future__ import annotations

import pytest

from .conftest import MOMENTS, Lab


@pytest.mark.kill
@pytest.mark.parametrize(("task", "delay_seconds"), MOMENTS)
def test_killed_converge_is_completed_by_the_next(lab: Lab, task: str, delay_seconds: float) -> None:
    lab.down()
    lab.up()
    lab.init()
    lab.kill_at(task, delay_seconds)
    lab.converge()
    lab.verify()
