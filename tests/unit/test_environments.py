"""Virtual environments are exchanged as a whole: until then, and if that fails, the former one stays in use."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import environments, interpreters, trials
from ansible_collections.mlfleet.stack.plugins.modules import python_venv

UV = r"""#!/bin/sh
for last; do :; done
case $1 in
    venv) mkdir -p "$last/bin" && ln -s PYTHON "$last/bin/python" ;;
    pip)
        echo " + certifi==2026.1.4" >&2
        case $* in *--dry-run*) exit ;; esac
        tree=${4%/bin/python} && touch "$tree/.lock" && cp "$last" "$tree/pins"
        test ! -e "$0.full" || { echo "No space left on device" >&2; exit 2; } ;;
esac
"""


class Uv(python_venv.Uv):
    requirement = "uv==1"

    is_ready = True


@pytest.fixture
def venv(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "PROCESSES", tmp_path / "proc")
    uv = Uv(tmp_path / "uv", "uv==1", Path("/bin/sh"))
    uv.program.parent.mkdir(parents=True)
    uv.program.write_text(UV.replace("PYTHON", sys.executable))
    uv.program.chmod(0o755)
    (tmp_path / "pins").write_text("certifi==2026.1.4\n")
    found = python_venv.Venv(tmp_path / "app", tmp_path / "pins", Path("/bin/sh"), uv)
    monkeypatch.setattr(found, "is_whole", found.stamp.exists)
    return found


def install(venv, program="", stop=lambda: None):
    trial = {"program": program, "arguments": ["in earnest"], "environment": {"SECRET": "known"}} if program else None
    return python_venv.installed(venv, trial, stop)


def trees(venv) -> list[str]:
    return sorted(path.name for path in venv.path.parent.glob("app*"))


def test_new_one_takes_the_place_of_the_former_at_once(venv):
    install(venv)
    first = venv.path.resolve()
    assert re.fullmatch(r"app\.[0-9a-f]{8}", first.name) and venv.path.is_symlink()
    seen = []
    install(venv, stop=lambda: seen.append((venv.path.resolve(), len(trees(venv)))))
    assert seen == [(first, 3)]
    assert trees(venv) == ["app", venv.path.resolve().name]
    assert venv.stamp.exists() and venv.path.resolve() != first


def test_full_disk_leaves_the_former_in_use_and_its_users_running(venv):
    install(venv)
    before = trees(venv)
    venv.uv.program.with_name("uv.full").touch()
    with pytest.raises(python_venv.CommandFailedError, match="No space left"):
        install(venv, stop=lambda: pytest.fail("stopped"))
    assert trees(venv) == before and venv.stamp.exists()


def test_trial_that_fails_leaves_the_former_in_use_and_says_its_last_line(venv):
    install(venv, "import os, sys; assert sys.argv[1:] == ['in earnest'] and os.environ['SECRET'] == 'known'")
    before = trees(venv)
    with pytest.raises(trials.RefusedError, match=r"^the database is newer$"):
        install(venv, "print('looking'); raise SystemExit('the database is newer')", lambda: pytest.fail("stopped"))
    assert trees(venv) == before
    with pytest.raises(trials.RefusedError, match=r"^its trial ended with 3$"):
        install(venv, "raise SystemExit(3)")


def test_directory_of_a_former_release_becomes_a_link(venv):
    venv.path.mkdir()
    (venv.path / "old").touch()
    install(venv)
    assert venv.path.is_symlink() and not (venv.path / "old").exists()
    assert len(trees(venv)) == 2


@pytest.mark.parametrize("trace", ["cmdline", "maps"])
def test_former_one_stays_as_long_as_a_process_uses_it(venv, trace):
    install(venv)
    first = venv.path.resolve()
    process = environments.PROCESSES / "42"
    process.mkdir(parents=True)
    (process / trace).write_text(f"7f00-7f01 r-xp {first}/lib/numpy.so\n")
    install(venv)
    assert first.is_dir() and venv.path.resolve() != first
    environments.clear(venv.path)
    assert first.is_dir()
    (process / trace).unlink()
    environments.clear(venv.path)
    assert not first.exists()


def test_what_a_killed_run_left_goes_and_others_environments_stay(venv):
    install(venv)
    for name in ("app.0123abcd", "app.tools", "app-2.0123abcd"):
        venv.path.with_name(name).mkdir()
    venv.path.with_name("app.0123abcd.link").symlink_to("app.0123abcd")
    environments.clear(venv.path)
    assert trees(venv) == sorted(["app", venv.path.resolve().name, "app.tools", "app-2.0123abcd"])


@pytest.mark.parametrize("moment", range(10))
def test_kill_at_any_moment_leaves_a_whole_one_in_use(venv, moment):
    install(venv)
    child = os.fork()
    if child == 0:
        while True:
            install(venv)
    time.sleep(0.05 + moment / 97)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert venv.stamp.exists() and (venv.path / "pins").read_text() == "certifi==2026.1.4\n"
    install(venv)
    assert trees(venv) == ["app", venv.path.resolve().name]


THIS = "{}.{}".format(*sys.version_info)
OTHER = "3.1"


@pytest.mark.parametrize("python", ["/no/such/python", "/bin/true", "/bin/false", "/"])
def test_what_is_no_python_that_runs_says_nothing(python):
    assert interpreters.ask(python) is None


def test_interpreter_says_its_version_and_what_links_lead_to(tmp_path):
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    said = interpreters.ask(str(tmp_path / "python"))
    assert said == interpreters.ask(sys.executable)
    assert said.version.startswith(f"{THIS}.") and Path(said.program) == Path(sys.executable).resolve()


class TestWhole:
    @pytest.fixture
    def made(self, tmp_path):
        """Create an environment with its creator's notes, and its Python."""

        def make(notes=f"home = /usr/bin\nversion_info = {THIS}.2\n", python=sys.executable):
            (tmp_path / "app/bin").mkdir(parents=True)
            (tmp_path / "app" / environments.STAMP).touch()
            (tmp_path / "app/pyvenv.cfg").write_text(notes) if notes else None
            (tmp_path / "app/bin/python").symlink_to(python)
            (tmp_path / "pins").write_text("certifi==2026.1.4\n")
            uv = Uv(tmp_path / "uv", "uv==1", Path(sys.executable))
            return python_venv.Venv(tmp_path / "app", tmp_path / "pins", Path(sys.executable), uv)

        return make

    @pytest.mark.parametrize(
        ("notes", "is_whole"),
        [
            (f"version_info = {THIS}.2\n", True),  # as uv has it
            (f"version = {THIS}.7\n", True),  # and venv
            (f"version_info = {OTHER}.2\n", False),
            (f"prompt = version_info = {THIS}\n", False),
            ("", False),
            (None, False),
        ],
    )
    def test_it_is_of_the_python_that_is_there(self, made, notes, is_whole):
        assert made(notes).is_whole() is is_whole

    def test_it_is_of_another_interpreter_of_the_same_version(self, made, tmp_path):
        (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (tmp_path / "python").chmod(0o755)
        assert not made(python=tmp_path / "python").is_whole()

    def test_its_python_is_gone(self, made):
        assert not made(python="/no/such/python").is_whole()

    def test_it_was_never_finished(self, made):
        venv = made()
        venv.stamp.unlink()
        assert not venv.is_whole()

    def test_one_whose_python_does_not_run_is_built_anew(self, made, tmp_path):
        broken = tmp_path / "broken"
        broken.write_text("#!/no/such/loader\n")
        broken.chmod(0o755)
        venv = made(python=broken)
        venv.python = broken
        venv.uv.program.parent.mkdir(parents=True)
        venv.uv.program.write_text("#!/bin/sh\necho 'cannot ask this Python' >&2; exit 2\n")
        venv.uv.program.chmod(0o755)
        assert not venv.is_whole() and venv.pending() == [("+", "certifi==2026.1.4")]
