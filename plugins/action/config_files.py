# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of config_files: render everything, then send it in one round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.template import trust_as_template
from ansible_collections.mlfleet.stack.plugins.module_utils.files import FilesError, pack, parse
from ansible_collections.mlfleet.stack.plugins.plugin_utils.library import LibraryActionBase
from ansible_collections.mlfleet.stack.plugins.plugin_utils.templating import RememberingEngine

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "files": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "path": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["file", "directory", "absent"], "default": "file"},
            "template": {"type": "str"},
            # Raw, because converting a dictionary or an unquoted mode to text never gives the intended value.
            "content": {"type": "raw"},
            "mode": {"type": "raw"},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
            "validate": {"type": "str"},
            "sensitive": {"type": "bool", "default": False},
            "purge": {"type": "bool", "default": False},
            "tell": {"type": "bool", "default": False},
            "records": {"type": "bool", "default": False},
            "only_ours": {"type": "bool", "default": False},
            "vars": {"type": "dict", "default": {}},
        },
    }
}


class ActionModule(LibraryActionBase):
    """Render on the controller, install on the host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(ARGUMENT_SPEC)
        payload = self._packed(self._rendered(arguments["files"], task_vars))
        return result | self._execute_module("mlfleet.stack.install_files", {"payload": payload}, task_vars=task_vars)

    def _packed(self, files: list[dict[str, Any]], **options: Any) -> str:
        try:
            return pack(parse(files), **options)
        except FilesError as error:
            raise AnsibleActionFail(str(error)) from None

    def _rendered(self, files: list[dict[str, Any]], task_vars: dict[str, Any] | None) -> list[dict[str, Any]]:
        """Return the entries with their templates rendered to content."""
        engine = RememberingEngine(self._loader, variables=task_vars or {})
        return [self._with_content(entry, engine) for entry in files]

    def _with_content(self, entry: dict[str, Any], engine: RememberingEngine) -> dict[str, Any]:
        template, path = entry["template"], entry["path"]
        if template is None:
            return entry
        if entry["content"] is not None:
            raise AnsibleActionFail(f"{path}: a file has either a template or content")
        if entry["vars"]:
            engine = engine.with_variables({**engine.available_variables, **entry["vars"]})
        try:
            content = self._render(self._find_needle("templates", template), engine)
        except AnsibleError as error:
            why = " ".join(str(error).split())
            raise AnsibleActionFail(f"{path}: template {template} does not render: {why}") from None
        return {**entry, "content": content}

    def _render(self, source: str, engine: RememberingEngine) -> str:
        roots = [
            *engine.available_variables.get("ansible_search_path", []),
            self._loader.get_basedir(),
            Path(source).parent,
        ]
        searchpath = [str(path) for root in map(Path, roots) for path in (root / "templates", root)]
        text = trust_as_template(self._loader.get_text_file_contents(source))
        rendered = engine.render_file(text, searchpath)
        return "" if rendered is None else to_text(rendered, nonstring="simplerepr")
