# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dashboards as console pages of Prometheus, whose scripts ask it for the values."""

from __future__ import annotations

import html
import json
import re
from dataclasses import asdict
from pathlib import Path

from ansible_collections.mlfleet.stack.plugins.module_utils.files import MADE
from ansible_collections.mlfleet.stack.plugins.plugin_utils.dashboards import Groups, Panel, Row, of_groups

RUNBOOKS = Path(__file__).parents[2] / "docs/runbooks.md"
OTHERS = {"../alerts": "Alerts", "../targets": "Targets", "../graph": "Prometheus"}
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


def _marks(path: str, shown: str) -> str:
    return " data-page" + (" aria-current=page" if path == shown else "")


def _runbooks() -> str:
    """Return the runbooks as HTML; links to other pages of the documentation become text."""
    # Imported here, because only Prometheus needs it.
    from markdown_it import MarkdownIt

    text = RUNBOOKS.read_text(encoding="utf-8").partition("\n")[2]
    shown = MarkdownIt().enable("table").render(re.sub(r"\[([^\]]+)\]\((?!#|https?:)[^)]+\)", r"\1", text))
    shown = re.sub(r"<h3>(\w+)</h3>", lambda match: f'<h3 id="{match[1].lower()}">{match[1]}</h3>', shown)
    return shown.replace("{{", "{&#123;")


def console_pages(groups: Groups, directory: str, grafana: str = "") -> list[dict[str, str]]:
    """Return the files of Prometheus' console templates.

    :param directory: where they are
    :param grafana: address of Grafana, if there is one
    """
    # Prometheus' own pages lead to the one with this name.
    shown = {"index.html" if not place else f"{each.name}.html": each for place, each in enumerate(of_groups(groups))}
    pages = {name: dashboard.title for name, dashboard in shown.items()} | {"runbooks.html": "Runbooks"}
    others = OTHERS | ({grafana: "Grafana"} if grafana else {})

    def page(name: str, content: str, kind: str = "") -> dict[str, str]:
        links = [f'<a href="{path}"{_marks(path, name)}>{_text(title)}</a>' for path, title in pages.items()]
        links += [f'<a href="{_text(path)}">{title}</a>' for path, title in others.items()]
        ranges = "" if kind else "".join(f'<a href="?range={each}">{each}</a>' for each in RANGES) + "<span>UTC</span>"
        text = PAGE.format(
            made=MADE, title=_text(pages[name]), menu="".join(links), ranges=ranges, kind=kind, content=content
        )
        return {"path": f"{directory}/{name}", "content": text}

    return [
        *(page(name, "\n".join(map(_row, dashboard.rows))) for name, dashboard in shown.items()),
        page("runbooks.html", _runbooks(), ' class="text"'),
    ]
