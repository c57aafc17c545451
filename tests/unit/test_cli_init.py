"""`mlfleet init`: secrets are created once, kept, and shown only on request."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret  # type: ignore[import-untyped]
from typer.testing import CliRunner

from mlfleet.cli import app
from mlfleet.secrets import vault

REDIS, POSTGRES = "topology_secret_redis_default", "topology_secret_postgres_restapi"
KEPT = "a-value-that-was-here-before"
VAULT_PASSWORD = Path(__file__).resolve().parents[2] / "scripts/vault-password"


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    options = {name: {"type": "str", "no_log": True} for name in (POSTGRES, REDIS)}
    options["topology_runtime"] = {"type": "str"}
    (tmp_path / vault.SPECIFICATIONS).mkdir(parents=True)
    (tmp_path / vault.SPECIFICATIONS / "one.yml").write_text(yaml.safe_dump(options, sort_keys=False))
    (tmp_path / "galaxy.yml").touch()
    (tmp_path / "inventories/prod").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    return tmp_path


def init(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["init", "inventories/prod", *arguments])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def vault_path() -> Path:
    return Path("inventories/prod", vault.VAULT)


def read_vault(password: bytes | None = None) -> str:
    password = password or Path(".vault_password").read_bytes().strip()
    return bytes(VaultLib([("default", VaultSecret(password))]).decrypt(vault_path().read_bytes())).decode()


def write_vault(text: str, password: bytes = b"correct horse") -> None:
    Path(".vault_password").write_bytes(password + b"\n")
    vault_path().parent.mkdir(parents=True, exist_ok=True)
    vault_path().write_bytes(VaultLib([("default", VaultSecret(password))]).encrypt(text.encode()))


def test_first_run_makes_every_declared_secret_and_only_those() -> None:
    init()
    values = yaml.safe_load(read_vault())
    assert list(values) == [POSTGRES, REDIS]
    assert all(re.fullmatch(r"[A-Za-z0-9]{32}", value) for value in values.values())
    assert values[POSTGRES] != values[REDIS]


def test_names_are_printed_and_values_are_not() -> None:
    output = init()
    assert POSTGRES in output and REDIS in output
    assert not any(value in output for value in yaml.safe_load(read_vault()).values())


def test_files_are_readable_by_their_owner_only_even_with_an_open_umask() -> None:
    before = os.umask(0)
    try:
        init()
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (vault_path(), Path(".vault_password"))] == [0o600, 0o600]


def test_second_run_leaves_the_file_alone() -> None:
    init()
    before = vault_path().read_bytes()
    assert "nothing missing" in init()
    assert vault_path().read_bytes() == before


def test_what_exists_is_kept_with_its_comments() -> None:
    text = f"# ours\n{REDIS}: '{KEPT}'  # agreed\nsomething_else: [1, 2]"
    write_vault(text)
    output = init()
    assert read_vault().startswith(text + "\n")
    assert POSTGRES in output and REDIS not in output


def test_a_failed_write_leaves_the_old_file_and_the_next_run_works(monkeypatch: pytest.MonkeyPatch) -> None:
    write_vault(f"{REDIS}: {KEPT}\n")
    before = vault_path().read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        CliRunner().invoke(app, ["init", "inventories/prod"])
    assert vault_path().read_bytes() == before
    init()
    assert [path.name for path in vault_path().parent.iterdir()] == ["vault.yml"]


@pytest.mark.parametrize("killed_in", ["os.replace", "os.link", "mlfleet.secrets.vault.Vault._write"])
def test_a_first_run_killed_anywhere_is_finished_by_the_next(monkeypatch: pytest.MonkeyPatch, killed_in: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(killed_in, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        CliRunner().invoke(app, ["init", "inventories/prod"])
    assert not vault_path().exists()
    init()
    assert set(yaml.safe_load(read_vault())) == {POSTGRES, REDIS}


def test_wrong_password_names_the_file_and_the_mend() -> None:
    write_vault(f"{REDIS}: {KEPT}\n")
    Path(".vault_password").write_text("wrong\n")
    message = init(code=1)
    assert str(vault_path()) in message and ".vault_password" in message and message.count("\n") == 1


def test_no_password_is_made_for_a_vault_that_exists() -> None:
    write_vault(f"{REDIS}: {KEPT}\n")
    Path(".vault_password").unlink()
    assert ".vault_password" in init(code=1)
    assert not Path(".vault_password").exists()


def test_empty_password_file_is_refused() -> None:
    Path(".vault_password").touch()
    assert "is empty" in init(code=1)


def test_password_file_from_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("elsewhere").write_text("from the environment\n")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", "elsewhere")
    init()
    assert POSTGRES in read_vault(b"from the environment")
    assert not Path(".vault_password").exists()


@pytest.mark.parametrize("value", ["brief", "'with white space inside'", "12345678901234567890", "[a, list]"])
def test_malformed_secret_is_named_and_nothing_is_written(value: str) -> None:
    write_vault(f"{REDIS}: {value}\n")
    before = vault_path().read_bytes()
    message = init(code=1)
    assert REDIS in message and value not in message
    assert vault_path().read_bytes() == before


@pytest.mark.parametrize("text", ["- a list\n", "a: [unclosed\n", "just words\n"])
def test_vault_that_is_no_mapping_is_refused(text: str) -> None:
    write_vault(text)
    assert "not a YAML mapping" in init(code=1)


def test_vault_in_flow_style_is_refused_rather_than_broken() -> None:
    write_vault(f"{{{REDIS}: {KEPT}}}\n")
    before = vault_path().read_bytes()
    init(code=1)
    assert vault_path().read_bytes() == before


def test_plain_text_vault_names_the_command_that_encrypts_it() -> None:
    write_vault("")
    vault_path().write_text(f"{REDIS}: {KEPT}\n")
    assert "ansible-vault encrypt" in init(code=1)


@pytest.mark.parametrize("name", [REDIS, "redis_default"])
def test_show_prints_exactly_the_value(name: str) -> None:
    write_vault(f"{REDIS}: {KEPT}\n")
    assert init("--show", name) == f"{KEPT}\n"


def test_show_of_an_unknown_name_lists_the_known_ones() -> None:
    message = init("--show", "nonsense", code=1)
    assert POSTGRES in message and REDIS in message


def test_show_of_a_missing_secret_names_the_command_and_makes_nothing() -> None:
    assert "mlfleet init inventories/prod" in init("--show", REDIS, code=1)
    assert not Path(".vault_password").exists()


def test_outside_a_repository_the_error_says_so(repository: Path) -> None:
    (repository / "galaxy.yml").unlink()
    assert "galaxy.yml" in init(code=1)


def run_vault_password(repository: Path) -> subprocess.CompletedProcess[str]:
    script = repository / "scripts/vault-password"
    script.parent.mkdir()
    script.write_bytes(VAULT_PASSWORD.read_bytes())
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30, check=False)


def test_script_prints_a_placeholder_while_there_is_nothing_to_open(repository: Path) -> None:
    done = run_vault_password(repository)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.strip()


def test_script_prints_the_password_that_opens_the_vault(repository: Path) -> None:
    init()
    done = run_vault_password(repository)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", Path(".vault_password").read_text())


@pytest.mark.parametrize(("password", "code"), [("wrong\n", 0), (None, 1)])
def test_script_names_the_vault_that_does_not_open(repository: Path, password: str | None, code: int) -> None:
    init()
    Path(".vault_password").unlink()
    if password:
        Path(".vault_password").write_text(password)
    done = run_vault_password(repository)
    assert done.returncode == code
    assert str(vault_path()) in done.stderr and ".vault_password" in done.stderr


def run_as_ansible_vault(repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the script like in a fresh clone, whose ansible.cfg names it."""
    (repository / "ansible.cfg").write_text("[defaults]\nvault_password_file = scripts/vault-password\n")
    script = repository / "scripts/vault-password"
    script.parent.mkdir()
    script.write_bytes(VAULT_PASSWORD.read_bytes())
    script.chmod(0o755)
    program = [sys.executable, Path(sys.executable).with_name("ansible-vault"), *words]
    return subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)


def test_nothing_is_encrypted_before_there_is_a_password(repository: Path) -> None:
    Path("mine.yml").write_text("a: 1\n")
    done = run_as_ansible_vault(repository, "encrypt", "mine.yml")
    assert done.returncode != 0 and "mlfleet init" in done.stderr
    assert Path("mine.yml").read_text() == "a: 1\n"


def test_with_a_password_files_are_encrypted(repository: Path) -> None:
    init()
    Path("mine.yml").write_text("a: 1\n")
    assert run_as_ansible_vault(repository, "encrypt", "mine.yml").returncode == 0
    password = Path(".vault_password").read_bytes().strip()
    assert VaultLib([("default", VaultSecret(password))]).decrypt(Path("mine.yml").read_bytes()) == b"a: 1\n"


def test_placeholder_is_another_one_each_time(repository: Path) -> None:
    first = run_vault_password(repository).stdout
    script = repository / "scripts/vault-password"
    again = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30, check=True).stdout
    assert len(first.strip()) >= 32 and first != again


@pytest.mark.parametrize("end", [b"\xc2\xa0", b"\x1c", b""])
def test_script_and_init_read_the_same_password(repository: Path, end: bytes) -> None:
    Path(".vault_password").write_bytes(b"correct horse" + end + b" \n")
    init()
    done = run_vault_password(repository)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["all.yml", "all.yaml", "all.json", "all"])
def test_settings_that_would_no_longer_be_read_are_named_and_nothing_is_written(name: str) -> None:
    settings = Path("inventories/prod/group_vars", name)
    settings.parent.mkdir()
    settings.write_text("redis_maxmemory_mb: 777\n")
    message = init(code=1)
    assert f"{settings}" in message and "all/main.yml" in message and message.count("\n") == 1
    assert [path.name for path in Path("inventories/prod").rglob("*")] == ["group_vars", name]
    assert not Path(".vault_password").exists()


def sealed(value: str, password: bytes = b"correct horse") -> str:
    """Return a value like `ansible-vault encrypt_string`."""
    text = VaultLib([("default", VaultSecret(password))]).encrypt(value.encode()).decode()
    return "!vault |\n" + "".join(f"  {line}\n" for line in text.splitlines())


def test_what_ansible_reads_is_read_and_kept() -> None:
    text = f'hook: !unsafe "{{%a{{{{b"\nlist: !unsafe [1, a]\n{REDIS}: {sealed(KEPT)}'
    write_vault(text)
    assert POSTGRES in init()
    assert read_vault().startswith(text)
    assert init("--show", REDIS) == f"{KEPT}\n"


def test_malformed_value_in_a_value_of_its_own_is_not_quoted() -> None:
    write_vault(f"{REDIS}: {sealed('brief')}")
    message = init(code=1)
    assert REDIS in message and "brief" not in message


def test_vault_id_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("prod.password").write_text("of prod\n")
    secret = VaultSecret(b"of prod")
    vault_path().parent.mkdir(parents=True)
    vault_path().write_bytes(VaultLib([("prod", secret)]).encrypt(f"{REDIS}: {KEPT}\n", secret=secret, vault_id="prod"))
    monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", "dev@dev.password, prod@prod.password")
    Path("dev.password").write_text("of dev\n")
    init()
    for path in (vault_path(), Path("inventories/prod/ca/ca.key")):
        assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;1.2;AES256;prod\n")
        assert VaultLib([("prod", secret)]).decrypt(path.read_bytes())
    assert POSTGRES in read_vault(b"of prod")
    assert not Path(".vault_password").exists()


def test_linked_vault_stays_a_link() -> None:
    write_vault(f"{REDIS}: {KEPT}\n")
    shared = Path("shared.yml")
    vault_path().rename(shared)
    vault_path().symlink_to(shared.resolve())
    init()
    assert vault_path().is_symlink() and POSTGRES in read_vault()
