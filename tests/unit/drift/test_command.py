"""`mlfleet drift` from the user's view, over a project whose hosts are this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlfleet.cli import app
from mlfleet.drift import run

MALLORY = {"kind": "PostgreSQL role", "name": "mallory", "remove": "dropuser mallory"}
MLFLEET = [sys.executable, "-c", "from mlfleet.cli import app; app()", "drift", "-i", "inventory"]


def drift(*arguments: str, code: int) -> str:
    result = CliRunner().invoke(app, ["drift", "-i", "inventory", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def refused(*arguments: str) -> str:
    """Return the only line of a command that ends before the run."""
    output = drift(*arguments, code=1)
    assert output.count("\n") == 1, output
    return output


Runs = list[tuple[str, str | None, str | None]]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Return playbook, limit and tags of each run."""
    runs: Runs = []
    play = run.play

    def watched(target: run.Target, playbook: str, *rest: object) -> object:
        runs.append((playbook, target.limit, target.tags))
        return play(target, playbook, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "play", watched)
    return runs


def test_drift_is_mended_by_its_role_alone_and_then_all_is_as_declared(
    project: Path, declare: Callable[..., None], ran: Runs
) -> None:
    declare("one", undeclared=[MALLORY])
    output = drift("--fix", "--yes", "--history", "kept", "--since", "last", "--json", "report.json", code=2)
    assert ran == [(run.CHECK, None, None), (run.CONVERGE, "one,two", "service"), (run.CHECK, None, None)]
    assert "not fixed" not in output
    assert "left to you: one: PostgreSQL role mallory: remove it with: dropuser mallory" in output
    assert (project / "state-two/a.conf").read_text() == "a = 1\n"
    report = json.loads(Path("report.json").read_text())
    assert [item["object"] for item in report["drift"]] == ["PostgreSQL role mallory"]
    assert report["hosts"][1] == {"name": "two", "state": "declared", "roles": ["accounts", "service"]}
    assert len(list(Path("kept").iterdir())) == 2
    assert "s3cret" not in "".join(path.read_text() for path in [Path("report.json"), *Path("kept").iterdir()])

    declare("one", undeclared=[])
    output = drift("--history", "kept", "--since", "last", code=0)
    assert "0 new, 0 still there, 1 gone" in output
    assert re.search(r"^inventory: 2 hosts as declared \(\d+ s\)$", output, re.M)


def test_drift_of_a_host_is_mended_with_all_that_take_it_up(declare: Callable[..., None], ran: Runs) -> None:
    declare("one", certificate_ends=True)
    output = drift("--limit", "one", "--fix", "--yes", code=2)
    assert ran == [(run.CHECK, "one", None), (run.CONVERGE, "one", None), (run.CHECK, "one", None)]
    assert "To fix: site.yml --limit one\n" in output


def test_accepted_drift_is_told_and_not_counted(declare: Callable[..., None]) -> None:
    entry = {"object": "*", "reason": "not yet", "until": "2999-12-31"}
    declare(drift_ignore=[entry])
    output = drift("--limit", "one", code=0)
    assert "accepted until 2999-12-31: not yet" in output and "1 host as declared, 3 accepted" in output


def test_failed_task_leaves_the_answer_unknown(declare: Callable[..., None]) -> None:
    declare("one", broken=True)
    output = drift("--junit", "junit.xml", code=1)
    assert "failed: one: Fail when a test wants it: it is broken: badly" in output
    assert "on 1 of 2 hosts, 1 host failed" in output
    assert Path("junit.xml").exists()


def test_tags_and_variables_reach_ansible(project: Path) -> None:
    Path("vars.yml").write_text("broken: true\n")
    assert "1 host as declared" in drift("--tags", "accounts", "--limit", "two", code=0)
    assert "it is broken" in drift("--tags", "service", "-e", "@vars.yml", code=1)


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "check", lambda *_arguments: pytest.fail("it ran"))


@pytest.mark.usefixtures("project", "no_run")
class TestRefusedBeforeTheRun:
    def test_report_that_cannot_be_written(self) -> None:
        for option in ("--json", "--html", "--prometheus", "--junit"):
            assert "no report can be written to nowhere: No such file or directory." in refused(option, "nowhere/x")
        assert "it is a directory" in refused("--json", "inventory")

    def test_history_that_cannot_be_made(self) -> None:
        Path("file").touch()
        assert "file cannot be created" in refused("--history", "file")

    def test_malformed_acceptance(self, declare: Callable[..., None]) -> None:
        declare(drift_ignore=[{"object": "/etc/x"}])
        assert "entry 1 of drift_ignore of one: 'reason' is a required property." in refused()

    def test_wrong_vault_password(self) -> None:
        Path("inventory/group_vars/all/vault.yml").write_text("secret: x\n")
        Path("right").write_text("right")
        Path("wrong").write_text("wrong")
        words = ["ansible-vault", "encrypt", "--vault-password-file=right", "inventory/group_vars/all/vault.yml"]
        subprocess.run([str(Path(sys.executable).with_name(words[0])), *words[1:]], check=True, capture_output=True)
        assert "inventory cannot be read: " in refused("--vault-password-file", "wrong")
        with pytest.raises(pytest.fail.Exception, match="it ran"):
            CliRunner().invoke(
                app, ["drift", "-i", "inventory", "--vault-password-file", "right"], catch_exceptions=False
            )

    def test_hosts_that_are_not_there(self) -> None:
        assert "inventory has no host that is 'nobody'" in refused("--limit", "nobody")
        Path("inventory/hosts.yml").write_text("all: [")
        assert "inventory cannot be read: " in refused()

    def test_comparison_with_nothing(self) -> None:
        assert "--history" in refused("--since", "last")
        assert "report.json cannot be read" in refused("--since", "report.json")

    def test_question_that_nobody_can_answer(self) -> None:
        assert "add --yes" in refused("--fix")

    def test_wrong_usage_ends_with_1(self) -> None:
        assert "No such option" in drift("--nope", code=1)
        for words in (["drift"], ["drfit"], ["--nope", "drift"], ["lab", "up", "--nope"]):
            assert CliRunner().invoke(app, words).exit_code == 1, words


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_nothing(
    number: signal.Signals, project: Path, declare: Callable[..., None], tmp_path: Path
) -> None:
    seconds = f"61.{os.getpid()}{int(number)}"
    declare(wait_seconds=seconds)
    private = tmp_path / "private"
    private.mkdir()
    words = [*MLFLEET, "--json", "report.json", "--history", "kept"]
    environment = os.environ | {"TMPDIR": str(private)}
    process = subprocess.Popen(words, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not running(seconds):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    (directory,) = private.glob("mlfleet-*")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert not [path for path in directory.rglob("*") if path.is_file() and "job_events" in str(path)]
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (1, "", "mlfleet: interrupted before the answer was known.\n")
    assert not list(private.glob("mlfleet-*")) and not Path("report.json").exists() and not list(Path("kept").iterdir())
    assert not running(str(project)), "a process of Ansible is left"


def running(words: str) -> list[str]:
    """Return the command lines of processes with these words."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if words in line]
