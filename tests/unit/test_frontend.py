"""Valid sources, what cannot be built, and the identity of a build."""

import gzip
import shutil
from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import archives, frontend
from ansible_collections.mlfleet.stack.plugins.module_utils.frontend import (
    BuildError,
    Source,
    provide,
    release,
    with_compressed,
)
from ansible_collections.mlfleet.stack.plugins.module_utils.git import GitError

APPLICATION = Path(__file__).parents[2] / "molecule/frontend/app"


def source(of: str, **options: str) -> Source:
    unset = dict.fromkeys(("checksum", "ref", "directory", "build_command", "output_directory", "node"), "")
    return Source(source=of, **unset | options)


def no_download(url: str, path: Path) -> None:
    raise AssertionError(url)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ("", "give an absolute path"),
        ("dist", "give an absolute path"),
        ("https://example.org/dist.zip", "needs frontend_checksum"),
        ("git+https://example.org/dioptra.git", "needs frontend_ref"),
        ("git+https://me:secret@example.org/dioptra.git", "contains an account"),
        ("git+https://secret@example.org/dioptra.git", "contains an account"),
        ("https://me:secret@example.org/dist.zip", "contains an account"),
    ],
)
def test_source_without_sense_is_refused_and_no_password_told(of: str, said: str) -> None:
    with pytest.raises((BuildError, GitError), match=said) as error:
        source(of).require_sense()
    assert "secret@" not in str(error.value)


def test_finished_build_is_kept_until_it_changes(tmp_path: Path) -> None:
    built, cache = tmp_path / "built", tmp_path / "cache"
    built.mkdir()
    (built / "index.html").write_text("<p>one")
    assert provide(source(str(built)), cache, no_download, True)["changed"]
    assert not provide(source(str(built)), cache, no_download, True)["changed"]
    (built / "index.html").write_text("<p>two")
    assert provide(source(str(built)), cache, no_download, True)["changed"]


@pytest.mark.parametrize("record", ["", "{"])
def test_record_of_a_killed_run_is_no_record(tmp_path: Path, record: str) -> None:
    built, cache = tmp_path / "built", tmp_path / "cache"
    built.mkdir()
    (built / "index.html").write_text("<p>")
    provide(source(str(built)), cache, no_download, True)
    (cache / "inputs").write_text(record)
    assert provide(source(str(built)), cache, no_download, True)["changed"]
    assert not provide(source(str(built)), cache, no_download, True)["changed"]


def test_what_is_hidden_or_elsewhere_is_not_served(tmp_path: Path) -> None:
    built = tmp_path / "built"
    for name in ("index.html", ".env", ".git/config", "assets/.secret", ".well-known/security.txt"):
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text("x")
    result = provide(source(str(built)), tmp_path / "cache", no_download, True)
    assert archives.read(Path(str(result["archive"]))).keys() == {"index.html", ".well-known/security.txt"}
    (built / "passwords.txt").symlink_to("/etc/passwd")
    with pytest.raises(BuildError, match="is a link to outside of"):
        provide(source(str(built)), tmp_path / "cache", no_download, True)
    (built / "passwords.txt").unlink()
    (built / "assets/all").symlink_to("/etc")
    with pytest.raises(BuildError, match="a link to a directory"):
        provide(source(str(built)), tmp_path / "cache", no_download, True)


def test_failed_build_leaves_the_former_one(tmp_path: Path) -> None:
    built, cache = tmp_path / "built", tmp_path / "cache"
    built.mkdir()
    (built / "index.html").write_text("<p>")
    provide(source(str(built)), cache, no_download, True)
    before = {path: path.read_bytes() for path in cache.iterdir()}
    (built / "index.html").unlink()
    with pytest.raises(BuildError, match=r"has no index.html at its top"):
        provide(source(str(built)), cache, no_download, True)
    assert {path: path.read_bytes() for path in cache.iterdir()} == before


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """A copy of the source tree that tests can change."""
    return Path(shutil.copytree(APPLICATION, tmp_path / "app"))


def test_source_that_is_no_application_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError, match=r"has no index\.html at its top"):
        provide(source(str(tmp_path / "empty")), tmp_path / "cache", no_download, True)
    with pytest.raises(BuildError, match=f"there is no {tmp_path}/other"):
        provide(source(str(tmp_path / "other")), tmp_path / "cache", no_download, True)


def test_application_that_npm_cannot_install_is_refused(application: Path, tmp_path: Path) -> None:
    package = application / "package.json"
    package.write_text(package.read_text().replace('"vue": "^3.5.0"', '"vue": "^2.0.0"'))
    with pytest.raises(BuildError, match=r"npm ci failed in"):
        provide(source(str(application), output_directory="dist", node="node"), tmp_path / "cache", no_download, True)
    (application / "package-lock.json").unlink()
    with pytest.raises(BuildError, match=r"has no package-lock\.json: run npm install there"):
        provide(source(str(application), output_directory="dist", node="node"), tmp_path / "cache", no_download, True)


def test_old_or_missing_node_is_refused(application: Path, tmp_path: Path) -> None:
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v18.20.0\n")
    old.chmod(0o755)
    with pytest.raises(BuildError, match=f"{old} is v18.*install Node 20 or newer"):
        provide(source(str(application), node=str(old)), tmp_path / "cache", no_download, True)
    with pytest.raises(BuildError, match=r"there is no missing on this controller: install Node 20"):
        provide(source(str(application), node="missing"), tmp_path / "cache", no_download, True)


def test_archive_that_is_not_the_declared_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dist.zip"
    path.touch()
    with pytest.raises(BuildError, match=rf"{path} has the SHA-256.*correct frontend_checksum"):
        provide(source(str(path), checksum="0" * 64), tmp_path / "cache", no_download, True)


def test_who_may_not_build_takes_what_is_kept(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"run site.yml --tags frontend,drift where"):
        provide(source("/missing"), tmp_path, no_download, False)
    (tmp_path / "frontend.tar.gz").touch()
    assert provide(source("/missing"), tmp_path, no_download, False)["changed"] is False


def test_texts_of_some_size_are_compressed_beside_themselves() -> None:
    files = {"a.js": b"a" * 2000, "small.js": b"a", "a.png": b"a" * 2000}
    packed = with_compressed(files)
    assert packed.keys() - files.keys() == {"a.js.gz"}
    assert gzip.decompress(packed["a.js.gz"]) == files["a.js"]
    assert with_compressed(packed) == packed


def test_release_is_the_packages_or_that_of_dioptra_around_it(tmp_path: Path) -> None:
    tree = tmp_path / "src/frontend"
    tree.mkdir(parents=True)
    (tree / "package.json").write_text('{"version": "0.0.0"}')
    assert release(tree) == ""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "dioptra-platform"\nversion = "1.2.2"')
    assert release(tree) == "1.2.2"
    (tree / "package.json").write_text('{"version": "2.0.0"}')
    assert release(tree) == "2.0.0"


def test_build_is_given_what_it_needs_of_the_environment_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANSIBLE_VAULT_PASSWORD_FILE", "MY_TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "GIT_DIR"):
        monkeypatch.setenv(name, "secret")
    for name in ("https_proxy", "NO_PROXY", "NPM_CONFIG_REGISTRY", "npm_config_cafile", "NODE_EXTRA_CA_CERTS"):
        monkeypatch.setenv(name, "needed")
    given = dict(line.split("=", 1) for line in frontend._run(["env"], "env fails").splitlines())
    assert "secret" not in given.values() and list(given.values()).count("needed") == 5
    assert {"PATH", "HOME"} <= given.keys()
