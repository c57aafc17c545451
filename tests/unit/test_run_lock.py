# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time for an inventory: a second one names the first, and a process that has ended holds nothing."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.mlfleet.stack.plugins.plugin_utils.run_lock import RunningError, claim, path_of


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return path_of(tmp_path / "prod")


@pytest.fixture
def other():
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_second_run_says_who_runs_since_when(path, other):
    claim(path, other.pid)
    with pytest.raises(
        RunningError, match=rf"^another run is under way since 20\S+ \S+ UTC \(process {other.pid} of \S+\)"
    ):
        claim(path, os.getpid())


def test_process_that_was_killed_holds_nothing(path, other):
    claim(path, other.pid)
    other.kill()
    # Not waited for yet, so it is a zombie, which runs nothing.
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    claim(path, os.getpid())


def test_number_that_another_process_was_given_holds_nothing(path, other):
    claim(path, other.pid)
    path.write_text(path.read_text().replace('"started": "', '"started": "another boot '))
    claim(path, os.getpid())


def test_playbooks_that_import_each_other_are_one_run(path):
    claim(path, os.getpid())
    first = path.read_text()
    claim(path, os.getpid())
    assert path.read_text() == first


def test_check_looks_and_keeps_nobody_waiting(path, other):
    claim(path, os.getpid(), only_look=True)
    assert not path.exists()
    claim(path, other.pid)
    with pytest.raises(RunningError):
        claim(path, os.getpid(), only_look=True)


def test_half_a_file_is_none(path):
    path.parent.mkdir(parents=True)
    path.write_text('{"process": ')
    claim(path, os.getpid())


def test_inventories_of_one_name_do_not_wait_for_each_other(path, tmp_path):
    assert path_of(tmp_path / "other/prod") != path
    (tmp_path / "prod").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "prod")
    assert path_of(tmp_path / "link") == path
