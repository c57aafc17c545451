"""Roles whose tests need no host of their own.

What their scenarios declare comes to the testbed and stays, so that this module is the last.
"""

from __future__ import annotations

import shutil

import pytest

from .conftest import ROOT, Lab, roles_on


@pytest.mark.parametrize("role", roles_on("THE_BARE_LAB"))
def test_tests_of_the_role_pass(lab: Lab, role: str) -> None:
    declared = ROOT / "molecule" / role / "inventory"
    shutil.copy(declared / "hosts.yml", lab.inventory / f"{role}.yml")
    if (settings := declared / f"group_vars/all/{role}.yml").exists():
        shutil.copy(settings, lab.inventory / "group_vars/all")
    lab.converge()
    lab.run_role_tests(role)
