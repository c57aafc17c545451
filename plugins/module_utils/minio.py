# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies, buckets and users of a MinIO server.

Each kind of object has three functions: what is declared and what is found as plain data of one shape, so that they
can be compared, and one that makes the first of the second. KINDS lists them in the order of their dependencies.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

with contextlib.suppress(ImportError):  # its absence is told when a client is made
    import urllib3
    from minio import Minio, MinioAdmin
    from minio.credentials import StaticProvider
    from minio.error import MinioAdminException, MinioException, S3Error
    from minio.versioningconfig import ENABLED, SUSPENDED, VersioningConfig

AS_DECLARED = "as declared"
WRONG_SECRET = ("SignatureDoesNotMatch", "InvalidAccessKeyId")
POLICY_LISTS = ("Action", "Resource", "NotResource")
BUCKET_NAME = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)(?!.*(\.\.|\.-|-\.))[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
POLICY_NAME = re.compile(r"[A-Za-z0-9_.@=+-]{1,128}")
USER_NAME = re.compile(r"[^\s,=/]{3,128}")
SECRET_LENGTHS = range(8, 41)


class MinioError(Exception):
    """One line for the user."""


class NotRunningError(MinioError):
    """No server answers, or there is nothing to ask it with, perhaps because neither is installed yet."""


class Client:
    """A MinIO server under the account that administers it."""

    def __init__(self, endpoint: str, access_key: str, secret_key: str, ca_file: str | None, timeout: int) -> None:
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.netloc or url.path.strip("/"):
            raise MinioError(f"endpoint {endpoint!r}: it is to be http:// or https://, a host and a port")
        if "MinioAdmin" not in globals():
            raise NotRunningError("the Python library minio is not installed for the interpreter that runs this module")
        self.endpoint = endpoint
        self.access_key = access_key
        self._where: dict[str, Any] = {
            "endpoint": url.netloc,
            "secure": url.scheme == "https",
            "http_client": urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=timeout, read=timeout),
                # A server that has just started answers 503 until it has read its accounts.
                retries=urllib3.Retry(total=5, connect=1, backoff_factor=0.2, status_forcelist=[503]),
                cert_reqs="CERT_REQUIRED",
                ca_certs=ca_file,
            ),
        }
        self.s3 = Minio(access_key=access_key, secret_key=secret_key, **self._where)
        self.admin = MinioAdmin(credentials=StaticProvider(access_key, secret_key), **self._where)

    def knows_secret(self, user: str, secret: str) -> bool:
        """Whether the user can sign in with this secret; what the user may do then does not matter."""
        try:
            Minio(access_key=user, secret_key=secret, **self._where).list_buckets()
        except S3Error as error:
            return error.code not in WRONG_SECRET
        return True

    @contextlib.contextmanager
    def one_line(self, doing: str):
        """Turns what the library raises into one line that says at what it failed."""
        try:
            yield
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            message = f"MinIO at {self.endpoint} does not answer: {reason}"
            not_running = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
            raise (NotRunningError if isinstance(reason, not_running) else MinioError)(message) from error
        except (MinioException, MinioAdminException, ValueError) as error:
            code, message = explain(error)
            if doing == "reading" and code in WRONG_SECRET:
                raise MinioError(
                    f"MinIO at {self.endpoint} refused {self.access_key!r}: wrong access_key or secret_key"
                ) from error
            raise MinioError(f"MinIO at {self.endpoint}, {doing}: {code or message} ({message})") from error


def explain(error: Exception) -> tuple[str, str]:
    """Code and message of an error of the library; the admin API's are JSON in the text of the exception."""
    if body := getattr(error, "_body", None):
        with contextlib.suppress(ValueError, AttributeError):
            answer = json.loads(body)
            return answer.get("Code", ""), answer.get("Message", "")
    return getattr(error, "code", None) or "", getattr(error, "message", None) or str(error)


# --- Policies


def _texts(values: Any) -> list[str]:
    values = values if isinstance(values, list) else [values]
    return sorted({str(value).lower() if isinstance(value, bool) else str(value) for value in values})


def _statements(policy: dict) -> list[dict]:
    statements = policy.get("Statement") or []
    return statements if isinstance(statements, list) else [statements]


def canonical_policy(policy: dict) -> dict:
    """The policy in one of the many ways to write it: order and scalar or list mean nothing."""
    canonical = []
    for statement in _statements(policy):
        entry = {key: value for key, value in statement.items() if value}
        entry.update({key: _texts(entry[key]) for key in POLICY_LISTS if key in entry})
        if "Condition" in entry:
            entry["Condition"] = {
                operator: {key: _texts(values) for key, values in sorted(keys.items())}
                for operator, keys in sorted(entry["Condition"].items())
            }
        if entry not in canonical:
            canonical.append(entry)
    canonical.sort(key=lambda entry: json.dumps(entry, sort_keys=True))
    return {"Version": policy.get("Version") or "2012-10-17", "Statement": canonical}


def wanted_policy(item: dict) -> dict:
    return canonical_policy(item["policy"])


def found_policies(client: Client, items: list[dict]) -> dict[str, dict]:
    existing = json.loads(client.admin.policy_list())
    return {item["name"]: canonical_policy(existing[item["name"]]) for item in items if item["name"] in existing}


def put_policy(client: Client, item: dict, have: dict | None) -> None:
    client.admin.policy_add(item["name"], policy=item["policy"])


# --- Buckets


def wanted_bucket(item: dict) -> dict:
    return {"versioning": item["versioning"]}


def found_buckets(client: Client, items: list[dict]) -> dict[str, dict]:
    existing = {bucket.name for bucket in client.s3.list_buckets()}
    return {
        item["name"]: {"versioning": client.s3.get_bucket_versioning(bucket_name=item["name"]).status == ENABLED}
        for item in items
        if item["name"] in existing
    }


def put_bucket(client: Client, item: dict, have: dict | None) -> None:
    name, versioning = item["name"], item["versioning"]
    if have is None:
        client.s3.make_bucket(bucket_name=name)
    if versioning != (have or {"versioning": False})["versioning"]:
        client.s3.set_bucket_versioning(bucket_name=name, config=VersioningConfig(ENABLED if versioning else SUSPENDED))


# --- Users and what is attached to them


def wanted_user(item: dict) -> dict:
    return {"secret": AS_DECLARED, "policies": sorted(set(item["policies"]))}


def found_users(client: Client, items: list[dict]) -> dict[str, dict]:
    existing = json.loads(client.admin.user_list() or "{}")
    found = {}
    for item in items:
        user = existing.get(item["name"])
        if user is None:
            continue
        # Nobody can sign in as a disabled user, and to give it a secret would enable it: it is left as it is.
        untold = user.get("status") == "disabled"
        matches = untold or client.knows_secret(item["name"], item["secret"])
        found[item["name"]] = {
            "secret": AS_DECLARED if matches else "another one",
            "policies": sorted(filter(None, (user.get("policyName") or "").split(","))),
        }
    return found


def put_user(client: Client, item: dict, have: dict | None) -> None:
    have = have or {"secret": "none", "policies": []}
    if have["secret"] != AS_DECLARED:
        client.admin.user_add(item["name"], item["secret"])
    # The server takes attaching what is attached for an error.
    if missing := sorted(set(item["policies"]) - set(have["policies"])):
        client.admin.attach_policy(missing, user=item["name"])
    if surplus := sorted(set(have["policies"]) - set(item["policies"])):
        client.admin.detach_policy(surplus, user=item["name"])


# --- The whole document


class Kind(NamedTuple):
    wanted: Callable[[dict], dict]
    found: Callable[[Client, list[dict]], dict[str, dict]]
    put: Callable[[Client, dict, dict | None], None]


KINDS = {
    "policy": Kind(wanted_policy, found_policies, put_policy),
    "bucket": Kind(wanted_bucket, found_buckets, put_bucket),
    "user": Kind(wanted_user, found_users, put_user),
}
Document = dict[str, list[dict]]


def validate(document: Document, root: str) -> None:
    """MinioError for the first thing in the document that the server would not take as it is meant."""
    rules = {
        "policy": (POLICY_NAME, "letters, digits and any of _.@=+-"),
        "bucket": (BUCKET_NAME, "3 to 63 lower-case letters, digits, dots and hyphens by the rules of S3"),
        "user": (USER_NAME, "3 to 128 characters without spaces, commas, slashes and equal signs"),
    }
    for kind, items in document.items():
        pattern, rule = rules[kind]
        names = [item["name"] for item in items]
        for name in names:
            if not pattern.fullmatch(name):
                raise MinioError(f"{kind} {name!r}: its name is to be {rule}")
            if names.count(name) > 1:
                raise MinioError(f"{kind} {name}: declared twice")
    for policy in document["policy"]:
        # The server takes one, but from then on can list no policy at all.
        if any("NotAction" in statement for statement in _statements(policy["policy"])):
            raise MinioError(f"policy {policy['name']}: MinIO cannot read back NotAction; list the actions instead")
    for user in document["user"]:
        if user["name"] == root:
            raise MinioError(f"user {root}: it is the root account, which the server's environment declares")
        if len(user["secret"]) not in SECRET_LENGTHS:
            raise MinioError(f"user {user['name']}: its secret is to have 8 to 40 characters")


def require_policies(document: Document, existing: set[str]) -> None:
    known = existing | {policy["name"] for policy in document["policy"]}
    for user in document["user"]:
        for name in user["policies"]:
            if name not in known:
                raise MinioError(f"user {user['name']}: policy {name!r} does not exist; declare it in policies")


def read(client: Client, document: Document) -> dict[str, dict[str, dict]]:
    """What the server has of the document's objects: {kind: {name: state}}."""
    with client.one_line("reading"):
        require_policies(document, set(json.loads(client.admin.policy_list())))
        return {kind: KINDS[kind].found(client, items) for kind, items in document.items()}


def difference(document: Document, found: dict[str, dict[str, dict]]) -> tuple[dict[str, dict], dict[str, dict]]:
    """The objects that differ, before and after, as {"bucket name": state}."""
    before, after = {}, {}
    for kind, items in document.items():
        for item in items:
            key, wanted, have = f"{kind} {item['name']}", KINDS[kind].wanted(item), found[kind].get(item["name"])
            if have != wanted:
                after[key] = wanted
                if have is not None:
                    before[key] = have
    return before, after


def apply(client: Client, document: Document, before: dict[str, dict], after: dict[str, dict]) -> None:
    for kind, items in document.items():
        for item in items:
            key = f"{kind} {item['name']}"
            if key in after:
                with client.one_line(key):
                    KINDS[kind].put(client, item, before.get(key))


def converge(options: dict, check_mode: bool) -> dict:
    """A module's whole work: the result to exit with."""
    document = {"policy": options["policies"], "bucket": options["buckets"], "user": options["users"]}
    validate(document, options["access_key"])
    found: dict[str, dict[str, dict]] = {kind: {} for kind in document}
    client = None
    try:
        client = Client(
            options["endpoint"],
            options["access_key"],
            options["secret_key"],
            options["ca_file"],
            options["timeout_seconds"],
        )
        found = read(client, document)
    except NotRunningError:
        if not check_mode:
            raise
    before, after = difference(document, found)
    if client and not check_mode:
        apply(client, document, before, after)
    return {"changed": bool(after), "changes": list(after), "diff": {"before": before, "after": after}}
