"""Dashboards and rules ask for metrics that exist; pages of Prometheus and files of Grafana show the same."""

from __future__ import annotations

import html
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlfleet.stack.plugins.plugin_utils import consoles, dashboards, grafana, services
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "roles/prometheus/files/rules").glob("*.yml"))
KNOWN = Path(__file__).with_name("known_metrics.yml")
# Every service on one host.
GROUPS = {name: ["a"] for name in [*services.SERVICES, "worker_custom", "gpu", "all"]}
PANELS = [(dashboard, panel) for dashboard in dashboards.all_dashboards() for panel in dashboard.panels]
QUERIES = [(dashboard, panel, query) for dashboard, panel in PANELS for query in panel.queries]
# Of Prometheus' own annotations, which the schema of all data sources does not have.
OF_THE_SOURCE = ("titleFormat", "textFormat")
NOT_METRICS = re.compile(
    r'"[^"]*"|\[[^\]]*\]|\b(by|without|on|ignoring|group_left|group_right) *\([^)]*\)'
    r"|\b(and|or|unless|offset|bool|Inf)\b"
)


def _id(value: object) -> str:
    return value.name if isinstance(value, dashboards.Dashboard) else getattr(value, "title", "query")


def _rules(kind: str) -> list[dict]:
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def _metrics(expr: str) -> set[str]:
    """Return the names in a query that are neither functions nor labels."""
    bare = re.sub(r"\{[^}]*\}", "{}", NOT_METRICS.sub(" ", expr))
    return set(re.findall(r"\b[a-zA-Z_][\w:]*\b(?! *\()", bare))


# --- the data --------------------------------------------------------------------------------------------------------


def test_each_dashboard_has_its_place_and_titles_of_its_own() -> None:
    files = sorted(dashboards.DIRECTORY.glob("*.yml"))
    assert sorted(yaml.safe_load(file.read_text())["position"] for file in files) == list(range(1, len(files) + 1))
    for dashboard in dashboards.all_dashboards():
        shown = [(row.title, panel.title) for row in dashboard.rows for panel in row.panels]
        assert len(set(shown)) == len(shown)


@pytest.mark.parametrize(("dashboard", "panel"), PANELS, ids=_id)
def test_panel_is_complete(dashboard: dashboards.Dashboard, panel: dashboards.Panel) -> None:
    assert panel.kind in grafana.KINDS
    assert {panel.unit, *(query.unit for query in panel.queries)} <= set(grafana.UNITS)
    assert set(panel.needs) <= {*services.SERVICES, "gpu"}
    assert panel.queries or panel.kind == "alerts"
    assert bool(panel.labels) == (panel.kind == "table")
    assert panel.kind == "number" or all(query.legend for query in panel.queries)
    assert not panel.may_be_empty.endswith(".")
    if panel.kind == "table":
        # Rows of several queries meet by these labels alone.
        by = f"by ({', '.join(panel.labels)}) ("
        assert [query.expr for query in panel.queries if by not in query.expr] == []


def test_every_alert_is_on_a_panel_and_no_other() -> None:
    known = {rule["alert"] for rule in _rules("alert")}
    shown = {alert for _dashboard, panel in PANELS for alert in panel.alerts}
    assert shown - known == set()
    # Alerts about what nothing collects yet have no panel.
    assert known - shown == {"Watchdog", "BackupOld", "RestoreDrillOld"}


def test_every_metric_is_known() -> None:
    application = (ROOT / "roles/serving/files/application/mlfleet_serving/metrics.py").read_text()
    declared = (ROOT / "roles/prometheus/templates/declared.yml.j2").read_text()
    drift = (ROOT / "src/mlfleet/drift/outputs.py").read_text()
    listed = set(yaml.safe_load(KNOWN.read_text()))
    known = {
        "ALERTS",
        "up",
        "scrape_duration_seconds",
        *listed,
        *(rule["record"] for rule in _rules("record")),
        *re.findall(r"record: (\w+)", declared),
        *(f"mlfleet_drift_{name}" for name in re.findall(r'gauge\("(\w+)"', drift)),
        "mlfleet_drift_last_success_timestamp_seconds",
        *(
            name + suffix
            for kind, name in re.findall(r'(Counter|Gauge|Histogram|Summary)\(\s*"(\w+)"', application)
            for suffix in {"Counter": ("_total",), "Gauge": ("",)}.get(kind, ("_sum", "_count", "_bucket"))
        ),
    }
    exprs = [query.expr for _dashboard, _panel, query in QUERIES] + [rule["expr"] for rule in _rules("expr")]
    used = set().union(*map(_metrics, exprs))
    assert used - known == set()
    assert listed - used == set()


def test_names_of_metrics_are_found_in_queries() -> None:
    expr = 'sum by (host) (rate(a_total{b=~"c|{d}"}[5m])) / on (host) group_left (e) (max(f:g > 0) or vector(0)) > -Inf'
    assert _metrics(expr) == {"a_total", "f:g"}


def test_queries_are_understood_by_prometheus(promtool: str, tmp_path: Path) -> None:
    exprs = [query.expr for _dashboard, _panel, query in QUERIES]
    exprs += [grafana.FIRING, dashboards.panels_question(GROUPS)]
    rules = [{"record": f"query_{number}", "expr": expr} for number, expr in enumerate(exprs)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(exprs)} rules found" in done.stdout


# --- which panels an inventory has -----------------------------------------------------------------------------------


def test_other_filters_are_loaded_without_reading_the_dashboards() -> None:
    """Ansible loads all of a collection's filters for each task, in a process of its own."""
    name = dashboards.__name__
    check = f"import {name} as found; assert not found.all_dashboards.cache_info().currsize"
    subprocess.run([sys.executable, "-c", f"import sys; sys.path = {sys.path!r}; {check}"], check=True)


def test_panels_are_those_of_watched_services() -> None:
    def names(groups: dict[str, list[str]]) -> set[str]:
        return {dashboard.name for dashboard in dashboards.of_groups(groups)}

    assert names(GROUPS) == {dashboard.name for dashboard in dashboards.all_dashboards()}
    tracking = {"exporters": ["a"], "prometheus": ["a"], "postgres": ["a"], "redis": ["b"]}
    assert names(tracking) == {"fleet", "hosts", "tracking"}
    shown = {panel.needs for dashboard in dashboards.of_groups(tracking) for panel in dashboard.panels}
    assert ("postgres",) in shown and ("redis",) not in shown
    assert names({"prometheus": ["a"]}) == {"fleet"}
    assert names({"prometheus": ["a"], "minio": ["b"]}) == {"fleet", "tracking"}
    with_own_stores = {"exporters": ["a"], "restapi": ["a"], "worker_custom": ["a"], "nginx": ["a"]}
    queries = [
        query.expr for each in dashboards.of_groups(with_own_stores) for panel in each.panels for query in panel.queries
    ]
    assert not [expr for expr in queries if re.search("dioptra_(jobs|oldest)|rq_jobs|queue_workers", expr)]
    workers = {"exporters": ["a"], "worker_custom": ["a"], "redis": ["a"]}
    assert ("workers", "redis") in {panel.needs for each in dashboards.of_groups(workers) for panel in each.panels}


def test_queries_without_data_are_named() -> None:
    groups = {"exporters": ["a"], "drift": ["a"]}
    question = dashboards.panels_question(groups)
    asked = re.findall(r'"query", "(\d+)"', question)
    assert asked == list(map(str, range(len(asked)))) and len(asked) > 20
    assert "mlfleet_drift_resources" not in question  # until the first check
    assert dashboards.panels_without_data([], groups) == []
    assert dashboards.panels_without_data([{"metric": {"query": "0"}}], groups) == [
        'Fleet: Hosts that answer: count(max by (host) (up{job=~"node|mlfleet"}) == 1 '
        "and on (host) mlfleet_declared_unit) or 0 * count(up)"
    ]


# --- pages of Prometheus ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    files = consoles.console_pages(GROUPS, "/pages", "https://a.example.org:33000")
    return {Path(file["path"]).name: file["content"] for file in files}


def test_each_panel_is_on_its_page(pages: dict[str, str]) -> None:
    assert list(pages) == [
        "index.html",
        *(f"{each.name}.html" for each in dashboards.all_dashboards()[1:]),
        "runbooks.html",
    ]
    for dashboard, page in zip(dashboards.all_dashboards(), pages.values(), strict=False):
        found = [json.loads(html.unescape(data)) for data in re.findall(r'data-panel="([^"]*)"', page)]
        assert [[query["expr"] for query in each["queries"]] for each in found] == [
            [query.expr for query in panel.queries] for panel in dashboard.panels
        ]
        assert re.findall("<h3>(.*)</h3>", page) == [html.escape(panel.title) for panel in dashboard.panels]


def test_pages_lead_to_each_other_and_to_grafana(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        links = re.findall('<a href="([^"?]*)"', page)
        assert {*pages, "../alerts", "../targets", "https://a.example.org:33000"} <= set(links)
        assert re.findall('href="([^"]*)" data-page aria-current', page) == [name]


def test_pages_contain_nothing_that_prometheus_would_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = '{{ query "up" }}</article><script>"\''
    former = dashboards.all_dashboards()[0]
    panel = replace(former.panels[1], title=bad, note=bad, queries=(dashboards.Query(bad, bad),))
    made = replace(former, title=bad, rows=(dashboards.Row(bad, (panel,)),))
    monkeypatch.setattr(dashboards, "all_dashboards", lambda: [made])
    page = consoles.console_pages(GROUPS, "/pages")[0]["content"]
    assert re.findall("{{.*?}}", page) == ['{{ template "mlfleet" }}']
    assert "<script" not in page
    (data,) = re.findall(r'data-panel="([^"]*)"', page)
    assert json.loads(html.unescape(data))["queries"][0]["expr"] == bad


def test_runbook_of_every_alert_has_its_place(pages: dict[str, str]) -> None:
    found = set(re.findall('id="(.*?)"', pages["runbooks.html"]))
    assert {rule["alert"].lower() for rule in _rules("alert")} <= found
    assert re.findall('href="([^#"][^"]*[.]md[^"]*)"', pages["runbooks.html"]) == []
    assert "{{" not in pages["runbooks.html"].replace('{{ template "mlfleet" }}', "")


def test_library_and_role_agree_on_units_and_kinds() -> None:
    library = (ROOT / "roles/prometheus/files/consoles/page.lib").read_text()
    formats, kinds = (
        re.search(rf"const {name} = {{\n(.*?)\n}};", library, re.DOTALL).group(1) for name in ("FORMATS", "KINDS")
    )
    assert set(re.findall(r"^  (\w+):", formats, re.MULTILINE)) == set(grafana.UNITS)
    assert set(re.findall(r"^  async (\w+)\(", kinds, re.MULTILINE)) == set(grafana.KINDS)
    ranges = re.search("const RANGES = {(.*)}", library).group(1)
    assert tuple(re.findall(r'"(\w+)":', ranges)) == consoles.RANGES


# --- dashboards of Grafana -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_for_grafana() -> dict[str, dict]:
    plugins.register_default_plugins()
    files = grafana.grafana_dashboards(GROUPS, "/dashboards")
    assert files == grafana.grafana_dashboards(GROUPS, "/dashboards")
    return {Path(file["path"]).name: json.loads(file["content"]) for file in files}


def test_every_dashboard_has_an_identity_of_its_own(made_for_grafana: dict[str, dict]) -> None:
    assert list(made_for_grafana) == [f"{dashboard.name}.json" for dashboard in dashboards.all_dashboards()]
    assert [made["uid"] for made in made_for_grafana.values()] == [
        f"mlfleet-{Path(name).stem}" for name in made_for_grafana
    ]
    assert all(re.fullmatch(r"[\w-]{1,40}", made["uid"]) for made in made_for_grafana.values())


def test_every_query_and_title_is_kept(made_for_grafana: dict[str, dict]) -> None:
    for dashboard, made in zip(dashboards.all_dashboards(), made_for_grafana.values(), strict=True):
        panels = [panel for panel in made["panels"] if panel["type"] != "row"]
        assert [panel["title"] for panel in panels] == [panel.title for panel in dashboard.panels]
        for panel, source in zip(panels, dashboard.panels, strict=True):
            exprs = [query.expr for query in source.queries] or [grafana.FIRING]
            assert [target["expr"] for target in panel["targets"]] == exprs
            assert len({target["refId"] for target in panel["targets"]}) == len(exprs)


def test_panels_have_ids_and_do_not_overlap(made_for_grafana: dict[str, dict]) -> None:
    for made in made_for_grafana.values():
        panels = made["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        places = [panel["gridPos"] for panel in panels]
        assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
        for one, other in itertools.combinations(places, 2):
            assert (
                one["x"] + one["w"] <= other["x"]
                or other["x"] + other["w"] <= one["x"]
                or one["y"] + one["h"] <= other["y"]
                or other["y"] + other["h"] <= one["y"]
            ), (one, other)


def _lost(former: object, read: object, path: str = "") -> list[str]:
    """Return what is no longer the same after it was read in the types of Grafana's schema."""
    if isinstance(former, dict) and isinstance(read, dict):
        return [each for key in former for each in _lost(former[key], read.get(key, "(nothing)"), f"{path}.{key}")]
    if isinstance(former, list) and isinstance(read, list) and len(former) == len(read):
        return [each for one, other in zip(former, read, strict=True) for each in _lost(one, other, f"{path}[]")]
    return [] if former == read else [f"{path}: {former!r} is {read!r}"]


def test_dashboards_are_those_of_grafanas_schema(made_for_grafana: dict[str, dict]) -> None:
    for made in made_for_grafana.values():
        read = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(made)))
        assert [each for each in _lost(made, read) if not each.split(":")[0].endswith(OF_THE_SOURCE)] == []


@pytest.mark.parametrize(
    ("place", "name"), [((), "titel"), (("panels", 1), "querys"), (("panels", -1, "targets", 0), "epxr")]
)
def test_a_name_outside_of_the_schema_is_found(made_for_grafana: dict[str, dict], place: tuple, name: str) -> None:
    made = json.loads(json.dumps(made_for_grafana["fleet.json"]))
    part = made
    for step in place:
        part = part[step]
    part[name] = "x"
    read = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(made)))
    assert any(name in each for each in _lost(made, read))
