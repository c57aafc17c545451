"""Alert rules do what their tests say, and each has a severity, a summary, a runbook and tests."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "roles/prometheus/files/rules").glob("*.yml"))
TESTS = sorted((ROOT / "tests/rules").glob("*.yml"))
RUNBOOKS = ROOT / "docs/runbooks.md"
SEVERITIES = {"critical", "warning", "none"}
ALWAYS = "Watchdog"
GOOD = {
    "alert": "DiskFull",
    "labels": {"severity": "critical"},
    "annotations": {"summary": "Disk full.", "runbook": "docs/runbooks.md#diskfull"},
}


def _run(*command: str, cwd: str | Path = ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout


def _alerts(files: Iterable[Path]) -> list[dict]:
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def _expectations(files: Iterable[Path]) -> list[dict]:
    tests = [test for file in files for test in yaml.safe_load(file.read_text())["tests"]]
    return [expected for test in tests for expected in test["alert_rule_test"]]


def _headings(page: Path) -> set[str]:
    return set(re.findall(r"^### (\w+)$", page.read_text(), re.MULTILINE))


def _problems(alerts: list[dict], headings: set[str], expectations: list[dict]) -> list[str]:
    names = {alert["alert"] for alert in alerts}
    problems = [f"{name} is a heading of the runbooks, but no alert" for name in sorted(headings - names)]
    for alert in alerts:
        name, annotations = alert["alert"], alert.get("annotations", {})
        tested = {bool(each["exp_alerts"]) for each in expectations if each["alertname"] == name}
        if alert.get("labels", {}).get("severity") not in SEVERITIES:
            problems.append(f"{name} has no severity")
        if not annotations.get("summary", "").endswith("."):
            problems.append(f"{name} has no summary")
        if annotations.get("runbook") != f"docs/runbooks.md#{name.lower()}":
            problems.append(f"{name} does not name its runbook")
        if name not in headings:
            problems.append(f"{name} has no runbook")
        if True not in tested:
            problems.append(f"{name} fires in no test")
        if False not in tested and name != ALWAYS:
            problems.append(f"{name} is silent in no test")
    return problems


def test_rules_are_valid(promtool: str) -> None:
    _run(promtool, "check", "rules", *map(str, RULES))


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_rules_fire_when_they_should(promtool: str, file: Path) -> None:
    _run(promtool, "test", "rules", str(file))


def test_every_alert_is_complete_and_tested() -> None:
    names = [alert["alert"] for alert in _alerts(RULES)]
    assert sorted(set(names)) == sorted(names)
    assert _problems(_alerts(RULES), _headings(RUNBOOKS), _expectations(TESTS)) == []


def test_every_file_of_rules_is_tested() -> None:
    tested = [
        (file.parent / rule).resolve() for file in TESTS for rule in yaml.safe_load(file.read_text())["rule_files"]
    ]
    assert set(tested) == set(RULES)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"labels": {"severity": "page"}}, "DiskFull has no severity"),
        ({"annotations": {"runbook": "docs/runbooks.md#diskfull"}}, "DiskFull has no summary"),
        ({"annotations": {"summary": "Full.", "runbook": "docs/runbooks.md"}}, "DiskFull does not name its runbook"),
    ],
)
def test_an_incomplete_alert_is_found(changed: dict, problem: str) -> None:
    tested = [{"alertname": "DiskFull", "exp_alerts": each} for each in ([], [{}])]
    assert _problems([GOOD], {"DiskFull"}, tested) == []
    assert _problems([GOOD | changed], {"DiskFull"}, tested) == [problem]


def test_an_untested_alert_is_found() -> None:
    fires, silent = {"alertname": "DiskFull", "exp_alerts": [{}]}, {"alertname": "DiskFull", "exp_alerts": []}
    assert _problems([GOOD], {"DiskFull"}, [silent]) == ["DiskFull fires in no test"]
    assert _problems([GOOD], {"DiskFull"}, [fires]) == ["DiskFull is silent in no test"]
    assert _problems([GOOD], {"Old"}, [fires, silent]) == [
        "Old is a heading of the runbooks, but no alert",
        "DiskFull has no runbook",
    ]


@pytest.mark.parametrize(
    ("former", "changed"), [("< 0.05", "< 0.03"), ("< 0.05", "< 0.07"), ("for: 5m", "for: 30m"), ("on {{", "of {{")]
)
def test_a_changed_rule_fails_its_tests(promtool: str, tmp_path: Path, former: str, changed: str) -> None:
    text = (ROOT / "roles/prometheus/files/rules/hosts.yml").read_text()
    assert former in text
    (tmp_path / "rules.yml").write_text(text.replace(former, changed))
    tests = yaml.safe_load((ROOT / "tests/rules/hosts.yml").read_text()) | {"rule_files": ["rules.yml"]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    with pytest.raises(AssertionError, match="alertname: DiskAlmostFull"):
        _run(promtool, "test", "rules", str(tmp_path / "tests.yml"))
