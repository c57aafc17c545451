"""Roles whose tests need no separate host.

The declarations of their scenarios are added to the testbed and stay, so this module is the last.
"""

from __future__ import annotations

import pytest

from .conftest import Lab, roles_on
from .removal import assert_removed, leave, traces

ROLES = roles_on("THE_BARE_LAB")


@pytest.fixture(scope="module")
def with_further_roles(lab: Lab) -> Lab:
    for role in ROLES:
        lab.declare_role(role)
    lab.converge()
    return lab


@pytest.mark.parametrize("role", ROLES)
def test_tests_of_the_role_pass(with_further_roles: Lab, role: str) -> None:
    with_further_roles.run_role_tests(role)


@pytest.mark.fleet
def test_further_cases_of_the_roles_pass(with_further_roles: Lab) -> None:
    with_further_roles.run_role_tests(*ROLES, marked="fleet")


@pytest.mark.fleet
def test_removed_service_leaves_its_data_alone_and_comes_back_with_them(with_further_roles: Lab) -> None:
    lab, data = with_further_roles, "/var/lib/mlfleet/pgadmin"
    lab.ssh(f"echo kept | sudo -u pgadmin tee {data}/mark")
    declared = {file: file.read_text() for file in lab.inventory.glob("*.yml")}
    leave(lab, "pgadmin")
    told = lab.converge("--check").text
    assert f"playbooks/remove.yml -i {lab.name} -e remove=pgadmin" in told
    assert_removed(lab, "pgadmin")
    kept = [trace for trace in traces(lab, "pgadmin") if not trace.startswith(data)]
    assert len(kept) == 2 and all(account.startswith("pgadmin:x:") for account in kept)
    for file, text in declared.items():
        file.write_text(text)
    lab.converge()
    assert lab.ssh(f"sudo cat {data}/mark").strip() == "kept"
    assert lab.converge("--check").count("changed") == 0
    leave(lab, "pgadmin")
    assert_removed(lab, "pgadmin", "-e", "remove_data=pgadmin")
    assert traces(lab, "pgadmin") == []


@pytest.mark.fleet
def test_removed_workers_leave_nothing(with_further_roles: Lab) -> None:
    lab = with_further_roles
    leave(lab, "worker_tensorflow_cpu")
    assert_removed(lab, "worker_tensorflow_cpu", "-e", "remove_data=worker_tensorflow_cpu")
    assert traces(lab, "tensorflow-cpu") == []
    assert lab.converge("--check").count("changed") == 0  # of the other kinds
