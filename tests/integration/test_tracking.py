"""Experiment tracking and serving of its models, from an empty host to predictions and to pages in a browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, sync_playwright

from .conftest import ROOT, Lab, roles_on

HOST = "tracking"
LINKS, MLFLOW, PGADMIN, SERVING_API, PROMETHEUS = 30443, 5001, 5051, 34789, 39090
PATIENCE_MILLISECONDS = 30_000
FURTHER = ("redis", "rabbitmq", "serving_worker", "serving_api", "exporters", "alertmanager", "prometheus", "grafana")


@pytest.fixture(scope="module")
def tracking() -> Iterator[Lab]:
    with Lab.anew("tracking", "inventories/tracking", serving_alias_seconds=1) as lab:
        groups = {"all": {"children": {group: {"hosts": {HOST: None}} for group in FURTHER}}}
        (lab.inventory / "further.yml").write_text(json.dumps(groups))
        shutil.copy(ROOT / "molecule/rabbitmq/inventory/group_vars/rabbitmq.yml", lab.inventory / "group_vars")
        shutil.copy(ROOT / "molecule/grafana/inventory/group_vars/all/grafana.yml", lab.inventory / "group_vars/all")
        yield lab


@pytest.fixture(scope="module")
def url(tracking: Lab) -> str:
    return f"https://{tracking.address(HOST)}"


def test_fresh_host_becomes_what_check_predicts_and_stays(tracking: Lab) -> None:
    prepared = tracking.playbook(playbook="playbooks/prepare_controller.yml")
    assert prepared.code == 0, prepared.output
    predicted, done = tracking.converge("--check", "--diff"), tracking.converge("--diff")
    assert done.count("changed") == predicted.count("changed") > 10
    assert [name for name, value in tracking.secrets().items() if value in predicted.output + done.output] == []
    assert tracking.converge().count("changed") == 0


def test_experiment_is_logged_and_read_back(tracking: Lab) -> None:
    run = tracking.playbook(playbook="playbooks/verify.yml")
    assert run.code == 0, run.output
    assert "read back from s3://mlflow-tracking/" in run.output
    assert f":{MLFLOW}/" in run.output and "Dioptra" not in run.output
    assert "by versions 1 and 2 as by the models themselves, none failed" in run.text


def test_all_is_as_declared(tracking: Lab) -> None:
    tracking.command("mlfleet", "drift", "-i", tracking.name)


def test_model_of_the_registry_is_served(tracking: Lab) -> None:
    """verify.yml has registered two versions, and compared the predictions of both."""
    tracking.run_role_tests(*roles_on("THE_TRACKING_LAB"), host=HOST)


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


def context(browser: Browser, **options: object) -> BrowserContext:
    # High, because a tree contains only its visible branches. Certificates are checked elsewhere.
    size = {"width": 1400, "height": 2400}
    made = browser.new_context(ignore_https_errors=True, viewport=size, **options)  # type: ignore[arg-type]
    made.set_default_timeout(PATIENCE_MILLISECONDS)
    return made


def test_page_of_links_shows_what_is_up(tracking: Lab, browser: Browser, url: str) -> None:
    page = context(browser).new_page()
    up, down = page.locator(".up"), page.locator(".down")
    page.goto(f"{url}:{LINKS}/")
    up.nth(3).wait_for()
    shown = page.locator("h2 a").all_inner_texts()
    assert sorted(shown) == ["Grafana", "MLflow", "MinIO's console", "Prometheus", "RabbitMQ", "Serving API", "pgAdmin"]
    assert down.count() == 0
    tracking.ssh("sudo systemctl stop pgadmin", host=HOST)
    page.reload()
    down.wait_for()
    up.nth(2).wait_for()
    tracking.converge("--tags", "pgadmin_configure")
    page.reload()
    up.nth(3).wait_for()


def test_person_opens_the_file_of_a_run_in_mlflow(tracking: Lab, browser: Browser, url: str) -> None:
    account = {"username": "admin", "password": tracking.secrets()["topology_secret_mlflow_admin"]}
    page = context(browser, http_credentials=account).new_page()
    found = page.request.post(f"{url}:{MLFLOW}/api/2.0/mlflow/runs/search", data={"experiment_ids": ["1"]}).json()
    page.goto(f"{url}:{MLFLOW}/#/experiments/1/runs/{found['runs'][0]['info']['run_id']}/artifacts")
    page.get_by_text("report.txt").first.click()
    page.get_by_text("accuracy 0.97").first.wait_for()


def test_person_tries_the_api_on_its_page(tracking: Lab, browser: Browser, url: str) -> None:
    token = tracking.secrets()["topology_secret_serving_token"]
    page = context(browser, http_credentials={"username": "token", "password": token}).new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(f"{url}:{SERVING_API}/docs")
    page.get_by_text("/models", exact=True).click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    page.get_by_text('"canary_percent"').first.wait_for()
    assert [each for each in requested if not each.startswith((url, "data:"))] == []


def test_person_sees_the_dashboards(tracking: Lab, browser: Browser, url: str) -> None:
    account = {"username": "admin", "password": tracking.secrets()["topology_secret_prometheus"]}
    page = context(browser, http_credentials=account).new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(request.url))
    page.goto(f"{url}:{PROMETHEUS}/consoles/index.html")
    page.locator(".panel.number .value").first.wait_for()
    links = page.locator("a[data-page]").all_inner_texts()
    assert links == ["Fleet", "Hosts and GPUs", "Tracking and storage", "Serving", "Broker and workers", "Runbooks"]
    for link in links[1:-1]:
        page.get_by_role("link", name=link, exact=True).click()
        page.get_by_role("heading", name=link, level=1).wait_for()
        page.locator(".panel.chart svg path").first.wait_for(state="attached")
        page.locator(".panel.table td, .panel.number .value").first.wait_for()
        page.wait_for_load_state("networkidle")
        assert page.locator(".error").all_inner_texts() == []
    assert problems == []


def test_person_asks_for_a_table_in_pgadmin(tracking: Lab, browser: Browser, url: str) -> None:
    secrets, page = tracking.secrets(), context(browser).new_page()
    page.goto(f"{url}:{PGADMIN}/")
    page.fill("input[name=email]", "admin@example.org")
    page.fill("input[name=password]", secrets["topology_secret_pgadmin"])
    page.keyboard.press("Enter")

    def branch(name: str, number: int = 0) -> Locator:
        return page.locator(".file-entry").filter(has=page.get_by_text(name, exact=True)).nth(number)

    def open_branch(name: str) -> None:
        branch(name).locator(".directory-toggle:not(.open, .loading)").click()

    for name in ("Servers", "mlflow-tracking"):
        open_branch(name)
    page.locator("input[type=password]:visible").fill(secrets["topology_secret_postgres_mlflow"])
    page.keyboard.press("Enter")
    open_branch("Databases")
    # The only database opens by itself, sometimes without its contents, so the query is typed.
    branch("mlflow-tracking", 1).locator(".file-name").click()
    page.get_by_role("button", name="Query Tool", exact=True).click()
    query = page.frame_locator("iframe")
    query.locator(".cm-content").first.fill("SELECT name FROM experiments")
    query.get_by_role("button", name="Execute script").click()
    query.get_by_text("mlfleet-verify").first.wait_for()
    # An open connection would ask for its password at the next visit.
    page.locator("[data-node-key^=id-query-tool]").get_by_role("button", name="Close").click()
    query.get_by_text("Don't save").click()
    page.locator("iframe").wait_for(state="detached")
