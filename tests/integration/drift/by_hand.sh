# What the kinds of drift are made with, as root on a host. REDIS_ADMIN, MLFLOW_ADMIN and DIOPTRA_ADMIN are passwords.
app=/opt/mlfleet
packages=lib/python3.11/site-packages
postgres=/etc/postgresql/15/main

sql() { # sql STATEMENT...
    for statement in "$@"; do
        runuser -u postgres -- psql -X -q -d postgres -v ON_ERROR_STOP=1 -c "$statement" >/dev/null
    done
}

redis() {
    REDISCLI_AUTH=$REDIS_ADMIN redis-cli --tls --no-auth-warning --user admin "$@" | grep -qx OK
}

redis_users() { # redis_users SED: what Redis has in memory, and its file has not; no user of ours may do that
    cp --preserve=all /etc/redis/users.acl /root/users.acl
    sed -i "$1" /etc/redis/users.acl
    systemctl restart redis-server
    cp --preserve=all /root/users.acl /etc/redis/users.acl
}

pgadmin() { # pgadmin STATEMENT...
    python3 - "$@" <<'END'
import sqlite3, sys

with sqlite3.connect("/var/lib/mlfleet/pgadmin/pgadmin4.db", timeout=30) as database:
    for statement in sys.argv[1:]:
        database.execute(statement)
END
}

minio() { # minio PYTHON...
    (
        set -a
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
        . /etc/mlfleet/minio.secret.env
        $app/tools/bin/python - "$@" <<'END'
import os, sys
from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider

keys = os.environ["MINIO_ROOT_USER"], os.environ["MINIO_ROOT_PASSWORD"]
s3 = Minio(endpoint="127.0.0.1:9000", access_key=keys[0], secret_key=keys[1])
admin = MinioAdmin(endpoint="127.0.0.1:9000", credentials=StaticProvider(*keys))
everything = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}
anything = {"Version": "2012-10-17", "Statement": [everything]}
for statement in sys.argv[1:]:
    exec(statement)
END
    )
}

mlflow() { # mlflow METHOD CALL NAME=VALUE...
    $app/mlflow/bin/python - "$@" <<'END'
import os, sys
import requests

method, call, *fields = sys.argv[1:]
body = {name: value == "true" if value in ("true", "false") else value for name, value in (f.split("=") for f in fields)}
url = f"http://127.0.0.1:5001/api/2.0/mlflow/users/{call}"
requests.request(method, url, json=body, auth=("admin", os.environ["MLFLOW_ADMIN"]), timeout=30).raise_for_status()
END
}

dioptra() { # dioptra PYTHON
    $app/mlflow/bin/python - "$@" <<'END'
import os, sys
import requests

url, session = "http://127.0.0.1:5000/api/v1", requests.Session()
account = {"username": "admin", "password": os.environ["DIOPTRA_ADMIN"]}
session.post(f"{url}/auth/login", json=account, timeout=30).raise_for_status()
queue = session.get(f"{url}/queues/?search=name:tensorflow-cpu", timeout=30).json()["data"][0]
for statement in sys.argv[1:]:
    exec(statement)
END
}
