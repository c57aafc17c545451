# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import NotRunningError, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import Form
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra import resources
from ansible_collections.mlfleet.stack.plugins.plugin_utils import dioptra_package
from ansible_collections.mlfleet.stack.plugins.plugin_utils.dioptra_package import PackageError

CONFIG = """
[[plugin_param_types]]
name = "image"

[[plugins]]
path = "attacks"
[[plugins.tasks.functions]]
filename = "fgm.py"
name = "attack"
input_params = [{name = "x", type = "image", required = true}]
output_params = []

[[entrypoints]]
path = "fgm.yml"
name = "fgm"
params = [{name = "eps", type = "float", default_value = 0.5}]
plugins = ["attacks"]
"""
FILES = {
    "dioptra.toml": CONFIG,
    "attacks/__init__.py": "",
    "attacks/fgm.py": "def attack(x): ...\n",
    "attacks/.hidden/x-y.py": "",
    "fgm.yml": "graph: {step: {attack: {x: 1}}}\n",
}
RESOURCE = {"src": "package", "repo": None, "version": "HEAD", "config_path": "dioptra.toml", "on_conflict": "update"}


def directory(root: Path, **files: str) -> Path:
    for name, text in {**FILES, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def tar(root: Path, *members: tarfile.TarInfo, **files: str) -> Path:
    path = root / "package.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in {**FILES, **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        for member in members:
            archive.addfile(member)
    return path


def zipped(root: Path, **files: str) -> Path:
    path = root / "package.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**FILES, **files}.items():
            archive.writestr(name, text)
    return path


def load(path: Path, **options: str) -> dict:
    return dioptra_package.load({**RESOURCE, **options}, path)


def wrong(path: Path, **options: str) -> str:
    with pytest.raises(PackageError) as error:
        load(path, **options)
    (line,) = str(error.value).splitlines()
    return line


@pytest.fixture
def package(tmp_path):
    return load(directory(tmp_path))


def test_forms_of_a_package_are_the_same(tmp_path, package):
    assert load(tar(tmp_path)) == load(zipped(tmp_path)) == package
    assert sorted(package["files"]) == ["attacks/__init__.py", "attacks/fgm.py", "dioptra.toml", "fgm.yml"]
    assert package["entrypoints"]["fgm"]["task_graph"] == "step:\n  attack:\n    x: 1\n"


def test_paths_are_relative_to_the_configuration(tmp_path):
    config = CONFIG.replace('path = "', 'path = "../')
    packed = load(directory(tmp_path, **{"conf/d.toml": config}), config_path="conf/d.toml")
    assert packed["plugins"]["attacks"]["root"] == "attacks"
    assert "fgm.yml" in packed["files"]


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "attacks/../../evil.py", "a\\evil.py"])
@pytest.mark.parametrize("form", [tar, zipped])
def test_member_that_leads_out_is_refused(tmp_path, form, name):
    assert f"{name} leads out of the archive; pack it with relative paths" in wrong(form(tmp_path, **{name: "x"}))


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x.py", "fgm.py"])
def test_link_in_an_archive_is_refused(tmp_path, target):
    member = tarfile.TarInfo("attacks/x.py")
    member.type, member.linkname = tarfile.SYMTYPE, target
    assert "attacks/x.py is a link" in wrong(tar(tmp_path, member))


def test_link_of_a_directory_counts_as_long_as_it_is_inside(tmp_path):
    root = directory(tmp_path / "package")
    (root / "attacks/same.py").symlink_to("fgm.py")
    assert load(root)["files"]["attacks/same.py"] == FILES["attacks/fgm.py"]
    (tmp_path / "secret.py").write_text("secret")
    (root / "attacks/same.py").unlink()
    (root / "attacks/other.py").symlink_to(tmp_path / "secret.py")
    assert wrong(root) == "package: attacks/other.py is a link that leads out of the package"
    (root / "attacks/other.py").unlink()
    (root / "attacks/more").symlink_to(root)
    assert wrong(root) == "package: attacks/more is a link to a directory"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[[plugins", "dioptra.toml is no TOML"),
        ('[[plugins]]\npath = "nowhere"', "there is no directory nowhere"),
        ('[[plugins]]\npath = "../attacks"', "'../attacks' leads out of the package"),
        ('[[plugins]]\npath = "/attacks"', "'/attacks' leads out of the package"),
        ("[[plugins]]\ndescription = 'x'", "missing required arguments: path found in plugins"),
        ("[[plugins]]\npath = 'attacks'\nmore = 1", "dioptra.toml: unknown key plugins.more"),
        (CONFIG.replace('filename = "fgm.py"', 'filename = "pgd.py"'), "attack is in pgd.py, which does not exist"),
        (CONFIG.replace('path = "fgm.yml"', 'path = "pgd.yml"'), "there is no file pgd.yml"),
        (CONFIG.replace('plugins = ["attacks"]', 'plugins = ["defences"]'), "it uses plugin defences"),
        (CONFIG.replace("= 0.5", "= true"), "write the default of parameter eps in quotes"),
        (CONFIG + '[[plugins]]\npath = "attacks"', "plugin attacks: declared twice"),
    ],
)
@pytest.mark.parametrize("form", [directory, tar, zipped])
def test_wrong_configuration_is_one_line(tmp_path, form, config, said):
    assert said in wrong(form(tmp_path, **{"dioptra.toml": config}))


@pytest.mark.parametrize("form", [directory, tar, zipped])
def test_file_that_the_api_would_refuse_is_one_line(tmp_path, form):
    assert "fgm.yml: it has no graph" in wrong(form(tmp_path, **{"fgm.yml": "- x"}))
    assert "fgm.yml is no YAML" in wrong(form(tmp_path, **{"fgm.yml": "{"}))
    assert "the API accepts no file of the name x-y.py" in wrong(form(tmp_path, **{"attacks/x-y.py": ""}))


def test_missing_configuration_names_where_one_is(tmp_path):
    archive = tar(tmp_path, **{"v1/other.toml": CONFIG})
    assert wrong(archive, config_path="other.toml").endswith("it has v1/other.toml, which config_path can name")
    assert wrong(archive, config_path="none.toml") == "package: there is no file none.toml"


def test_what_is_no_archive_is_one_line(tmp_path):
    (tmp_path / "x").write_text("x")
    assert "x is not a readable archive" in wrong(tmp_path / "x")
    whole = tar(tmp_path).read_bytes()
    (tmp_path / "x").write_bytes(whole[: len(whole) // 2])
    assert "x is not a readable archive" in wrong(tmp_path / "x")


def test_same_object_belongs_to_one_package(package):
    other = {**copy.deepcopy(package), "source": "other"}
    with pytest.raises(PackageError, match="other: package declares plugin attacks, too"):
        dioptra_package.require_one_owner([package, other])
    other |= {"plugins": {}, "entrypoints": {}}
    dioptra_package.require_one_owner([package, other])


def test_account_in_a_url_is_not_shown():
    resource = {**RESOURCE, "src": None, "repo": "https://ada:secret@127.0.0.1:9/x.git"}
    with pytest.raises(PackageError) as error:
        dioptra_package.load(resource, None)
    assert "secret" not in str(error.value)


def found_of(package: dict) -> dict:
    """Return the API's objects after an import."""
    contents = {"attacks": {"fgm.py": FILES["attacks/fgm.py"], "__init__.py": ""}}
    plugins = {"attacks": {key: package["plugins"]["attacks"][key] for key in ("description", "files")}}
    kinds = {"types": package["types"], "plugins": plugins, "entrypoints": package["entrypoints"], "contents": contents}
    kinds["orphans"] = {}
    found = copy.deepcopy(kinds)
    found["entrypoints"]["fgm"]["parameters"][0]["default"] = "0.5"
    return found


def changes(package: dict, found: dict, **options: str) -> list[str]:
    return resources.plan({**package, **options}, found)["changes"]


def test_what_is_as_declared_is_unchanged(package):
    for strategy in ("fail", "update", "overwrite"):
        assert changes(package, found_of(package), on_conflict=strategy) == []


def test_what_is_not_there_differs(package):
    everything = ["parameter type image", "plugin attacks", "entrypoint fgm", "plugin attacks: fgm.py"]
    assert changes(package, resources.empty()) == everything
    assert changes(package, resources.empty(), on_conflict="fail") == everything


def test_each_difference_is_named(package):
    found = found_of(package)
    found["contents"]["attacks"]["fgm.py"] = "mine"
    assert changes(package, found) == ["plugin attacks: fgm.py"]
    found = found_of(package)
    del found["plugins"]["attacks"]["files"]["__init__.py"]  # an empty file is a file
    assert changes(package, found) == ["plugin attacks"]
    found = found_of(package)
    found["entrypoints"]["fgm"]["parameters"][0]["default"] = "0.6"
    assert changes(package, found) == ["entrypoint fgm"]
    found = found_of(package)
    older = {"name": "attacks", "latestSnapshot": False}
    found["entrypoints"]["fgm"]["plugins"] = [resources.bound(older, set())]
    assert changes(package, found) == ["entrypoint fgm"]


def test_others_are_left_alone_unless_overwritten(package):
    found = found_of(package)
    found["plugins"]["attacks"]["files"]["more.py"] = {"functions": [], "artifacts": []}
    found["entrypoints"]["fgm"]["plugins"] += ["defences"]
    assert changes(package, found) == []
    assert changes(package, found, on_conflict="overwrite") == ["plugin attacks", "entrypoint fgm"]


def test_conflict_names_what_is_there(package):
    found = found_of(package)
    found["entrypoints"] = {}
    with pytest.raises(
        ServiceError, match="entrypoint fgm would change, and the API already has parameter type image, plugin"
    ):
        changes(package, found, on_conflict="fail")


def test_entrypoint_of_a_deleted_plugin_is_only_overwritten(package):
    found = found_of(package)
    found["plugins"], found["contents"], found["orphans"] = {}, {}, {"fgm": ["attacks"]}
    with pytest.raises(ServiceError, match="entrypoint fgm uses plugin attacks, which was deleted"):
        changes(package, found)
    assert changes(package, found, on_conflict="overwrite") == ["plugin attacks", "plugin attacks: fgm.py"]


@pytest.mark.parametrize(
    ("found", "declared", "is_same"),
    [("3", 3, True), ("0.00001", 1e-05, True), ("x", 3, False), (None, 3, False), (None, None, True), ("", None, 0)],
)
def test_default_is_compared_by_what_it_means(found, declared, is_same):
    assert resources.is_same(found, declared) == is_same


def test_check_predicts_all_where_nothing_runs(monkeypatch, package):
    def refuse(*_arguments):
        raise NotRunningError("does not answer")

    monkeypatch.setattr(resources.Dioptra, "signs_in", refuse)
    options = {"url": "http://api:5000", "timeout_seconds": 5, "ca_file": None, "username": "a", "password": "b"}
    options["payload"] = dioptra_package.pack([package])
    assert len(resources.converge_resources(options, check_mode=True)["changes"]) == 4
    with pytest.raises(NotRunningError):
        resources.converge_resources(options, check_mode=False)


def test_archive_has_what_the_configuration_speaks_of(package):
    with tarfile.open(fileobj=io.BytesIO(resources.archive(package))) as archive:
        assert sorted(archive.getnames()) == sorted([*package["files"], "attacks"])


def test_form_is_what_a_page_sends():
    kind, body = Form({"group": "1"}, ("archiveFile", "x.tar.gz", b"\0\r\n")).encoded()
    boundary = kind.partition("boundary=")[2]
    sent = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="group"\r\n\r\n1\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="archiveFile"; filename="x.tar.gz"\r\n\r\n\0\r\n\r\n'
        f"--{boundary}--\r\n"
    )
    assert body == sent.encode()
