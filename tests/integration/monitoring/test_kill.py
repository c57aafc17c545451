"""A converge of monitoring that is killed, with its host or without, is completed by the next one."""

from __future__ import annotations

import shlex

import pytest

from ..conftest import Lab
from ..test_kill import HALF

pytestmark = pytest.mark.kill

HOST = "killed"
GROUPS = {group: [HOST] for group in ("redis", "exporters", "alertmanager", "prometheus", "nginx")}
# Each is later than the one before: seconds after the converge reaches a task, and whether the host dies as well.
MOMENTS = [
    ("Install the exporters", 2.0, False),
    ("Run mlfleet-exporter", 0.6, True),
    ("Run mlfleet-exporter", 1.5, False),
    ("Install the packages of alertmanager", 1.0, True),
    ("Run prometheus-alertmanager", 0.8, False),
    ("Install the packages of prometheus", 1.5, False),
    ("Run prometheus", 0.8, True),
    ("Run prometheus", 2.0, False),
]


def test_killed_converges_are_completed() -> None:
    with Lab.anew("kill-monitoring", GROUPS) as lab:
        for task, delay_seconds, host_dies in MOMENTS:
            lab.kill_host_at(task, delay_seconds, HOST) if host_dies else lab.kill_at(task, delay_seconds)
            assert lab.ssh(f"sudo sh -c {shlex.quote(HALF)}", HOST) == "", task
        completed = lab.converge()
        run = lab.playbook(playbook="playbooks/verify.yml")
        assert run.code == 0 and "and all answer" in run.text, run.output
        again = lab.converge()
        print(f"{len(MOMENTS)} kills: then changed={completed.count('changed')}, after it {again.count('changed')}")
        assert again.count("changed") == 0, again.output
