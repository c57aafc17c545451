"""pgAdmin's hashes are known again, and no other is taken for one."""

from __future__ import annotations

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import pgadmin

# Of a database that pgAdmin 9.18 made for the password secret12.
PEPPER = "WdjMEV2WlHpDENm45Zap4YSftrJMhYD5B7mgknX_i40="
HASH = (
    "$pbkdf2-sha512$25000$odR6L2UMwXiPUYpxjjEGwA$"
    "zV83kFk.lbiGXJxwJLrG.klhaVzy/tWLSYQsLdBABr2624OcTLj.wr58onoyUHALHXBxTRGyOcaVdFDNAQOWfw"
)


def test_hash_that_pgadmin_made_is_known_again() -> None:
    assert pgadmin.has_password(HASH, "secret12", PEPPER)


@pytest.mark.parametrize("stored", [None, "", "plain", HASH[:-1], HASH.replace("25000", "1"), "$a$b$c$d"])
def test_other_hashes_are_of_another_password(stored: str | None) -> None:
    assert not pgadmin.has_password(stored, "secret12", PEPPER)
    assert not pgadmin.has_password(HASH, "secret13", PEPPER)


def test_database_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(pgadmin.NotThereError, match="start pgAdmin once"):
        pgadmin.Database(str(tmp_path / "pgadmin4.db"), "a@example.org", "", 3)


def test_database_of_a_server_is_by_default_of_its_name() -> None:
    server = {"name": "mlflow", "host": "db", "port": 5432, "username": "u", "database": None, "parameters": {}}
    for alone, shown in ((False, None), (True, "mlflow")):
        state = pgadmin.wanted_state("a@example.org", [server | {"only_its_database": alone}])["server mlflow"]
        assert (state["database"], state["databases"]) == ("mlflow", shown)
