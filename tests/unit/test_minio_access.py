# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import minio

READ = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": ["arn:aws:s3:::b/*"]}
LIST = {
    "Effect": "Allow",
    "Action": ["s3:ListBucket"],
    "Resource": ["arn:aws:s3:::b"],
    "Condition": {"StringLike": {"s3:prefix": ["artifacts/*"]}, "Bool": {"aws:SecureTransport": ["true"]}},
}
POLICY = {"Version": "2012-10-17", "Statement": [READ, LIST]}
USER = {"name": "mlflow", "secret": "horse-battery", "policies": ["rw"]}


class Admin:
    """An admin client that remembers what it was told."""

    def __init__(self, policies=(), users=None):
        self.policies = dict(policies)
        self.users = users or {}
        self.calls = []

    def policy_list(self):
        return json.dumps(self.policies)

    def user_list(self):
        return json.dumps(self.users)

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.append((name, *args, *kwargs.values()))


def client(secret="horse-battery", **keywords):
    admin = Admin(**keywords)
    return SimpleNamespace(admin=admin, knows_secret=lambda _user, offered: offered == secret)


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
    assert minio.canonical_policy(other) == minio.canonical_policy(POLICY)
    assert minio.canonical_policy({"Statement": READ}) == minio.canonical_policy({**POLICY, "Statement": [READ]})


@pytest.mark.parametrize(
    "statement",
    [
        {**LIST, "Condition": {}},
        {**LIST, "Condition": {"StringEquals": {"s3:prefix": ["artifacts/*"]}}},
        {**LIST, "Effect": "Deny"},
        {**LIST, "Action": ["s3:ListBucket", "s3:GetObject"]},
    ],
)
def test_policy_that_means_something_else_differs(statement):
    assert minio.canonical_policy({**POLICY, "Statement": [READ, statement]}) != minio.canonical_policy(POLICY)


def test_user_as_declared_is_unchanged():
    server = client(users={"mlflow": {"policyName": "rw", "status": "enabled"}})
    assert minio.found_users(server, [USER])["mlflow"] == minio.wanted_user(USER)


def test_policies_of_a_user_are_exact():
    server = client(users={"mlflow": {"policyName": "old,rw"}})
    item = {**USER, "policies": ["new", "rw"]}
    minio.put_user(server, item, minio.found_users(server, [item])["mlflow"])
    assert server.admin.calls == [("attach_policy", ["new"], "mlflow"), ("detach_policy", ["old"], "mlflow")]


def test_wrong_secret_is_replaced():
    server = client(secret="former-secret", users={"mlflow": {"policyName": "rw", "status": "enabled"}})
    have = minio.found_users(server, [USER])["mlflow"]
    assert have["secret"] == "another one"
    minio.put_user(server, USER, have)
    assert server.admin.calls == [("user_add", "mlflow", "horse-battery")]


def test_disabled_user_is_not_enabled():
    server = client(secret="former-secret", users={"mlflow": {"policyName": "", "status": "disabled"}})
    minio.put_user(server, USER, minio.found_users(server, [USER])["mlflow"])
    assert server.admin.calls == [("attach_policy", ["rw"], "mlflow")]


def test_new_user_gets_its_policies():
    server = client()
    minio.put_user(server, USER, None)
    assert [call[0] for call in server.admin.calls] == ["user_add", "attach_policy"]


def test_difference_names_what_differs_without_secrets():
    document = {
        "policy": [{"name": "rw", "policy": POLICY}],
        "bucket": [{"name": "one", "versioning": True}, {"name": "two", "versioning": False}],
        "user": [USER],
    }
    found = {"policy": {}, "bucket": {"one": {"versioning": False}, "two": {"versioning": False}}, "user": {}}
    before, after = minio.difference(document, found)
    assert before == {"bucket one": {"versioning": False}}
    assert list(after) == ["policy rw", "bucket one", "user mlflow"]
    assert USER["secret"] not in json.dumps(after)


def test_policy_that_nobody_declares_is_an_error():
    document = {"policy": [], "bucket": [], "user": [USER]}
    minio.require_policies(document, {"rw"})
    with pytest.raises(minio.MinioError, match="user mlflow: policy 'rw' does not exist; declare it in policies"):
        minio.require_policies(document, {"readwrite"})


@pytest.mark.parametrize(
    ("kind", "item", "message"),
    [
        ("bucket", {"name": "Upper"}, "bucket 'Upper': its name is to be"),
        ("bucket", {"name": "a..b"}, "rules of S3"),
        ("bucket", {"name": "10.0.0.1"}, "rules of S3"),
        ("bucket", {"name": "ab"}, "rules of S3"),
        ("policy", {"name": "a,b"}, "policy 'a,b'"),
        ("policy", {"name": "p", "policy": {"Statement": {"NotAction": "s3:*"}}}, "cannot read back NotAction"),
        ("user", {**USER, "name": "root"}, "user root: it is the root account"),
        ("user", {**USER, "secret": "short"}, "user mlflow: its secret is to have 8 to 40 characters"),
        ("user", {**USER, "secret": "x" * 41}, "8 to 40"),
    ],
)
def test_malformed_document_is_one_line(kind, item, message):
    document = {"policy": [], "bucket": [], "user": [], kind: [item]}
    with pytest.raises(minio.MinioError, match=message):
        minio.validate(document, "root")


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "ftp://host", "http://host:9000/path"])
def test_endpoint_is_a_url(endpoint):
    with pytest.raises(minio.MinioError, match="endpoint"):
        minio.Client(endpoint, "a", "b", None, 1)


def test_admin_errors_are_explained():
    error = Exception("admin request failed")
    error._body = json.dumps({"Code": "XMinioMalformedIAMPolicy", "Message": "unsupported action"})
    assert minio.explain(error) == ("XMinioMalformedIAMPolicy", "unsupported action")
    assert minio.explain(ValueError("odd")) == ("", "odd")
