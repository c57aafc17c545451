# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dashboards of an inventory, as files and as a question."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlfleet.stack.plugins.plugin_utils import consoles, dashboards, grafana


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "console_pages": consoles.console_pages,
            "grafana_dashboards": grafana.grafana_dashboards,
            "panels_question": dashboards.panels_question,
            "panels_without_data": dashboards.panels_without_data,
        }
