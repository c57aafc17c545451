"""playbooks/rotate_ca.yml takes no step until all hosts have completed the previous one, in a project of stubs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MODULES = {"host_authorities": "trust", "host_certificate": "certificate"}
STEPS = ["next", "promote", "retire", "finish"]
Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def rotate(tmp_path: Path) -> Run:
    """Run the real playbook, with a site.yml and a role host that fail or change as the variables request."""
    stack = tmp_path / "ansible_collections/mlfleet/stack"
    (stack / "playbooks").mkdir(parents=True)
    (stack / "galaxy.yml").touch()
    (tmp_path / "ansible.cfg").touch()
    shutil.copy(ROOT / "playbooks/rotate_ca.yml", stack / "playbooks")
    # The number of completed steps shows which of the three runs it is.
    passes = f"lookup('ansible.builtin.file', '{tmp_path}/taken').split() | length"
    fails = f"failing == [inventory_hostname, {passes}]"
    site = {
        "ansible.builtin.assert": {"that": f"not ({fails})"},
        "vars": {"failing": "{{ failing_in_site | default([]) }}"},
    }
    plays = [{"hosts": "all", "gather_facts": False, "tasks": [site]}]
    (stack / "playbooks/site.yml").write_text(yaml.safe_dump(plays))
    for name in ("claim", "restart_minio"):
        (stack / f"playbooks/{name}.yml").write_text(yaml.safe_dump([{"hosts": "none", "tasks": []}]))
    lacks = [
        {
            "ansible.builtin.command": "true",
            "register": name,
            "check_mode": False,
            "changed_when": f"lacking | default([]) == [inventory_hostname, {passes}, '{what}']",
        }
        for name, what in MODULES.items()
    ]
    (stack / "roles/host/tasks").mkdir(parents=True)
    (stack / "roles/host/tasks/authority.yml").write_text(yaml.safe_dump(lacks))
    program = tmp_path / "mlfleet"
    program.write_text(f'#!/bin/sh\necho "$3" >> {tmp_path}/taken\n')
    program.chmod(0o755)
    inventory = tmp_path / "inventory"
    inventory.mkdir()
    hosts = {name: {"ansible_connection": "local"} for name in "ab"}
    (inventory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))

    def run(*words: str, **variables: object) -> tuple[int, str, list[str]]:
        (tmp_path / "taken").write_text("")
        extra = {
            "rotate_ca_program": str(program),
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
        } | variables
        command = [Path(sys.executable).with_name("ansible-playbook"), "playbooks/rotate_ca.yml", "-i", inventory]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(tmp_path),
        }
        environment |= {"ANSIBLE_GATHERING": "explicit", "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"}
        done = subprocess.run(
            [*command, *words, "-e", yaml.safe_dump(extra, default_flow_style=True)],
            cwd=stack, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        output = " ".join((done.stdout + done.stderr).split())
        return done.returncode, output, (tmp_path / "taken").read_text().split()

    return run


def test_all_steps_are_taken_when_every_host_comes_through(rotate: Run) -> None:
    code, output, taken = rotate()
    assert (code, taken) == (0, STEPS), output


def test_no_step_is_taken_after_a_host_that_failed(rotate: Run) -> None:
    code, output, taken = rotate(failing_in_site=["b", 1])
    assert code != 0 and taken == STEPS[:1], output
    assert f"b did not come through, so that `mlfleet ca … {STEPS[1]}` is not done: mend" in output


@pytest.mark.parametrize(("number", "what"), [(1, "trust"), (2, "certificate")])
def test_no_step_is_taken_while_a_host_lacks_what_it_needs(rotate: Run, number: int, what: str) -> None:
    code, output, taken = rotate(lacking=["b", number, what])
    assert code != 0 and taken == STEPS[:number], output
    assert "b does not hold what /" in output


@pytest.mark.parametrize("words", [("--limit", "a"), ("--skip-tags", "redis")])
def test_nothing_is_left_out(rotate: Run, words: tuple[str, ...]) -> None:
    code, _output, taken = rotate(*words)
    assert taken == [] and code != 0
