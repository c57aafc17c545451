"""A whole lab, from its creation to its removal."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

MLFLEET, ANSIBLE = (str(Path(sys.executable).with_name(name)) for name in ("mlfleet", "ansible"))


def run(*command: str, code: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("lab")
    (directory / "single").mkdir()
    (directory / "single/hosts.yml").write_text("all: {hosts: {one: , two: }}\n")
    lab = directory / "selftest"
    try:
        run(MLFLEET, "lab", "up", str(lab), "--like", str(directory / "single"))
        yield lab
    finally:
        run(MLFLEET, "lab", "down", str(lab))
    assert not lab.exists()
    client = docker.from_env()
    deadline = time.monotonic() + 120  # their files are deleted in the background
    while found := client.containers.list(all=True, filters={"label": "mlfleet.lab=selftest"}, ignore_removed=True):
        assert all(container.name.endswith(".removed") for container in found)
        assert time.monotonic() < deadline
        time.sleep(1)


def ssh(lab: Path, host: str, command: str) -> str:
    return run(MLFLEET, "lab", "ssh", "-i", str(lab), host, command)


def test_up_again_changes_nothing(lab: Path) -> None:
    assert "nothing changed" in run(MLFLEET, "lab", "up", str(lab))


def test_ansible_becomes_root_on_every_host(lab: Path) -> None:
    output = run(ANSIBLE, "-i", str(lab), "all", "--become", "-m", "ansible.builtin.command", "-a", "id -un")
    assert output.count("root") == 2


def test_hosts_have_identities_of_their_own(lab: Path) -> None:
    one, two = (
        ssh(lab, host, "hostname; cat /etc/machine-id /etc/ssh/ssh_host_*.pub").split() for host in ("one", "two")
    )
    assert (one[0], two[0]) == ("one", "two")
    assert one[1] != two[1] and not {key for key in one if key.startswith("AAAA")} & set(two)


def test_packages_install_and_are_downloaded_once(lab: Path) -> None:
    ssh(lab, "one", "sudo apt-get -qq update && sudo apt-get -qq install -y tree")
    assert "Need to get 0 B" in ssh(lab, "two", "sudo apt-get -qq update && sudo apt-get install -y tree")


def test_restarted_host_keeps_address_and_key(lab: Path) -> None:
    docker.from_env().containers.get("mlfleet-selftest-one").restart()
    deadline = time.monotonic() + 60
    while subprocess.run([MLFLEET, "lab", "ssh", "-i", str(lab), "one", "true"], timeout=30).returncode:
        assert time.monotonic() < deadline
        time.sleep(1)


def test_another_directory_of_the_same_name_is_refused(lab: Path, tmp_path: Path) -> None:
    run(MLFLEET, "lab", "down", str(tmp_path / "selftest"), code=1)
    assert lab.exists()
