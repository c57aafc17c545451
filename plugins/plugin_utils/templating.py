# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rendering of settings in which each variable is rendered once, however many settings refer to it."""

from __future__ import annotations

import copy
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jinja2
from ansible import __version__ as ansible_version
from ansible._internal._datatag._tags import Origin
from ansible._internal._templating import _lazy_containers as lazy
from ansible._internal._templating._engine import TemplateEngine, TemplateMode, TemplateOptions
from ansible._internal._templating._jinja_bits import (
    _TEMPLATE_OVERRIDE_FIELD_NAMES,
    AnsibleEnvironment,
    AnsibleTemplate,
    TemplateOverrides,
    _TemplateCompileContext,
    _TemplateConfig,
)
from ansible._internal._templating._utils import LazyOptions
from ansible_collections.mlfleet.stack.plugins.plugin_utils.cache import cache_directory
from jinja2.bccache import Bucket, FileSystemBytecodeCache

COLLECTION = Path(__file__).parents[2]
OURS = (f"{COLLECTION}/roles/", f"{COLLECTION}/playbooks/")  # an inventory may be in the collection's directory too
KEPT = 10_000  # files of some kilobytes; a release has a thousand


class CompiledTemplates(FileSystemBytecodeCache):
    """Compiled templates of the collection, kept from run to run like Python's compiled modules.

    Templates of an inventory are not kept, because they may contain secrets. The directory is private, or not used.
    """

    def __init__(self) -> None:
        super().__init__(str(cache_directory() / "templates"), "%s")
        # How Jinja compiles the call of a filter depends on the arguments that the filter requires.
        version = hashlib.sha256(f"{ansible_version} {jinja2.__version__}".encode())
        for file in sorted((COLLECTION / "plugins/filter").glob("*.py")):
            version.update(file.read_bytes())
        self.version = version.hexdigest()

    @functools.cached_property
    def is_usable(self) -> bool:
        with suppress(OSError):
            Path(self.directory).mkdir(mode=0o700, parents=True, exist_ok=True)
            state = Path(self.directory).lstat()
            return state.st_uid == os.geteuid() and not state.st_mode & 0o077
        return False

    def load_bytecode(self, bucket: Bucket) -> None:
        with suppress(Exception):  # a damaged file is written again
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            if sum(1 for _file in Path(self.directory).iterdir()) > KEPT:
                self.clear()
            super().dump_bytecode(bucket)


@functools.cache
def compiled_templates() -> CompiledTemplates:
    return CompiledTemplates()


class Environment(AnsibleEnvironment):
    """Compile each template of the collection only once."""

    def compile(self, source: Any, name: Any = None, filename: Any = None, *words: Any, **options: Any) -> Any:
        cache = compiled_templates()
        origin = Origin.get_tag(source) if isinstance(source, str) else None
        path = filename or (origin and origin.path) or ""
        if words or options or not path.startswith(OURS) or not cache.is_usable:
            return super().compile(source, name, filename, *words, **options)
        context = _TemplateCompileContext.current(optional=True)
        how = [
            context and context.escape_backslashes,
            *(getattr(self, each) for each in _TEMPLATE_OVERRIDE_FIELD_NAMES),
            _TemplateConfig.allow_embedded_templates,
            _TemplateConfig.jinja_extensions,
        ]
        bucket = cache.get_bucket(self, f"{cache.version} {how} {source}", filename, source)
        if bucket.code is None:
            bucket.code = super().compile(source, name, filename)
            cache.set_bucket(bucket)
        return bucket.code


class RememberingEngine(TemplateEngine):
    """Render like ansible-core's engine, and keep the rendered value of each variable.

    ansible-core keeps these only for one template, in a dictionary that it creates from all variables for each template
    that a template refers to. Lookups get the variables themselves, as always.
    """

    _of: dict[str, Any] | None = None
    _rendered: Mapping[str, Any]
    _environment: AnsibleEnvironment | None

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self._compiled: dict[tuple[str, TemplateOptions], AnsibleTemplate] = {}

    @property
    def environment(self) -> AnsibleEnvironment:
        if not self._environment:
            self._environment = Environment(ansible_basedir=self.basedir)
        return self._environment

    @classmethod
    def of(cls, engine: TemplateEngine) -> RememberingEngine:
        return cls(engine._loader, variables=engine.available_variables, marker_behavior=engine.marker_behavior)

    def with_variables(self, variables: dict[str, Any]) -> RememberingEngine:
        """Return another engine, which shares the compiled templates."""
        other = copy.copy(self)
        other._environment, other.available_variables = self.environment, variables
        return other

    def render_file(self, text: str, searchpath: list[str]) -> Any:
        """Render the text of a file like ansible.builtin.template."""
        self.environment.loader.searchpath = searchpath
        overrides = TemplateOverrides.from_kwargs({"trim_blocks": True})
        options = TemplateOptions(escape_backslashes=False, overrides=overrides)
        return self.template(text, options=options, mode=TemplateMode.ALWAYS_FINALIZE)

    def _compile_template(self, template: str, options: Any) -> Callable[[Any], Any]:
        key = str(template), options
        compiled = self._compiled.get(key) or super()._compile_template(template, options)
        if isinstance(compiled, AnsibleTemplate):  # rather than an error, which records where its template is from
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
        # Copied values refer to the engine that rendered them.
        return TemplateEngine(self._loader, variables=self.available_variables, marker_behavior=self.marker_behavior)
