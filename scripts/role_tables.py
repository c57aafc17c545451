"""Writes the table of settings in each role's README from its specs and defaults; --check only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).parent.parent / "roles"
SPECIFICATIONS = ("argument_specs.yml", "shared_settings.yml")
START, END = "<!-- settings: made by `make docs` -->", "<!-- end of settings -->"


def option_lines(name: str, option: dict[str, Any], default: str) -> list[str]:
    description = option["description"]
    text = " ".join(description) if isinstance(description, list) else description
    text = re.sub(r"\b[BCEIMOV]\(([^)]*)\)", r"`\1`", text).replace("|", "\\|")
    if choices := option.get("choices"):
        text += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
    lines = [f"| `{name}` | {kind} | {default} | {text} |"]
    for key, suboption in option.get("options", {}).items():
        lines += option_lines(f"{name}[].{key}", suboption, "**required**" if suboption.get("required") else "")
    return lines


def shown_default(name: str, option: dict[str, Any], defaults_text: str) -> str:
    """The default as it stands in defaults/main.yml, so that an expression stays readable."""
    if option.get("no_log") and option.get("required"):
        return "made by `mlfleet init`"
    if option.get("required"):
        return "**required**"
    found = re.search(rf"^{name}:(.*(?:\n[ ]+.*)*)", defaults_text, re.MULTILINE)
    value = found.group(1).strip() if found else ""
    if "\n" in value:
        return "see [defaults](defaults/main.yml)"
    return f"`{value}`".replace("|", "\\|")


def table(role: Path) -> str:
    (path,) = [path for name in SPECIFICATIONS if (path := role / "meta" / name).exists()]
    (specs,) = yaml.safe_load(path.read_text())["argument_specs"].values()
    defaults_text = (role / "defaults/main.yml").read_text()
    lines = ["| Variable | Type | Default | Meaning |", "|---|---|---|---|"]
    for name, option in specs["options"].items():
        lines += option_lines(name, option, shown_default(name, option, defaults_text))
    return "\n".join(lines)


def rendered(role: Path) -> str:
    text = (role / "README.md").read_text()
    before, _start, rest = text.partition(START)
    _old, _end, after = rest.partition(END)
    return f"{before}{START}\n\n{table(role)}\n\n{END}{after}"


def main() -> None:
    stale = []
    for role in sorted(path.parent for path in ROLES.glob("*/README.md")):
        readme, text = role / "README.md", rendered(role)
        if readme.read_text() != text:
            stale.append(str(readme.relative_to(ROLES.parent)))
            if "--check" not in sys.argv:
                readme.write_text(text)
    if stale and "--check" in sys.argv:
        sys.exit(f"Not as the specs and defaults say; run `make docs`: {', '.join(stale)}")


if __name__ == "__main__":
    main()
