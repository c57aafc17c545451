"""A real MinIO on the loopback, and modules run like on a host: in a separate process, with JSON in and out."""

from __future__ import annotations

import base64
import importlib
import json
import os
import runpy
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
import requests
from ansible.module_utils import basic
from botocore.config import Config
from minio import MinioAdmin
from minio.credentials import StaticProvider

ROOT = Path(__file__).parents[2]
COLLECTIONS = ROOT / ".ansible/collections"
MODULE_SECONDS = 120
MODULES = "ansible_collections.mlfleet.stack.plugins.modules"
sys.path.insert(0, str(COLLECTIONS))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def role(tmp_path_factory):
    """The role minio's values for its hosts: C(program) and C(policies)."""
    answer = tmp_path_factory.mktemp("role") / "answer.json"
    playbook = Path(__file__).with_name("role_minio.yml")
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", str(playbook), "-e", f"answer={answer}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return SimpleNamespace(**json.loads(answer.read_text()))


class Minio:
    """The server, its root account, and clients that share no code with the modules."""

    def __init__(self, program: str, directory: Path) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.root, self.secret = "root-of-tests", secrets.token_hex(16)
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "MINIO_ROOT_USER": self.root,
            "MINIO_ROOT_PASSWORD": self.secret,
            "MINIO_KMS_SECRET_KEY": f"key-of-tests:{key}",
            "MINIO_BROWSER": "off",
            "MINIO_CI_CD": "1",  # drives on the root file system
        }
        command = [program, "server", str(directory / "d{1...4}"), "--address", f"127.0.0.1:{self.port}"]
        self.log = (directory / "log").open("w")
        self.process = subprocess.Popen(command, env=self.environment, stdout=self.log, stderr=self.log)
        self.admin = MinioAdmin(
            endpoint=f"127.0.0.1:{self.port}", credentials=StaticProvider(self.root, self.secret), secure=False
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if requests.get(f"{self.endpoint}/minio/health/cluster").ok and self.admin.policy_list():
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.2)
        raise TimeoutError((directory / "log").read_text())

    def s3(self, user: str | None = None, secret: str | None = None):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=user or self.root,
            aws_secret_access_key=secret or self.secret,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}),
        )

    def users(self):
        return json.loads(self.admin.user_list())

    def policies(self):
        return json.loads(self.admin.policy_list())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)
        self.log.close()


@pytest.fixture(scope="module")
def minio(role, tmp_path_factory):
    server = Minio(role.program, tmp_path_factory.mktemp("minio"))
    yield server
    server.stop()


@pytest.fixture
def run(minio):
    """Run a module; return its result, and assert that it contains no secret."""

    def run(module, check=False, *, fails=False, **options):
        connection = {"endpoint": minio.endpoint, "access_key": minio.root, "secret_key": minio.secret}
        arguments = connection | options | {"_ansible_check_mode": check, "_ansible_diff": True}
        output = _output(module, arguments)
        assert output.startswith("\n{"), output
        result = json.loads(output)
        shown = {key: value for key, value in result.items() if key != "invocation"}
        for secret in {minio.secret, *_values(options, "secret")}:
            assert secret not in json.dumps(shown)
        assert bool(result.get("failed")) == fails, result
        return SimpleNamespace(**result)

    return run


def _output(module, arguments):
    """Return the output of a module, in a separate process that inherits its libraries from this one."""
    importlib.import_module(f"{MODULES}.{module}")  # imported once, with its dependencies
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if not child:
            signal.alarm(MODULE_SECONDS)
            sys.stdout = output
            basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
            basic._ANSIBLE_PROFILE = "legacy"
            try:
                runpy.run_module(f"{MODULES}.{module}", run_name="__main__", alter_sys=True)
            except SystemExit:
                pass
            except BaseException:
                traceback.print_exc(file=output)
            output.flush()
            os._exit(0)
        os.waitpid(child, 0)
        output.seek(0)
        return output.read()


def _values(data, key):
    if isinstance(data, dict):
        for name, value in data.items():
            if name == key and isinstance(value, str):
                yield value
            yield from _values(value, key)
    elif isinstance(data, list):
        for value in data:
            yield from _values(value, key)


@pytest.fixture
def converges(run):
    """Check, run and run again: what is predicted is done, and only once. Return the result of the run."""

    def converges(module, is_unchanged, **options):
        before = is_unchanged()
        predicted = run(module, check=True, **options)
        assert predicted.changed, "a check that predicts nothing"
        assert is_unchanged() == before, "check mode has changed something"
        result = run(module, **options)
        assert result.changed
        assert result.diff == predicted.diff
        again = run(module, **options)
        assert not again.changed, again.diff
        return result

    return converges
