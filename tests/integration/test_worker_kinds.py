"""Roles whose tests need no host of their own: what their scenarios declare comes to the testbed, where it is last."""

from __future__ import annotations

import shutil

import pytest

from .conftest import ROOT, Lab, roles_on


@pytest.mark.parametrize("role", roles_on("THE_BARE_LAB"))
def test_tests_of_the_role_pass(lab: Lab, role: str) -> None:
    declared = ROOT / "molecule" / role / "inventory"
    shutil.copy(declared / "hosts.yml", lab.inventory / f"{role}.yml")
    for settings in (declared / "group_vars/all").glob(f"{role}.yml"):
        shutil.copy(settings, lab.inventory / "group_vars/all")
    lab.converge()
    lab.run_role_tests(role)
