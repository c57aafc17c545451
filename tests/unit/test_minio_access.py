"""Documents of MinIO objects as plain data; tests/modules tests them with a server."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlfleet.stack.plugins.filter.minio import as_policy
from ansible_collections.mlfleet.stack.plugins.module_utils.access import document as engine
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.minio import access
from ansible_collections.mlfleet.stack.plugins.module_utils.minio import client as minio
from ansible_collections.mlfleet.stack.plugins.module_utils.minio import policy as minio_policy
from ansible_collections.mlfleet.stack.plugins.module_utils.minio.access import KINDS, blank
from ansible_collections.mlfleet.stack.plugins.module_utils.minio.buckets import bytes_of

ROOT = Path(__file__).parents[2]
READ = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": ["arn:aws:s3:::b/*"]}
LIST = {
    "Effect": "Allow",
    "Action": ["s3:ListBucket"],
    "Resource": ["arn:aws:s3:::b"],
    "Condition": {"StringLike": {"s3:prefix": ["artifacts/*"]}, "Bool": {"aws:SecureTransport": ["true"]}},
}
POLICY = {"Version": "2012-10-17", "Statement": [READ, LIST]}
USER = {"name": "mlflow", "secret": "horse-battery", "policies": ["rw"]}
CONNECTION = {"endpoint": "http://h:1", "access_key": "root", "secret_key": "b", "ca_file": None, "timeout_seconds": 1}


def document(**items):
    return {kind: [blank(kind, **item) for item in items.get(kind, [])] for kind in KINDS}


def server(**has):
    """Return a client of a server with this and nothing else."""
    client = minio.Client(CONNECTION)
    nothing = {"policies": {}, "buckets": set(), "users": {}, "groups": set(), "access_keys": {}}
    vars(client).update(nothing | {"attached": {"user": {}, "group": {}}} | has)
    return client


def test_policy_in_other_order_is_unchanged():
    other = {
        "Version": "2012-10-17",
        "Statement": [
            {
                **LIST,
                "Action": "s3:ListBucket",
                "Resource": "arn:aws:s3:::b",
                "Condition": {"Bool": {"aws:SecureTransport": True}, "StringLike": {"s3:prefix": "artifacts/*"}},
            },
            {**READ, "Action": ["s3:PutObject", "s3:GetObject", "s3:GetObject"]},
            {**READ, "Sid": "", "NotResource": []},
        ],
    }
    assert minio_policy.canonical(other) == minio_policy.canonical(POLICY)
    assert minio_policy.canonical({"Statement": READ}) == minio_policy.canonical({**POLICY, "Statement": [READ]})


@pytest.mark.parametrize(
    "statement",
    [
        {**LIST, "Condition": {}},
        {**LIST, "Condition": {"StringEquals": {"s3:prefix": ["artifacts/*"]}}},
        {**LIST, "Effect": "Deny"},
        {**LIST, "Action": ["s3:ListBucket", "s3:GetObject"]},
        {**LIST, "Principal": {"AWS": ["*"]}},
    ],
)
def test_policy_that_means_something_else_differs(statement):
    other = minio_policy.canonical({**POLICY, "Statement": [READ, statement]})
    assert other != minio_policy.canonical(POLICY)


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ([], "it must be a dictionary"),
        ({"Statement": []}, "Statement: at least one is needed"),
        ({"Statement": READ, "Version": "2026-01-01"}, "Version: '2026-01-01' must be 2012-10-17"),
        ({"Statement": READ, "Statment": []}, "Statment: no such key"),
        ({"Statement": [READ, {**READ, "Efect": "Deny"}]}, "Statement[1].Efect: no such key"),
        ({"Statement": {**READ, "Resource": ["arn:aws:s3:::"]}}, "Statement[0].Resource[0]: 'arn:aws:s3:::' must be"),
        ({"Statement": {**READ, "Resource": []}}, "Statement[0].Resource: at least one is needed"),
        ({"Statement": {**READ, "Action": []}}, "Statement[0].Action: at least one is needed"),
        ({"Statement": {**READ, "Condition": {"Bool": "x"}}}, "Statement[0].Condition: it must have the form"),
        ({"Statement": {"Effect": "Allow", "NotAction": "s3:*"}}, "Statement[0].NotAction: MinIO cannot read it back"),
        ({"Statement": {**READ, "Principal": "*"}}, "Statement[0].Principal: no such key"),
    ],
)
def test_problem_of_a_policy_has_its_path(policy, problem):
    assert next(minio_policy.problems(policy)).startswith(problem)


def test_sound_policies_have_no_problems():
    assert not list(minio_policy.problems(POLICY))
    assert not list(minio_policy.problems({"Statement": {"Effect": "Allow", "Action": "admin:*"}}))
    for rights in minio_policy.ANONYMOUS_ACTIONS:
        if rights != "none":
            assert not list(minio_policy.problems(minio_policy.anonymous("b", rights), is_bucket_policy=True))


def test_buckets_of_a_policy():
    statement = {**READ, "Resource": ["arn:aws:s3:::one", "arn:aws:s3:::two/x/*", "arn:aws:s3:::thr*", "*"]}
    assert minio_policy.buckets({"Statement": statement}) == {"one", "two"}


def test_path_of_a_value():
    assert minio_policy.path_of("s3:PutObject", POLICY) == "Statement[0].Action[1]"
    assert minio_policy.path_of("s3:prefix", POLICY) == "Statement[1].Condition.StringLike.s3:prefix"
    assert minio_policy.path_of("nothing", POLICY) is None


def test_rights_in_folders_are_a_policy():
    item = {"name": "p", "rights": ["list", "get"], "folders": ["b/artifacts/", "c/"]}
    policy = as_policy(item)["policy"]
    assert not list(minio_policy.problems(policy))
    get, list_b, list_c = policy["Statement"]
    assert get["Action"] == ["s3:GetObject"]
    assert get["Resource"] == ["arn:aws:s3:::b/artifacts/*", "arn:aws:s3:::c/*"]
    assert list_b["Condition"] == {"StringLike": {"s3:prefix": ["artifacts/*"]}}
    assert list_c["Resource"] == ["arn:aws:s3:::c"] and "Condition" not in list_c


@pytest.mark.parametrize(
    ("quota", "size"), [("0", 0), ("12", 12), ("1KB", 1000), ("1.5KiB", 1536), ("2 GiB", 2 * 1024**3), ("1TB", 10**12)]
)
def test_quota_units(quota, size):
    assert bytes_of(quota) == size


@pytest.mark.parametrize("quota", ["", "GiB", "1 gb", "-1", "1,5GB", "1e3"])
def test_what_is_no_quota(quota):
    with pytest.raises(ServiceError, match="must be a number of bytes"):
        bytes_of(quota)


@pytest.mark.parametrize(
    ("kind", "item", "message"),
    [
        ("bucket", {"name": "Upper"}, "bucket 'Upper': its name must be"),
        ("bucket", {"name": "a..b"}, "rules of S3"),
        ("bucket", {"name": "10.0.0.1"}, "rules of S3"),
        ("bucket", {"name": "ab"}, "rules of S3"),
        ("bucket", {"name": "abc", "object_lock": True, "versioning": False}, "object_lock keeps versions"),
        ("bucket", {"name": "abc", "retention": {"mode": "governance", "days": None, "years": None}}, "days or years"),
        ("bucket", {"name": "abc", "anonymous": "public", "anonymous_policy": POLICY}, "exclude each other"),
        ("bucket", {"name": "abc", "lifecycle": [{"id": "r", "expire_days": None}]}, "lifecycle r: it expires nothing"),
        ("bucket", {"name": "abc", "lifecycle": [{"id": "r", "expire_days": -1}]}, "expire_days must be 1 or more"),
        (
            "bucket",
            {"name": "abc", "lifecycle": [{"id": "r", "expire_days": 1, "expire_delete_markers": True}]},
            "need two separate rules",
        ),
        ("bucket", {"name": "abc", "quota": "1 gb"}, "bucket abc: quota '1 gb'"),
        ("policy", {"name": "a,b"}, "policy 'a,b'"),
        ("policy", {"name": "p"}, "policy p: policy is missing"),
        ("user", {**USER, "secret": "short"}, "user mlflow: its secret must have 8 to 40 characters"),
        ("user", {**USER, "secret": "x" * 41}, "8 to 40"),
        ("service_account", {"name": "x" * 21}, "3 to 20 characters"),
    ],
)
def test_malformed_document_is_one_line(kind, item, message):
    with pytest.raises(ServiceError, match=message):
        access.validate(document(**{kind: [item]}))


def test_object_may_be_declared_once():
    with pytest.raises(ServiceError, match="bucket one: declared twice"):
        access.validate(document(bucket=[{"name": "one"}, {"name": "one", "state": "absent"}]))


def test_contradicting_membership_is_told():
    items = {"user": [{**USER, "groups": []}], "group": [{"name": "g", "members": ["mlflow"]}]}
    with pytest.raises(ServiceError, match="user mlflow and group g: only one of the two"):
        access.validate(document(**items))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"user": [USER]}, "user mlflow: policy 'rw' does not exist; declare it in policies"),
        (
            {"user": [USER], "policy": [{"name": "rw", "state": "absent"}]},
            "user mlflow: policy 'rw' does not exist",
        ),
        ({"user": [{"name": "abc", "groups": ["g"]}]}, "user abc: group 'g' does not exist; declare it in groups"),
        ({"group": [{"name": "g", "members": ["x"]}]}, "group g: user 'x' does not exist; declare it in users"),
        ({"service_account": [{"name": "svc", "parent": "x"}]}, "service account svc: user 'x' does not exist"),
        ({"user": [{"name": "root"}]}, "user root: it is the root account"),
    ],
)
def test_what_is_named_has_to_exist(items, message):
    with pytest.raises(ServiceError, match=message):
        access.require_references(document(**items), server())


def test_what_is_named_may_not_be_removed():
    items, client = document(user=[USER], policy=[{"name": "rw", "state": "absent"}]), server(policies={"rw": {}})
    with pytest.raises(ServiceError, match="user mlflow: policy 'rw' is declared absent; declare it in policies"):
        access.require_references(items, client)


def test_what_is_declared_or_there_can_be_named():
    items = {"policy": [{"name": "rw", "policy": POLICY}], "user": [USER], "group": [{"name": "g", "members": ["x"]}]}
    access.require_references(document(**items), server(access_keys={"x": [], "root": []}))


def test_changes_come_in_the_order_of_dependencies():
    declared = access.Access(
        CONNECTION,
        document(
            policy=[{"name": "rw", "policy": POLICY}, {"name": "old", "state": "absent"}],
            bucket=[{"name": "one", "versioning": True}, {"name": "two"}],
            user=[USER, {"name": "gone", "state": "absent"}, {"name": "never", "state": "absent"}],
        ),
    )
    found = {
        "bucket one": {"versioning": "off", "anonymous": "none"},
        "bucket two": {"anonymous": "none"},
        "policy old": {},
        "user gone": {},
    }
    changes = engine.plan(declared, engine.Found(found, []))
    assert [change.name for change in changes] == ["policy rw", "bucket one", "user mlflow", "user gone", "policy old"]
    assert changes[1].have["versioning"] == "off" and changes[1].want["versioning"] == "enabled"
    assert USER["secret"] not in json.dumps([change.want for change in changes])


def test_check_predicts_all_where_the_library_is_missing(monkeypatch, tmp_path):
    monkeypatch.delitem(vars(minio), "MinioAdmin")
    keys = {"parent": "mlflow", "credentials_file": str(tmp_path / "keys.json")}
    gone = {"credentials_file": str(tmp_path / "old.json"), "state": "absent"}
    (tmp_path / "old.json").write_text('{"access_key": "oldkey", "secret_key": "horse-battery"}')
    ended = {"name": "ended", "parent": "mlflow", "secret": "horse-battery", "expires": "2020-01-01"}
    accounts = [keys, keys | {"credentials_file": str(tmp_path / "more.json")}, gone, ended]
    whole = document(user=[USER, {"name": "former", "state": "absent"}], service_account=accounts)
    result = engine.converge(access.Access(CONNECTION, whole, prune=True, kept=[]), check_mode=True)
    made = ["service account (to be generated)"] * 2
    assert result["changes"] == ["user mlflow", *made, "service account oldkey"]
    assert result["undeclared"] == [] and result["diff"]["before"].keys() == {"service account oldkey"}
    assert result["warnings"] == ["service account ended: it has expired; set a later date, or declare it absent"]
    with pytest.raises(engine.NotRunningError, match="library minio is not installed"):
        engine.converge(access.Access(CONNECTION, whole, prune=True, kept=[]), check_mode=False)


def test_surplus_leaves_what_nobody_may_miss():
    client = server(
        policies={"readwrite": {}, "rw": {}, "stray": {}},
        users={"mlflow": {}, "stray": {}, "backup-1": {}, "root": {}},
        groups={"stray"},
        access_keys={"mlflow": ["key1"], "root": ["ci"]},
    )
    declared = document(policy=[{"name": "rw"}], user=[USER])
    surplus = access.surplus(declared, client, ["user backup-*", "service account ci"])
    names = {kind: [item["name"] for item in items] for kind, items in surplus.items()}
    assert names == {
        "policy": ["stray"],
        "bucket": [],
        "user": ["stray"],
        "group": ["stray"],
        "service_account": ["key1"],
    }


def test_surplus_user_stays_for_an_account_of_its_own_that_stays():
    keys = {"alice": ["key"], "bob": ["ci"], "carol": ["x"]}
    has = {"users": {key: {} for key in keys}, "access_keys": keys}
    declared = document(service_account=[{"name": "key"}])
    surplus = access.surplus(declared, server(**has), ["service account ci"])
    assert [item["name"] for item in surplus["user"]] == ["carol"]
    signed_in = server(**has, access_key="x")
    assert "carol" not in {item["name"] for item in access.surplus(declared, signed_in, [])["user"]}


def test_user_of_a_declared_service_account_cannot_go():
    declared = document(user=[{"name": "alice", "state": "absent"}], service_account=[{"name": "key"}])
    with pytest.raises(
        ServiceError, match="user alice: it cannot be removed while its service account key is declared"
    ):
        access.require_references(declared, server(access_keys={"alice": ["key"]}))


def test_policy_that_is_detached_in_the_same_run_can_go():
    client = server(users={"mlflow": {}})
    client.attached["user"]["mlflow"] = ["old", "rw"]
    detached = access.Change("user mlflow", {"policies": ["old"]}, {"policies": ["rw"]}, blank("user", **USER), "user")
    assert access.holders("old", client, [detached]) == []
    assert access.holders("rw", client, [detached]) == ["user mlflow"]


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:9000", "ftp://host", "http://host:9000/path", "http://h:abc", "http://u:p@h:1"]
)
def test_endpoint_is_a_url(endpoint):
    with pytest.raises(ServiceError, match="endpoint"):
        minio.Client(CONNECTION | {"endpoint": endpoint})


def test_admin_errors_are_explained():
    error = Exception("admin request failed")
    error._body = json.dumps({"Code": "XMinioMalformedIAMPolicy", "Message": "unsupported action"})
    assert minio.explain(error) == ("XMinioMalformedIAMPolicy", "unsupported action")
    assert minio.explain(ValueError("odd")) == ("", "odd")


def test_lists_of_the_role_are_those_of_the_module():
    spec = yaml.safe_load((ROOT / "roles/minio/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
    for functions in KINDS.values():
        options = spec[f"minio_{functions.plural}_extra"]["options"]
        assert _types(options) == _types(functions.options)


def _types(options):
    return {
        name: (option["type"], option.get("choices"), option.get("no_log", False), _types(option.get("options", {})))
        for name, option in options.items()
    }


def test_document_is_described_as_its_parts_are():
    def options(module):
        name = f"ansible_collections.mlfleet.stack.plugins.modules.{module}"
        return yaml.safe_load(importlib.import_module(name).DOCUMENTATION)["options"]

    def shape(described):
        return {
            name: {key: value for key, value in option.items() if key not in ("description", "suboptions")}
            | {"suboptions": shape(option.get("suboptions", {}))}
            for name, option in described.items()
        }

    whole = options("minio_access")
    for kind, functions in KINDS.items():
        assert shape(whole[functions.plural]["suboptions"]) == shape(options(f"minio_{kind}"))
