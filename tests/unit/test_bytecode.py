"""Packages are compiled once, and an environment gets only code of its own sources."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "roles/python_app/files/bytecode.py"
SOURCE = "import sys\n\n\ndef place():\n    return sys._getframe().f_code.co_filename\n"


def install(directory: Path, time: int, source: str = SOURCE) -> Path:
    """Put a package with two modules into an environment, and return the environment's Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    (site,) = directory.glob("lib/python*/site-packages")
    files = {"measure/__init__.py": "", "measure/lengths.py": source, "measure/template.py": "{{ not Python }}"}
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.utime(path, (time, time))
    record = site / "measure-1.0.dist-info/RECORD"
    record.parent.mkdir()
    record.write_text("".join(f"{name},sha256=of-no-interest,1\n" for name in [*files, "../../../bin/measure.py"]))
    return directory / "bin/python"


def compile_with(python: Path, store: Path) -> None:
    subprocess.run([python, "-I", "-", store], input=PROGRAM.read_text(), text=True, check=True, cwd="/")


def compiled(python: Path) -> Path:
    (path,) = python.parents[1].rglob("lengths.*.pyc")
    return path


def ask(python: Path, expression: str) -> str:
    """Return what an import of the bytecode answers; without it, Python would say that it reads the source."""
    words = [python, "-v", "-B", "-c", f"import measure.lengths; print({expression})"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert f"# code object from '{compiled(python)}'" in done.stderr
    return done.stdout.strip()


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def test_code_of_another_environment_is_used_for_sources_of_another_age(tmp_path, store):
    first, second = install(tmp_path / "first", 1_000_000_000), install(tmp_path / "second", 1_500_000_000)
    compile_with(first, store)
    (kept,) = store.iterdir()
    kept_at = kept.stat().st_mtime_ns
    compile_with(second, store)
    assert kept.stat().st_mtime_ns == kept_at and list(store.iterdir()) == [kept]
    assert compiled(first).read_bytes()[16:] == compiled(second).read_bytes()[16:]
    for python in (first, second):
        assert ask(python, "measure.lengths.place()") == str(compiled(python).parents[1] / "lengths.py")


def test_package_that_looks_like_another_one_does_not_get_its_code(tmp_path, store):
    false = install(tmp_path / "false", 1_000_000_000, SOURCE.replace("sys._getframe", "sys.exit or sys._getframe"))
    true = install(tmp_path / "true", 1_000_000_000)
    compile_with(false, store)
    compile_with(true, store)
    assert len(list(store.iterdir())) == 2
    assert ask(true, "measure.lengths.place()").endswith(
        "/true/" + str(compiled(true).parents[1].relative_to(true.parents[1])) + "/lengths.py"
    )


def test_nothing_is_compiled_outside_packages(tmp_path, store):
    python = install(tmp_path / "app", 1_000_000_000)
    (python.parent / "measure.py").write_text("")
    compile_with(python, store)
    assert list(python.parent.rglob("*.pyc")) == []
