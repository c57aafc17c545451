# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Outcomes of this run's tasks for the files and units of each host, by name, for later tasks.

The last task for a name counts. Outcomes are stored in the directory that ansible-core creates for each run and removes
after it, which all processes of the run share and, unlike cached facts, no other run sees.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible import constants

Outcome = dict[str, Any]


def tell(host: str, outcomes: dict[str, Outcome]) -> None:
    file = _file(host)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(told(host) | outcomes))


def told(host: str) -> dict[str, Outcome]:
    file = _file(host)
    return json.loads(file.read_text()) if file.exists() else {}


def changed(host: str) -> set[str]:
    """Return the names of what has changed, or would in check mode."""
    return {name for name, outcome in told(host).items() if outcome["changed"]}


def _file(host: str) -> Path:
    return Path(constants.DEFAULT_LOCAL_TMP, "mlfleet-outcomes", quote(host, safe=""))
