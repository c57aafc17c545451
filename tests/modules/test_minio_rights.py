"""Rights of a user with only one of the role's policies, tried with a real S3 client."""

from __future__ import annotations

import itertools
import secrets

import pytest
from botocore.exceptions import ClientError

INSIDE = {
    "builtins": "plugins/dioptra_builtins/",
    "custom": "plugins/dioptra_custom/",
    "artifacts": "mlflow-tracking/artifacts/",
    "workflow": "workflow/",
}
READ, WRITE = {"list", "get"}, {"list", "get", "put", "delete"}
# According to the annotated folder tree in the README of Dioptra's deployment template.
DOCUMENTED = {
    "builtin-plugins-readonly": {"builtins": READ},
    "builtin-plugins-readwrite": {"builtins": WRITE},
    "custom-plugins-readonly": {"custom": READ},
    "custom-plugins-readwrite": {"custom": WRITE},
    "dioptra-readonly": {"builtins": READ, "custom": READ, "artifacts": READ, "workflow": READ},
    "mlflow-tracking-readwrite": {"artifacts": WRITE},
    "plugins-readonly": {"builtins": READ, "custom": READ},
    "workflow-downloadonly": {"workflow": {"get"}},
    "workflow-uploadonly": {"workflow": {"put"}},
    "mlflow-tracking-readonly": {"artifacts": READ},  # the REST API's own
}
FOLDERS = INSIDE | {
    "plugins, outside": "plugins/elsewhere/",
    "mlflow-tracking, outside": "mlflow-tracking/elsewhere/",
    "other bucket": "other/folder/",
}
RIGHTS = ("list", "get", "put", "delete")


@pytest.fixture(scope="module")
def folders(minio, role):
    """Buckets with an object in each folder, and the role's policies."""
    s3 = minio.s3()
    for bucket in {path.partition("/")[0] for path in FOLDERS.values()}:
        s3.create_bucket(Bucket=bucket)
    for policy in role.policies:
        minio.admin.policy_add(policy["name"], policy=policy["policy"])
    return s3


def attempt(root, user, right, path):
    """Return whether the user has this right; the object is created again before each attempt."""
    bucket, _slash, prefix = path.partition("/")
    key = f"{prefix}object"
    root.put_object(Bucket=bucket, Key=key, Body=b"bytes")
    calls = {
        "list": lambda: user.list_objects_v2(Bucket=bucket, Prefix=prefix),
        "get": lambda: user.get_object(Bucket=bucket, Key=key)["Body"].read(),
        "put": lambda: user.put_object(Bucket=bucket, Key=key, Body=b"other"),
        "delete": lambda: user.delete_object(Bucket=bucket, Key=key),
    }
    try:
        calls[right]()
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        return False
    return True


def test_role_has_these_policies(role):
    assert {policy["name"] for policy in role.policies} == set(DOCUMENTED)


@pytest.mark.parametrize("policy", DOCUMENTED)
def test_policy_allows_what_is_documented(minio, folders, policy):
    name, secret = f"only-{policy}", secrets.token_hex(10)
    minio.admin.user_add(name, secret)
    minio.admin.attach_policy([policy], user=name)
    user = minio.s3(name, secret)
    allowed = {
        (folder, right): attempt(folders, user, right, FOLDERS[folder])
        for folder, right in itertools.product(FOLDERS, RIGHTS)
    }
    print(f"\n{policy:28}" + "".join(f"{right:>8}" for right in RIGHTS))
    for folder in FOLDERS:
        print(f"  {folder:26}" + "".join(f"{'yes' if allowed[folder, right] else '-':>8}" for right in RIGHTS))
    documented = {
        (folder, right): right in DOCUMENTED[policy].get(folder, set())
        for folder, right in itertools.product(FOLDERS, RIGHTS)
    }
    assert allowed == documented
