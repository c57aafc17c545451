"""Values that a task's settings refer to are rendered once, with the same result as ansible-core's."""

from __future__ import annotations

import collections
import copy
import errno
import os
import tempfile

import pytest
from ansible._internal._datatag._tags import Origin
from ansible._internal._templating._engine import TemplateEngine
from ansible._internal._templating._jinja_bits import AnsibleEnvironment, _TemplateConfig
from ansible.errors import AnsibleUndefinedVariable
from ansible.parsing.dataloader import DataLoader
from ansible.template import trust_as_template
from ansible_collections.mlfleet.stack.plugins.plugin_utils import templating
from ansible_collections.mlfleet.stack.plugins.plugin_utils.templating import (
    COLLECTION,
    RememberingEngine,
    compiled_templates,
)

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
    "page": "{{ lookup('template', 'page.j2') }}",
    "page_of_others": "{{ lookup('template', 'page.j2', template_vars={'name': 'two'}) }}",
    "word": "{{ {'a': secret} }}",
}


def variables() -> dict:
    trusted = {
        name: [trust_as_template(each) for each in value] if isinstance(value, list) else trust_as_template(value)
        for name, value in VARIABLES.items()
        if name != "secret"
    }
    return trusted | {"secret": VARIABLES["secret"]}  # it is not a template


def rendered(templar: TemplateEngine, names=SETTINGS) -> dict:
    def trusted(value):
        return (
            {name: trusted(each) for name, each in value.items()}
            if isinstance(value, dict)
            else trust_as_template(value)
        )

    return {name: templar.template(trusted(SETTINGS[name])) for name in names}


@pytest.fixture
def compiled(monkeypatch):
    counted = collections.Counter()
    original = TemplateEngine._compile_template

    def count(self, template, options):
        counted[str(template)] += 1
        return original(self, template, options)

    monkeypatch.setattr(TemplateEngine, "_compile_template", count)
    return counted


@pytest.fixture
def engine(tmp_path):
    (tmp_path / "page.j2").write_text("{{ host }} {{ port }} {{ scheme }}")
    return TemplateEngine(DataLoader(), variables=variables() | {"ansible_search_path": [str(tmp_path)]})


def test_each_variable_is_rendered_once(engine, compiled):
    remembering = RememberingEngine.of(engine)
    without_lookups = [name for name in SETTINGS if not name.startswith("page")]
    assert rendered(remembering, without_lookups)["urls"] == ["http://one.example:8080", "https://one.example:8080"]
    assert {name: compiled[VARIABLES[name]] for name in ("port", "base", "host", "scheme")} == dict.fromkeys(
        ("port", "base", "host", "scheme"), 1
    )


def test_result_is_what_it_is_otherwise(engine):
    plain = rendered(engine)
    assert plain["options"] == {"port": 8080} and plain["word"] == {"a": "a {{ word }}"}
    assert plain["page"] == "one.example 8080 https" and plain["page_of_others"] == "two.example 8080 https"
    assert rendered(RememberingEngine.of(engine)) == plain


def test_error_is_told_each_time(engine):
    remembering = RememberingEngine.of(engine)
    for _again in range(2):
        with pytest.raises(AnsibleUndefinedVariable, match="'unknown' is undefined"):
            remembering.template(trust_as_template("{{ broken }}"))


def test_file_is_rendered_as_the_template_module_does(engine):
    remembering = RememberingEngine.of(engine)
    text = trust_as_template("{% if port %}\n{{ urls[0] }}\n{% endif %}\nC:\\new\n")
    assert remembering.render_file(text, []) == "http://one.example:8080\nC:\\new\n"


def test_copy_of_what_was_rendered_is_one(engine):
    remembering = RememberingEngine.of(engine)
    assert remembering.template(
        trust_as_template("{{ {'a': {'b': urls}} | combine({'a': {'c': urls}}, recursive=true) }}")
    )
    copied = copy.deepcopy(remembering._remembered(remembering.available_variables))
    assert copied["host"] == "one.example"


def test_template_is_compiled_once_for_several_hosts(engine, compiled):
    first = RememberingEngine.of(engine)
    second = first.with_variables(variables() | {"name": trust_as_template("two")})
    url = trust_as_template("{{ urls[0] }}")
    assert [each.template(url) for each in (first, second)] == ["http://one.example:8080", "http://two.example:8080"]
    assert first.template(url) == "http://one.example:8080"
    assert len(first._compiled) == len(second._compiled) == 5


class TestCompiledTemplates:
    OURS = Origin(path=f"{COLLECTION}/roles/topology/defaults/main/redis.yml")
    OF_AN_INVENTORY = Origin(path="/inventories/prod/group_vars/all.yml")
    TEXT = "{{ [name, 'a'] | join('-') }}"

    @pytest.fixture(autouse=True)
    def directory(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        compiled_templates.cache_clear()
        yield tmp_path / "cache/mlfleet/templates"
        compiled_templates.cache_clear()

    @pytest.fixture
    def compilations(self, monkeypatch):
        told = []
        original = AnsibleEnvironment._generate
        monkeypatch.setattr(
            AnsibleEnvironment, "_generate", lambda *words, **o: told.append(1) or original(*words, **o)
        )
        return told

    def render(self, engine, text=TEXT, origin=OURS):
        compiled_templates.cache_clear()  # like in the next run
        return RememberingEngine.of(engine).template(trust_as_template(origin.tag(text)))

    def test_next_run_compiles_nothing(self, engine, compilations):
        assert self.render(engine) == "one-a" and len(compilations) == 1
        assert self.render(engine) == "one-a" and len(compilations) == 1

    def test_changed_text_is_compiled(self, engine):
        assert self.render(engine) == "one-a"
        assert self.render(engine, self.TEXT.replace("-", "+")) == "one+a"

    def test_directory_is_its_owners_and_holds_nothing_of_inventories(self, engine, directory):
        self.render(engine, origin=self.OF_AN_INVENTORY)
        assert not list(directory.glob("*"))
        self.render(engine)
        assert [file.stat().st_mode & 0o777 for file in directory.iterdir()] == [0o600]
        assert directory.stat().st_mode & 0o777 == 0o700

    def test_directory_of_others_is_not_used(self, engine, directory):
        directory.mkdir(parents=True)
        directory.chmod(0o770)
        assert self.render(engine) == "one-a"
        assert not list(directory.iterdir())

    @pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives files away")
    def test_directory_of_another_owner_is_not_used(self, engine, directory):
        directory.mkdir(parents=True, mode=0o700)
        os.chown(directory, 65534, 65534)
        assert self.render(engine) == "one-a"
        assert not list(directory.iterdir())

    def test_inventory_in_the_collections_directory_is_one(self, engine, directory):
        self.render(engine, origin=Origin(path=f"{COLLECTION}/inventories/prod/group_vars/all.yml"))
        assert not list(directory.glob("*"))

    def test_full_disk_is_no_failure(self, engine, directory, monkeypatch):
        def full(**_options):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
        assert self.render(engine) == "one-a"
        assert not list(directory.iterdir())

    def test_another_version_is_compiled_anew(self, engine, compilations, monkeypatch):
        self.render(engine)
        monkeypatch.setattr(templating, "ansible_version", "99.0")
        assert self.render(engine) == "one-a" and len(compilations) == 2

    def test_settings_that_the_code_depends_on_are_told_apart(self, engine, monkeypatch):
        text = "{{ lookup('items', '{{ name }}') }}"
        monkeypatch.setattr(_TemplateConfig, "allow_embedded_templates", False)
        assert self.render(engine, text) == "{{ name }}"
        monkeypatch.setattr(_TemplateConfig, "allow_embedded_templates", True)
        assert self.render(engine, text) == "one"

    def test_many_files_of_former_releases_go(self, engine, directory, monkeypatch):
        monkeypatch.setattr(templating, "KEPT", 2)
        for number in range(5):
            self.render(engine, f"{{{{ name ~ {number} }}}}")
        assert len(list(directory.iterdir())) <= 3

    @pytest.mark.parametrize("rest", [b"", b"x"])
    def test_damaged_file_is_replaced(self, engine, directory, compilations, rest):
        self.render(engine)
        [file] = directory.iterdir()
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] + rest)
        assert self.render(engine) == "one-a"
        assert file.read_bytes() == whole

    def test_damage_shorter_than_its_head(self, engine, directory):
        self.render(engine)
        [file] = directory.iterdir()
        for length in range(40):
            file.write_bytes(file.read_bytes()[:length])
            assert self.render(engine) == "one-a"

    def test_same_text_of_a_file_and_of_a_setting_is_another(self, engine):
        remembering = RememberingEngine.of(engine)
        text = trust_as_template(self.OURS.tag("{{ 'a\\\\n' }}"))
        assert remembering.template(text) != remembering.render_file(text, [])
        assert self.render(engine, "{{ 'a\\\\n' }}") == remembering.template(text)
