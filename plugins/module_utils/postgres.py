# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles and databases of a PostgreSQL cluster, read by one run of psql and changed by another."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import pwd
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.access import document
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import NotRunningError, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray
from ansible_collections.mlfleet.stack.plugins.module_utils.commands import run

ITERATIONS = 4096
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
ATTRIBUTES = {  # column of pg_authid: keyword, and whether our roles have it
    "rolcanlogin": ("LOGIN", True),
    "rolsuper": ("SUPERUSER", False),
    "rolcreatedb": ("CREATEDB", False),
    "rolcreaterole": ("CREATEROLE", False),
    "rolreplication": ("REPLICATION", False),
    "rolbypassrls": ("BYPASSRLS", False),
}
BOOTSTRAP = 10  # the number of the role that created the cluster, which PostgreSQL cannot do without
NO_LIMITS = {"rolconnlimit": -1, "rolvaliduntil": None}
NOT_RUNNING = ("No such file or directory", "Connection refused")

# How many objects a role owns, and in which databases it has rights; those of the whole server can be revoked in any.
OWNED = (
    "(SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = r.oid AND deptype = 'o')"
)
RIGHTS_IN = """
    ARRAY(SELECT DISTINCT coalesce(datname, 'postgres') FROM pg_shdepend LEFT JOIN pg_database d ON d.oid = dbid
          WHERE refclassid = 'pg_authid'::regclass AND refobjid = r.oid ORDER BY 1)"""
# Everything is read as one JSON object per line. A schema must be read inside its database.
READ_ROLES = f"""
SELECT json_build_object('role', rolname, 'number', r.oid::int, 'row', row_to_json(r), 'member_of',
    ARRAY(SELECT pg_get_userbyid(roleid) FROM pg_auth_members WHERE member = r.oid),
    'owned', {OWNED}, 'rights_in', {RIGHTS_IN})
FROM pg_authid r WHERE rolname = ANY ({{names}}::text[]);
"""
READ_DATABASES = """
SELECT json_build_object(
    'database', datname, 'owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding),
    'locales', ARRAY[datcollate, datctype],
    'public_rights', ARRAY(SELECT privilege_type FROM aclexplode(coalesce(datacl, acldefault('d', datdba)))
                           WHERE grantee = 0 ORDER BY 1))
FROM pg_database WHERE datname = ANY ({names}::text[]);
"""
# Other objects of the server, except its own roles and databases.
READ_UNDECLARED = (
    f"""
SELECT json_build_object('undeclared', kind, 'name', name, 'statement', statement, 'rights_in',
    (SELECT {RIGHTS_IN} FROM pg_authid r WHERE rolname = name AND statement LIKE 'DROP ROLE %' AND {OWNED} = 0))
"""
    """FROM (
    SELECT CASE WHEN rolsuper THEN 'PostgreSQL superuser' ELSE 'PostgreSQL role' END AS kind,
           rolname::text AS name, format('DROP ROLE %I', rolname) AS statement
    FROM pg_roles WHERE rolname <> ALL ({roles}::text[]) AND rolname <> current_user AND rolname NOT LIKE 'pg\\_%'
    UNION ALL
    SELECT 'PostgreSQL database', datname, format('DROP DATABASE %I', datname)
    FROM pg_database WHERE datname <> ALL ({databases}::text[]) AND datname <> 'postgres' AND NOT datistemplate
    UNION ALL
    SELECT 'membership in a PostgreSQL role', format('%s in %s', member::regrole, roleid::regrole),
           format('REVOKE %s FROM %s', roleid::regrole, member::regrole)
    FROM pg_auth_members WHERE member::regrole::text NOT LIKE 'pg\\_%'
    AND pg_get_userbyid(member) || ' ' || pg_get_userbyid(roleid) <> ALL ({memberships}::text[])
    UNION ALL
    SELECT 'PostgreSQL setting', format('%s by ALTER SYSTEM', name), format('ALTER SYSTEM RESET %I', name)
    FROM pg_file_settings WHERE sourcefile LIKE '%/postgresql.auto.conf'
    UNION ALL
    SELECT 'PostgreSQL setting',
           concat_ws(' ', split_part(setting, '=', 1), 'of', 'role ' || nullif(setrole, 0)::regrole,
                     'database ' || datname),
           concat_ws(' ', 'ALTER', CASE WHEN setrole = 0 THEN 'DATABASE ' || quote_ident(datname) ELSE
               format('ROLE %s', setrole::regrole) || coalesce(' IN DATABASE ' || quote_ident(datname), '') END,
               'RESET', split_part(setting, '=', 1))
    FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(setconfig) AS setting
) AS others ORDER BY kind, name;
"""
)
READ_SCHEMA = """
SELECT EXISTS (SELECT FROM pg_database WHERE datname = {literal}) AS is_there \\gset
\\if :is_there
\\connect {identifier}
SELECT json_build_object(
    'schema', current_database(), 'owner', pg_get_userbyid(nspowner),
    'of_bootstrap', (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                     WHERE relowner = {bootstrap} AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
                     AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                     AND NOT EXISTS (SELECT FROM pg_depend
                                     WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')),
    'public_rights', ARRAY(SELECT privilege_type FROM aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
                           WHERE grantee = 0 ORDER BY 1),
    'readers', ARRAY(SELECT pg_get_userbyid(grantee) FROM aclexplode(nspacl) WHERE privilege_type = 'USAGE' INTERSECT
                     SELECT pg_get_userbyid(grantee) FROM pg_database, aclexplode(datacl)
                     WHERE datname = current_database() AND privilege_type = 'CONNECT' ORDER BY 1),
    'functions', (SELECT coalesce(json_object_agg(proname, json_build_object(
        'returns', pg_get_function_result(p.oid), 'query', prosrc, 'owner', pg_get_userbyid(proowner),
        'has_rights_of_owner', prosecdef, 'settings', proconfig,
        'readers', ARRAY(SELECT pg_get_userbyid(grantee) FROM aclexplode(coalesce(proacl, acldefault('f', proowner)))
                         WHERE grantee <> proowner ORDER BY 1))), '{{}}')
        FROM pg_proc p WHERE pronamespace = pg_namespace.oid AND pronargs = 0 AND proname = ANY ({functions}::text[])))
FROM pg_namespace WHERE nspname = 'public';
\\endif
"""
# Runs inside the database. REASSIGN also takes the role's other databases and tablespaces, which are then given back.
GIVE_AWAY = """
DO $$
DECLARE
    former oid := (SELECT oid FROM pg_roles WHERE rolname = {former});
    kept text[] := ARRAY(
        SELECT format('ALTER DATABASE %I OWNER TO %I', datname, {former}) FROM pg_database
        WHERE datdba = former AND datname <> current_database()
        UNION ALL
        SELECT format('ALTER TABLESPACE %I OWNER TO %I', spcname, {former}) FROM pg_tablespace WHERE spcowner = former);
    statement text;
BEGIN
    IF former <> {bootstrap} THEN
        EXECUTE format('REASSIGN OWNED BY %I TO %I', {former}, {owner});
        FOREACH statement IN ARRAY kept LOOP
            EXECUTE statement;
        END LOOP;
    END IF;
    EXECUTE format('ALTER DATABASE %I OWNER TO %I', current_database(), {owner});
END $$;
"""

# A function of SQL is checked when it is called, so that it can precede its tables.
CREATE_FUNCTION = """
BEGIN;
SET LOCAL check_function_bodies = off;
DROP FUNCTION IF EXISTS public.{name}();
CREATE FUNCTION public.{name}() RETURNS TABLE ({returns}) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = {search_path} AS $mlfleet${query}$mlfleet$;
ALTER FUNCTION public.{name}() OWNER TO {owner};
REVOKE ALL ON FUNCTION public.{name}() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.{name}() TO {reader};
GRANT USAGE ON SCHEMA public TO {reader};
GRANT CONNECT ON DATABASE {database} TO {reader};
COMMIT;
"""
SEARCH_PATH = "public, pg_temp"  # names of the query mean the owner's tables, whatever the reader has made


class Psql:
    """psql as the server's own account, through the unix socket, with SQL on stdin."""

    def __init__(self, port: int, user: str, timeout_seconds: int) -> None:
        words = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse"]
        words += ["-p", str(port), "-U", user, "-d", "postgres"]
        is_user = pwd.getpwuid(os.geteuid()).pw_name == user
        self.command = words if is_user else ["runuser", "-u", user, "--", *words]
        self.user = user
        self.port = port
        self.timeout_seconds = timeout_seconds
        milliseconds = timeout_seconds * 1000
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C",
            "PGCONNECT_TIMEOUT": str(timeout_seconds),
            # Keep verifiers out of the server's log, regardless of its settings.
            "PGOPTIONS": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} -c log_statement=none "
            "-c log_min_duration_statement=-1 -c log_min_error_statement=panic",
        }

    def run(self, script: str) -> str:
        try:
            pwd.getpwnam(self.user)
        except KeyError:
            raise NotRunningError(f"PostgreSQL is not installed: this host has no account {self.user!r}") from None
        deadline = time.monotonic() + self.timeout_seconds
        while True:
            try:
                done = run(self.command, self.timeout_seconds, input=script, cwd="/", env=self.environment)
            except FileNotFoundError as error:
                raise NotRunningError(f"PostgreSQL is not installed: this host has no {error.filename}") from None
            except TimeoutError:
                raise ServiceError(
                    f"PostgreSQL on port {self.port} did not answer within {self.timeout_seconds} s"
                ) from None
            if done.returncode == 0:
                return done.stdout
            if "starting up" not in done.stderr or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        line = (done.stderr.strip() or "psql failed").splitlines()[0]
        if "failed to execute psql" in line:
            raise NotRunningError("PostgreSQL is not installed: this host has no psql")
        if done.returncode == 2 and any(sign in done.stderr for sign in NOT_RUNNING):
            raise NotRunningError(f"PostgreSQL does not run on port {self.port}: {line}")
        raise ServiceError(f"PostgreSQL on port {self.port}: {line}")


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def verifier(password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return the SCRAM-SHA-256 verifier that the server stores, so that it never sees the password itself."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, stored_text, server_text = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${iterations}:{salt_text}${stored_text}:{server_text}"


def verifies(password: str, stored: str | None) -> bool:
    """Return whether the stored verifier matches this password."""
    parts = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$[^:]+:.+", stored or "")
    if not parts:
        return False
    return hmac.compare_digest(verifier(password, base64.b64decode(parts[2]), int(parts[1])), str(stored))


def validate(roles: list[dict], databases: list[dict], superuser: str) -> None:
    """Raise ServiceError for the first part of the document that any server would refuse or misread."""
    for kind, items in (("role", roles), ("database", databases)):
        names = [item["name"] for item in items]
        for name in names:
            if not NAME.fullmatch(name):
                raise ServiceError(
                    f"{kind} {name!r}: a name is a letter or underscore, then letters, digits, underscores or hyphens, "
                    "at most 63 in all"
                )
            if names.count(name) > 1:
                raise ServiceError(f"{kind} {name}: declared twice")
    for function in (function for item in databases for function in item.get("functions", ())):
        if not NAME.fullmatch(function["name"]) or "$mlfleet$" in function["query"]:
            raise ServiceError(f"function {function['name']!r}: its name or query cannot be quoted")
    for role in roles:
        # SASLprep leaves printable ASCII unchanged; anything else would need its tables.
        if not re.fullmatch(r"[ -~]+", role["password"]):
            raise ServiceError(f"role {role['name']}: its password must consist of printable ASCII characters")
        for other in role["member_of"]:
            if not other.startswith("pg_"):
                raise ServiceError(
                    f"role {role['name']}: {other} is not one of PostgreSQL's own roles, such as pg_monitor"
                )
    for name in [*(role["name"] for role in roles), *(item["owner"] for item in databases)]:
        if name == superuser or name.startswith("pg_"):
            raise ServiceError(f"role {name}: it is PostgreSQL's own, and would lose its rights; choose another name")


def locale_key(locale: str) -> str:
    """Normalize a locale, which operating systems spell in several ways: C.UTF-8, C.utf8."""
    return locale.lower().replace("-", "")


def attributes(row: Mapping[str, Any]) -> str:
    """Return a role's attributes from a row of pg_authid, as CREATE ROLE and ALTER ROLE take them."""
    keywords = [keyword if row[column] else f"NO{keyword}" for column, (keyword, _has) in ATTRIBUTES.items()]
    limits = f"CONNECTION LIMIT {row['rolconnlimit']}", f"VALID UNTIL {literal(row['rolvaliduntil'] or 'infinity')}"
    return " ".join([*keywords, *limits])


OWN_ATTRIBUTES = attributes({column: has for column, (_keyword, has) in ATTRIBUTES.items()} | NO_LIMITS)
CLOSED = {  # the implied state of a database, in addition to its declaration
    "public_rights": [],
    # pg_database_owner is the present owner of the database, even after it was given to another role.
    "schema_owner": "pg_database_owner",
    "schema_public_rights": [],
}


def _with_functions(functions: dict[str, dict], readers: list[str], database: dict) -> dict[str, Any]:
    """Return what belongs to the state of a database with functions. Other readers are undeclared, and stay."""
    if not database["functions"] and not database["former_functions"]:
        return {}
    wanted = {function["reader"] for function in database["functions"]}
    return {"functions": functions, "readers": sorted(wanted & set(readers))}


def without_readers(database: dict, gone: set[str]) -> dict:
    """Return a database whose functions go with the roles that read them."""
    kept = [function for function in database["functions"] if function["reader"] not in gone]
    former = [function["name"] for function in database["functions"] if function["reader"] in gone]
    return database | {"functions": kept, "former_functions": former}


def _declared_functions(database: dict) -> dict[str, Any]:
    functions = {
        function["name"]: {
            "returns": f"TABLE({function['returns']})",
            "query": function["query"],
            "owner": database["owner"],
            "has_rights_of_owner": True,
            "settings": [f"search_path={SEARCH_PATH}"],
            "readers": [function["reader"]],
        }
        for function in database["functions"]
    }
    return _with_functions(functions, [function["reader"] for function in database["functions"]], database)


def read_script(roles: list[dict], databases: list[dict]) -> str:
    def names(items: list[str]) -> str:
        return f"ARRAY[{', '.join(map(literal, items))}]"

    declared_roles = names([role["name"] for role in roles] + [item["owner"] for item in databases])
    declared_databases = names([item["name"] for item in databases])
    script = READ_ROLES.format(names=declared_roles)
    script += READ_DATABASES.format(names=declared_databases)
    memberships = names([f"{role['name']} {other}" for role in roles for other in role["member_of"]])
    script += READ_UNDECLARED.format(roles=declared_roles, databases=declared_databases, memberships=memberships)
    for item in databases:
        functions = names([*(function["name"] for function in item["functions"]), *item["former_functions"]])
        names_it = {"literal": literal(item["name"]), "identifier": identifier(item["name"]), "functions": functions}
        script += READ_SCHEMA.format(bootstrap=BOOTSTRAP, **names_it)
    return script


def found_state(lines: str, roles: list[dict], databases: list[dict]) -> dict[str, dict]:
    """Return the output of read_script in the form of the desired state; raise ServiceError if it cannot be reached."""
    declared_roles = {role["name"]: role for role in roles}
    declared = {database["name"]: database for database in databases}
    existing_roles = {role["name"] for role in roles if role["state"] == "present"}
    state: dict[str, dict] = {}
    for item in map(json.loads, lines.splitlines()):
        if "role" in item:
            name, row = item["role"], item["row"]
            existing_roles.add(name)
            if item["number"] == BOOTSTRAP or (name not in declared_roles and row["rolsuper"]):
                raise ServiceError(f"role {name}: it is a superuser, and must not own a service's database")
            role = declared_roles.get(name)
            if role and role["state"] == "absent":
                if item["owned"]:
                    raise ServiceError(
                        f"role {name}: it is to be removed, and owns {item['owned']} objects; drop these, or give each "
                        "to another role"
                    )
                state[f"role {name}"] = {"rights_in": item["rights_in"]}
            elif role:
                matches = verifies(role["password"], row["rolpassword"])
                has_any = document.ANOTHER if row["rolpassword"] else "none"
                state[f"role {name}"] = {
                    "password": document.AS_DECLARED if matches else has_any,
                    "attributes": attributes(row),
                    # Others are undeclared, and stay.
                    "member_of": [other for other in role["member_of"] if other in item["member_of"]],
                }
        elif "database" in item:
            name, want = item["database"], declared[item["database"]]
            collate, ctype = item["locales"]
            same_locale = {locale_key(collate), locale_key(ctype)} == {locale_key(want["locale"])}
            if item["encoding"] != want["encoding"] or not same_locale:
                raise ServiceError(
                    f"database {name}: it has encoding {item['encoding']} and locale {collate}, not {want['encoding']} "
                    f"and {want['locale']}; declare these, or move its data to a new database"
                )
            state[f"database {name}"] = {
                "owner": item["owner"],
                "encoding": want["encoding"],
                "locale": want["locale"],
                **CLOSED,  # without a schema public, there is nothing to close
                "public_rights": item["public_rights"],
            }
        elif "schema" in item:
            name, found = item["schema"], state[f"database {item['schema']}"]
            found.update(schema_owner=item["owner"], schema_public_rights=item["public_rights"])
            found.update(_with_functions(item["functions"], item["readers"], declared[name]))
            owner = declared[name]["owner"]
            if found["owner"] != owner and item["of_bootstrap"]:
                raise ServiceError(
                    f"database {name}: {item['of_bootstrap']} tables, views or sequences in it are a superuser's, and "
                    f"would be closed to its new owner; give each away: ALTER TABLE … OWNER TO {identifier(owner)}"
                )
    for database in databases:
        if database["owner"] not in existing_roles:
            raise ServiceError(
                f"database {database['name']}: its owner {database['owner']} does not exist; declare it in roles"
            )
    return state


def undeclared(lines: str) -> list[dict[str, str]]:
    """Return the undeclared objects in the output of read_script, with the command that removes each."""
    items = [item for item in map(json.loads, lines.splitlines()) if "undeclared" in item]
    psql = ["sudo", "-u", "postgres", "psql"]
    return [
        stray(
            item["undeclared"],
            item["name"],
            *([*psql, "--dbname", name, "--command", revoke(item["name"])] for name in item.get("rights_in") or ()),
            [*psql, "--command", item["statement"]],
        )
        for item in items
    ]


def revoke(role: str) -> str:
    """Return the statement that revokes a role's rights in a database, and of the server, if it owns nothing."""
    return f"DROP OWNED BY {identifier(role)}"


def change_script(changes: list[document.Change]) -> str:
    """Return psql's input for the changes; a run may be killed after any of the statements."""
    script: list[str] = []
    for change in changes:
        name, have, want = identifier(change.item["name"]), change.have, change.want or {}
        if have and change.want is None:
            for database in have["rights_in"]:
                script += [f"\\connect {identifier(database)}", f"{revoke(change.item['name'])};"]
            script.append(f"DROP ROLE {name};")
            continue
        if "attributes" in want:
            statement = f"{'ALTER' if have else 'CREATE'} ROLE {name} {want['attributes']}"
            if not have or have["password"] != document.AS_DECLARED:
                statement += f" PASSWORD {literal(verifier(change.item['password']))}"
            script.append(f"{statement};")
            script += [f"GRANT {identifier(other)} TO {name};" for other in want["member_of"]]
            continue
        owner = identifier(want["owner"])
        if not have:
            locale = literal(want["locale"])
            script.append(
                f"CREATE DATABASE {name} OWNER {owner} TEMPLATE template0 ENCODING {literal(want['encoding'])} "
                f"LOCALE_PROVIDER libc LC_COLLATE {locale} LC_CTYPE {locale};"
            )
        elif have["owner"] != want["owner"]:
            owners = {"former": literal(have["owner"]), "owner": literal(want["owner"])}
            script += [f"\\connect {name}", GIVE_AWAY.format(bootstrap=BOOTSTRAP, **owners)]
        if not have or have["public_rights"]:
            script.append(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;")
        script += [
            f"\\connect {name}",
            f"ALTER SCHEMA public OWNER TO {want['schema_owner']};",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC;",
        ]
        for function in change.item["functions"]:
            names = {key: identifier(function[key]) for key in ("name", "reader")} | {"owner": owner, "database": name}
            script.append(CREATE_FUNCTION.format_map({**function, **names, "search_path": SEARCH_PATH}))
        script += [f"DROP FUNCTION IF EXISTS public.{identifier(each)}();" for each in change.item["former_functions"]]
    return "\n".join(script) + "\n"


class Cluster(document.Document):
    def __init__(self, options: dict) -> None:
        self.roles = options["roles"]
        validate(self.roles, options["databases"], options["login_user"])
        gone = {role["name"] for role in self.roles if role["state"] == "absent"}
        self.databases = [without_readers(database, gone) for database in options["databases"]]
        self.psql = Psql(options["port"], options["login_user"], options["timeout_seconds"])

    def find(self) -> document.Found:
        lines = self.psql.run(read_script(self.roles, self.databases))
        return document.Found(found_state(lines, self.roles, self.databases), undeclared(lines))

    def compare(self, found: Mapping[str, dict]) -> Iterator[document.Change]:
        for role in self.roles:
            wanted = {"password": document.AS_DECLARED, "attributes": OWN_ATTRIBUTES, "member_of": role["member_of"]}
            have = found.get(f"role {role['name']}")
            yield document.Change(f"role {role['name']}", have, wanted if role["state"] == "present" else None, role)
        for database in self.databases:
            name = f"database {database['name']}"
            wanted = {key: database[key] for key in ("owner", "encoding", "locale")} | CLOSED
            wanted |= _declared_functions(database)
            yield document.Change(name, found.get(name), wanted, database)

    def apply(self, changes: list[document.Change]) -> None:
        self.psql.run(change_script(changes))


def converge(options: dict, check_mode: bool) -> document.Result:
    return document.converge(Cluster(options), check_mode)
