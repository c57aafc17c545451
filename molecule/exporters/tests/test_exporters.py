"""A host's metrics are for Prometheus alone, by one port with mutual TLS, and their accounts can read nothing else."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess

import pytest
import yaml

DOOR, NODE = 9998, 9100
# With the certificate of the host, which Prometheus has.
ASK = """
import json, ssl, sys, urllib.request
context = ssl.create_default_context()
context.load_cert_chain("/etc/mlfleet/tls/host.crt", "/etc/mlfleet/tls/host.key")
for module in sys.argv[1:]:
    url = "https://127.0.0.1:9998/proxy?module=" + module + "&target=http://127.0.0.1:8099/status" * (module == "pages")
    text = urllib.request.urlopen(url, context=context, timeout=20).read().decode()
    print(json.dumps([module, [line for line in text.splitlines() if line[:1] != "#"]]))
"""
UP = {"postgres": "pg_up 1", "redis": "redis_up 1", "nginx": "nginx_up 1", "pages": "probe_success 1"}


@pytest.fixture(scope="module")
def metrics(host, eventually):
    """All metrics of the host, by module; those of a service that has just started follow."""
    names = yaml.safe_load(host.file("/etc/mlfleet/exporters/modules.yml").content_string)["modules"]
    ask = f"python3 -c '{ASK}' {' '.join(names)}"
    assert eventually(lambda: host.run(ask).rc == 0), host.run(ask).stderr
    return dict(map(json.loads, host.check_output(ask).splitlines()))


def test_each_module_has_metrics(metrics):
    assert {"mlfleet", "node"} <= set(metrics)
    for module, lines in metrics.items():
        assert len(lines) > 2, module
        if module in UP:
            assert UP[module] in lines, module


def test_units_of_the_host_are_known(host, metrics):
    active = [line for line in metrics["node"] if line.startswith("node_systemd_unit_state") and line.endswith(" 1")]
    assert any('name="mlfleet-exporter@door.service",state="active"' in line for line in active)
    assert not [line for line in active if 'state="failed"' in line]


def test_end_of_the_certificate_is_the_one_in_its_file(host, metrics):
    path = "/etc/mlfleet/tls/host.crt"
    ends = host.check_output(f'date +%s --date "$(openssl x509 -in {path} -noout -enddate | cut -d= -f2)"')
    (line,) = [line for line in metrics["mlfleet"] if f'path="{path}"' in line]
    assert line.startswith("mlfleet_certificate_end_timestamp_seconds{") and float(line.split()[-1]) == int(ends)
    assert any("/ca-certificates/mlfleet/" in line for line in metrics["mlfleet"])
    assert any(line.startswith("mlfleet_version_info{") for line in metrics["mlfleet"])


def test_files_of_metrics_are_collected(host, eventually):
    path = "/var/lib/mlfleet/metrics/host/mine.prom"
    host.run_test(f"echo 'of_mine 7' >{path}")
    try:
        assert eventually(lambda: "of_mine 7" in host.check_output(f"python3 -c '{ASK}' node"))
    finally:
        host.run_test(f"rm {path}")


def test_door_opens_to_the_certificate_of_prometheus_alone(host, forward, authority, tmp_path):
    """Not to one of the same name by another authority."""
    name = host.ansible.get_variables()["inventory_hostname"]

    def ask(*pair):
        context = ssl.create_default_context(cafile=authority)
        if pair:
            context.load_cert_chain(*pair)
        with (
            socket.create_connection(("127.0.0.1", forward(DOOR)), 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(b"GET /proxy?module=node HTTP/1.0\r\n\r\n")
            return connection.recv(100)

    with pytest.raises(ssl.SSLError, match="alert"):
        ask()
    key, certificate = tmp_path / "leaf.key", tmp_path / "leaf.crt"
    words = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", key, "-out", certificate]
    subprocess.run([*words, "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"], check=True)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        assert ask(certificate, key) == b""


def test_exporters_listen_on_the_loopback_and_those_of_debian_stay_off(host):
    listening = host.check_output("ss -ltnH").splitlines()
    ports = [line.split()[3] for line in listening]
    assert f"127.0.0.1:{NODE}" in ports
    assert not [port for port in ports if port.rpartition(":")[2] == str(NODE) and not port.startswith("127.0.0.1:")]
    host.run("systemctl start prometheus-node-exporter prometheus-exporter-exporter")
    for unit in ("prometheus-node-exporter", "prometheus-exporter-exporter"):
        assert host.run(f"systemctl is-active {unit}").stdout.strip() == "inactive"


def test_account_at_redis_reads_only_queues(host, secret):
    if not host.file("/etc/redis/users.acl").exists:
        pytest.skip("no Redis here")
    # Where Dioptra is.
    counts_jobs = "rq.lua" in host.file("/etc/mlfleet/mlfleet-exporter/redis.env").content_string
    commands = [
        ("INFO server", False),
        ("SMEMBERS rq:queues", not counts_jobs),
        ("""EVAL "return redis.call('LPUSH', 'rq:queue:a', 'b')" 0""", True),
        ("HGET rq:job:a data", True),
        ("KEYS *", True),
        ("CONFIG GET *", True),
        ("ACL LIST", True),
    ]
    for command, refused in commands:
        words = f"redis-cli --tls --cacert /etc/ssl/certs/ca-certificates.crt --user exporter {command}"
        answer = host.run(f"REDISCLI_AUTH={secret('redis_exporter')} {words}").stdout
        assert ("NOPERM" in answer or "can't run" in answer) == refused, (command, answer[:200])


def test_role_of_postgresql_reads_no_data(host, secret):
    if not host.file("/etc/postgresql").exists:
        pytest.skip("no PostgreSQL here")
    to = "host=127.0.0.1 user=exporter dbname={} sslmode=require"
    ask = f"PGPASSWORD={secret('postgres_exporter')} psql -XAtc"
    counted = host.run(f"{ask} 'SELECT count(*) > 0 FROM pg_stat_activity' '{to.format('postgres')}'")
    assert counted.stdout.strip() == "t", counted.stderr
    assert "permission denied" in host.run(f"{ask} 'SELECT * FROM pg_authid' '{to.format('postgres')}'").stderr
    own = "restapi"  # whose functions count jobs
    databases = host.check_output(
        "runuser -u postgres -- psql -XAtc 'SELECT datname FROM pg_database WHERE NOT datistemplate'"
    )
    for database in set(databases.split()) - {"postgres", own}:
        assert "no pg_hba.conf entry" in host.run(f"{ask} 'SELECT 1' '{to.format(database)}'").stderr
    if own in databases.split():
        assert "permission denied" in host.run(f"{ask} 'CREATE TABLE a (b int)' '{to.format(own)}'").stderr
        tables = "SELECT 1 FROM pg_tables WHERE has_table_privilege(schemaname || $$.$$ || tablename, $$SELECT$$)"
        tables += " AND schemaname = $$public$$"
        assert host.check_output(f"{ask} '{tables}' '{to.format(own)}'") == ""
