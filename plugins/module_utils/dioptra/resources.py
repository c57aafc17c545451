# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host's half of dioptra_resources: compare packages with the API's objects, and import those that differ."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import Result, ServiceError, ask
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import Form
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.client import Dioptra, sign_in

OLDER = "an older version of it"
KINDS = {"types": "parameter type", "plugins": "plugin", "entrypoints": "entrypoint"}


def unpack(payload: str) -> list[dict[str, Any]]:
    return json.loads(base64.b64decode(payload))


def converge_resources(options: dict, check_mode: bool) -> Result:
    """Compare everything before the first import, so that a refusal leaves everything unchanged."""
    packages = unpack(options["payload"])
    api = ask(lambda: sign_in(options), check_mode)
    group = api.group() if api else 0
    plans = [plan(package, find(api, group, package) if api else empty()) for package in packages]
    changes = [name for planned in plans for name in planned["changes"]]
    if api and not check_mode:
        for package, planned in zip(packages, plans, strict=True):
            if planned["changes"]:
                import_package(api, group, package)
    diff = [item for planned in plans for item in planned["diff"]]
    return {"changed": bool(changes), "changes": changes, "diff": diff}


# --- What the API has


def empty() -> dict:
    return {"types": {}, "plugins": {}, "entrypoints": {}, "contents": {}, "orphans": {}}


def find(api: Dioptra, group: int, package: dict) -> dict:
    """Return the API's state of the objects that a package declares."""
    found, ids = empty(), {}
    for name in package["types"]:
        if item := api.find("/pluginParameterTypes/", name, groupId=group):
            found["types"][name] = {"description": item["description"] or "", "structure": item["structure"]}
    for name in package["plugins"]:
        if item := api.find("/plugins/", name, groupId=group):
            ids[name] = item["id"]
            files = list(api.pages(f"/plugins/{item['id']}/files"))
            tasks = {file["filename"]: found_tasks(file["tasks"]) for file in files}
            found["plugins"][name] = {"description": item["description"] or "", "files": tasks}
            found["contents"][name] = {file["filename"]: file["contents"] or "" for file in files}
    for name in package["entrypoints"]:
        if item := api.find("/entrypoints/", name, groupId=group):
            plugins = [*item["plugins"], *item["artifactPlugins"]]
            lost = {each["name"] for each in plugins if ids.get(each["name"], each["id"]) != each["id"]}
            lost |= {each["name"] for each in plugins if each["name"] in package["plugins"]} - ids.keys()
            found["entrypoints"][name] = found_entrypoint(item, lost)
            if lost:
                found["orphans"][name] = sorted(lost)
    return found


def found_tasks(tasks: dict) -> dict:
    functions = [
        {
            "name": task["name"],
            "inputs": [{**typed(parameter), "required": parameter["required"]} for parameter in task["inputParams"]],
            "outputs": [typed(parameter) for parameter in task["outputParams"]],
        }
        for task in tasks["functions"]
    ]
    artifacts = [
        {"name": task["name"], "outputs": [typed(parameter) for parameter in task["outputParams"]]}
        for task in tasks["artifacts"]
    ]
    return {"functions": by_name(functions), "artifacts": by_name(artifacts)}


def by_name(items: list[dict]) -> list[dict]:
    return sorted(items, key=lambda item: item["name"])


def typed(parameter: dict) -> dict:
    return {"name": parameter["name"], "type": parameter["parameterType"]["name"]}


def found_entrypoint(item: dict, lost: set[str]) -> dict:
    return {
        "description": item["description"] or "",
        "task_graph": item["taskGraph"] or "",
        "artifact_graph": item["artifactGraph"] or "",
        "parameters": [
            {"name": parameter["name"], "type": parameter["parameterType"], "default": parameter["defaultValue"]}
            for parameter in item["parameters"]
        ],
        "artifact_parameters": [
            {"name": artifact["name"], "outputs": [typed(parameter) for parameter in artifact["outputParams"]]}
            for artifact in item["artifactParameters"]
        ],
        "plugins": sorted(bound(plugin, lost) for plugin in item["plugins"]),
        "artifact_plugins": sorted(bound(plugin, lost) for plugin in item["artifactPlugins"]),
    }


def bound(plugin: dict, lost: set[str]) -> str:
    """Return the plugin with its version; an entrypoint keeps its version of a plugin even if that was deleted."""
    is_current = plugin["latestSnapshot"] and plugin["name"] not in lost
    return plugin["name"] if is_current else f"{plugin['name']}: {OLDER}"


# --- What differs


def plan(package: dict, found: dict) -> dict:
    """Return which of a package's objects differ, and how."""
    for name, lost in found["orphans"].items():
        if package["on_conflict"] == "update":
            raise ServiceError(
                f"{package['source']}: entrypoint {name} uses plugin {', '.join(lost)}, which was deleted, so the API "
                "cannot update it; delete the entrypoint, or set on_conflict: overwrite"
            )
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    texts = []
    is_exact = package["on_conflict"] == "overwrite"

    def compare(name: str, has: dict | None, wants: dict) -> None:
        if has != wants:
            after[name] = wants
            if has is not None:
                before[name] = has

    for name, wants in package["types"].items():
        compare(f"parameter type {name}", found["types"].get(name), wants)
    for name, declared in package["plugins"].items():
        wants = {"description": declared["description"], "files": declared["files"]}
        has = found["plugins"].get(name)
        if has and not is_exact:  # an update leaves other files alone
            has = {**has, "files": {file: tasks for file, tasks in has["files"].items() if file in wants["files"]}}
        compare(f"plugin {name}", has, wants)
        for file in wants["files"]:
            text = package["files"][f"{declared['root']}/{file}" if declared["root"] != "." else file]
            old = found["contents"].get(name, {}).get(file, "")
            if old != text:
                header = f"plugin {name}: {file}"
                texts.append({"before_header": header, "after_header": header, "before": old, "after": text})
    for name, wants in package["entrypoints"].items():
        has = found["entrypoints"].get(name)
        compare(f"entrypoint {name}", comparable(has, wants, is_exact) if has else None, wants)
    changes = [*after, *(item["before_header"] for item in texts)]
    there = [f"{KINDS[kind]} {name}" for kind in KINDS for name in found[kind]]
    if changes and there and package["on_conflict"] == "fail":
        raise ServiceError(
            f"{package['source']}: {', '.join(changes)} would change, and the API already has "
            f"{', '.join(there)}; set on_conflict to update or overwrite to allow it"
        )
    objects = [{"before": before, "after": after}] if after else []
    return {"changes": changes, "diff": [*objects, *texts]}


def comparable(has: dict, wants: dict, is_exact: bool) -> dict:
    """Return the entrypoint with its defaults written as declared if they are equivalent."""
    declared = {parameter["name"]: parameter["default"] for parameter in wants["parameters"]}
    parameters = [
        {**parameter, "default": declared[parameter["name"]]}
        if parameter["name"] in declared and is_same(parameter["default"], declared[parameter["name"]])
        else parameter
        for parameter in has["parameters"]
    ]
    told = {**has, "parameters": parameters}
    if not is_exact:  # an update leaves other plugins attached
        for field in ("plugins", "artifact_plugins"):
            told[field] = [name for name in has[field] if name.split(":")[0] in wants[field]]
    return told


def is_same(found: str | None, declared: Any) -> bool:
    """Return whether two defaults are equivalent; the API stores them as text."""
    if isinstance(declared, bool):
        return str(found).lower() == str(declared).lower()
    if isinstance(declared, (int, float)) and found is not None:
        try:
            return float(found) == declared
        except ValueError:
            return False
    return found == declared


# --- The import


def import_package(api: Dioptra, group: int, package: dict) -> None:
    """Import a package, completely or not at all, because the API does it in one transaction."""
    fields = {
        "group": str(group),
        "sourceType": "upload_archive",
        "configPath": package["config_path"],
        "resolveNameConflictsStrategy": package["on_conflict"],
    }
    form = Form(fields, ("archiveFile", "package.tar.gz", archive(package)))
    answer = api.ask("POST", "/workflows/resourceImport", form)
    if answer.status >= 400:
        detail = answer.data.get("detail") if isinstance(answer.data, dict) else None
        why = f": {' '.join(str(detail).split())[:500]}" if detail else ""
        raise ServiceError(f"{package['source']}: the API refused it with {answer.status}: {answer.reason}{why}")


def archive(package: dict) -> bytes:
    """Return an archive of only what the package's configuration refers to."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in package["directories"]:
            member = tarfile.TarInfo(path)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for path, text in package["files"].items():
            content = text.encode()
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
