# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings whose variables are rendered once, however many of them refer to the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from ansible._internal._templating import _lazy_containers as lazy
from ansible._internal._templating._engine import TemplateEngine, TemplateMode, TemplateOptions
from ansible._internal._templating._jinja_bits import AnsibleTemplate, TemplateOverrides
from ansible._internal._templating._utils import LazyOptions


class RememberingEngine(TemplateEngine):
    """Renders as ansible-core's does, and keeps what each variable was rendered to.

    ansible-core keeps that for one template, in a dictionary that it makes of all variables for each template that a
    template refers to. Lookups get the variables themselves, as always.
    """

    _of: dict[str, Any] | None = None
    _rendered: Mapping[str, Any]

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self._compiled: dict[tuple[str, TemplateOptions], AnsibleTemplate] = {}

    @classmethod
    def of(cls, engine: TemplateEngine) -> RememberingEngine:
        return cls(engine._loader, variables=engine.available_variables, marker_behavior=engine.marker_behavior)

    def with_variables(self, variables: dict[str, Any]) -> RememberingEngine:
        """Another one, which shares the templates that were compiled."""
        other = copy.copy(self)
        other._environment, other.available_variables = self.environment, variables
        return other

    def render_file(self, text: str, searchpath: list[str]) -> Any:
        """The text of a file as ansible.builtin.template renders it."""
        self.environment.loader.searchpath = searchpath
        overrides = TemplateOverrides.from_kwargs({"trim_blocks": True})
        options = TemplateOptions(escape_backslashes=False, overrides=overrides)
        return self.template(text, options=options, mode=TemplateMode.ALWAYS_FINALIZE)

    def _compile_template(self, template: str, options: Any) -> Callable[[Any], Any]:
        key = str(template), options
        compiled = self._compiled.get(key) or super()._compile_template(template, options)
        if isinstance(compiled, AnsibleTemplate):  # and no error, which tells where its template is from
            self._compiled[key] = compiled
        return lambda variables: compiled(self._remembered(variables))

    def _remembered(self, variables: Any) -> Any:
        if not isinstance(variables, dict):
            return variables
        if self._of is not variables:
            values = ((name, lazy._LazyValue(value)) for name, value in variables.items())
            source = lazy._LazyValueSource(source=values, templar=self, lazy_options=LazyOptions.DEFAULT)
            self._of, self._rendered = variables, lazy._AnsibleLazyTemplateDict(source)
        return self._rendered

    def __deepcopy__(self, memo: dict[int, Any]) -> TemplateEngine:
        # What is copied holds what it was rendered by.
        return TemplateEngine(self._loader, variables=self.available_variables, marker_behavior=self.marker_behavior)
