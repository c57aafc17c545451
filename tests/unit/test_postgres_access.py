# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import postgres
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import (
    NotRunningError,
    ServiceError,
    converge,
)

ROLES = [{"name": "mlflow", "password": "horse-battery", "member_of": [], "state": "present"}]
DATABASES = [{"name": "mlflow-tracking", "owner": "mlflow", "encoding": "UTF8", "locale": "C.UTF-8", "functions": []}]
NOBODY = dict.fromkeys(postgres.ATTRIBUTES, False) | postgres.NO_LIMITS


def lines(role=None, database=None, schema=None):
    """Return psql's output for the document above, with some differences."""
    row = NOBODY | {"rolcanlogin": True, "rolpassword": postgres.verifier("horse-battery")} | (role or {})
    items = [
        {"role": "mlflow", "number": 16384, "row": row, "member_of": ["pg_monitor"]},
        {
            "database": "mlflow-tracking",
            "owner": "mlflow",
            "encoding": "UTF8",
            "locales": ["C.UTF-8", "C.UTF-8"],
            "public_rights": [],
        }
        | (database or {}),
        {
            "schema": "mlflow-tracking",
            "of_bootstrap": 0,
            "owner": "pg_database_owner",
            "public_rights": [],
            "readers": ["exporter", "others"],
            "functions": {},
        }
        | (schema or {}),
    ]
    return "\n".join(map(json.dumps, items))


def cluster(monkeypatch, printed, **options):
    """Return a cluster with this output of psql; its C(scripts) records later input."""
    monkeypatch.setattr(postgres.pwd, "getpwuid", lambda _uid: SimpleNamespace(pw_name="postgres"))
    options = {"roles": ROLES, "databases": DATABASES} | options
    document = postgres.Cluster(options | {"login_user": "postgres", "port": 5432, "timeout_seconds": 1})
    document.psql.run = lambda script: document.scripts.append(script) or printed
    document.scripts = []
    return document


def script_for(monkeypatch, printed):
    document = cluster(monkeypatch, printed)
    assert converge(document, check_mode=False)["changed"] == (len(document.scripts) == 2)
    return "".join(document.scripts[1:]).splitlines()


def test_verifier_is_the_one_of_the_standard():
    # The exchange in RFC 7677: its server key signs the published server-final-message.
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    stored = postgres.verifier("pencil", salt, 4096)
    assert stored == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
    assert postgres.verifies("pencil", stored)
    assert not postgres.verifies("pen", stored)


@pytest.mark.parametrize("stored", [None, "", "md5d41d8cd98f00b204e9800998ecf8427e"])
def test_what_is_no_verifier_matches_no_password(stored):
    assert not postgres.verifies("pencil", stored)


def test_cluster_as_declared_is_unchanged(monkeypatch):
    assert script_for(monkeypatch, lines()) == []


def test_empty_cluster_gets_everything_and_is_told_no_password(monkeypatch):
    document = cluster(monkeypatch, "")
    result = converge(document, check_mode=False)
    assert result["changes"] == ["role mlflow", "database mlflow-tracking"]
    role, *database = document.scripts[1].splitlines()
    assert role.startswith('CREATE ROLE "mlflow" LOGIN NOSUPERUSER NOCREATEDB')
    assert " PASSWORD 'SCRAM-SHA-256$4096:" in role
    assert "horse" not in role + json.dumps(result)
    assert database == [
        'CREATE DATABASE "mlflow-tracking" OWNER "mlflow" TEMPLATE template0 ENCODING \'UTF8\' '
        "LOCALE_PROVIDER libc LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8';",
        'REVOKE ALL ON DATABASE "mlflow-tracking" FROM PUBLIC;',
        '\\connect "mlflow-tracking"',
        "ALTER SCHEMA public OWNER TO pg_database_owner;",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC;",
    ]


def test_only_what_differs_is_changed(monkeypatch):
    (statement,) = script_for(monkeypatch, lines(role={"rolcreatedb": True}))
    assert statement.startswith('ALTER ROLE "mlflow" LOGIN') and "PASSWORD" not in statement
    (statement,) = script_for(monkeypatch, lines(role={"rolpassword": postgres.verifier("another")}))
    assert "PASSWORD 'SCRAM-SHA-256$" in statement
    connect, *moved = script_for(monkeypatch, lines(database={"owner": "former"}))
    assert connect == '\\connect "mlflow-tracking"'
    assert any("format('REASSIGN OWNED BY %I TO %I', 'former', 'mlflow')" in line for line in moved)
    assert script_for(monkeypatch, lines(database={"public_rights": ["CONNECT"]}))[0].startswith(
        "REVOKE ALL ON DATABASE"
    )
    assert script_for(monkeypatch, lines(schema={"public_rights": ["USAGE"]}))[0] == '\\connect "mlflow-tracking"'


def test_rights_of_a_role_of_postgresql_are_granted_once(monkeypatch):
    [role] = ROLES
    document = cluster(monkeypatch, lines(), roles=[role | {"member_of": ["pg_monitor"]}])
    assert not converge(document, check_mode=False)["changed"]
    document = cluster(monkeypatch, lines(), roles=[role | {"member_of": ["pg_monitor", "pg_signal_backend"]}])
    assert converge(document, check_mode=False)["changes"] == ["role mlflow"]
    assert 'GRANT "pg_signal_backend" TO "mlflow";' in document.scripts[1]
    assert "'mlflow pg_monitor', 'mlflow pg_signal_backend'" in document.scripts[0]  # these are not undeclared


def test_role_that_goes_takes_its_rights_and_functions_along(monkeypatch):
    gone = {"name": "exporter", "password": "x", "member_of": ["pg_monitor"], "state": "absent"}
    function = {"name": "number", "returns": "runs bigint", "query": "SELECT count(*) FROM runs", "reader": "exporter"}
    options = {"roles": [*ROLES, gone], "databases": [DATABASES[0] | {"functions": [function]}]}
    there = {
        "role": "exporter",
        "number": 16385,
        "row": NOBODY,
        "member_of": [],
        "owned": 0,
        "rights_in": ["mlflow-tracking"],
    }
    printed = lines(schema={"functions": {"number": {"returns": "TABLE(runs bigint)"}}}) + "\n" + json.dumps(there)
    document = cluster(monkeypatch, printed, **options)
    assert converge(document, check_mode=False)["changes"] == ["database mlflow-tracking", "role exporter"]
    *_others, function, connect, revoke, drop = document.scripts[1].splitlines()
    assert function == 'DROP FUNCTION IF EXISTS public."number"();'
    assert [connect, revoke, drop] == [
        '\\connect "mlflow-tracking"',
        'DROP OWNED BY "exporter";',
        'DROP ROLE "exporter";',
    ]
    assert not converge(cluster(monkeypatch, lines(), **options), check_mode=False)["changed"]
    owner = json.dumps(there | {"owned": 2})
    with pytest.raises(ServiceError, match="role exporter: it is to be removed, and owns 2 objects"):
        converge(cluster(monkeypatch, owner, **options), check_mode=False)


def test_function_is_for_its_reader_alone(monkeypatch):
    function = {"name": "number", "returns": "runs bigint", "query": "SELECT count(*) FROM runs", "reader": "exporter"}
    databases = [DATABASES[0] | {"functions": [function]}]
    found = {
        "returns": "TABLE(runs bigint)",
        "query": "SELECT count(*) FROM runs",
        "owner": "mlflow",
        "has_rights_of_owner": True,
        "settings": ["search_path=public, pg_temp"],
        "readers": ["exporter"],
    }
    same = cluster(monkeypatch, lines(schema={"functions": {"number": found}}), databases=databases)
    assert not converge(same, check_mode=False)["changed"]
    for other in ({"readers": ["exporter", "PUBLIC"]}, {"query": "SELECT 1"}, {"settings": None}):
        document = cluster(monkeypatch, lines(schema={"functions": {"number": found | other}}), databases=databases)
        assert converge(document, check_mode=False)["changes"] == ["database mlflow-tracking"], other
    script = document.scripts[1]
    assert "RETURNS TABLE (runs bigint)" in script and "$mlfleet$SELECT count(*) FROM runs$mlfleet$" in script
    assert 'REVOKE ALL ON FUNCTION public."number"() FROM PUBLIC;' in script
    assert 'GRANT CONNECT ON DATABASE "mlflow-tracking" TO "exporter";' in script
    closed = cluster(monkeypatch, lines(schema={"functions": {"number": found}, "readers": []}), databases=databases)
    assert converge(closed, check_mode=False)["changed"]


def test_locale_in_another_spelling_is_the_same(monkeypatch):
    assert script_for(monkeypatch, lines(database={"locales": ["C.utf8", "C.utf8"]})) == []


def test_other_encoding_is_an_error(monkeypatch):
    with pytest.raises(ServiceError, match="mlflow-tracking: it has encoding LATIN1 and locale"):
        script_for(monkeypatch, lines(database={"encoding": "LATIN1"}))


def test_cluster_that_does_not_run_is_predicted_whole_and_not_changed(monkeypatch):
    monkeypatch.setattr(postgres.pwd, "getpwnam", {}.__getitem__)  # this host has no such account
    document = cluster(monkeypatch, "")
    del document.psql.run
    predicted = converge(document, check_mode=True)
    assert predicted["changes"] == ["role mlflow", "database mlflow-tracking"]
    assert not predicted["diff"]["before"] and not predicted["undeclared"]
    with pytest.raises(NotRunningError, match="PostgreSQL is not installed"):
        converge(document, check_mode=False)


def test_what_nobody_declared_is_told_with_its_removal(monkeypatch):
    other = {"undeclared": "PostgreSQL role", "name": "mallory", "statement": "DROP ROLE mallory"}
    result = converge(cluster(monkeypatch, f"{lines()}\n{json.dumps(other)}"), check_mode=True)
    remove = "sudo -u postgres psql --command 'DROP ROLE mallory'"
    assert result["undeclared"] == [{"kind": "PostgreSQL role", "name": "mallory", "remove": remove}]
    reader = json.dumps(other | {"rights_in": ["restapi"]})
    [found] = converge(cluster(monkeypatch, reader), check_mode=True)["undeclared"]
    revoke = """sudo -u postgres psql --dbname restapi --command 'DROP OWNED BY "mallory"'"""
    assert found["remove"] == f"{revoke} && {remove}"


def test_owner_that_nobody_declares_is_an_error():
    databases = [DATABASES[0] | {"owner": "nobody"}]
    with pytest.raises(ServiceError, match="its owner nobody does not exist"):
        postgres.found_state("", [], databases)


@pytest.mark.parametrize(
    ("roles", "databases", "message"),
    [
        ([{"name": "a b", "password": "x"}], [], "role 'a b': a name is"),
        ([], [{"name": "a=b"}], "database 'a=b': a name is"),
        ([], [{"name": "x" * 64}], "at most 63"),
        (ROLES * 2, [], "role mlflow: declared twice"),
        ([{"name": "a", "password": "pässword"}], [], "role a: its password must consist of printable ASCII"),
        ([{"name": "a", "password": ""}], [], "role a: its password"),
        ([{"name": "postgres", "password": "x", "member_of": []}], [], "role postgres: it is PostgreSQL's own"),
        ([ROLES[0] | {"member_of": ["postgres"]}], [], "role mlflow: postgres is not one of PostgreSQL's own roles"),
        ([], [{"name": "a", "functions": [{"name": "f", "query": "$mlfleet$"}]}], "function 'f': its name or query"),
        ([], [{"name": "a", "owner": "pg_monitor"}], "role pg_monitor: it is PostgreSQL's own"),
    ],
)
def test_malformed_document_is_one_line(roles, databases, message):
    with pytest.raises(ServiceError, match=message) as error:
        postgres.validate(roles, databases, "postgres")
    assert "pässword" not in str(error.value)
    assert "\n" not in str(error.value)


def test_names_and_texts_are_quoted():
    assert postgres.identifier('a"b') == '"a""b"'
    assert postgres.literal("it's") == "'it''s'"
