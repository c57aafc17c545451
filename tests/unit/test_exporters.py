"""The program that prints metrics of mlfleet itself, as the door runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests import certificates

ROOT = Path(__file__).parents[2]
OUTPUTS = Path(__file__).with_name("gpu")
# Says what is in files, and fails as nvidia-smi does if there is no report.
STAND_IN = """#!/bin/sh
case "$*" in
    "-q -x") cat "{outputs}/{name}.xml" 2>/dev/null || {{ cat "{outputs}/{name}.txt"; exit 9; }} ;;
    -L) cat "{outputs}/{name}.txt" ;;
esac
"""


class Door:
    """A directory with the program, and what it knows of its host."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.programs = directory, directory / "bin"
        for path in ("roles/exporters/files/mlfleet.py", "plugins/module_utils/gpu.py"):
            shutil.copy(ROOT / path, directory)
        self.programs.mkdir()
        self.settings = {"version": "0.1.0", "certificates": [f"{directory}/*.crt"], "gpus": False}

    def nvidia_smi(self, text: str) -> None:
        self.settings["gpus"] = True
        program = self.programs / "nvidia-smi"
        program.write_text(text)
        program.chmod(0o755)

    def ask(self, *arguments: str) -> dict[str, float]:
        (self.directory / "mlfleet.json").write_text(json.dumps(self.settings))
        errors = self.directory / "errors"
        with errors.open("w") as log:
            done = subprocess.run(
                [sys.executable, self.directory / "mlfleet.py", *arguments],
                env={"HOME": str(self.directory), "PATH": f"{self.programs}:{os.environ['PATH']}"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                check=False,
            )
        assert done.returncode == 0, errors.read_text()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in done.stdout.splitlines())}


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def test_ends_of_certificates_and_times_of_marks(door: Door) -> None:
    ends = certificates.NOW.replace(microsecond=0) + timedelta(days=9)
    path = door.directory / "host.crt"
    path.write_text(certificates.make("host", end=ends).certificate)
    (door.directory / "secrets").mkdir()
    mark = door.directory / "secrets/redis"
    mark.touch(mode=0o000)
    os.utime(mark, (1_700_000_000, 1_700_000_000))
    # Words of the request change nothing.
    assert door.ask("--help", "/etc/passwd") == {
        'mlfleet_version_info{version="0.1.0"}': 1,
        f'mlfleet_certificate_end_timestamp_seconds{{path="{path}"}}': ends.timestamp(),
        'mlfleet_secret_changed_timestamp_seconds{secret="redis"}': 1_700_000_000,
    }


def test_a_broken_certificate_is_no_number(door: Door) -> None:
    (door.directory / "host.crt").write_text("none")
    with pytest.raises(AssertionError, match="Unable to load PEM"):
        door.ask()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # A GPU in four slices, and a whole one.
        (
            "a100_mig",
            {"gpus{}": 5, 'gpu_ecc_uncorrected_errors_total{gpu="1"}': 7, 'gpu_utilization_ratio{gpu="1"}': 0.87},
        ),
        ("k80", {"gpus{}": 2, 'gpu_memory_total_bytes{gpu="1"}': 11441 * 1024 * 1024}),
    ],
)
def test_gpus_that_workers_could_use(door: Door, name: str, expected: dict[str, float]) -> None:
    door.nvidia_smi(STAND_IN.format(outputs=OUTPUTS, name=name))
    assert {f"mlfleet_{metric}": value for metric, value in expected.items()}.items() <= door.ask().items()


@pytest.mark.parametrize("name", ["lost", "no_driver", "mismatch"])
def test_no_number_of_gpus_without_a_driver(door: Door, name: str) -> None:
    door.nvidia_smi(STAND_IN.format(outputs=OUTPUTS, name=name))
    assert list(door.ask()) == ['mlfleet_version_info{version="0.1.0"}']


def test_a_missing_nvidia_smi_is_no_failure(door: Door) -> None:
    door.settings["gpus"] = True
    assert list(door.ask()) == ['mlfleet_version_info{version="0.1.0"}']


def test_another_does_not_join_a_hanging_nvidia_smi(door: Door) -> None:
    program = door.directory / "mlfleet.py"
    program.write_text(program.read_text().replace("SMI_SECONDS = 10", "SMI_SECONDS = 1"))
    door.nvidia_smi(f"#!/bin/sh\necho $$ >>{door.directory}/started\nexec sleep 6\n")
    began = time.monotonic()
    for _each in range(2):
        assert list(door.ask()) == ['mlfleet_version_info{version="0.1.0"}']
    assert time.monotonic() - began < 6
    assert len((door.directory / "started").read_text().split()) == 1
