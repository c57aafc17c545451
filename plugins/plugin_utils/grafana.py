# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dashboards in Grafana's form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.files import MADE
from ansible_collections.mlfleet.stack.plugins.plugin_utils.dashboards import (
    Dashboard,
    Groups,
    Panel,
    Query,
    of_groups,
)

# The units of values.
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
# The kinds of panels, with their width and height in a grid of 24 columns.
KINDS = {
    "alerts": ("table", 24, 8),
    "chart": ("timeseries", 12, 8),
    "number": ("stat", 4, 4),
    "table": ("table", 24, 8),
}
COLUMNS = 24
FIRING = 'ALERTS{alertstate="firing",alertname!="Watchdog"}'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 39
OF_SERIES: dict[str, dict[str, Any]] = {
    "timeseries": {"custom": {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never"}},
    "stat": {"thresholds": {"mode": "absolute", "steps": [{"color": "text", "value": None}]}},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "graphMode": "none"},
}


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
        "templating": {"list": [{"type": "datasource", "name": "datasource", "query": "prometheus"}]},
        "links": [{"type": "dashboards", "title": "mlfleet", "tags": ["mlfleet"], "keepTime": True}],
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
    kind, _width, _height = KINDS[panel.kind]
    queries = panel.queries or (Query(FIRING),)
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "expr": query.expr,
            "legendFormat": "" if kind == "table" else re.sub(r"\{(\w+)\}", r"{{\1}}", query.name) or panel.title,
            "instant": panel.kind != "chart",
            "range": panel.kind == "chart",
            "format": "table" if kind == "table" else "time_series",
        }
        for number, query in enumerate(queries)
    ]
    defaults = {"unit": UNITS[panel.unit]} | ({"noValue": panel.may_be_empty} if panel.may_be_empty else {})
    return {
        "type": kind,
        "title": panel.title,
        "description": panel.note,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults | OF_SERIES.get(kind, {}), "overrides": _units_of_columns(panel)},
        "options": OPTIONS.get(kind, {}),
        "transformations": _columns(panel),
    }


def _units_of_columns(panel: Panel) -> list[dict[str, Any]]:
    if not panel.labels:
        return []
    return [
        {"matcher": {"id": "byName", "options": query.name}, "properties": [{"id": "unit", "value": UNITS[query.unit]}]}
        for query in panel.queries
    ]


def _columns(panel: Panel) -> list[dict[str, Any]]:
    """Return how the results of several queries become a table, with a column for each."""
    if panel.kind == "alerts":
        hidden = ["Time", "Value", "__name__", "alertstate", "instance", "job"]
        return [{"id": "organize", "options": {"excludeByName": dict.fromkeys(hidden, True)}}]
    if not panel.labels:
        return []
    letters = (
        [f" #{chr(ord('A') + number)}" for number in range(len(panel.queries))] if len(panel.queries) > 1 else [""]
    )
    names = {f"Value{letter}": query.name for letter, query in zip(letters, panel.queries, strict=True)}
    places = {name: place for place, name in enumerate([*panel.labels, *names])}
    organized = {"excludeByName": {"Time": True}, "renameByName": names, "indexByName": places}
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": organized}]
