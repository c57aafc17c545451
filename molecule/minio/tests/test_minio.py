"""Each service may do with artifacts what it needs, and nothing else."""

import io
import json
import uuid

import pytest
import requests
from minio import Minio
from minio.error import S3Error
from urllib3 import PoolManager
from urllib3.exceptions import SSLError

BUCKET = "mlflow-tracking"
USERS = {
    "mlflow": "dioptra-mlflow-tracking",
    "restapi": "dioptra-restapi",
    "worker": "dioptra-worker",
    "root": "dioptra-admin",
}


@pytest.fixture
def client(forward, secret, authority):
    """Return a connection as one of the users, or without an account."""

    def connect(user=None, password=None, access_key=None, secure=True):
        keys = {}
        if user or access_key:
            keys = {"access_key": access_key or USERS[user], "secret_key": password or secret(f"minio_{user}")}
        http = PoolManager(ca_certs=authority, retries=False, timeout=10)
        return Minio(f"127.0.0.1:{forward(9000)}", secure=secure, region="us-east-1", http_client=http, **keys)

    return connect


@pytest.fixture
def artifact(client):
    """Return the name of an existing artifact."""
    name = f"artifacts/molecule/{uuid.uuid4()}"
    put(client("root"), name)
    yield name
    client("root").remove_object(BUCKET, name)


def put(as_user, name, bucket=BUCKET):
    as_user.put_object(bucket, name, io.BytesIO(b"bytes"), 5)


def get(as_user, name):
    return as_user.get_object(BUCKET, name).data


def is_denied():
    return pytest.raises(S3Error, match="AccessDenied")


@pytest.mark.parametrize("user", ["mlflow", "worker"])
def test_user_writes_lists_and_reads_artifacts(client, artifact, user):
    put(client(user), artifact)
    assert get(client(user), artifact) == b"bytes"
    assert [found.object_name for found in client(user).list_objects(BUCKET, artifact)] == [artifact]


@pytest.mark.parametrize("user", ["mlflow", "worker", "restapi"])
def test_user_cannot_write_elsewhere(client, user):
    with is_denied():
        put(client(user), "elsewhere/object")


@pytest.mark.parametrize("user", ["mlflow", "worker", "restapi"])
def test_user_cannot_make_buckets(client, user):
    with is_denied():
        client(user).make_bucket("another")


def test_restapi_reads_but_cannot_write_or_remove(client, artifact):
    assert get(client("restapi"), artifact) == b"bytes"
    with is_denied():
        put(client("restapi"), artifact)
    with is_denied():
        client("restapi").remove_object(BUCKET, artifact)


def test_anonymous_is_denied(client, artifact):
    with is_denied():
        get(client(), artifact)
    with is_denied():
        put(client(), artifact)


def test_bucket_opened_by_hand_is_closed_by_a_run(client, artifact, forward, authority, play):
    def status():
        return requests.get(f"https://127.0.0.1:{forward(9000)}/{BUCKET}/{artifact}", verify=authority).status_code

    anyone = {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"]}
    statement = anyone | {"Resource": [f"arn:aws:s3:::{BUCKET}/*"]}
    client("root").set_bucket_policy(BUCKET, json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert status() == 200
    assert play("--check", "--tags", "minio_provision")["changed"] == 1
    assert status() == 200
    assert play("--tags", "minio_provision")["changed"] == 1
    assert status() == 403
    assert play("--check", "--tags", "minio_provision")["changed"] == 0


def test_wrong_password_is_refused(client, artifact):
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        get(client("mlflow", "wrong-password"), artifact)


def test_object_stays_when_tls_is_switched(request, client, artifact):
    request.getfixturevalue("without_tls")
    name = artifact
    assert client("worker", secure=False).get_object(BUCKET, name).data == b"bytes"
    with pytest.raises(SSLError):
        get(client("worker"), name)


def test_console_answers(forward, authority):
    answer = requests.get(f"https://127.0.0.1:{forward(9001)}/", verify=authority)
    assert answer.status_code == 200
    assert "MinIO Console" in answer.text


@pytest.mark.parametrize("port", [9000, 9001])
def test_only_the_loopback_listens(listens_on, port):
    assert listens_on(port) == {"127.0.0.1"}


def test_extra_objects_are_there(client, host):
    keys = json.loads(host.file("/root/team.json").content_string)
    reader = client(access_key=keys["access_key"], password=keys["secret_key"])
    put(client("root"), "object", "team")
    assert reader.get_object("team", "object").data == b"bytes"
    client("root").remove_object("team", "object")
    with is_denied():
        put(reader, "object", "team")
    assert host.file("/root/team.json").mode == 0o600


def test_drives_are_those_declared(host):
    for drive in range(1, 5):
        assert host.file(f"/srv/drive{drive}/.minio.sys/format.json").exists
