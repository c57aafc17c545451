"""Each module for one kind of object: every option, in check mode, for real and again, verified by other clients."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import requests
from botocore.exceptions import ClientError

READ = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::*"]}],
}
WRITE = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": ["arn:aws:s3:::*"]}],
}
SECRET, OTHER_SECRET = "horse-battery-staple", "another-horse-battery"


@pytest.fixture
def name():
    return f"n{uuid.uuid4().hex[:12]}"


@pytest.fixture
def policy(minio, name):
    minio.admin.policy_add(f"{name}-read", policy=READ)
    return f"{name}-read"


@pytest.fixture
def user(minio, name):
    minio.admin.user_add(name, SECRET)
    return name


def can_sign_in(minio, user, secret=SECRET):
    try:
        minio.s3(user, secret).list_buckets()
    except ClientError as error:
        return error.response["Error"]["Code"] not in ("SignatureDoesNotMatch", "InvalidAccessKeyId")
    return True


# --- Policies


def test_policy_is_made_changed_and_removed(minio, name, converges):
    def state():
        return minio.policies().get(name)

    converges("minio_policy", state, name=name, policy=READ)
    assert state()["Statement"][0]["Action"] == ["s3:GetObject"]
    result = converges("minio_policy", state, name=name, policy=json.dumps(WRITE))
    assert state()["Statement"][0]["Action"] == ["s3:PutObject"]
    assert result.diff["before"][f"policy {name}"]["Statement"][0]["Action"] == ["s3:GetObject"]
    converges("minio_policy", state, name=name, state="absent")
    assert state() is None


def test_policy_written_another_way_is_unchanged(minio, name, run):
    statements = [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject"],
            "Resource": ["arn:aws:s3:::a/*", "arn:aws:s3:::b/*"],
        },
        {
            "Effect": "Deny",
            "Action": ["s3:ListBucket"],
            "Resource": ["arn:aws:s3:::a"],
            "Condition": {
                "StringLike": {"s3:prefix": ["x/*", "y/*"]},
                "IpAddress": {"aws:SourceIp": ["10.1.2.3"]},
                "Bool": {"aws:SecureTransport": ["true"]},
                "NumericLessThan": {"s3:max-keys": ["5"]},
            },
        },
    ]
    run("minio_policy", name=name, policy={"Version": "2012-10-17", "Statement": statements})
    other = [
        {
            "Effect": "Deny",
            "Action": "s3:ListBucket",
            "Resource": "arn:aws:s3:::a",
            "Condition": {
                "Bool": {"aws:SecureTransport": True},
                "NumericLessThan": {"s3:max-keys": 5},
                "IpAddress": {"aws:SourceIp": "10.1.2.3/32"},
                "StringLike": {"s3:prefix": ["y/*", "x/*"]},
            },
        },
        {
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:GetObject"],
            "Resource": ["arn:aws:s3:::b/*", "arn:aws:s3:::a/*"],
        },
    ]
    assert not run("minio_policy", name=name, policy={"Version": "2012-10-17", "Statement": other}).changed


def test_policy_for_everything_and_in_short_form_is_unchanged_again(minio, name, converges):
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    dated = {"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00+00:00"}}
    short = {"Version": "2012-10-17", "Statement": statement | {"Condition": dated}}
    converges("minio_policy", lambda: name in minio.policies(), name=name, policy=short)


def test_statements_that_differ_in_sid_alone_are_one(minio, name, run):
    run("minio_bucket", name=name)
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{name}/*"}
    twice = {"Version": "2012-10-17", "Statement": [{"Sid": "One", **statement}, {"Sid": "Two", **statement}]}
    anyone = {**twice, "Statement": [{**each, "Principal": "*"} for each in twice["Statement"]]}
    for module, options in (("minio_policy", {"policy": twice}), ("minio_bucket", {"anonymous_policy": anyone})):
        assert [run(module, name=name, **options).changed for _again in range(3)] == [True, False, False]
    assert [each["Sid"] for each in minio.policies()[name]["Statement"]] == ["One"]


def test_attached_policy_stays_and_its_holders_are_named(minio, policy, user, run):
    minio.admin.attach_policy([policy], user=user)
    minio.admin.group_add(f"{user}-group", [user])
    minio.admin.attach_policy([policy], group=f"{user}-group")
    for check in (True, False):
        result = run("minio_policy", check, fails=True, name=policy, state="absent")
        assert (
            f"policy {policy}: it is attached to group {user}-group, user {user}; detach it there first" == result.msg
        )
    assert policy in minio.policies()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ({"Effect": "allow"}, "Statement[0].Effect: 'allow' must be Allow or Deny"),
        ({"Action": ["s3:GetObject", "GetObject"]}, "Statement[0].Action[1]: 'GetObject' must be like s3:GetObject"),
        ({"Resource": "bucket/*"}, "Statement[0].Resource: 'bucket/*' must be like arn:aws:s3:::BUCKET"),
        ({"Action": ["s3:Fetch"]}, "Statement[0].Action[0]: unsupported action 's3:Fetch'"),
        (
            {"Condition": {"StringLike": {"s3:nose": "x"}}},
            "Statement[0].Condition.StringLike.s3:nose: invalid condition key",
        ),
    ],
)
def test_invalid_policy_is_told_with_its_path(name, run, statement, message):
    valid = {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": "arn:aws:s3:::b"}
    result = run(
        "minio_policy", fails=True, name=name, policy={"Version": "2012-10-17", "Statement": [valid | statement]}
    )
    assert f"policy {name}" in result.msg and message in result.msg
    assert "\n" not in result.msg


def test_policy_for_an_unknown_bucket_is_a_warning(name, run):
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{name}-nowhere/*"}
    result = run("minio_policy", name=name, policy={"Version": "2012-10-17", "Statement": [statement]})
    [warning] = result.warnings
    assert warning["event"]["msg"] == f"policy {name}: bucket '{name}-nowhere' does not exist"


# --- Buckets


def test_bucket_is_made_and_removed(minio, name, converges):
    def state():
        return name in {bucket["Name"] for bucket in minio.s3().list_buckets()["Buckets"]}

    converges("minio_bucket", state, name=name)
    assert state()
    converges("minio_bucket", state, name=name, state="absent")
    assert not state()


def test_versioning(minio, name, converges):
    minio.s3().create_bucket(Bucket=name)

    def state():
        return minio.s3().get_bucket_versioning(Bucket=name).get("Status")

    converges("minio_bucket", state, name=name, versioning=True)
    assert state() == "Enabled"
    converges("minio_bucket", state, name=name, versioning=False)
    assert state() == "Suspended"


def test_object_lock_and_retention(minio, name, converges, run):
    def state():
        try:
            return minio.s3().get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"]
        except ClientError as error:
            return error.response["Error"]["Code"]

    locked = {"object_lock": True}
    converges("minio_bucket", state, name=name, **locked, retention={"mode": "governance", "days": 2})
    assert state()["Rule"]["DefaultRetention"] == {"Mode": "GOVERNANCE", "Days": 2}
    converges("minio_bucket", state, name=name, retention={"mode": "compliance", "years": 1})
    assert state()["Rule"]["DefaultRetention"] == {"Mode": "COMPLIANCE", "Years": 1}
    converges("minio_bucket", state, name=name, **locked, retention={"mode": "none"})
    assert "Rule" not in state()
    assert "only when the bucket is created" in run("minio_bucket", fails=True, name=name, object_lock=False).msg
    run("minio_bucket", name=f"{name}-open")
    assert "only when the bucket is created" in run("minio_bucket", True, fails=True, name=f"{name}-open", **locked).msg


def test_retention_without_object_lock_is_refused_before_the_bucket_is_made(minio, name, run):
    options = {"name": name, "retention": {"mode": "governance", "days": 1}}
    for check in (True, False):
        assert "retention requires object_lock" in run("minio_bucket", check, fails=True, **options).msg
    minio.s3().create_bucket(Bucket=name)
    assert "retention requires object_lock" in run("minio_bucket", True, fails=True, **options).msg
    assert not run("minio_bucket", name=name, retention={"mode": "none"}).changed


def test_locked_bucket_keeps_its_versions(minio, name, run):
    minio.s3().create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    for check in (True, False):
        assert "it keeps versions" in run("minio_bucket", check, fails=True, name=name, versioning=False).msg


def test_quota(minio, name, converges, run):
    minio.s3().create_bucket(Bucket=name)

    def state():
        return json.loads(minio.admin.bucket_quota_get(name))["quota"]

    converges("minio_bucket", state, name=name, quota="2GiB")
    assert state() == 2 * 1024**3
    assert not run("minio_bucket", name=name, quota=str(2 * 1024**3)).changed
    converges("minio_bucket", state, name=name, quota="500 MB")
    assert state() == 500 * 1000**2
    converges("minio_bucket", state, name=name, quota="0")
    assert state() == 0
    assert "quota '3 apples': it must be" in run("minio_bucket", fails=True, name=name, quota="3 apples").msg


def test_lifecycle(minio, name, converges, run):
    minio.s3().create_bucket(Bucket=name)

    def state():
        try:
            rules = minio.s3().get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
            return sorted(rules, key=lambda rule: rule["ID"])
        except ClientError as error:
            return error.response["Error"]["Code"]

    rules = [
        {"id": "old", "prefix": "results/", "expire_days": 30, "tags": {"keep": "no", "team": "a"}},
        {"id": "markers", "expire_delete_markers": True},
        {"id": "versions", "noncurrent_expire_days": 7, "noncurrent_keep_versions": 3, "enabled": False},
        {"id": "tagged", "tags": {"year": 2026}, "expire_days": 1},
    ]
    converges("minio_bucket", state, name=name, lifecycle=rules)
    markers, old, tagged, versions = state()
    assert markers["Expiration"] == {"ExpiredObjectDeleteMarker": True}
    assert old["Expiration"] == {"Days": 30} and old["Filter"]["And"]["Prefix"] == "results/"
    assert tagged["Filter"] == {"Tag": {"Key": "year", "Value": "2026"}}
    assert versions["NoncurrentVersionExpiration"] == {"NoncurrentDays": 7, "NewerNoncurrentVersions": 3}
    assert versions["Status"] == "Disabled"
    assert not run("minio_bucket", name=name, lifecycle=rules[::-1]).changed
    converges("minio_bucket", state, name=name, lifecycle=[rules[0] | {"expire_days": 60}])
    assert state()[0]["Expiration"] == {"Days": 60}
    converges("minio_bucket", state, name=name, lifecycle=[])
    assert state() == "NoSuchLifecycleConfiguration"


def test_encryption(minio, name, converges, run):
    minio.s3().create_bucket(Bucket=name)

    def state():
        try:
            configuration = minio.s3().get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]
            return configuration["Rules"][0]["ApplyServerSideEncryptionByDefault"]
        except ClientError as error:
            return error.response["Error"]["Code"]

    converges("minio_bucket", state, name=name, encryption="sse-s3")
    assert state() == {"SSEAlgorithm": "AES256"}
    converges("minio_bucket", state, name=name, encryption="sse-kms", encryption_key="key-of-tests")
    assert state()["KMSMasterKeyID"].endswith("key-of-tests")
    converges("minio_bucket", state, name=name, encryption="none")
    assert state() == "ServerSideEncryptionConfigurationNotFoundError"
    assert "encryption_key goes with" in run("minio_bucket", fails=True, name=name, encryption="sse-kms").msg


def test_tags(minio, name, converges):
    minio.s3().create_bucket(Bucket=name)

    def state():
        try:
            return {tag["Key"]: tag["Value"] for tag in minio.s3().get_bucket_tagging(Bucket=name)["TagSet"]}
        except ClientError as error:
            return error.response["Error"]["Code"]

    converges("minio_bucket", state, name=name, tags={"team": "vision", "year": 2026})
    assert state() == {"team": "vision", "year": "2026"}
    converges("minio_bucket", state, name=name, tags={"team": "audio"})
    assert state() == {"team": "audio"}
    converges("minio_bucket", state, name=name, tags={})
    assert state() == "NoSuchTagSet"


def test_anonymous_access(minio, name, converges, run):
    import requests

    minio.s3().create_bucket(Bucket=name)
    minio.s3().put_object(Bucket=name, Key="object", Body=b"bytes")

    def state():
        got = requests.get(f"{minio.endpoint}/{name}/object").status_code
        put = requests.put(f"{minio.endpoint}/{name}/another", data=b"bytes").status_code
        return got, put

    assert state() == (403, 403)
    converges("minio_bucket", state, name=name, anonymous="download")
    assert state() == (200, 403)
    converges("minio_bucket", state, name=name, anonymous="upload")
    assert state() == (403, 200)
    converges("minio_bucket", state, name=name, anonymous="public")
    assert state() == (200, 200)
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{name}/object",
    }
    own = {"Version": "2012-10-17", "Statement": [statement]}
    converges("minio_bucket", state, name=name, anonymous_policy=own)
    assert state() == (200, 403)
    converges("minio_bucket", state, name=name, anonymous="none")
    assert state() == (403, 403)
    broken = {"Version": "2012-10-17", "Statement": [statement | {"Principal": None}]}
    assert "Statement[0].Principal" in run("minio_bucket", fails=True, name=name, anonymous_policy=broken).msg


def test_bucket_with_objects_goes_only_by_force(minio, name, converges, run):
    minio.s3().create_bucket(Bucket=name)
    minio.s3().put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"one", b"two"):
        minio.s3().put_object(Bucket=name, Key="folder/object", Body=body)
    minio.s3().delete_object(Bucket=name, Key="folder/object")

    def state():
        return name in {bucket["Name"] for bucket in minio.s3().list_buckets()["Buckets"]}

    for check in (True, False):
        assert "it is not empty; force: true" in run("minio_bucket", check, fails=True, name=name, state="absent").msg
    assert state()
    converges("minio_bucket", state, name=name, state="absent", force=True)
    assert not state()


def test_what_is_not_given_is_left_alone(minio, name, run):
    run("minio_bucket", name=name, versioning=True, quota="1GiB", tags={"a": "b"})
    assert not run("minio_bucket", name=name).changed
    assert not run("minio_bucket", name=name, versioning=True).changed


def test_bucket_opened_by_hand_is_closed(minio, name, run, converges):
    run("minio_bucket", name=name)
    minio.s3().put_object(Bucket=name, Key="object", Body=b"bytes")
    resource = f"arn:aws:s3:::{name}/*"
    anyone = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": resource}
    policy = {"Version": "2012-10-17", "Statement": [anyone]}
    minio.s3().put_bucket_policy(Bucket=name, Policy=json.dumps(policy))

    def status():
        return requests.get(f"{minio.endpoint}/{name}/object").status_code

    assert status() == 200
    converges("minio_bucket", status, name=name)
    assert status() == 403


# --- Users


def test_user_is_made_and_removed(minio, name, policy, converges):
    def state():
        return minio.users().get(name)

    converges("minio_user", state, name=name, secret=SECRET, policies=[policy])
    assert state()["policyName"] == policy and can_sign_in(minio, name)
    converges("minio_user", state, name=name, state="absent")
    assert state() is None


def test_secret_when_wrong(minio, user, converges, run):
    def state():
        return can_sign_in(minio, user), can_sign_in(minio, user, OTHER_SECRET)

    converges("minio_user", state, name=user, secret=OTHER_SECRET)
    assert state() == (False, True)
    assert not run("minio_user", name=user).changed


def test_secret_always_and_on_create(minio, user, name, run):
    assert run("minio_user", True, name=user, secret=SECRET, update_secret="always").changed
    assert run("minio_user", name=user, secret=OTHER_SECRET, update_secret="always").changed
    assert can_sign_in(minio, user, OTHER_SECRET)
    assert not run("minio_user", name=user, secret=SECRET, update_secret="on_create").changed
    assert can_sign_in(minio, user, OTHER_SECRET)
    assert run("minio_user", name=f"{name}-new", secret=SECRET, update_secret="on_create").changed
    assert can_sign_in(minio, f"{name}-new")


def test_disabled_user_stays_so_until_told(minio, user, policy, converges, run):
    def state():
        return minio.users()[user]

    converges("minio_user", state, name=user, enabled=False)
    assert state()["status"] == "disabled" and not can_sign_in(minio, user)
    assert not run("minio_user", name=user, secret=OTHER_SECRET).changed
    assert not run("minio_user", name=user, secret=OTHER_SECRET, policies=[policy]).changed
    assert run("minio_user", name=user, secret=OTHER_SECRET, update_secret="always").changed
    assert state()["status"] == "disabled"
    converges("minio_user", state, name=user, secret=SECRET, policies=[policy], enabled=True)
    assert state()["status"] == "enabled" and can_sign_in(minio, user)
    assert state()["policyName"] == policy


def test_user_can_be_made_disabled(minio, name, run):
    run("minio_user", name=name, secret=SECRET, enabled=False)
    assert minio.users()[name]["status"] == "disabled"
    run("minio_user", name=name, enabled=True)
    assert can_sign_in(minio, name)


def test_policies_are_exact_or_appended(minio, user, policy, converges, run):
    minio.admin.policy_add(f"{user}-write", policy=WRITE)
    minio.admin.attach_policy([f"{user}-write"], user=user)

    def state():
        return set(minio.users()[user].get("policyName", "").split(",")) - {""}

    append = {"name": user, "policies": [policy], "policies_mode": "append"}
    converges("minio_user", state, **append)
    assert state() == {policy, f"{user}-write"}
    converges("minio_user", state, name=user, policies=[policy])
    assert state() == {policy}
    converges("minio_user", state, name=user, policies=[])
    assert state() == set()
    assert "policy 'nothing' does not exist" in run("minio_user", True, fails=True, name=user, policies=["nothing"]).msg


def test_groups_of_a_user(minio, user, converges, run):
    for group in (f"{user}-a", f"{user}-b", f"{user}-c"):
        minio.admin.group_add(group, [])
    minio.admin.group_add(f"{user}-c", [user])

    def state():
        return set(minio.users()[user].get("memberOf", []))

    converges("minio_user", state, name=user, groups=[f"{user}-a", f"{user}-b"])
    assert state() == {f"{user}-a", f"{user}-b"}
    converges("minio_user", state, name=user, groups=[])
    assert state() == set()
    assert "group 'nowhere' does not exist" in run("minio_user", fails=True, name=user, groups=["nowhere"]).msg


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"secret": "short"}, "its secret must have 8 to 40 characters"),
        ({}, "it does not exist; give its secret to create it"),
        ({"name": "a b", "secret": SECRET}, "user 'a b': its name must be 3 to 128 characters"),
    ],
)
def test_wrong_user_is_one_line(name, run, options, message):
    for check in (True, False):
        assert message in run("minio_user", check, fails=True, **({"name": name} | options)).msg


def test_root_is_not_a_user(minio, run):
    assert "it is the root account" in run("minio_user", fails=True, name=minio.root, secret=SECRET).msg


# --- Groups


def test_group_is_made_changed_and_removed(minio, name, user, policy, converges):
    def state():
        try:
            info = json.loads(minio.admin.group_info(f"{name}-group"))
            return info["status"], info["members"], info["policy"]
        except Exception as error:
            return json.loads(error._body)["Code"]

    group = {"name": f"{name}-group"}
    converges("minio_group", state, **group)
    assert state() == ("enabled", [], "")
    converges("minio_group", state, **group, members=[user], policies=[policy])
    assert state() == ("enabled", [user], policy)
    converges("minio_group", state, **group, enabled=False)
    assert state()[0] == "disabled"
    converges("minio_group", state, **group, policies=["readonly"], policies_mode="append")
    converges("minio_group", state, **group, enabled=True)
    assert state() == ("enabled", [user], f"{policy},readonly")
    converges("minio_group", state, **group, members=[], policies=[])
    assert state() == ("enabled", [], "")
    minio.admin.group_add(f"{name}-group", [user])
    converges("minio_group", state, **group, state="absent")
    assert state() == "XMinioAdminNoSuchGroup"


def test_group_of_nobody_known_is_refused(name, run):
    assert (
        "user 'nobody-known' does not exist" in run("minio_group", fails=True, name=name, members=["nobody-known"]).msg
    )


# --- Service accounts


def account_of(minio, key):
    try:
        return json.loads(minio.admin.get_service_account(key))
    except Exception as error:
        return json.loads(error._body)["Code"]


def test_service_account_with_given_keys(minio, name, user, converges, run):
    key = {"name": f"{name}-svc"}

    def state():
        return account_of(minio, key["name"])

    end = (datetime.now(UTC) + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    settings = {"parent": user, "secret": SECRET, "policy": READ, "expires": end, "description": "nightly"}
    converges("minio_service_account", state, **key, **settings)
    assert state()["parentUser"] == user and state()["expiration"] == end and state()["description"] == "nightly"
    assert can_sign_in(minio, key["name"])
    converges("minio_service_account", state, **key, description="hourly")
    assert state()["description"] == "hourly"
    assert "s3:GetObject" in state()["policy"], "an update has wiped the policy"
    converges("minio_service_account", state, **key, policy=WRITE)
    assert "s3:PutObject" in state()["policy"]
    converges("minio_service_account", state, **key, expires="never")
    assert "expiration" not in state() and "s3:PutObject" in state()["policy"]
    converges("minio_service_account", state, **key, policy={})
    assert state()["impliedPolicy"]
    converges("minio_service_account", state, **key, enabled=False)
    assert state()["accountStatus"] == "off"
    assert not run("minio_service_account", **key, secret=OTHER_SECRET).changed
    converges("minio_service_account", state, **key, secret=OTHER_SECRET, enabled=True)
    assert can_sign_in(minio, key["name"], OTHER_SECRET)
    converges("minio_service_account", lambda: can_sign_in(minio, key["name"]), **key, secret=SECRET)
    assert can_sign_in(minio, key["name"])
    converges("minio_service_account", state, **key, state="absent")
    assert state() == "XMinioInvalidIAMCredentials"


def test_service_account_with_generated_keys(minio, user, run, tmp_path):
    file = tmp_path / "keys.json"
    options = {"parent": user, "credentials_file": str(file)}
    assert run("minio_service_account", True, **options).changed
    assert not file.exists()
    result = run("minio_service_account", **options)
    keys = json.loads(file.read_text())
    assert file.stat().st_mode & 0o777 == 0o600
    assert result.changes == [f"service account {keys['access_key']}"]
    assert keys["secret_key"] not in str(vars(result))
    assert can_sign_in(minio, keys["access_key"], keys["secret_key"])
    assert not run("minio_service_account", **options).changed
    minio.admin.delete_service_account(keys["access_key"])
    assert run("minio_service_account", **options).changed
    assert can_sign_in(minio, keys["access_key"], keys["secret_key"])
    assert run("minio_service_account", credentials_file=str(file), state="absent").changed
    assert not file.exists()
    assert not run("minio_service_account", credentials_file=str(file), state="absent").changed
    run("minio_service_account", **options)
    minio.admin.delete_service_account(json.loads(file.read_text())["access_key"])
    assert run("minio_service_account", credentials_file=str(file), state="absent").changed
    assert not file.exists()
    nowhere = options | {"credentials_file": str(tmp_path / "nowhere/keys.json")}
    assert "its directory does not exist" in run("minio_service_account", True, fails=True, **nowhere).msg


def test_service_account_of_root(minio, name, run):
    run("minio_service_account", name=f"{name}-svc", secret=SECRET, parent=minio.root)
    assert account_of(minio, f"{name}-svc")["parentUser"] == minio.root


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parent": "nobody-known", "secret": SECRET}, "user 'nobody-known' does not exist"),
        ({"secret": SECRET}, "give its parent and a secret or credentials_file"),
        (
            {"parent": "", "secret": SECRET, "expires": "soon"},
            "expires 'soon' must be never or like 2027-01-31T12:00:00Z",
        ),
        ({"secret": SECRET, "policy": {"Statement": []}}, "policy: Statement: at least one is needed"),
    ],
)
def test_wrong_service_account_is_one_line(name, run, options, message):
    for check in (True, False):
        assert message in run("minio_service_account", check, fails=True, name=f"{name}-svc", **options).msg


def test_end_that_the_server_would_refuse_is_told_before(minio, name, user, run):
    options = {"name": f"{name}-svc", "parent": user, "secret": SECRET, "expires": "2099-01-01"}
    assert "between 15 minutes and 365 days" in run("minio_service_account", True, fails=True, **options).msg


def test_ended_account_is_a_warning(minio, name, user, run):
    options = {"name": f"{name}-svc", "parent": user, "secret": SECRET, "expires": "2020-01-01"}
    result = run("minio_service_account", **options)
    assert not result.changed and "it has expired; set a later date" in result.warnings[0]["event"]["msg"]


# --- The connection


def test_wrong_root_secret(run):
    assert "wrong access_key or secret_key" in run("minio_user", fails=True, secret_key="x" * 20, name="someone").msg


def test_account_without_admin_rights(user, run):
    result = run("minio_user", fails=True, access_key=user, secret_key=SECRET, name="someone", secret=SECRET)
    assert "may not do that; attach the policy consoleAdmin" in result.msg


def test_unreachable_server_is_an_error_and_in_a_check_a_prediction(name, run):
    nowhere = {"endpoint": "http://127.0.0.1:9", "timeout_seconds": 2}
    assert "does not answer" in run("minio_bucket", fails=True, name=name, **nowhere).msg
    assert run("minio_bucket", True, name=name, **nowhere).changes == [f"bucket {name}"]


def test_administrator_who_is_not_root(minio, user, name, run):
    minio.admin.attach_policy(["consoleAdmin"], user=user)
    options = {"access_key": user, "secret_key": SECRET}
    assert run("minio_user", **options, name=f"{name}-other", secret=OTHER_SECRET).changed
    assert not run("minio_user", **options, name=user, policies=["consoleAdmin"]).changed
