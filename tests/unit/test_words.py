"""Descriptions of modules are imperative, and words that readers have stumbled over stay away."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "plugins/modules").glob("*.py"))
PAGES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md", "inventories", "roles/*/meta", "roles/*/defaults"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
]
NO_IMPERATIVE = re.compile(r"(A|An|The|What|Have|Has|\w+[^s]s) ")
STUMBLED_OVER = ("by the clock", "by himself", "somebody else's")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_description_of_a_module_is_imperative(module: Path) -> None:
    (description,) = re.findall(r"^short_description: (.*)$", module.read_text(), re.MULTILINE)
    assert not NO_IMPERATIVE.match(description)


def test_words_that_readers_stumbled_over_are_in_no_page() -> None:
    found = {
        str(page.relative_to(ROOT)): words
        for page in PAGES
        if page.is_file()
        and (words := [word for word in STUMBLED_OVER if word in " ".join(page.read_text().split()).lower()])
    }
    assert found == {}
