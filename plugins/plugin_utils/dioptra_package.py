# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of dioptra_resources: the declarations of a resource package, and the files that they need."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import posixpath
import re
import tempfile
import tomllib
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.errors import UnsupportedError
from ansible_collections.mlfleet.stack.plugins.module_utils import archives, git
from ansible_collections.mlfleet.stack.plugins.module_utils.archives import ArchiveError
from ansible_collections.mlfleet.stack.plugins.module_utils.git import GitError

with contextlib.suppress(ImportError):  # the controller has it
    import yaml

MAX_FILE_BYTES = 50 * 1024 * 1024  # the API's own limit
# File names that the API accepts in a plugin (ALLOWED_PLUGIN_FILENAME_REGEX of Dioptra 1.2.2).
FILENAME = re.compile(r"(?!.*/_)(?!_/)([a-zA-Z][a-zA-Z0-9_]*/)*[a-zA-Z_][a-zA-Z0-9_]*\.py")

RESOURCE_OPTIONS: dict[str, dict[str, Any]] = {
    "src": {"type": "str"},
    "repo": {"type": "str"},
    "version": {"type": "str", "default": "HEAD"},
    "config_path": {"type": "str", "default": "dioptra.toml"},
    "on_conflict": {"type": "str", "choices": ["fail", "update", "overwrite"], "default": "update"},
}
RESOURCES_OPTION: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "options": RESOURCE_OPTIONS,
    "mutually_exclusive": [("src", "repo")],
    "required_one_of": [("src", "repo")],
}


def _list_of(options: dict[str, Any], required: bool = False) -> dict[str, Any]:
    presence: dict[str, Any] = {"required": True} if required else {"default": []}
    return {"type": "list", "elements": "dict", "options": options, **presence}


# As in dioptra-resources.schema.json of Dioptra 1.2.2.
_TEXT = {"type": "str", "default": ""}
_NAME = {"type": "str", "required": True}
_NAMES = {"type": "list", "elements": "str", "default": []}
_OUTPUTS = _list_of({"name": _NAME, "type": _NAME}, required=True)
_INPUTS = _list_of({"name": _NAME, "type": _NAME, "required": {"type": "bool", "default": False}}, required=True)
_TASK = {"filename": _NAME, "name": _NAME, "output_params": _OUTPUTS}
_FUNCTION = {**_TASK, "input_params": _INPUTS}
_TASKS = {"functions": _list_of(_FUNCTION), "artifacts": _list_of(_TASK)}
SCHEMA = {
    "plugin_param_types": _list_of({"name": _NAME, "description": _TEXT, "structure": {"type": "dict"}}),
    "plugins": _list_of(
        {
            "path": _NAME,
            "description": _TEXT,
            "tasks": {"type": "dict", "apply_defaults": True, "options": _TASKS},
        }
    ),
    "entrypoints": _list_of(
        {
            "path": _NAME,
            "name": _NAME,
            "description": _TEXT,
            "params": _list_of({"name": _NAME, "type": _NAME, "default_value": {"type": "raw"}}),
            "plugins": _NAMES,
            "artifact_params": _list_of({"name": _NAME, "output_params": _OUTPUTS}),
            "artifact_plugins": _NAMES,
        }
    ),
}


class PackageError(Exception):
    """One line for the user; no request was sent yet."""


# ---------------------------------------------------------------------------------------------------------------------
# Sources of the files
# ---------------------------------------------------------------------------------------------------------------------


def inside(path: str, base: str = "") -> str:
    """Return a path in normal form; raise PackageError if it leads out of the package."""
    joined = posixpath.normpath(posixpath.join(base, path))
    if not path or path.startswith("/") or "\\" in path or joined.split("/")[0] == "..":
        raise PackageError(f"{path!r} leads out of the package")
    return joined


def _require_limit(path: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise PackageError(f"{path} is larger than the {MAX_FILE_BYTES >> 20} MiB that the API accepts")


def is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


class Tree(ABC):
    """Files by their paths in a package."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return the content of a file; raise PackageError if there is none."""

    @abstractmethod
    def below(self, path: str) -> list[str]:
        """Return the visible files in a directory by their paths in it; raise PackageError if there is no directory."""

    def text(self, path: str) -> str:
        """Return a file's text as the API reads it, including line ends."""
        try:
            return io.TextIOWrapper(io.BytesIO(self.read(path)), encoding="utf-8").read()
        except UnicodeDecodeError as error:
            raise PackageError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None


class Directory(Tree):
    """A directory on the controller. Links are followed as long as their targets are inside."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def _real(self, path: str) -> Path:
        real = (self.root / path).resolve()
        if not real.is_relative_to(self.root):
            raise PackageError(f"{path} is a link that leads out of the package")
        return real

    def read(self, path: str) -> bytes:
        real = self._real(path)
        if not real.is_file():
            raise PackageError(f"there is no file {path}")
        _require_limit(path, real.stat().st_size)
        return real.read_bytes()

    def below(self, path: str) -> list[str]:
        real = self._real(path)
        if not real.is_dir():
            raise PackageError(f"there is no directory {path}")
        names = []
        for directory, subdirectories, files in os.walk(real):
            subdirectories[:] = [name for name in subdirectories if not name.startswith(".")]
            within = Path(directory).relative_to(real)
            for name in subdirectories:
                if Path(directory, name).is_symlink():
                    raise PackageError(f"{path}/{(within / name).as_posix()} is a link to a directory")
            names += [(within / name).as_posix() for name in files if not name.startswith(".")]
        return sorted(names)


class Archive(Tree):
    """A tar or zip archive. Links and names that lead out of it are refused, even if they are not needed."""

    def __init__(self, file: Path) -> None:
        self.files = archives.read(file)

    def read(self, path: str) -> bytes:
        if path not in self.files:
            raise PackageError(f"there is no file {path}")
        _require_limit(path, len(self.files[path]))
        return self.files[path]

    def below(self, path: str) -> list[str]:
        prefix = "" if path == "." else f"{path}/"
        names = [name.removeprefix(prefix) for name in self.files if name.startswith(prefix)]
        if not names:
            raise PackageError(f"there is no directory {path}")
        return sorted(name for name in names if not is_hidden(name))


# ---------------------------------------------------------------------------------------------------------------------
# Declarations
# ---------------------------------------------------------------------------------------------------------------------


def named(resource: dict[str, Any]) -> str:
    """Return the name of a package in messages."""
    return str(resource["src"] or git.without_account(resource["repo"]))


def load(resource: dict[str, Any], file: Path | None) -> dict[str, Any]:
    """Load a declared package: its objects in comparable form, and the files that the API needs."""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            if file is None:
                file = git.check_out(resource["repo"], resource["version"], Path(scratch, "clone"))
            content = contents(Directory(file) if file.is_dir() else Archive(file), resource["config_path"])
    except (ArchiveError, GitError) as error:
        raise PackageError(str(error)) from None
    except PackageError as error:
        raise PackageError(f"{named(resource)}: {error}") from None
    return {"source": named(resource), "on_conflict": resource["on_conflict"], **content}


def contents(tree: Tree, config_path: str) -> dict[str, Any]:
    path = inside(config_path)
    config = parsed(tree, path)
    base = posixpath.dirname(path)
    files = {path: tree.text(path)}
    directories = []
    plugins: dict[str, dict[str, Any]] = {}
    for declared in config["plugins"]:
        root = inside(declared["path"], base)
        name = PurePosixPath(declared["path"]).stem
        if not name or name in plugins:
            raise PackageError(f"plugin {declared['path']}: {'declared twice' if name else 'a directory has no name'}")
        directories.append(root)
        sources = {source: posixpath.join(root, source) for source in tree.below(root) if source.endswith(".py")}
        files |= {place: tree.text(place) for place in sources.values()}
        plugins[name] = {"description": declared["description"], "root": root} | {
            "files": {source: file_tasks(declared["tasks"], source) for source in sources}
        }
        check_plugin(name, declared, sources)
    entrypoints = {}
    for declared in config["entrypoints"]:
        place, name = inside(declared["path"], base), declared["name"]
        if name in entrypoints:
            raise PackageError(f"entrypoint {name}: declared twice")
        for plugin in [*declared["plugins"], *declared["artifact_plugins"]]:
            if plugin not in plugins:
                raise PackageError(f"entrypoint {name}: it uses plugin {plugin}, which the package does not declare")
        for parameter in declared["params"]:
            if isinstance(parameter["default_value"], bool):  # coerce_to_type of Dioptra 1.2.2 fails on it
                raise PackageError(f"entrypoint {name}: write the default of parameter {parameter['name']} in quotes")
        files[place] = tree.text(place)
        entrypoints[name] = entrypoint(declared, graphs(place, files[place]))
    types = {
        declared["name"]: {"description": declared["description"], "structure": declared["structure"]}
        for declared in config["plugin_param_types"]
    }
    return {
        "config_path": path,
        "files": files,
        "directories": directories,
        "types": types,
        "plugins": plugins,
        "entrypoints": entrypoints,
    }


def parsed(tree: Tree, path: str) -> dict[str, Any]:
    """Return the configuration, complete with defaults."""
    try:
        config = tomllib.loads(tree.text(path))
    except tomllib.TOMLDecodeError as error:
        raise PackageError(f"{path} is no TOML: {error}") from None
    except PackageError as error:
        elsewhere = [name for name in tree.below(".") if PurePosixPath(name).name == PurePosixPath(path).name]
        hint = f"; it has {elsewhere[0]}, which config_path can name" if elsewhere else ""
        raise PackageError(f"{error}{hint}") from None
    # The API accepts unknown keys at the top level, and nowhere else.
    known = {key: value for key, value in config.items() if key in SCHEMA}
    result = ArgumentSpecValidator(SCHEMA).validate(known)
    if result.errors.errors:
        first = result.errors.errors[0]
        kind = "unknown key " if isinstance(first, UnsupportedError) else ""
        raise PackageError(f"{path}: {kind}{' '.join(first.msg.split())}")
    return result.validated_parameters


def check_plugin(name: str, declared: dict[str, Any], sources: dict[str, str]) -> None:
    for source in sources:
        if not FILENAME.fullmatch(source):
            raise PackageError(f"plugin {name}: the API accepts no file of the name {source}")
    for task in [*declared["tasks"]["functions"], *declared["tasks"]["artifacts"]]:
        if task["filename"] not in sources:
            raise PackageError(f"plugin {name}: task {task['name']} is in {task['filename']}, which does not exist")


def file_tasks(tasks: dict[str, Any], filename: str) -> dict[str, Any]:
    functions = [
        {"name": task["name"], "inputs": task["input_params"], "outputs": task["output_params"]}
        for task in tasks["functions"]
        if task["filename"] == filename
    ]
    artifacts = [
        {"name": task["name"], "outputs": task["output_params"]}
        for task in tasks["artifacts"]
        if task["filename"] == filename
    ]
    return {"functions": by_name(functions), "artifacts": by_name(artifacts)}


def by_name(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(items, key=lambda item: item["name"])


def graphs(path: str, text: str) -> dict[str, str]:
    """Return the two graphs of an entrypoint, formatted like the API's."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PackageError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise PackageError(f"{path}: it has no graph")
    return {
        field: yaml.dump(graph, sort_keys=False, default_flow_style=False) if graph else ""
        for field, graph in (("task_graph", document.get("graph")), ("artifact_graph", document.get("artifacts")))
    }


def entrypoint(declared: dict[str, Any], its_graphs: dict[str, str]) -> dict[str, Any]:
    return {
        "description": declared["description"],
        **its_graphs,
        "parameters": [
            {"name": parameter["name"], "type": parameter["type"], "default": parameter["default_value"]}
            for parameter in declared["params"]
        ],
        "artifact_parameters": [
            {"name": artifact["name"], "outputs": artifact["output_params"]} for artifact in declared["artifact_params"]
        ],
        "plugins": sorted(declared["plugins"]),
        "artifact_plugins": sorted(declared["artifact_plugins"]),
    }


def require_one_owner(packages: list[dict[str, Any]]) -> None:
    """Refuse objects that two packages declare, because each would change them again and again."""
    for kind in ("types", "plugins", "entrypoints"):
        owners: dict[str, dict[str, Any]] = {}
        for package in packages:
            for name, declared in package[kind].items():
                other = owners.setdefault(name, package)
                if other is not package and (kind != "types" or other[kind][name] != declared):
                    raise PackageError(
                        f"{package['source']}: {other['source']} declares {kind[:-1]} {name}, too; leave it to one"
                    )


def packed(resources: list[dict[str, Any]], files: list[Path | None]) -> str:
    """Return the declared packages as one word; C(files) has the paths of those on the controller."""
    packages = [load(resource, file) for resource, file in zip(resources, files, strict=True)]
    require_one_owner(packages)
    return pack(packages)


def pack(packages: list[dict[str, Any]]) -> str:
    """Pack the packages into one word that does not show its contents."""
    return base64.b64encode(json.dumps(packages).encode()).decode()
