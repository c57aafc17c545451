"""Each consumer has its own database, and no access to another's."""

import contextlib
import json

import psycopg2
import pytest

PORT = 5432
OWNERS = {"restapi": "restapi", "mlflow-tracking": "mlflow", "mlflow-auth": "mlflow_auth"}
STRANGERS = [(database, owner) for database in OWNERS for owner in OWNERS.values() if OWNERS[database] != owner]


@pytest.fixture
def connect(forward, secret, authority):
    """Return a connection over TCP, with the declared password unless another is given."""

    @contextlib.contextmanager
    def open_as(user, database, password=None, sslmode="verify-full"):
        password = password or secret(f"postgres_{user}")
        tls = {"sslmode": sslmode, "sslrootcert": authority}
        connection = psycopg2.connect(
            host="127.0.0.1", port=forward(PORT), user=user, dbname=database, password=password, **tls
        )
        with contextlib.closing(connection), connection.cursor() as cursor:
            yield cursor  # closed without a commit, so that nothing remains

    return open_as


@pytest.mark.parametrize(("database", "owner"), OWNERS.items())
def test_owner_creates_writes_and_reads_a_table(connect, database, owner):
    with connect(owner, database) as cursor:
        cursor.execute("CREATE TABLE molecule (answer int); INSERT INTO molecule VALUES (42); SELECT * FROM molecule")
        assert cursor.fetchall() == [(42,)]


@pytest.mark.parametrize(("database", "owner"), OWNERS.items())
def test_wrong_password_is_refused(connect, database, owner):
    with (
        pytest.raises(psycopg2.OperationalError, match="password authentication failed"),
        connect(owner, database, "no"),
    ):
        pass


@pytest.mark.parametrize(("database", "stranger"), STRANGERS)
def test_other_database_is_refused(connect, sql, database, stranger):
    with pytest.raises(psycopg2.OperationalError, match=r"no pg_hba\.conf entry"), connect(stranger, database):
        pass
    assert sql("postgres", f"SELECT has_database_privilege('{stranger}', '{database}', 'CONNECT')") == "f"


@pytest.fixture
def moving(host, sql, play):
    """Run with this owner of a database that only this test declares."""

    def run(owner, *options):
        database = {"name": "moving", "owner": owner, "password": f"password-of-{owner}", "clients": ["testbed"]}
        extra = json.dumps({"postgres_databases_extra": [database]})
        return play("--tags", "postgres_provision", "-e", extra, *options)

    yield run
    sql("postgres", "DROP DATABASE IF EXISTS moving")
    sql("postgres", "DROP ROLE IF EXISTS first, second")


@pytest.mark.fleet
def test_new_owner_of_a_database_gets_what_is_in_it(moving, sql):
    assert moving("first")["changed"] == 1
    sql("moving", "SET ROLE first; CREATE TABLE kept (answer serial); INSERT INTO kept VALUES (42)")
    sql("postgres", 'ALTER DATABASE "mlflow-auth" OWNER TO first')
    assert moving("second")["changed"] == 1
    assert sql("moving", "SET ROLE second; SELECT answer FROM kept") == "42"
    owners = "SELECT string_agg(datname || '=' || datdba::regrole, ' ' ORDER BY 1) FROM pg_database"
    assert "moving=second" in sql("postgres", owners) and "mlflow-auth=mlflow_auth" in sql("postgres", owners)
    assert moving("second", "--check")["changed"] == 0


def test_superuser_as_owner_is_refused_before_anything_changes(moving, sql):
    with pytest.raises(AssertionError, match="owner postgres is PostgreSQL's own"):
        moving("postgres")
    assert sql("postgres", "SELECT rolsuper FROM pg_roles WHERE rolname = 'postgres'") == "t"


def test_administrator_cannot_come_over_the_network(connect):
    with (
        pytest.raises(psycopg2.OperationalError, match=r"no pg_hba\.conf entry"),
        connect("postgres", "postgres", "any"),
    ):
        pass


@pytest.mark.parametrize(("database", "stranger"), STRANGERS)
def test_public_schema_is_closed(sql, database, stranger):
    rights = (
        f"has_schema_privilege('{stranger}', 'public', 'CREATE'), has_schema_privilege('{stranger}', 'public', 'USAGE')"
    )
    assert sql(database, f"SELECT {rights}") == "f|f"


def test_passwords_are_kept_as_scram_verifiers(sql):
    assert sql("postgres", "SHOW password_encryption") == "scram-sha-256"
    kept = "SELECT count(*), count(*) FILTER (WHERE rolpassword LIKE 'SCRAM-SHA-256$%') FROM pg_authid"
    found, scram = sql("postgres", f"{kept} WHERE rolcanlogin AND rolname <> 'postgres'").split("|")
    assert found == scram == str(len(OWNERS))


def test_plain_connection_is_refused(connect):
    with (
        pytest.raises(psycopg2.OperationalError, match="no encryption"),
        connect("mlflow", "mlflow-tracking", sslmode="disable"),
    ):
        pass


def test_data_stays_when_tls_is_switched(request, connect, sql):
    sql("mlflow-tracking", "CREATE TABLE molecule (answer int); INSERT INTO molecule VALUES (42)")
    sql("mlflow-tracking", "GRANT SELECT ON molecule TO mlflow")
    request.addfinalizer(lambda: sql("mlflow-tracking", "DROP TABLE molecule"))
    request.getfixturevalue("without_tls")
    with connect("mlflow", "mlflow-tracking", sslmode="disable") as cursor:
        cursor.execute("SELECT * FROM molecule")
        assert cursor.fetchall() == [(42,)]
    with pytest.raises(psycopg2.OperationalError, match="does not support SSL"), connect("mlflow", "mlflow-tracking"):
        pass


def test_only_the_loopback_listens(listens_on):
    assert listens_on(PORT) == {"127.0.0.1"}
