"""Killed and simultaneous runs: the next run completes a killed one, and only one run at a time changes a host.

A fresh converge is killed at ten different moments, each on a new host, and the host under the next one a moment later.
"""

from __future__ import annotations

import os
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .conftest import MOMENTS, Lab

pytestmark = pytest.mark.kill

BUSY = re.compile(r"this host is busy since [0-9-]+ [0-9:]+ UTC by a run of ops from [0-9.]+ \([^)]+\)")
# Empty files of ours, and environment files without their last line.
HALF = r"""
find /etc/mlfleet /etc/systemd/system /opt/mlfleet -xdev -type f -empty \
    \( -path '/etc/*' -o -name '*.sh' \) 2>/dev/null
find /etc/mlfleet -name '*.env' 2>/dev/null | while read -r file; do
    [ "$(tail -n 1 "$file")" = '# End.' ] || echo "$file is cut off"
done
true
"""


@pytest.fixture
def fresh(lab: Lab) -> Lab:
    lab.down()
    lab.up()
    lab.init()
    return lab


@pytest.mark.parametrize(("run_ends", "host_ends"), zip(MOMENTS, [*MOMENTS[1:], MOMENTS[0]], strict=True))
def test_killed_run_and_then_host_have_whole_files_and_are_completed(
    fresh: Lab, run_ends: tuple[str, float], host_ends: tuple[str, float]
) -> None:
    fresh.kill_at(*run_ends)
    fresh.kill_host_at(*host_ends)
    assert fresh.ssh(f"sudo sh -c {shlex.quote(HALF)}") == ""
    completed = fresh.converge()
    fresh.verify()
    again = fresh.converge()
    print(f"{run_ends}, {host_ends}: then changed={completed.count('changed')}, after it {again.count('changed')}")
    assert again.count("changed") == 0, again.output


def test_another_controller_and_its_drift_check_are_told_who_is_there(fresh: Lab, tmp_path: Path) -> None:
    other, connections = fresh.of_another_controller(tmp_path)
    first = fresh.start_until("Install the packages of postgres", 1)
    with ThreadPoolExecutor() as at_once:
        converging = at_once.submit(other.playbook, environment=connections)
        checking = at_once.submit(
            other.command, "mlfleet", "drift", "-i", other.name, check=False, env={**os.environ, **connections}
        )
        second, drift = converging.result(), checking.result()
    told = BUSY.search(" ".join(second.output.split()))
    assert second.code != 0 and told, second.output[-3000:]
    assert second.count("changed") == 0
    assert drift.returncode == 1 and BUSY.search(" ".join(drift.stdout.split())), drift.stdout + drift.stderr
    assert ".mlfleet" not in drift.stdout
    print(f"{told.group()}\n{drift.stdout}")
    output, _ = first.communicate(timeout=1800)
    assert first.returncode == 0, output[-6000:]
    assert fresh.converge().count("changed") == 0
