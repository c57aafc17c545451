"""Plugins, entrypoints, queues and accounts of Dioptra are as declared, as seen by an independent client of the API."""

import hmac
import json
import shutil
import subprocess
import tarfile
import uuid
import zipfile
from pathlib import Path

import pytest
import requests

PORT = 5000
PACKAGE = Path(__file__).parents[1] / "resources"
OBJECTS = ["parameter type {0}", "plugin {0}", "entrypoint {0}", "plugin {0}: artifacts.py", "plugin {0}: tasks.py"]


class Client:
    """A client of the API with its own session."""

    def __init__(self, url, username, password):
        self.url = f"{url}/api/v1"
        self.account = {"username": username, "password": password}
        self.session = requests.Session()
        self.session.trust_env = False
        self.status = self.ask("POST", "/auth/login", json=self.account).status_code

    def ask(self, method, path, **keywords):
        return self.session.request(method, self.url + path, **keywords)

    def call(self, method, path, **keywords):
        answer = self.ask(method, path, **keywords)
        answer.raise_for_status()
        return answer.json()

    def find(self, kind, name):
        page = self.call("GET", f"/{kind}/", params={"search": f'name:"{name}"'})
        return next((item for item in page["data"] if item["name"] == name), None)

    def files(self, plugin):
        return {file["filename"]: file for file in self.call("GET", f"/plugins/{plugin['id']}/files")["data"]}


@pytest.fixture
def url(forward):
    return f"http://127.0.0.1:{forward(PORT)}"


@pytest.fixture
def admin(url, secret):
    return Client(url, "admin", secret("dioptra_admin"))


@pytest.fixture
def module(host, secret):
    """Run one of the collection's modules on the host, or in check mode."""

    def run(name, check=False, fails=False, **options):
        may_register = {"deployment_secret": secret("restapi_deployment")} if name == "dioptra_users" else {}
        options = {"url": f"http://127.0.0.1:{PORT}", **may_register, **options}
        result = host.ansible(f"mlfleet.stack.{name}", json.dumps(options), check=check, become=False)
        assert ("changes" not in result) == fails, result
        return result

    return run


@pytest.fixture
def signed_in(module, secret):
    account = {"username": "admin", "password": secret("dioptra_admin")}
    return lambda name, **options: module(name, **{**account, **options})


# --- Plugins and entrypoints


@pytest.fixture
def name(admin):
    """A name that is unused in the API; objects with it are removed afterwards."""
    name = f"m{uuid.uuid4().hex[:12]}"
    yield name
    for kind in ("entrypoints", "plugins", "pluginParameterTypes"):
        if item := admin.find(kind, name):
            admin.call("DELETE", f"/{kind}/{item['id']}")


@pytest.fixture
def package(name, tmp_path):
    """The scenario's package under another name."""
    directory = tmp_path / "package"
    shutil.copytree(PACKAGE, directory)
    (directory / "plugins/greeting").rename(directory / "plugins" / name)
    config = (directory / "dioptra.toml").read_text()
    config = config.replace("plugins/greeting", f"plugins/{name}")
    config = config.replace('name = "greet"\ndesc', f'name = "{name}"\ndesc')
    config = config.replace('["greeting"]', f'["{name}"]').replace('type = "greeting"', f'type = "{name}"')
    config = config.replace('name = "greeting"\ndesc', f'name = "{name}"\ndesc')
    (directory / "dioptra.toml").write_text(config)
    return directory


@pytest.fixture
def provide(signed_in):
    def run(source, check=False, fails=False, **options):
        resource = {"src": str(source), **options} if isinstance(source, Path) else {**source, **options}
        return signed_in("dioptra_resources", check=check, fails=fails, resources=[resource])

    return run


def objects(name):
    return [text.format(name) for text in OBJECTS]


def test_package_is_predicted_imported_and_then_unchanged(provide, package, admin, name):
    assert provide(package, check=True)["changes"] == objects(name)
    assert admin.find("plugins", name) is None
    assert provide(package)["changes"] == objects(name)
    files = admin.files(admin.find("plugins", name))
    assert files["tasks.py"]["contents"] == (package / f"plugins/{name}/tasks.py").read_text()
    assert [task["name"] for task in files["tasks.py"]["tasks"]["functions"]] == ["greet"]
    assert [task["name"] for task in files["artifacts.py"]["tasks"]["artifacts"]] == ["Greeting"]
    entrypoint = admin.find("entrypoints", name)
    assert "times: $times" in entrypoint["taskGraph"] and len(entrypoint["parameters"]) == 5
    for check in (True, False):
        assert not provide(package, check=check)["changed"]


def edit_file(admin, name):
    plugin = admin.find("plugins", name)
    file = admin.files(plugin)["tasks.py"]
    tasks = {
        "functions": [
            {
                "name": task["name"],
                "inputParams": [with_type(parameter) for parameter in task["inputParams"]],
                "outputParams": [with_type(parameter) for parameter in task["outputParams"]],
            }
            for task in file["tasks"]["functions"]
        ],
        "artifacts": [],
    }
    body = {"filename": "tasks.py", "contents": file["contents"] + "\n# mine\n", "description": "", "tasks": tasks}
    admin.call("PUT", f"/plugins/{plugin['id']}/files/{file['id']}", json=body)


def with_type(parameter):
    return {**parameter, "parameterType": parameter["parameterType"]["id"]}


def delete_file(admin, name):
    plugin = admin.find("plugins", name)
    admin.call("DELETE", f"/plugins/{plugin['id']}/files/{admin.files(plugin)['__init__.py']['id']}")


def delete(kind):
    return lambda admin, name: admin.call("DELETE", f"/{kind}/{admin.find(kind, name)['id']}")


def describe_plugin(admin, name):
    plugin = admin.find("plugins", name)
    admin.call("PUT", f"/plugins/{plugin['id']}", json={"name": name, "description": "mine"})


def change_type(admin, name):
    found = admin.find("pluginParameterTypes", name)
    body = {"name": name, "description": found["description"], "structure": {"list": "string"}}
    admin.call("PUT", f"/pluginParameterTypes/{found['id']}", json=body)


@pytest.mark.parametrize(
    ("by_hand", "differs"),
    [
        (edit_file, ["entrypoint {0}", "plugin {0}: tasks.py"]),
        pytest.param(delete_file, ["plugin {0}", "entrypoint {0}"], marks=pytest.mark.fleet),
        pytest.param(describe_plugin, ["plugin {0}", "entrypoint {0}"], marks=pytest.mark.fleet),
        pytest.param(change_type, ["parameter type {0}"], marks=pytest.mark.fleet),
        pytest.param(delete("entrypoints"), ["entrypoint {0}"], marks=pytest.mark.fleet),
    ],
)
def test_what_was_changed_by_hand_is_found_and_mended(provide, package, admin, name, by_hand, differs):
    provide(package)
    by_hand(admin, name)
    expected = [text.format(name) for text in differs]
    assert provide(package, check=True)["changes"] == expected
    assert provide(package)["changes"] == expected
    assert not provide(package)["changed"]


@pytest.mark.fleet
def test_deleted_plugin_of_an_entrypoint_is_a_decision(provide, package, admin, name):
    provide(package)
    delete("plugins")(admin, name)
    for check in (True, False):
        result = provide(package, check=check, fails=True)
        assert f"entrypoint {name} uses plugin {name}, which was deleted" in result["msg"]
    expected = provide(package, check=True, on_conflict="overwrite")["changes"]
    assert provide(package, on_conflict="overwrite")["changes"] == expected
    assert not provide(package)["changed"]


@pytest.mark.fleet
def test_queue_of_an_entrypoint_stays(provide, package, admin, name):
    provide(package)
    group = admin.call("GET", "/groups/")["data"][0]["id"]
    queue = admin.call("POST", "/queues/", json={"group": group, "name": name, "description": ""})
    entrypoint = admin.find("entrypoints", name)
    admin.call("POST", f"/entrypoints/{entrypoint['id']}/queues", json={"ids": [queue["id"]]})
    (package / f"plugins/{name}/tasks.py").open("a").write("\n# newer\n")
    assert provide(package)["changes"] == [f"plugin {name}: tasks.py"]
    assert [item["name"] for item in admin.find("entrypoints", name)["queues"]] == [name]
    admin.call("DELETE", f"/queues/{queue['id']}")


def add_file(admin, name):
    tasks = {"functions": [], "artifacts": []}
    body = {"filename": "more.py", "contents": "x = 1\n", "description": "", "tasks": tasks}
    admin.call("POST", f"/plugins/{admin.find('plugins', name)['id']}/files", json=body)


@pytest.mark.fleet
def test_other_file_stays_until_it_is_overwritten(provide, package, admin, name):
    provide(package)
    add_file(admin, name)
    assert provide(package)["changes"] == [f"entrypoint {name}"]  # it must get the newest version of the plugin
    assert "more.py" in admin.files(admin.find("plugins", name))
    assert provide(package, check=True, on_conflict="overwrite")["changes"] == [f"plugin {name}"]
    assert provide(package, on_conflict="overwrite")["changes"] == [f"plugin {name}"]
    assert "more.py" not in admin.files(admin.find("plugins", name))
    assert not provide(package, on_conflict="overwrite")["changed"]


@pytest.mark.fleet
def test_conflict_can_be_a_failure(provide, package, admin, name):
    assert provide(package, on_conflict="fail")["changed"]
    assert not provide(package, on_conflict="fail")["changed"]
    delete("entrypoints")(admin, name)
    for check in (True, False):
        result = provide(package, check=check, fails=True, on_conflict="fail")
        assert f"entrypoint {name} would change" in result["msg"] and f"plugin {name};" in result["msg"]
    assert admin.find("entrypoints", name) is None


@pytest.mark.fleet
@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_archive_is_as_good_as_a_directory(provide, package, tmp_path, suffix):
    archive = tmp_path / f"package.{suffix}"
    files = [path for path in package.rglob("*") if path.is_file()]
    if suffix == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in files:
                file.write(path, Path("package-1.0", path.relative_to(package)))
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.add(package, "package-1.0")
    result = provide(archive, fails=True)
    assert "it has package-1.0/dioptra.toml, which config_path can name" in result["msg"]
    assert provide(archive, config_path="package-1.0/dioptra.toml")["changed"]
    assert not provide(package)["changed"]


@pytest.fixture
def repository(package):
    def git(*words):
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *author, *words], cwd=package, check=True, capture_output=True)

    git("init", "--initial-branch=main")
    git("add", ".")
    git("commit", "--message=first")
    git("tag", "v1")
    return git


@pytest.mark.fleet
def test_version_of_a_repository_is_provided(provide, package, repository, admin, name):
    source = {"repo": f"file://{package}"}
    assert provide(source, version="v1", check=True)["changes"] == objects(name)
    assert provide(source, version="v1")["changes"] == objects(name)
    (package / f"plugins/{name}/tasks.py").open("a").write("\n# newer\n")
    assert not provide(source)["changed"]  # uncommitted changes
    repository("commit", "--all", "--message=second")
    assert not provide(source, version="v1")["changed"]
    assert provide(source, check=True)["changes"] == [f"plugin {name}: tasks.py"]
    assert provide(source, version="main")["changes"] == [f"plugin {name}: tasks.py"]
    assert admin.files(admin.find("plugins", name))["tasks.py"]["contents"].endswith("# newer\n")
    result = provide(source, version="v9", fails=True)
    assert f"file://{package} has no tag or branch 'v9'" in result["msg"]


def test_what_was_read_stands_for_a_package_that_is_out_of_reach(signed_in, host, package, name, tmp_path):
    kept = tmp_path / "kept/packages"
    options = json.dumps({"resources": [{"src": str(package)}], "dest": str(kept)})
    host.ansible("mlfleet.stack.dioptra_packages", options, check=True, become=False)
    assert kept.stat().st_mode & 0o777 == 0o600
    shutil.rmtree(package)
    assert signed_in("dioptra_resources", packages=str(kept))["changes"] == objects(name)
    assert not signed_in("dioptra_resources", packages=str(kept))["changed"]
    kept.unlink()
    refused = signed_in("dioptra_resources", packages=str(kept), fails=True)
    assert refused["msg"].startswith(f"there is no {kept}: run site.yml --tags restapi,drift")


def test_refused_package_leaves_nothing_behind(provide, package, admin, name):
    graph = package / "entrypoints/greet.yml"
    graph.write_text(graph.read_text().replace("greet:\n", "bow:\n"))
    assert "the API refused it with 4" in provide(package, fails=True)["msg"]
    assert admin.find("plugins", name) is None


def test_check_predicts_all_before_the_account_is_there(provide, package, module, name):
    resources = [{"src": str(package)}]
    unknown = {"username": f"nobody-{name}", "password": "x", "resources": resources}
    assert module("dioptra_resources", check=True, **unknown)["changes"] == objects(name)
    assert module("dioptra_resources", check=True, **unknown, url="http://127.0.0.1:9")["changes"] == objects(name)
    assert "cannot sign in" in module("dioptra_resources", fails=True, **unknown)["msg"]


@pytest.fixture
def declared(host):
    """The name of the scenario's own package, which a whole lab does not declare."""
    if not host.ansible.get_variables().get("restapi_resources"):
        pytest.skip("not declared on this host")
    return "greet"


def test_declared_package_is_there_and_mended(play, admin, declared):
    entrypoint = admin.find("entrypoints", declared)
    (plugin,) = entrypoint["plugins"]
    admin.call("DELETE", f"/entrypoints/{entrypoint['id']}")
    assert play("--tags", "restapi_provision", "--check")["changed"] == 1
    assert play("--tags", "restapi_provision")["changed"] == 1
    assert [each["id"] for each in admin.find("entrypoints", declared)["plugins"]] == [plugin["id"]]
    assert play("--tags", "restapi_provision")["changed"] == 0


# --- Queues


def test_queue_is_made_described_and_deleted(signed_in, admin):
    queue = f"molecule-{uuid.uuid4()}"

    def provide(check=False, **state):
        return signed_in("dioptra_queues", check=check, queues=[{"name": queue, **state}])["changed"]

    assert provide(check=True) and admin.find("queues", queue) is None
    assert provide() and not provide() and admin.find("queues", queue)
    found = admin.find("queues", queue)
    admin.call("PUT", f"/queues/{found['id']}", json={"name": queue, "description": "mine"})
    assert provide(check=True) and admin.find("queues", queue)["description"] == "mine"
    assert provide() and admin.find("queues", queue)["description"] == ""
    assert provide(state="absent", check=True) and admin.find("queues", queue)
    assert provide(state="absent") and admin.find("queues", queue) is None
    assert not provide(state="absent")


# --- Passwords that expire


@pytest.fixture
def expire(sql):
    def run(username, days):
        moment = f"now() + interval '{days} days' + interval '1 hour'"
        sql("restapi", f"UPDATE users SET password_expire_on = {moment} WHERE username = '{username}'")

    return run


@pytest.fixture
def accounts(secret):
    """The deployment's own accounts, as declared by the role."""
    pairs = {"admin": "dioptra_admin", "dioptra-worker": "dioptra_worker"}
    return [{"name": name, "password": secret(word), "email": f"{name}@example.org"} for name, word in pairs.items()]


@pytest.fixture
def days_left(sql):
    query = "SELECT date_part('day', password_expire_on - now()) FROM users WHERE username = '{}'"
    return lambda username: int(sql("restapi", query.format(username)))


@pytest.mark.parametrize(
    "days",
    [
        pytest.param({"dioptra-worker": 20}, marks=pytest.mark.fleet),
        pytest.param({"dioptra-worker": -3}, marks=pytest.mark.fleet),
        pytest.param({"admin": 20, "dioptra-worker": -3}, marks=pytest.mark.fleet),
        {"admin": -3, "dioptra-worker": -3},
    ],
)
def test_password_is_renewed(module, accounts, url, expire, days_left, sql, days):
    for username, number in days.items():
        expire(username, number)
    moments = sql("restapi", "SELECT password_expire_on FROM users ORDER BY user_id")
    expected = [f"user {account['name']}" for account in accounts if account["name"] in days]
    check = module("dioptra_users", check=True, users=accounts)
    assert check["changes"] == expected
    assert sql("restapi", "SELECT password_expire_on FROM users ORDER BY user_id") == moments
    result = module("dioptra_users", users=accounts)
    assert result["changes"] == expected
    assert not any(account["password"] in json.dumps([check, result]) for account in accounts)
    assert [days_left(username) for username in days] == [364] * len(days)
    assert [Client(url, a["name"], a["password"]).status for a in accounts] == [200, 200]
    assert not module("dioptra_users", users=accounts)["changed"]
    helpers = sql(
        "restapi",
        "SELECT count(*) FROM users WHERE username LIKE 'mlfleet-renewal-%' "
        "AND user_id NOT IN (SELECT user_id FROM user_locks WHERE user_lock_type = 'delete')",
    )
    assert helpers == "0"


def test_role_renews_and_predicts_it(play, expire, days_left):
    expire("dioptra-worker", 5)
    assert play("--tags", "restapi_provision", "--check")["changed"] == 1
    assert play("--tags", "restapi_provision")["changed"] == 1
    assert days_left("dioptra-worker") == 364
    assert play("--tags", "restapi_provision")["changed"] == 0


@pytest.mark.parametrize("days", [pytest.param(300, marks=pytest.mark.fleet), -2])
def test_renewal_that_was_killed_half_way_is_ended(module, accounts, url, expire, days):
    worker = accounts[1]
    passing = hmac.new(worker["password"].encode(), b"mlfleet dioptra-worker", "sha256").hexdigest()
    client = Client(url, worker["name"], worker["password"])
    body = {"oldPassword": worker["password"], "newPassword": passing, "confirmNewPassword": passing}
    client.call("POST", "/users/current/password", json=body)
    expire(worker["name"], days)
    assert module("dioptra_users", check=True, users=accounts)["changes"] == ["user dioptra-worker"]
    assert module("dioptra_users", users=accounts)["changes"] == ["user dioptra-worker"]
    assert Client(url, worker["name"], worker["password"]).status == 200
    assert not module("dioptra_users", users=accounts)["changed"]


@pytest.fixture
def ada(module, url):
    """An additional account, which is deleted afterwards."""
    user = {"name": f"ada-{uuid.uuid4()}", "password": "first", "email": f"{uuid.uuid4()}@example.org"}
    yield user
    Client(url, user["name"], user["password"]).call("DELETE", "/users/current", json={"password": user["password"]})


@pytest.mark.parametrize("days", [pytest.param(300, marks=pytest.mark.fleet), -2])
def test_account_is_told_and_removed_when_it_is_to_be_absent(module, accounts, url, expire, days):
    bob = {"name": f"bob-{uuid.uuid4()}", "password": "first", "email": f"{uuid.uuid4()}@example.org"}
    assert module("dioptra_users", users=[*accounts, bob])["changes"] == [f"user {bob['name']}"]
    told = {"kind": "Dioptra account", "name": bob["name"], "remove": ""}
    assert told in module("dioptra_users", check=True, users=accounts)["undeclared"]
    expire(bob["name"], days)
    users = [*accounts, {**bob, "state": "absent"}]
    assert module("dioptra_users", check=True, users=users)["changes"] == [f"user {bob['name']}"]
    assert module("dioptra_users", users=users)["changes"] == [f"user {bob['name']}"]
    assert Client(url, bob["name"], bob["password"]).status == 401
    again = module("dioptra_users", users=users)
    assert not again["changed"] and told not in again["undeclared"]


def test_password_that_is_not_to_be_renewed_is_warned_of(module, accounts, ada, expire, inventory):
    users = [*accounts, {**ada, "renew": False}]
    assert module("dioptra_users", users=users)["changes"] == [f"user {ada['name']}"]
    expire(ada["name"], 12)
    assert not module("dioptra_users", users=users)["changed"]
    options = json.dumps({"url": f"http://127.0.0.1:{PORT}", "users": users})
    words = ["ansible", "testbed", "-i", inventory, "-m", "mlfleet.stack.dioptra_users", "-a", options]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stderr  # results have no warnings
    assert f"user {ada['name']}: expires in 12 days" in " ".join(told.split())
    expire(ada["name"], -2)
    result = module("dioptra_users", check=True, fails=True, users=users)
    assert "its password has expired; renew: true" in result["msg"]
    users = [*accounts, ada]
    assert module("dioptra_users", users=users)["changes"] == [f"user {ada['name']}"]


@pytest.mark.parametrize("days", [pytest.param(200, marks=pytest.mark.fleet), -2])
def test_previous_password_becomes_the_declared_one(module, accounts, ada, url, expire, days):
    module("dioptra_users", users=[*accounts, ada])
    expire(ada["name"], days)
    former, ada["password"] = ada["password"], "second"
    users = [*accounts, {**ada, "previous_password": former}]
    assert "with another password" in module("dioptra_users", fails=True, users=[*accounts, ada])["msg"]
    assert module("dioptra_users", check=True, users=users)["changes"] == [f"user {ada['name']}"]
    assert module("dioptra_users", users=users)["changes"] == [f"user {ada['name']}"]
    assert Client(url, ada["name"], "second").status == 200
    assert not module("dioptra_users", users=users)["changed"]
