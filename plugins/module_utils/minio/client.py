# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection to a MinIO server, its objects, and its errors in one line."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import Item, NotRunningError, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.minio.policy import path_of

with contextlib.suppress(ImportError):  # its absence is reported when a client is created
    import urllib3
    from minio import Minio, MinioAdmin
    from minio.credentials import StaticProvider
    from minio.crypto import decrypt, encrypt
    from minio.error import MinioAdminException, MinioException, S3Error

CONNECTION_OPTIONS: dict[str, dict[str, Any]] = {
    "endpoint": {"type": "str", "required": True},
    "access_key": {"type": "str", "required": True, "no_log": False},
    "secret_key": {"type": "str", "required": True, "no_log": True},
    "ca_file": {"type": "path"},
    "timeout_seconds": {"type": "int", "default": 30},
}
WRONG_SECRET = ("SignatureDoesNotMatch", "InvalidAccessKeyId")
BUILT_IN_POLICIES = {"consoleAdmin", "diagnostics", "readonly", "readwrite", "writeonly"}


def with_state(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of an object, including its name and whether it must exist."""
    return {
        "name": {"type": "str", "required": True},
        **options,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def is_present(item: Item) -> bool:
    return item["state"] == "present"


class Command(Enum):
    """Commands of the admin API that the library lacks, or supports with fewer settings."""

    ADD_USER = "add-user"
    ADD_SERVICE_ACCOUNT = "add-service-account"
    LIST_ACCESS_KEYS = "list-access-keys-bulk"
    STORAGE_INFO = "storageinfo"


class Client:
    """A MinIO server, accessed with its administrative account."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.endpoint, self.access_key = options["endpoint"], options["access_key"]
        self._secret_key, timeout = options["secret_key"], options["timeout_seconds"]
        url = urlsplit(self.endpoint)
        if url.scheme not in ("http", "https") or not url.netloc or url.path.strip("/") or "@" in url.netloc:
            raise ServiceError(f"endpoint {self.endpoint!r}: it must be http:// or https://, a host and a port")
        if "MinioAdmin" not in globals():
            raise NotRunningError("the Python library minio is not installed for the interpreter that runs this module")
        self._where: dict[str, Any] = {
            "endpoint": url.netloc,
            "secure": url.scheme == "https",
            "http_client": urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=timeout, read=timeout),
                # A server that has just started answers 503 until it has loaded its accounts.
                retries=urllib3.Retry(total=5, connect=1, backoff_factor=0.2, status_forcelist=[503]),
                cert_reqs="CERT_REQUIRED",
                ca_certs=options["ca_file"],
            ),
        }
        try:
            self.s3 = Minio(access_key=self.access_key, secret_key=self._secret_key, **self._where)
            # The library's types lack these commands, and a group's members as a list.
            self.admin: Any = MinioAdmin(credentials=StaticProvider(self.access_key, self._secret_key), **self._where)
        except ValueError as error:
            raise ServiceError(f"endpoint {self.endpoint!r}, access_key and secret_key: {error}") from None

    def knows_secret(self, user: str, secret: str) -> bool:
        """Return whether the user can sign in with this secret, whatever the user may do then."""
        try:
            Minio(access_key=user, secret_key=secret, **self._where).list_buckets()
        except S3Error as error:
            return error.code not in WRONG_SECRET
        return True

    def put_user(self, name: str, secret: str, is_enabled: bool) -> None:
        """Create the user, or set its secret; the library's own call would enable a disabled one."""
        body = {"secretKey": secret, "status": "enabled" if is_enabled else "disabled"}
        self._put(Command.ADD_USER, body, accessKey=name)

    def add_service_account(self, **settings: Any) -> None:
        """Create a service account of any user; the library can do so only for the user that signs in."""
        self._put(Command.ADD_SERVICE_ACCOUNT, {key: value for key, value in settings.items() if value is not None})

    def _put(self, command: Command, body: dict[str, Any], **query: str) -> None:
        sealed = encrypt(json.dumps(body).encode(), self._secret_key)
        self.admin._url_open(method="PUT", command=command, query_params=query, body=sealed)

    # The server's objects, each kind queried once.

    @functools.cached_property
    def policies(self) -> dict[str, dict[str, Any]]:
        return json.loads(self.admin.policy_list())

    @functools.cached_property
    def buckets(self) -> set[str]:
        return {bucket.name for bucket in self.s3.list_buckets()}

    @functools.cached_property
    def users(self) -> dict[str, dict[str, Any]]:
        """All users except root."""
        return json.loads(self.admin.user_list() or "{}")

    @functools.cached_property
    def groups(self) -> set[str]:
        return set(json.loads(self.admin.group_list()) or [])

    @functools.cached_property
    def attached(self) -> dict[str, dict[str, list[str]]]:
        """The policies attached to each user and group, as {"user": {name: policies}, "group": ...}."""
        mappings = json.loads(self.admin.get_policy_entities([], [], [])).get("policyMappings") or []
        attached: dict[str, dict[str, list[str]]] = {"user": {}, "group": {}}
        for mapping in mappings:
            for kind, names in attached.items():
                for name in mapping.get(f"{kind}s") or []:
                    names.setdefault(name, []).append(mapping["policy"])
        return attached

    @functools.cached_property
    def access_keys(self) -> dict[str, list[str]]:
        """All users, including root, with the names of their service accounts."""
        query = {"all": "true", "listType": "all"}
        answer = self.admin._url_open(
            method="GET", command=Command.LIST_ACCESS_KEYS, query_params=query, preload_content=False
        )
        keys = json.loads(decrypt(answer, self._secret_key))
        return {
            user: [account["accessKey"] for account in found.get("serviceAccounts") or []]
            for user, found in keys.items()
        }

    def names(self, kind: str) -> set[str]:
        """Return the names of all objects of a kind; root does not count as a user."""
        if kind == "service_account":
            return {key for keys in self.access_keys.values() for key in keys}
        plurals = {"policy": "policies", "bucket": "buckets", "user": "users", "group": "groups"}
        return set(getattr(self, plurals[kind]))

    def drives(self) -> dict[str, int]:
        """Return how many drives of the whole deployment this server sees as online, and how many as offline."""
        answer = self.admin._url_open(method="GET", command=Command.STORAGE_INFO)
        states = [drive.get("state") for drive in json.loads(answer.data)["Disks"]]
        return {"online": states.count("ok"), "offline": len(states) - states.count("ok")}

    @contextlib.contextmanager
    def one_line(self, doing: str, policy: Any = None):
        """Turn the library's exceptions into one line that states what failed, and where in the policy."""
        try:
            yield
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            message = f"MinIO at {self.endpoint} does not answer: {reason}"
            if isinstance(reason, urllib3.exceptions.SSLError):
                message += "; give the certificates to trust as ca_file"
            not_running = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
            raise (NotRunningError if isinstance(reason, not_running) else ServiceError)(message) from error
        except (MinioException, MinioAdminException, ValueError) as error:
            code, message = explain(error)
            if code in WRONG_SECRET:
                message = f"refused {self.access_key!r}: wrong access_key or secret_key"
            elif code == "AccessDenied":
                message = f"{self.access_key!r} may not do that; attach the policy consoleAdmin to it or use root"
            elif quoted := re.search("'([^']+)'", message):
                path = path_of(quoted[1], policy)
                message = f"{path}: {message}" if path else message
            raise ServiceError(f"MinIO at {self.endpoint}, {doing}: {message} ({code or 'no code'})") from error


def explain(error: Exception) -> tuple[str, str]:
    """Return code and message of a library error; those of the admin API are JSON in the exception's text."""
    if body := getattr(error, "_body", None):
        with contextlib.suppress(ValueError, AttributeError):
            answer = json.loads(body)
            return answer.get("Code", ""), answer.get("Message", "")
    return getattr(error, "code", None) or "", getattr(error, "message", None) or str(error)
