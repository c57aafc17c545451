"""A report has an overall state, is read as it was written, and is compared with an earlier one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mlfleet.drift.accepted import Accepted
from mlfleet.drift.report import (
    Acceptance,
    Drift,
    History,
    Host,
    Kind,
    Problem,
    Report,
    State,
    as_text,
    load,
    schema,
)
from mlfleet.project import MlfleetError

REDIS = Drift("db1", "redis", "Install the files", "/etc/redis/redis.conf", diff="@@ -1 +1 @@\n-a\n+b")
MALLORY = Drift("db1", "postgres", "Look", "PostgreSQL role mallory", Kind.UNDECLARED, remove="dropuser mallory")
ENTRY = {"object": "/etc/redis/*", "reason": "the vendor looks at it", "until": "2026-06-30"}
ACCEPTED = replace(REDIS, accepted=Acceptance(**ENTRY))
DB1, APP1 = Host("db1", State.DRIFTED, ("host", "postgres", "redis")), Host("app1", State.DECLARED, ("host",))
DOWN = Host("app1", State.UNREACHABLE)
TODAY = date(2026, 6, 30)


def report(*drift: Drift, hosts: tuple[Host, ...] = (DB1, APP1), **fields: Any) -> Report:
    return Report("prod", "2026-06-01T04:00:00+00:00", 61.5, hosts, drift, **fields)


FULL = report(
    ACCEPTED,
    MALLORY,
    hosts=(DB1, DOWN),
    unreachable=(Problem("app1", "no route"),),
    failed=(Problem("db1", "went wrong", "postgres", "Look"),),
    not_checkable=(Problem("db1", "no check mode", "postgres", "Ask"),),
    expired=(Acceptance(**ENTRY),),
    limit="all",
).compared(report(MALLORY))


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (report(hosts=(APP1,)), 0),
        (report(ACCEPTED, hosts=(APP1,)), 0),
        (report(REDIS), 2),
        (report(MALLORY), 2),
        (report(REDIS, hosts=(DB1, DOWN)), 1),
        (report(hosts=(Host("db1", State.FAILED),)), 1),
        (report(hosts=(Host("db1", State.UNKNOWN),)), 1),
    ],
)
def test_exit_status_is_2_for_drift_and_1_for_what_is_not_known(found: Report, code: int) -> None:
    assert found.exit_code == code


@pytest.mark.parametrize("found", [FULL, report()])
def test_report_follows_its_schema_and_is_read_as_it_was_written(found: Report, tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(found.to_json(), schema())
    (tmp_path / "report.json").write_text(as_text(found))
    assert load(tmp_path / "report.json") == found


def test_schema_describes_every_field() -> None:
    document = json.loads(as_text(FULL))
    assert set(document) == set(schema()["required"]) == set(schema()["properties"])
    item = schema()["properties"]["drift"]["items"]
    assert set(document["drift"][0]) == set(item["required"]) == set(item["properties"])


@pytest.mark.parametrize("text", ["", "{}", json.dumps(FULL.to_json() | {"version": 2})])
def test_another_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(MlfleetError, match=r"x\.json is not a report"):
        load(tmp_path / "x.json")


def keys(*drift: Drift) -> tuple[tuple[str, str, str], ...]:
    return tuple(item.key for item in drift)


def test_comparison_tells_new_from_still_there_and_gone() -> None:
    since = report(REDIS).compared(report(MALLORY)).since
    assert since and (since.new, since.still, since.gone) == (keys(REDIS), (), keys(MALLORY))
    since = report(REDIS).compared(report(replace(REDIS, diff="another"))).since
    assert since and (since.new, since.still, since.gone) == ((), keys(REDIS), ())


def test_what_was_not_checked_is_not_gone() -> None:
    for host in (Host("db1", State.UNREACHABLE), Host("db1", State.FAILED, ("redis",)), Host("db1", State.DRIFTED)):
        since = report(hosts=(host,)).compared(report(REDIS)).since
        assert since and since.gone == ()


@pytest.mark.parametrize(("tags", "gone"), [(None, True), ("undeclared", True), ("redis", False)])
def test_what_belongs_to_no_role_is_gone_when_its_play_has_looked(tags: str | None, gone: bool) -> None:
    unit = replace(MALLORY, role=None)
    since = replace(report(), tags=tags).compared(report(unit)).since
    assert since and bool(since.gone) == gone


def test_what_was_accepted_meanwhile_is_not_gone() -> None:
    since = report(ACCEPTED).compared(report(REDIS)).since
    assert since and (since.still, since.gone) == ((), ())


def test_history_keeps_the_last_reports(tmp_path: Path) -> None:
    history = History(tmp_path, keep=2)
    for day in (3, 1, 2):
        history.add(replace(report(REDIS), started=f"2026-06-0{day}T04:00:00+00:00"))
    (tmp_path / "20200101T000000Z.json").write_text("of another version")
    assert [kept.started[:10] for kept in history.reports()] == ["2026-06-02", "2026-06-03"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("2026*")} == {0o600}


def marked(drift: Drift = REDIS, today: date = TODAY, **entry: object) -> bool:
    return Accepted.parse({"db1": {"drift_ignore": [ENTRY | entry]}}, today).mark(drift).accepted is not None


def test_entry_counts_until_the_end_of_its_day() -> None:
    assert marked() and not marked(today=date(2026, 7, 1))


def test_entry_counts_where_all_its_patterns_match() -> None:
    assert marked(host="db*", role="red*")
    assert not marked(host="app*") and not marked(role="minio") and not marked(object="/etc/nginx/*")
    assert not marked(replace(REDIS, host="app1")), "another host's variable"


def test_expired_entry_is_told_once() -> None:
    accepted = Accepted.parse({host: {"drift_ignore": [ENTRY]} for host in ("db1", "app1")}, date(2026, 7, 1))
    assert accepted.expired == (Acceptance(**ENTRY),)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("/etc", "drift_ignore of db1: '/etc' is not of type 'array'"),
        ([ENTRY, {"object": "x", "reason": "y"}], "entry 2 of drift_ignore of db1: 'until' is a required property"),
        ([ENTRY | {"until": "soon"}], "entry 1 of drift_ignore of db1: 'soon' is not a date like 2026-12-31"),
        ([ENTRY | {"until": 20261231}], "entry 1 of drift_ignore of db1: until: 20261231 is not of type 'string'"),
        ([ENTRY | {"path": "x"}], "entry 1 of drift_ignore of db1: Additional properties are not allowed"),
        ([ENTRY | {"reason": ""}], "entry 1 of drift_ignore of db1: reason: ''"),
    ],
)
def test_malformed_entry_is_named_in_one_line(value: object, words: str) -> None:
    with pytest.raises(MlfleetError) as caught:
        Accepted.parse({"db1": {"drift_ignore": value}}, TODAY)
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)
