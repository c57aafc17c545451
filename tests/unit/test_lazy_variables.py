"""What a task's settings refer to is rendered once, and as ansible-core renders it otherwise."""

from __future__ import annotations

import collections

import pytest
from ansible._internal._templating._engine import TemplateEngine
from ansible.errors import AnsibleUndefinedVariable
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.mlfleet.stack.plugins.plugin_utils.lazy_variables import render_once

VARIABLES = {
    "port": "{{ base + 1 }}",
    "base": "{{ [8079] | first }}",
    "urls": ["http://{{ host }}:{{ port }}", "{{ scheme }}://{{ host }}:{{ port }}"],
    "host": "{{ name }}.example",
    "name": "one",
    "scheme": "{{ 'https' if port == 8080 else unknown }}",
    "broken": "{{ unknown }}",
    "left_out": "{{ omit }}",
    "secret": "a {{ word }}",
}
SETTINGS = {
    "urls": "{{ urls }}",
    "first": "{{ urls | first }}:{{ port }}",
    "given": "{{ broken | default('given') }}",
    "options": {"name": "{{ left_out }}", "port": "{{ port }}"},
    "again": "{{ {'urls': urls} }}",
    "word": "{{ {'a': secret} }}",
}


def variables() -> dict:
    trusted = {
        name: [trust_as_template(each) for each in value] if isinstance(value, list) else trust_as_template(value)
        for name, value in VARIABLES.items()
        if name != "secret"
    }
    return trusted | {"secret": VARIABLES["secret"]}  # which is no template


def rendered(templar: TemplateEngine | Templar) -> dict:
    def trusted(value):
        return (
            {name: trusted(each) for name, each in value.items()}
            if isinstance(value, dict)
            else trust_as_template(value)
        )

    return {name: templar.template(trusted(value)) for name, value in SETTINGS.items()}


@pytest.fixture
def compiled(monkeypatch):
    counted = collections.Counter()
    original = TemplateEngine._compile_template

    def count(self, template, options):
        counted[str(template)] += 1
        return original(self, template, options)

    monkeypatch.setattr(TemplateEngine, "_compile_template", count)
    return counted


@pytest.fixture(params=[TemplateEngine, Templar])
def templar(request):
    return request.param(DataLoader(), variables=variables())


def test_each_variable_is_rendered_once(templar, compiled):
    render_once(templar)
    render_once(templar)
    assert rendered(templar)["urls"] == ["http://one.example:8080", "https://one.example:8080"]
    assert {name: compiled[VARIABLES[name]] for name in ("port", "base", "host", "scheme")} == dict.fromkeys(
        ("port", "base", "host", "scheme"), 1
    )


def test_result_is_what_it_is_otherwise(templar):
    plain = rendered(templar)
    assert plain["options"] == {"port": 8080} and plain["word"] == {"a": "a {{ word }}"}
    render_once(templar)
    assert rendered(templar) == plain


def test_error_is_told_each_time(templar):
    render_once(templar)
    for _again in range(2):
        with pytest.raises(AnsibleUndefinedVariable, match="'unknown' is undefined"):
            templar.template(trust_as_template("{{ broken }}"))
