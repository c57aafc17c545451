"""A host that has reported its installed packages in this run is not asked again."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest
from ansible.plugins.action import normal
from ansible_collections.mlfleet.stack.plugins.action import packages
from ansible_collections.mlfleet.stack.plugins.module_utils import dpkg


@pytest.fixture
def ask(monkeypatch):
    """Return the action's result for these names, given what is known about the host."""
    monkeypatch.setattr(normal.ActionModule, "run", lambda _self, _tmp, _task_vars: {"changed": "asked"})

    def run(names, told="nginx mawk", delegate_to=None):
        action = object.__new__(packages.ActionModule)
        action._task = SimpleNamespace(args={"name": names}, delegate_to=delegate_to)
        facts = {"site_facts": {"ansible_facts": {"ansible_installed_packages": told}}}
        return action.run(None, facts if told is not None else {})["changed"]

    return run


def test_what_is_installed_is_not_asked_for_again(ask):
    assert ask(["nginx"]) is False
    assert ask(["nginx", "mawk"]) is False


@pytest.mark.parametrize(
    "words",
    [
        {"names": ["nginx", "awk"]},
        {"names": ["nginx"], "told": None},
        {"names": ["nginx"], "told": ""},
        {"names": ["nginx"], "delegate_to": "other"},
        {"names": "nginx"},
    ],
)
def test_host_is_asked_for_all_else(ask, words):
    assert ask(**words) == "asked"


@pytest.mark.parametrize(
    ("lists", "age_seconds", "are_new"),
    [
        (["deb_Packages"], 0, True),
        (["deb_Packages"], 700, False),
        (["deb_Packages"], -60, False),
        ([], 0, False),
        (None, 0, False),
    ],
)
def test_package_lists_are_new(tmp_path, monkeypatch, lists, age_seconds, are_new):
    monkeypatch.setattr(dpkg, "LISTS", tmp_path / "lists")
    if lists is not None:
        dpkg.LISTS.mkdir()
        for name in lists:
            (dpkg.LISTS / name).touch()
        os.utime(dpkg.LISTS, (time.time() - age_seconds,) * 2)
    assert dpkg.lists_are_new(600) is are_new
