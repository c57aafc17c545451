"""RabbitMQ, Redis, PostgreSQL and MLflow on the loopback with TLS, and the application beside them.

Wants Debian's rabbitmq-server, redis-server and postgresql, none of them running, and uv.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg2
import requests

from tests.certificates import make
from tests.rendered_settings import rendered

ROOT = Path(__file__).parents[2]
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
APPLICATION = ROOT / "roles/serving/files/application"
VERIFYING = ROOT / "roles/serving/files/verifying"
# Queue and rights are those of the example.
EXAMPLE = rendered(ROOT / "inventories/serving", "serving")["alone"]["serving"]
QUEUE = EXAMPLE["topology_serving_queue"]
OTHER = "127.0.0.2"  # where the services listen as well, but their certificate does not name it
ACL = f"""\
user default off
user api on >{{api}} resetchannels {EXAMPLE["topology_redis_serving_api_rules"]}
user worker on >{{worker}} resetchannels {EXAMPLE["topology_redis_serving_worker_rules"]}
"""
GRANTS = """
CREATE ROLE owner LOGIN PASSWORD '{owner}';
CREATE ROLE api LOGIN PASSWORD '{api}';
CREATE ROLE worker LOGIN PASSWORD '{worker}';
CREATE DATABASE serving OWNER owner;
"""
RIGHTS = """
GRANT SELECT ON predictions TO api, worker;
GRANT DELETE ON predictions TO api;
GRANT INSERT ON predictions TO worker;
GRANT INSERT, SELECT (prediction_id) ON feedback TO api;
"""


def environment(name: str, constraints: str) -> Path:
    """Make a virtual environment of these pins, anew when they change, and return its directory of programs."""
    pins = ROOT / "constraints" / constraints
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()
    directory = ROOT / ".cache/serving-tests" / name
    stamp = directory / "stamp"
    if not stamp.exists() or stamp.read_text() != digest:
        run = {"check": True, "env": os.environ | {"UV_SYSTEM_CERTS": "1"}}
        subprocess.run(["uv", "venv", "--quiet", "--clear", directory], **run)
        subprocess.run(["uv", "pip", "sync", "--quiet", "--python", directory / "bin/python", pins], **run)
        stamp.write_text(digest)
    return directory / "bin"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait until it is true, and return what it was."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(requests.ConnectionError, psycopg2.Error, OSError):
            if found := condition():
                return found
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)


class Program:
    """A program with its children in a process group, and its output in a file."""

    def __init__(
        self, directory: Path, name: str, command: list[Any], variables: dict[str, str], user: str | None = None
    ):
        self.log = directory / f"{name}.log"
        self.command, self.variables, self.user = list(map(str, command)), variables, user
        self.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command,
                env={"PATH": os.environ["PATH"], **self.variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.user,
            )

    def stop(self, sign: int = signal.SIGTERM) -> None:
        """Ask the main process, and kill what is left of the group."""
        if sign != signal.SIGKILL and self.process.poll() is None:
            self.process.send_signal(sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Services:
    """All that the application stands on, and ways to start the application."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.programs: list[Program] = []
        self.secrets = {name: secrets.token_hex(12) for name in ("api", "worker", "owner", "token")}
        names = ("broker", "results", "database", "registry", "api", "metrics", "worker1", "worker2", "epmd")
        self.ports = {name: free_port() for name in names}
        self.application = environment("application", "serving.txt")
        self.registry = environment("registry", "mlflow.txt")
        self.user = "postgres" if os.geteuid() == 0 else None
        self._write_certificates()
        self.registry_variables = {
            "MLFLOW_TRACKING_URI": f"https://127.0.0.1:{self.ports['registry']}",
            "REQUESTS_CA_BUNDLE": str(self.ca),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "HOME": str(directory),
        }

    def _write_certificates(self) -> None:
        authority = make("authority", is_authority=True)
        self.ca = self.directory / "ca.crt"
        self.ca.write_text(authority.certificate)
        made = make("services.example", authority, addresses=("127.0.0.1",))
        self.pair = (self.directory / "services.crt", self.directory / "services.key")
        for file, text in zip(self.pair, (made.certificate, made.private), strict=True):
            file.write_text(text)

    def start(self) -> None:
        with ThreadPoolExecutor() as pool:
            for started in [
                pool.submit(each) for each in (self._registry, self._broker, self._results, self._database)
            ]:
                started.result()

    def run(self, *command: Any, name: str, variables: dict[str, str], user: str | None = None) -> Program:
        program = Program(self.directory, name, list(command), variables, user)
        self.programs.append(program)
        return program

    def _broker(self) -> None:
        directory = self.directory / "rabbitmq"
        directory.mkdir()
        self.run("epmd", "-port", self.ports["epmd"], "-address", "127.0.0.1", name="epmd", variables={})
        users = [{"name": name, "password": self.secrets[name], "tags": ""} for name in ("api", "worker")]
        permissions = [
            {"user": "api", "vhost": QUEUE, **EXAMPLE["topology_rabbitmq_serving_api_rights"]},
            {"user": "worker", "vhost": QUEUE, **EXAMPLE["topology_rabbitmq_serving_worker_rights"]},
        ]
        definitions = {"users": users, "vhosts": [{"name": QUEUE}], "permissions": permissions}
        (directory / "definitions.json").write_text(json.dumps(definitions))
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{self.ports['broker']}\n"
            f"listeners.ssl.2 = {OTHER}:{self.ports['broker']}\n"
            f"ssl_options.certfile = {self.pair[0]}\nssl_options.keyfile = {self.pair[1]}\n"
            f"load_definitions = {directory / 'definitions.json'}\nlog.console = true\n"
        )
        (directory / "plugins").write_text("[].\n")
        self.broker_variables = variables = {
            "HOME": str(directory),
            "RABBITMQ_NODENAME": "serving-tests@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.ports["epmd"]),
        }
        self.broker = self.run(RABBITMQ, name="rabbitmq", variables=variables)
        self.broker_answers()

    def rabbitmqctl(self, *words: str) -> None:
        command = [Path(RABBITMQ).with_name("rabbitmqctl"), *words]
        variables = {"PATH": os.environ["PATH"], **self.broker_variables}
        subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL, timeout=60)

    def broker_answers(self) -> None:
        until(lambda: socket.create_connection(("127.0.0.1", self.ports["broker"]), 1).close() is None, 60, "RabbitMQ")

    def _results(self) -> None:
        (self.directory / "users.acl").write_text(ACL.format(**self.secrets))
        options = {
            "bind": f"127.0.0.1 {OTHER}",
            "port": 0,
            "tls-port": self.ports["results"],
            "save": "",
            "dir": self.directory,
        }
        options |= {"tls-cert-file": self.pair[0], "tls-key-file": self.pair[1], "tls-ca-cert-file": self.ca}
        options |= {"tls-auth-clients": "no", "aclfile": self.directory / "users.acl"}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.results = self.run("redis-server", *words, name="redis", variables={})

    def _database(self) -> None:
        directory = self.directory / "postgres"
        directory.mkdir()
        for source, name in zip(self.pair, ("server.crt", "server.key"), strict=True):
            shutil.copy(source, directory / name)
            (directory / name).chmod(0o600)
        if self.user:
            account = pwd.getpwnam(self.user)
            for path in (directory, *directory.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        data = directory / "data"
        options = {"user": self.user, "check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([POSTGRES / "initdb", "--auth=trust", "--username=postgres", "--no-sync", data], **options)
        settings = {
            "port": self.ports["database"],
            "listen_addresses": f"127.0.0.1,{OTHER}",
            "unix_socket_directories": directory,
        }
        settings |= {"ssl": "on", "ssl_cert_file": directory / "server.crt", "ssl_key_file": directory / "server.key"}
        settings |= {"hba_file": self.directory / "hba.conf", "fsync": "off"}
        (self.directory / "hba.conf").write_text(
            "local all postgres trust\nhostssl all all 127.0.0.0/8 scram-sha-256\n"
        )
        words = [f"--{name}={value}" for name, value in settings.items()]
        self.database = self.run(
            POSTGRES / "postgres", "-D", data, *words, name="postgres", variables={}, user=self.user
        )
        until(lambda: self.sql("SELECT 1", "postgres"), 30, "PostgreSQL")
        for statement in GRANTS.format(**self.secrets).strip().splitlines():
            self.sql(statement, "postgres")

    def _registry(self) -> None:
        directory = self.directory / "mlflow"
        directory.mkdir()
        options = f"--ssl-certfile {self.pair[0]} --ssl-keyfile {self.pair[1]}"
        where = [
            "--backend-store-uri",
            f"sqlite:///{directory}/mlflow.db",
            "--artifacts-destination",
            directory / "artifacts",
        ]
        where += ["--host", "127.0.0.1", "--port", self.ports["registry"], "--workers", 1, "--uvicorn-opts", options]
        variables = {
            "HOME": str(directory),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PATH": f"{self.registry}:{os.environ['PATH']}",
        }
        self.mlflow = self.run(self.registry / "mlflow", "server", *where, name="mlflow", variables=variables)
        url = f"{self.registry_variables['MLFLOW_TRACKING_URI']}/health"
        until(lambda: requests.get(url, verify=self.ca, timeout=5).ok, 90, "MLflow")
        train = [self.registry / "python", Path(__file__).with_name("train.py"), self.directory / "model"]
        with (self.directory / "train.log").open("w") as log:
            subprocess.run(train, env=self.registry_variables, check=True, stdout=log, stderr=log)

    def sql(self, statement: str, database: str = "serving") -> list[Any]:
        """Run it as the server's owner, through its socket."""
        with contextlib.closing(
            psycopg2.connect(
                host=str(self.directory / "postgres"), port=self.ports["database"], user="postgres", dbname=database
            )
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def variables(self, user: str, host: str = "127.0.0.1", **further: str) -> dict[str, str]:
        """The environment of the application under this account."""
        metrics = self.directory / f"metrics-{user}-{secrets.token_hex(4)}"
        metrics.mkdir()
        database = f"{host}:{self.ports['database']}/serving?sslmode=verify-full&sslrootcert={self.ca}"
        return {
            **self.registry_variables,
            "PYTHONPATH": str(APPLICATION),
            "CELERY_BROKER_URL": f"amqps://{user}:{self.secrets[user]}@{host}:{self.ports['broker']}/{QUEUE}",
            "CELERY_BACKEND_URL": f"rediss://{user}:{self.secrets[user]}@{host}:{self.ports['results']}/0",
            "CELERY_QUEUE": QUEUE,
            "DATABASE_URL": f"postgresql+psycopg2://{user}:{self.secrets[user]}@{database}",
            "SERVING_CA_FILE": str(self.ca),
            "SERVING_CACHE_DIR": str(self.directory / f"cache-{user}"),
            "SERVING_MODELS_FILE": str(self.directory / "models.json"),
            "SERVING_TOKEN": self.secrets["token"],
            "SERVING_ALIAS_SECONDS": "1",
            "SERVING_BODY_SIZE_MB": "8",
            "SERVING_MODELS_KEPT": "4",
            "SERVING_RESULT_EXPIRES_SECONDS": "3600",
            "SERVING_WAIT_SECONDS": "10",
            "SERVING_TASK_TIME_LIMIT_SECONDS": "20",
            "SERVING_RETENTION_DAYS": "30",
            "SERVING_BROKER_WAIT_SECONDS": "30",
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            **further,
        }

    def migrate(self) -> Program:
        # The owner's account is used for this alone.
        variables = {**self.variables("worker"), "DATABASE_URL": self.variables("owner")["DATABASE_URL"]}
        return self.run(
            self.application / "python", "-m", "mlfleet_serving.migrate", name="migrate", variables=variables
        )

    def worker(self, number: int, **further: str) -> Program:
        words = ["--concurrency", 1, "--hostname", f"worker{number}@%h", "--loglevel", "INFO"]
        words += ["--without-mingle", "--without-gossip", "--without-heartbeat"]
        command = [self.application / "celery", "-A", "mlfleet_serving.tasks.celery", "worker", *words]
        variables = self.variables("worker", SERVING_METRICS_PORT=str(self.ports[f"worker{number}"]), **further)
        return self.run(*command, name=f"worker{number}", variables=variables)

    def worker_metrics(self) -> str:
        urls = [f"http://127.0.0.1:{self.ports[worker]}/metrics" for worker in ("worker1", "worker2")]
        return "".join(requests.get(url, timeout=10).text for url in urls)

    def api(self, **further: str) -> Program:
        words = ["--host", "127.0.0.1", "--port", self.ports["api"], "--workers", 2, "--timeout-graceful-shutdown", 5]
        words += [
            "--ssl-certfile",
            self.pair[0],
            "--ssl-keyfile",
            self.pair[1],
            "--no-server-header",
            "--no-access-log",
        ]
        command = [self.application / "uvicorn", "mlfleet_serving.api:api", *words]
        return self.run(
            *command,
            name="api",
            variables=self.variables("api", SERVING_METRICS_PORT=str(self.ports["metrics"]), **further),
        )

    def serve(self, models: list[dict[str, Any]]) -> None:
        """Declare the served models; the API reads them each second."""
        temporary = self.directory / "models.new"
        temporary.write_text(json.dumps(models))
        temporary.replace(self.directory / "models.json")

    def python(self, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run code in the application's environment."""
        options = {
            "env": {"PATH": os.environ["PATH"], **variables},
            "capture_output": True,
            "text": True,
            "timeout": 60,
        }
        return subprocess.run([self.application / "python", "-c", code], check=False, **options)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        url = f"{self.registry_variables['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/registered-models/alias"
        body = {"name": name, "alias": alias, "version": str(version)}
        requests.post(url, json=body, verify=self.ca, timeout=20).raise_for_status()

    def stop(self) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Program.stop, self.programs))


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Services]:
    services = Services(directory)
    try:
        services.start()
        yield services
    finally:
        services.stop()
