"""A report as a page, metrics, JUnit's XML and a table."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from mlfleet.drift import outputs, terminal
from mlfleet.drift.report import Host, Problem, Report, State

from .test_report import ACCEPTED, APP1, DB1, DOWN, FULL, MALLORY, REDIS, report

EVIL = replace(REDIS, object="/etc/<b>x", diff="+<script>alert(1)</script> & \x1b[31m")


def metrics(path: Path) -> dict[str, float]:
    """By name and labels."""
    families = text_string_to_metric_families(path.read_text())
    return {
        " ".join(
            [sample.name, *(sample.labels[label] for label in ("host", "role") if label in sample.labels)]
        ): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_count_what_is_not_accepted(tmp_path: Path) -> None:
    outputs.write(tmp_path / "x.prom", "prometheus", report(ACCEPTED, MALLORY, EVIL, hosts=(DB1, APP1)), [])
    found = metrics(tmp_path / "x.prom")
    assert found["mlfleet_drift_resources db1 redis"] == 1
    assert found["mlfleet_drift_resources db1 postgres"] == 1
    assert found["mlfleet_drift_resources db1 host"] == 0
    assert found["mlfleet_drift_host_unreachable app1"] == 0
    assert found["mlfleet_drift_duration_seconds"] == 61.5
    assert found["mlfleet_drift_last_success_timestamp_seconds"] == found["mlfleet_drift_last_run_timestamp_seconds"]


def test_last_success_outlives_a_run_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    down = replace(report(hosts=(DB1, DOWN)), started="2026-06-02T04:00:00+00:00")
    outputs.write(path, "prometheus", down, [])
    assert outputs.LAST_SUCCESS not in metrics(path)
    outputs.write(path, "prometheus", report(), [])
    success = metrics(path)[outputs.LAST_SUCCESS]
    outputs.write(path, "prometheus", down, [])
    found = metrics(path)
    assert found[outputs.LAST_SUCCESS] == success < found["mlfleet_drift_last_run_timestamp_seconds"]
    assert found["mlfleet_drift_host_unreachable app1"] == 1


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is in Debian's package prometheus")
@pytest.mark.parametrize("found", [FULL, report()])
def test_promtool_has_nothing_to_say_of_the_metrics(found: Report, tmp_path: Path) -> None:
    outputs.write(tmp_path / "x.prom", "prometheus", found, [])
    with (tmp_path / "x.prom").open() as text:
        done = subprocess.run(["promtool", "check", "metrics"], stdin=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_junit_has_a_suite_a_host_and_a_case_a_role_or_object(tmp_path: Path) -> None:
    broken = Host("node1", State.FAILED, ("host",))
    failed = (Problem("node1", "went wrong", "host", "Install"),)
    found = report(ACCEPTED, MALLORY, EVIL, hosts=(DB1, DOWN, broken), unreachable=FULL.unreachable, failed=failed)
    outputs.write(tmp_path / "x.xml", "junit", found, [])
    root = ElementTree.parse(tmp_path / "x.xml").getroot()
    suites = {suite.get("name"): suite for suite in root}
    cases = {
        name: {(case.get("classname"), case.get("name")): [child.tag for child in case] for case in suite}
        for name, suite in suites.items()
    }
    assert cases == {
        "db1": {
            ("db1.host", "is as declared"): [],
            ("db1.redis", "/etc/redis/redis.conf"): ["skipped"],
            ("db1.postgres", "PostgreSQL role mallory"): ["failure"],
            ("db1.redis", "/etc/<b>x"): ["failure"],
        },
        "app1": {("app1", "answers"): ["error"]},
        "node1": {("node1.host", "Install"): ["error"]},
    }
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "2",
        "errors": "2",
        "skipped": "1",
    }


def test_page_needs_no_other_file_and_runs_nothing(tmp_path: Path) -> None:
    found = replace(FULL, drift=(*FULL.drift, EVIL))
    outputs.write(tmp_path / "x.html", "html", found, [report(REDIS), report(), found])
    page = (tmp_path / "x.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page and "<b>x" not in page
    assert not re.search(r"(src|href)=\"(?!#)|url\(|@import", page)
    assert page.count('class="bar ') == 3
    assert page.count("<details>") == 3
    for words in ("dropuser mallory", "accepted until 2026-06-30", "no route", "Not checkable", "unreachable"):
        assert words in page


def test_page_links_to_the_monitoring(tmp_path: Path) -> None:
    outputs.write(tmp_path / "x.html", "html", report(), [report()], 'https://mon"1:39090')
    assert '<a href="https://mon&#34;1:39090">monitoring</a>' in (tmp_path / "x.html").read_text()


def test_page_of_a_first_run_has_no_chart(tmp_path: Path) -> None:
    outputs.write(tmp_path / "x.html", "html", report(), [report()])
    assert "<svg" not in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize(("kind", "mode"), [("json", 0o600), ("html", 0o600), ("junit", 0o600), ("prometheus", 0o644)])
def test_files_with_diffs_are_private_unless_they_were_not(kind: str, mode: int, tmp_path: Path) -> None:
    path = tmp_path / kind
    outputs.write(path, kind, FULL, [FULL])
    assert path.stat().st_mode & 0o777 == mode
    path.chmod(0o640)
    outputs.write(path, kind, FULL, [FULL])
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def shown(found: Report) -> str:
    console = Console(highlight=False, soft_wrap=True, width=80, force_terminal=False)
    with console.capture() as capture:
        terminal.show(console, found, "prod")
    return capture.get()


def test_nothing_but_a_line_is_shown_when_all_is_as_declared() -> None:
    assert shown(report(hosts=(APP1,))) == "prod: 1 host as declared (62 s)\n"


def test_table_names_each_object_once() -> None:
    text = shown(FULL)
    assert [line.split()[0] for line in text.splitlines()[:3]] == ["Host", "db1", "redis"]
    assert text.count("PostgreSQL role mallory") == 1 and "remove it with: dropuser mallory" in text
    assert "accepted until 2026-06-30" in text and "unreachable: app1: no route" in text
    last = "prod: 1 object not as declared on 1 of 2 hosts, 1 host did not answer, 1 accepted (62 s)"
    assert text.splitlines()[-1] == last


def test_hosts_that_fail_alike_share_a_line() -> None:
    hosts = tuple(Host(name, State.FAILED) for name in ("a", "b"))
    found = report(hosts=hosts, failed=tuple(Problem(host.name, "no secret", None, "Validate") for host in hosts))
    assert shown(found).splitlines()[0] == "failed: a, b: Validate: no secret"
