"""Writes the table of settings in each role's README from its specs and defaults; --check only compares."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).parent.parent / "roles"
TOPOLOGY = ROLES / "topology"
IN_TOPOLOGY = "What other services must know of this one is set in role `topology`, for all hosts:"
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


def shown_default(name: str, option: dict[str, Any], defaults: Path, role: Path) -> str:
    """The default as it stands in its file, so that an expression stays readable."""
    if option.get("no_log") and option.get("required"):
        return "made by `mlfleet init`"
    if option.get("required"):
        return "**required**"
    found = re.search(rf"^{name}:(.*(?:\n[ ]+.*)*)", defaults.read_text(), re.MULTILINE)
    value = found.group(1).strip() if found else ""
    if "\n" in value:
        return f"see [defaults]({os.path.relpath(defaults, role)})"
    return f"`{value}`".replace("|", "\\|")


def table(options: dict[str, Any], defaults: Path, role: Path) -> str:
    lines = ["| Variable | Type | Default | Meaning |", "|---|---|---|---|"]
    for name, option in options.items():
        lines += option_lines(name, option, shown_default(name, option, defaults, role))
    return "\n".join(lines)


def topology_table(file: Path, role: Path) -> str:
    return table(yaml.safe_load(file.read_text()), TOPOLOGY / "defaults/main" / file.name, role)


def tables(role: Path) -> str:
    """The role's table, with what others must know of its service; of topology one for each of its files."""
    files = sorted((TOPOLOGY / "meta/shared_settings").glob("*.yml"))
    if role == TOPOLOGY:
        return "\n\n".join(f"### {file.stem}\n\n{topology_table(file, role)}" for file in files)
    (entry_point,) = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"].values()
    own = table(entry_point["options"], role / "defaults/main.yml", role)
    shared = next((file for file in files if file.stem.removesuffix("s") == role.name.removesuffix("s")), None)
    return f"{own}\n\n### In topology\n\n{IN_TOPOLOGY}\n\n{topology_table(shared, role)}" if shared else own


def rendered(role: Path) -> str:
    text = (role / "README.md").read_text()
    before, _start, rest = text.partition(START)
    _old, _end, after = rest.partition(END)
    return f"{before}{START}\n\n{tables(role)}\n\n{END}{after}"


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
