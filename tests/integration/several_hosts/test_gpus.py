"""Assignment of GPUs to workers, on a host whose nvidia-smi reports two; outputs of real ones are in tests/unit/gpu."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest
import yaml

from ..conftest import ROOT, Lab
from .conftest import APPLICATION

OUTPUTS = ROOT / "tests/unit/gpu"
UUIDS = [line.partition("UUID: ")[2].strip(")") for line in (OUTPUTS / "k80.txt").read_text().splitlines()]
STAND_IN = """#!/bin/sh
case "$*" in
    "-q -x") cat /usr/local/share/gpus.xml ;;
    -L) cat /usr/local/share/gpus.txt ;;
    *) exit 2 ;;
esac
"""


@pytest.fixture(scope="module")
def with_gpus(stores: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The lab with one of its hosts in group gpu, and with a custom kind of workers."""
    tmp_path = tmp_path_factory.mktemp("gpus")
    shutil.copytree(stores.inventory, tmp_path / "gpus")
    groups = {"gpu": {"hosts": {APPLICATION: None}}, "worker_custom": {"hosts": {APPLICATION: None}}}
    (tmp_path / "gpus/gpus.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
    files = {name: (OUTPUTS / f"k80.{name}").read_text() for name in ("xml", "txt")}
    for path, content in {
        **{f"share/gpus.{name}": text for name, text in files.items()},
        "bin/nvidia-smi": STAND_IN,
    }.items():
        stores.ssh(f"sudo tee /usr/local/{path} >/dev/null", host=APPLICATION, input=content)
    stores.ssh("sudo chmod +x /usr/local/bin/nvidia-smi", host=APPLICATION)
    return Lab(tmp_path / "gpus")


def kinds(count: int) -> tuple[str, str]:
    return "-e", json.dumps(
        {"worker_custom_kinds": [{"name": "vision", "queues": ["vision"], "count": count, "gpus": 1}]}
    )


def test_each_instance_gets_a_gpu_of_its_own(with_gpus: Lab) -> None:
    run = with_gpus.converge("--check", "--diff", "--limit", APPLICATION, "--tags", "worker_custom", *kinds(2))
    assert len(UUIDS) == 2
    for number, uuid in enumerate(UUIDS):
        assert f'CUDA_VISIBLE_DEVICES="{uuid}"' in run.output
        assert f"DeviceAllow=/dev/nvidia{number} rw" in run.output


def test_too_few_gpus_stop_the_run_with_a_table(with_gpus: Lab) -> None:
    run = with_gpus.playbook("--limit", APPLICATION, *kinds(3))
    assert run.code != 0 and run.count("changed") == 0
    assert "3 GPUs are requested, but this host has 2: lower count or gpus" in run.output
    assert "vision  3          1 each  0, 1, -" in run.output


def test_containers_want_the_toolkit_of_the_gpus(with_gpus: Lab) -> None:
    run = with_gpus.playbook("--limit", APPLICATION, *kinds(2), "-e", "topology_worker_runtime=docker")
    assert run.code != 0 and run.count("changed") == 0
    assert "NVIDIA Container Toolkit, which is missing: install it" in " ".join(run.output.split())


def test_malformed_kind_is_told_in_one_line(with_gpus: Lab) -> None:
    nameless = json.dumps({"worker_custom_kinds": [{"queues": ["vision"], "gpus": 1}]})
    run = with_gpus.playbook("--limit", APPLICATION, "-e", nameless)
    assert run.code != 0 and run.count("ok") == 0
    assert "worker_custom_kinds: missing required arguments: name" in " ".join(run.output.split())


def test_driver_is_there_or_the_host_says_what_is_missing(with_gpus: Lab) -> None:
    """A package that every host has replaces the driver, which a container cannot load."""
    install = ("-e", json.dumps({"gpu_driver_packages": ["ca-certificates"]}))
    run = with_gpus.playbook(*install, playbook="playbooks/install_gpu_driver.yml")
    assert run.code == 0 and run.count("changed") == 0
    assert "Tesla K80, Tesla K80; driver 470.256.02" in run.output
    with_gpus.ssh("sudo mv /usr/local/bin/nvidia-smi /usr/local/bin/away", host=APPLICATION)
    run = with_gpus.playbook(*install, playbook="playbooks/install_gpu_driver.yml")
    with_gpus.ssh("sudo mv /usr/local/bin/away /usr/local/bin/nvidia-smi", host=APPLICATION)
    assert run.code != 0 and "there is no GPU that the driver knows" in run.output


def test_gpus_on_a_host_without_any_stop_the_run(stores: Lab, with_gpus: Lab) -> None:
    (with_gpus.inventory / "gpus.yml").write_text(
        yaml.safe_dump({"all": {"children": {"worker_custom": {"hosts": {APPLICATION: None}}}}})
    )
    run = with_gpus.playbook("--limit", APPLICATION, *kinds(1))
    assert run.code != 0 and run.count("ok") == 0
    assert "vision on a host without GPUs: add it to group gpu, or set their gpus to 0" in run.output
    stores.ssh(f"sudo rm {shlex.join(['/usr/local/bin/nvidia-smi'])}", host=APPLICATION)
