"""Roles whose tests need no host of their own.

What their scenarios declare comes to the testbed and stays, so that this module is the last.
"""

from __future__ import annotations

import shutil

import pytest

from .conftest import ROOT, Lab, roles_on

ROLES = roles_on("THE_BARE_LAB")


@pytest.fixture(scope="module")
def with_further_roles(lab: Lab) -> Lab:
    for role in ROLES:
        declared = ROOT / "molecule" / role / "inventory"
        shutil.copy(declared / "hosts.yml", lab.inventory / f"{role}.yml")
        if (settings := declared / f"group_vars/all/{role}.yml").exists():
            shutil.copy(settings, lab.inventory / "group_vars/all")
    lab.converge()
    return lab


@pytest.mark.parametrize("role", ROLES)
def test_tests_of_the_role_pass(with_further_roles: Lab, role: str) -> None:
    with_further_roles.run_role_tests(role)
