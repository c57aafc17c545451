"""A reference means the same at each step, and URLs with an account are refused."""

import subprocess
from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.git import GitError, check_out, commit_of


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a branch whose name ends like another's, and a tag with a branch's name."""
    path = tmp_path / "repository"
    identity = ["-c", "user.name=Tests", "-c", "user.email=tests@example.org"]

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(path), *identity, *words], check=True, capture_output=True)

    subprocess.run(["git", "init", "--quiet", "--initial-branch=feature/main", str(path)], check=True)
    for branch in ("feature/main", "main", "both"):
        git("checkout", "--quiet", "-B", branch)
        (path / "name").write_text(branch)
        git("add", "name")
        git("commit", "--quiet", f"--message={branch}")
    git("tag", "both", "main")
    return path


@pytest.mark.parametrize(
    ("reference", "content"), [("main", "main"), ("feature/main", "feature/main"), ("both", "main")]
)
def test_name_is_the_tag_or_branch_of_just_that_name(repository: Path, tmp_path: Path, reference: str, content: str):
    url = f"file://{repository}"
    tree = check_out(url, reference, tmp_path / "tree")
    assert (tree / "name").read_text() == content
    head = subprocess.run(["git", "-C", str(tree), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert commit_of(url, reference) == head.stdout.strip()


def test_head_is_what_the_repository_shows(repository: Path, tmp_path: Path) -> None:
    assert (check_out(f"file://{repository}", "HEAD", tmp_path / "tree") / "name").read_text() == "both"


def test_repository_that_a_hook_works_in_is_left_alone(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    subprocess.run(["git", "init", "--quiet", str(own)], check=True)
    monkeypatch.setenv("GIT_DIR", str(own / ".git"))
    check_out(f"file://{repository}", "main", tmp_path / "tree")
    assert (tmp_path / "tree/name").read_text() == "main"
    assert not list((own / ".git").rglob("*.pack")) and not (own / ".git/FETCH_HEAD").exists()


def test_missing_name_is_one_line(repository: Path) -> None:
    with pytest.raises(GitError, match="has no tag or branch 'v9'"):
        commit_of(f"file://{repository}", "v9")


def test_url_with_an_account_is_not_used() -> None:
    with pytest.raises(GitError, match="contains an account") as error:
        commit_of("https://token@example.org/a.git", "main")
    assert "token" not in str(error.value)
