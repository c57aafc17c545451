"""Descriptions of modules are imperative, tasks do not `have` something done, and foreign words stay away."""

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
        ["git", "ls-files", "*.md", "inventories", "roles/*/meta/*", "roles/*/defaults/*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
]
NO_IMPERATIVE = re.compile(r"(A|An|The|What|Have|Has|\w+[^s]s) ")
FOREIGN = re.compile(
    r"by the clock|by himself|(some|any|every|no)body(?!\))|whoever|to whom|(is|are) told|of yours|tells (of|that)"
)
DOCUMENTATION = re.compile(r'^(?:DOCUMENTATION|RETURN) = r"""(.*?)"""', re.DOTALL | re.MULTILINE)
TASK_FILES = sorted((*ROOT.glob("playbooks/*.yml"), *ROOT.glob("roles/*/tasks/*.yml")))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_description_of_a_module_is_imperative(module: Path) -> None:
    (description,) = re.findall(r"^short_description: (.*)$", module.read_text(), re.MULTILINE)
    assert not NO_IMPERATIVE.match(description)


def test_no_play_or_task_has_something_done() -> None:
    names = [name for file in TASK_FILES for name in re.findall(r"- name: (.*)", file.read_text())]
    assert [name for name in names if name.startswith("Have ")] == []


def test_foreign_words_are_in_no_page_and_no_description() -> None:
    texts = {page: page.read_text() for page in PAGES if page.is_file()}
    texts |= {module: "".join(DOCUMENTATION.findall(module.read_text())) for module in MODULES}
    found = {
        str(file.relative_to(ROOT)): words[0]
        for file, text in texts.items()
        if (words := FOREIGN.search(" ".join(text.split()).lower()))
    }
    assert found == {}
