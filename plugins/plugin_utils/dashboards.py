# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dashboards, which are data of role C(topology), read once, as pages of Prometheus and as those of Grafana."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.mlfleet.stack.plugins.plugin_utils import services

DIRECTORY = Path(__file__).parents[2] / "roles/topology/meta/dashboards"
WATCHED = "exporters"
ASKED_DIRECTLY = ("prometheus", "alertmanager")
# The units of values, as Grafana calls them.
UNITS = {
    "bytes": "decbytes",
    "bytes_per_second": "Bps",
    "celsius": "celsius",
    "count": "short",
    "number": "none",
    "per_second": "cps",
    "ratio": "percentunit",
    "seconds": "s",
    "state": "bool_yes_no",
}
# Kinds of panels, as Grafana calls them, with their width and height in its grid of 24 columns.
KINDS = {
    "alerts": ("table", 24, 8),
    "chart": ("timeseries", 12, 8),
    "number": ("stat", 4, 4),
    "table": ("table", 24, 8),
}
COLUMNS = 24
FIRING = 'ALERTS{alertstate="firing",alertname!="Watchdog"}'
Groups = Mapping[str, list[str]]


@dataclass(frozen=True)
class Query:
    """PromQL, and what to call its series: labels, or a text with C({label})."""

    expr: str
    legend: str | tuple[str, ...] = ""
    unit: str = ""

    @property
    def name(self) -> str:
        return self.legend if isinstance(self.legend, str) else " ".join(f"{{{label}}}" for label in self.legend)


@dataclass(frozen=True)
class Panel:
    """A panel, as explained in roles/topology/meta/dashboards/README.md."""

    title: str
    kind: str
    queries: tuple[Query, ...] = ()
    unit: str = "count"
    labels: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    note: str = ""
    may_be_empty: str = ""


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    name: str
    title: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row.panels]


def _frozen(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _panel(fields: Mapping[str, Any], needs: list[str]) -> Panel:
    panel = Panel(**_frozen({"needs": needs, **fields}))
    queries = (Query(**_frozen(query)) for query in fields.get("queries", ()))
    return replace(panel, queries=tuple(replace(query, unit=query.unit or panel.unit) for query in queries))


def _read(file: Path) -> tuple[int, Dashboard]:
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    rows = (
        Row(row["title"], tuple(_panel(fields, row.get("needs", [])) for fields in row["panels"]))
        for row in data["rows"]
    )
    return data["position"], Dashboard(file.stem, data["title"], tuple(rows))


DASHBOARDS = [dashboard for _position, dashboard in sorted(map(_read, DIRECTORY.glob("*.yml")), key=lambda each: each[0])]


def _watched(groups: Groups) -> set[str]:
    """Return the services and groups of which there are metrics."""
    hosts = set(groups.get(WATCHED, ()))
    found = {name for name, members in groups.items() if hosts.intersection(members)}
    return found | set(map(services.service_of, found)) | {name for name in ASKED_DIRECTLY if groups.get(name)}


def of_groups(groups: Groups) -> list[Dashboard]:
    """Return the dashboards with the panels of services that these groups have."""
    watched = _watched(groups)
    found = []
    for dashboard in DASHBOARDS:
        rows = [
            replace(row, panels=tuple(panel for panel in row.panels if watched.issuperset(panel.needs)))
            for row in dashboard.rows
        ]
        if shown := tuple(row for row in rows if row.panels):
            found.append(replace(dashboard, rows=shown))
    return found


# --- pages of Prometheus ---------------------------------------------------------------------------------------------

MADE = "Made by mlfleet; changes are undone by the next run."
RUNBOOKS = Path(__file__).parents[2] / "docs/runbooks.md"
RANGES = ("1h", "6h", "1d", "7d")
PAGE = """<!doctype html>
<!-- {made} -->
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
{{{{ template "mlfleet" }}}}
</head>
<body>
<header>
<nav>{menu}</nav>
<nav class="ranges">{ranges}</nav>
</header>
<main{kind}>
<h1>{title}</h1>
{content}
</main>
</body>
</html>
"""


def _text(value: str) -> str:
    """Escape a text for HTML, and for Go's templates, which begin with two braces."""
    return html.escape(value).replace("{{", "{&#123;")


def _shown(panel: Panel) -> str:
    """Return a panel, whose values the script of the pages gets from Prometheus."""
    data = {name: value for name, value in asdict(panel).items() if name not in ("title", "kind", "needs", "note")}
    data["queries"] = [{"expr": query.expr, "legend": query.name, "unit": query.unit} for query in panel.queries]
    note = f'<p class="note">{_text(panel.note)}</p>' if panel.note else ""
    attributes = f'class="panel {panel.kind}" data-kind="{panel.kind}" data-panel="{_text(json.dumps(data))}"'
    return f'<article {attributes}>\n<h3>{_text(panel.title)}</h3>{note}\n<div class="body"></div>\n</article>'


def _row(row: Row) -> str:
    panels = "\n".join(map(_shown, row.panels))
    return f'<section>\n<h2>{_text(row.title)}</h2>\n<div class="grid">\n{panels}\n</div>\n</section>'


def _runbooks() -> str:
    """Return the runbooks as HTML; links to other pages of the documentation become text."""
    # Imported here, because only Prometheus needs it.
    from markdown_it import MarkdownIt

    text = RUNBOOKS.read_text(encoding="utf-8").partition("\n")[2]
    shown = MarkdownIt().enable("table").render(re.sub(r"\[([^\]]+)\]\((?!#|https?:)[^)]+\)", r"\1", text))
    shown = re.sub(r"<h([23])>(\w+)</h\1>", lambda match: f'<h{match[1]} id="{match[2].lower()}">{match[2]}</h{match[1]}>', shown)
    return shown.replace("{{", "{&#123;")


def console_pages(groups: Groups, directory: str, grafana: str = "") -> list[dict[str, str]]:
    """Return the files of Prometheus' console templates.

    :param directory: where they are
    :param grafana: address of Grafana, if there is one
    """
    shown = of_groups(groups)
    pages = {f"{dashboard.name}.html": dashboard.title for dashboard in shown} | {"runbooks.html": "Runbooks"}
    others = {"../alerts": "Alerts", "../targets": "Targets", "../graph": "Prometheus"} | ({grafana: "Grafana"} if grafana else {})

    def page(name: str, content: str, kind: str = "") -> dict[str, str]:
        links = [
            f'<a href="{_text(path)}"{" aria-current=page" if path == name else ""}{" data-page" if path in pages else ""}>{_text(title)}</a>'
            for path, title in (pages | others).items()
        ]
        text = PAGE.format(
            made=MADE,
            title=_text(pages[name]),
            menu="".join(links),
            ranges="" if kind else "".join(f'<a href="?range={each}">{each}</a>' for each in RANGES) + "<span>UTC</span>",
            kind=kind,
            content=content,
        )
        return {"path": f"{directory}/{name}", "content": text}

    return [
        *(page(f"{dashboard.name}.html", "\n".join(map(_row, dashboard.rows))) for dashboard in shown),
        page("runbooks.html", _runbooks(), ' class="text"'),
    ]


# --- dashboards of Grafana -------------------------------------------------------------------------------------------

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 39


def grafana_dashboards(groups: Groups, directory: str) -> list[dict[str, str]]:
    """Return files of Grafana's dashboards; each asks the Prometheus that is chosen in its variable C(datasource).

    :param directory: where they are
    """
    return [
        {"path": f"{directory}/{dashboard.name}.json", "content": json.dumps(_of_grafana(dashboard), indent=1) + "\n"}
        for dashboard in of_groups(groups)
    ]


def _of_grafana(dashboard: Dashboard) -> dict[str, Any]:
    alerts = sorted({alert for panel in dashboard.panels for alert in panel.alerts})
    return {
        "uid": f"mlfleet-{dashboard.name}",
        "title": dashboard.title,
        "description": MADE,
        "tags": ["mlfleet"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "timezone": "browser",
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"}]},
        "links": [{"type": "dashboards", "title": "mlfleet", "tags": ["mlfleet"], "keepTime": True, "asDropdown": False}],
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "datasource": SOURCE,
                    "enable": True,
                    "iconColor": "red",
                    "expr": f'ALERTS{{alertstate="firing",alertname=~"{"|".join(alerts)}"}}',
                    "titleFormat": "{{alertname}}",
                    "textFormat": "{{host}} {{service}}",
                }
            ]
        },
        "panels": list(_grafana_panels(dashboard)),
    }


def _grafana_panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    """Yield the panels, from left to right and top to bottom."""
    top, number = 0, 0
    for row in dashboard.rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }
        top, left, bottom, former = top + 1, 0, top + 1, ""
        for panel in row.panels:
            number += 1
            _type, width, height = KINDS[panel.kind]
            if left + width > COLUMNS or former not in ("", panel.kind):
                top, left = bottom, 0
            yield {"id": number, **_grafana_panel(panel), "gridPos": {"x": left, "y": top, "w": width, "h": height}}
            left, bottom, former = left + width, max(bottom, top + height), panel.kind
        top = bottom


def _grafana_panel(panel: Panel) -> dict[str, Any]:
    queries = panel.queries or (Query(FIRING, "Alerts"),)
    is_table, is_chart = KINDS[panel.kind][0] == "table", panel.kind == "chart"
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "expr": query.expr,
            "legendFormat": "" if is_table else re.sub(r"\{(\w+)\}", r"{{\1}}", query.name) or panel.title,
            "instant": not is_chart,
            "range": is_chart,
            "format": "table" if is_table else "time_series",
        }
        for number, query in enumerate(queries)
    ]
    defaults: dict[str, Any] = {"unit": UNITS[panel.unit]}
    if panel.may_be_empty:
        defaults["noValue"] = panel.may_be_empty
    found = {
        "type": KINDS[panel.kind][0],
        "title": panel.title,
        "description": panel.note,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {},
    }
    if panel.kind == "alerts":
        hidden = dict.fromkeys(["Time", "Value", "__name__", "alertstate", "instance", "job"], True)
        found["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    elif is_table:
        values = {f"Value #{target['refId']}": query.name for target, query in zip(targets, queries, strict=True)}
        names = values if len(queries) > 1 else {"Value": queries[0].name}
        places = {name: place for place, name in enumerate([*panel.labels, *names])}
        found["transformations"] = [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names, "indexByName": places}},
        ]
        found["fieldConfig"]["overrides"] = [
            {"matcher": {"id": "byName", "options": query.name}, "properties": [{"id": "unit", "value": UNITS[query.unit]}]}
            for query in queries
        ]
    elif is_chart:
        defaults["custom"] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never"}
        found["options"] = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    else:
        defaults["thresholds"] = {"mode": "absolute", "steps": [{"color": "text", "value": None}]}
        found["options"] = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "graphMode": "none"}
    return found


# --- whether every panel has data ------------------------------------------------------------------------------------


def _queries(groups: Groups) -> dict[str, str]:
    """Return the queries that must have data, by their number."""
    found: dict[str, str] = {}
    for dashboard in of_groups(groups):
        for panel in dashboard.panels:
            if not panel.may_be_empty:
                found |= {f"{dashboard.title}: {panel.title}: {query.expr}": query.expr for query in panel.queries}
    return found


def panels_question(groups: Groups) -> str:
    """Return one query whose result has a series for each query of the panels that has data, with its number."""
    asked = (
        f'label_replace(count(({expr}) > -Inf), "query", "{number}", "", "")'
        for number, expr in enumerate(_queries(groups).values())
    )
    return "\nor ".join(asked)


def panels_without_data(answer: Iterable[Mapping[str, Any]], groups: Groups) -> list[str]:
    """Return the queries, with their dashboard and panel, that this result of C(panels_question) lacks."""
    found = {series["metric"]["query"] for series in answer}
    return [shown for number, shown in enumerate(_queries(groups)) if str(number) not in found]
