"""A converge of the serving stack that is killed, with its host or without, is completed by the next one."""

from __future__ import annotations

import shlex

import pytest

from ..conftest import Lab
from ..test_kill import HALF
from .conftest import HOST

pytestmark = pytest.mark.kill

# Each is later than the one before: seconds after the converge reaches a task, and whether the host dies as well.
MOMENTS = [
    ("Install the packages of rabbitmq", 2.0, False),
    ("Run rabbitmq-server", 3.0, True),
    ("Provide the declared virtual hosts", 0.5, False),
    ("Install serving-worker", 4.0, False),
    ("Install the application of serving-worker", 0.5, False),
    ("Run serving-worker", 3.0, True),
    ("Install the application of serving-api", 0.5, False),
    ("Run serving-api", 2.0, False),
]


def test_killed_converges_are_completed() -> None:
    with Lab.anew("predict", "inventories/serving") as lab:
        for task, delay_seconds, host_dies in MOMENTS:
            lab.kill_host_at(task, delay_seconds, HOST) if host_dies else lab.kill_at(task, delay_seconds)
            assert lab.ssh(f"sudo sh -c {shlex.quote(HALF)}", HOST) == "", task
        completed = lab.converge()
        run = lab.playbook(playbook="playbooks/verify.yml")
        assert run.code == 0 and "none failed" in run.text, run.output
        again = lab.converge()
        print(f"{len(MOMENTS)} kills: then changed={completed.count('changed')}, after it {again.count('changed')}")
        assert again.count("changed") == 0, again.output
