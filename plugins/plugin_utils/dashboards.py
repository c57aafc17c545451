# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dashboards, which are data of role C(topology)."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.mlfleet.stack.plugins.plugin_utils import services

DIRECTORY = Path(__file__).parents[2] / "roles/topology/meta/dashboards"
WATCHED = "exporters"
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
    """A panel, as explained in docs/dashboards.md."""

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
    data = yaml_load(file.read_text(encoding="utf-8"))
    rows = (
        Row(row["title"], tuple(_panel(fields, row.get("needs", [])) for fields in row["panels"]))
        for row in data["rows"]
    )
    return data["position"], Dashboard(file.stem, data["title"], tuple(rows))


@functools.cache
def all_dashboards() -> list[Dashboard]:
    """Read them once, and only in a process that needs them: the filters beside theirs are loaded for every task."""
    return [dashboard for _position, dashboard in sorted(map(_read, DIRECTORY.glob("*.yml")), key=lambda each: each[0])]


def _watched(groups: Groups) -> set[str]:
    """Return the services and groups of which there are metrics."""
    hosts = set(groups.get(WATCHED, ()))
    found = {name for name, members in groups.items() if hosts.intersection(members)}
    asked = {name for name in services.asked_directly() if groups.get(name)}
    return found | set(map(services.service_of, found)) | asked


def of_groups(groups: Groups) -> list[Dashboard]:
    """Return the dashboards with the panels of services that these groups have."""
    watched = _watched(groups)
    found = []
    for dashboard in all_dashboards():
        rows = [
            replace(row, panels=tuple(panel for panel in row.panels if watched.issuperset(panel.needs)))
            for row in dashboard.rows
        ]
        if shown := tuple(row for row in rows if row.panels):
            found.append(replace(dashboard, rows=shown))
    return found


# --- whether every panel has data ------------------------------------------------------------------------------------


def _queries(groups: Groups) -> list[tuple[str, str]]:
    """Return the queries that must have data, with their dashboard and panel."""
    return [
        (f"{dashboard.title}: {panel.title}", query.expr)
        for dashboard in of_groups(groups)
        for panel in dashboard.panels
        for query in panel.queries
        if not panel.may_be_empty
    ]


def panels_question(groups: Groups) -> str:
    """Return one query, whose result has a series for each query of the panels that has no data, with its number."""
    asked = (
        f'label_replace(absent(({expr}) > -Inf), "query", "{number}", "", "")'
        for number, (_panel, expr) in enumerate(_queries(groups))
    )
    return "\nor ".join(asked)


def panels_without_data(answer: Iterable[Mapping[str, Any]], groups: Groups) -> list[str]:
    """Return dashboard, panel and query of each series in the result of C(panels_question)."""
    queries = _queries(groups)
    return [": ".join(queries[int(series["metric"]["query"])]) for series in answer]
