"""What several tests need."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

UNPACKED = Path(__file__).parents[2] / ".cache/promtool"


@pytest.fixture(scope="session")
def promtool() -> str:
    """Debian's, from its package if it is not installed."""
    if installed := shutil.which("promtool"):
        return installed
    program = "usr/bin/promtool"
    if not (UNPACKED / program).exists():
        UNPACKED.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=UNPACKED.parent) as directory:
            subprocess.run(["apt-get", "download", "prometheus"], cwd=directory, check=True)
            (package,) = Path(directory).glob("*.deb")
            subprocess.run(["dpkg", "--extract", str(package), "root"], cwd=directory, check=True)
            (Path(directory) / "root").replace(UNPACKED)
    return str(UNPACKED / program)
