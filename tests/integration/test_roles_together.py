"""Roles that need little besides themselves, together on one host, each as its scenario declares it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import ROOT, Lab, roles_on

ROLES = roles_on("A_LAB_TOGETHER")
BUILDING_BLOCKS = [role for role in ROLES if (ROOT / f"molecule/{role}/converge.yml").exists()]


@pytest.fixture(scope="module")
def together() -> Iterator[Lab]:
    first, *others = (role for role in ROLES if role not in BUILDING_BLOCKS)
    with Lab.anew("together", f"molecule/{first}/inventory") as lab:
        for role in others:
            lab.declare_role(role)
        yield lab


def test_fresh_host_becomes_what_check_predicts_and_stays(together: Lab) -> None:
    prepared = together.playbook(playbook="playbooks/prepare_controller.yml")
    assert prepared.code == 0, prepared.output
    predicted = together.converge("--check")
    assert together.converge().count("changed") == predicted.count("changed") > 0
    assert together.converge().count("changed") == 0


def test_tests_of_the_roles_pass(together: Lab) -> None:
    # First those of all hosts: later ones change what the host with the drift check has copies of.
    together.run_role_tests("shared", *(role for role in ROLES if role not in BUILDING_BLOCKS))


@pytest.mark.fleet
def test_further_cases_of_the_roles_pass(together: Lab) -> None:
    together.converge()
    together.run_role_tests(*(role for role in ROLES if role not in BUILDING_BLOCKS), marked="fleet")


# Last, because no inventory declares what they make.
@pytest.mark.parametrize("role", BUILDING_BLOCKS)
def test_building_block_does_its_work_once_and_its_tests_pass(together: Lab, role: str) -> None:
    first, second = (together.playbook("--tags", role, playbook=f"molecule/{role}/converge.yml") for _run in range(2))
    assert first.code == second.code == 0, first.output
    assert first.count("changed") > second.count("changed") == 0
    together.run_role_tests(role)
