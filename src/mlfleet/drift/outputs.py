"""The reports as files: JSON, a page, metrics for Prometheus' textfile collector, and JUnit's XML."""

from __future__ import annotations

import re
import stat
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

from jinja2 import Environment, PackageLoader, StrictUndefined
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mlfleet.drift.report import Drift, Problem, Report, State, as_text
from mlfleet.project import MlfleetError, write_atomically

PRIVATE, PUBLIC = 0o600, 0o644
PREFIX = "mlfleet_drift"
LAST_SUCCESS = f"{PREFIX}_last_success_timestamp_seconds"
# Characters that XML cannot contain even as a reference.
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Render = Callable[[Report, Sequence[Report], Path, str], bytes]


def require_writable(directory: Path) -> None:
    """Try to create a file in *directory*.

    Raises:
        MlfleetError: that is not possible.
    """
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise MlfleetError(f"no report can be written to {directory}: {error.strerror}.") from error


def require_file(path: Path) -> None:
    """Do the same as `require_writable` for a file to create or replace."""
    if path.is_dir():
        raise MlfleetError(f"no report can be written to {path}: it is a directory.")
    require_writable(path.parent)


def write(path: Path, kind: str, report: Report, history: Sequence[Report], monitoring: str = "") -> None:
    """Write *report* as one of KINDS; a file that is replaced keeps its mode. The page links to *monitoring*."""
    render, mode = KINDS[kind]
    content = render(report, history, path, monitoring)
    write_atomically(path, content, stat.S_IMODE(path.stat().st_mode) if path.exists() else mode)


def as_json(report: Report, *_: object) -> bytes:
    return as_text(report).encode()


def as_page(report: Report, history: Sequence[Report], _path: Path, monitoring: str) -> bytes:
    """Render a self-contained page; the chart shows the runs of *history*, the oldest first."""
    environment = Environment(
        loader=PackageLoader("mlfleet.drift"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = lambda text: f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"
    page = environment.get_template("report.html.j2")
    return page.render(report=report, history=history, monitoring=monitoring).encode()


def as_metrics(report: Report, _history: Sequence[Report], path: Path, *_: object) -> bytes:
    """Render the metrics; if this run was no success, the time of the last one is taken from *path*."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, ["inventory", *labels], registry=registry)

    resources = gauge("resources", "Objects that are not as declared, without accepted ones.", "host", "role")
    unreachable = gauge("host_unreachable", "Whether the host did not answer.", "host")
    failed = gauge("host_failed", "Whether a task failed on the host, so that its state is unknown.", "host")
    for host in report.hosts:
        unreachable.labels(report.inventory, host.name).set(host.state == State.UNREACHABLE)
        failed.labels(report.inventory, host.name).set(host.state == State.FAILED)
        for role in host.roles:
            resources.labels(report.inventory, host.name, role).set(0)
    for drift in report.counted:
        resources.labels(report.inventory, drift.host, drift.role or "").inc()
    duration = gauge("duration_seconds", "How long the check took.")
    duration.labels(report.inventory).set(report.duration_seconds)
    ended = datetime.fromisoformat(report.started).timestamp() + report.duration_seconds
    gauge("last_run_timestamp_seconds", "When the last check ended.").labels(report.inventory).set(ended)
    succeeded = _last_success(path) if report.state == State.UNKNOWN else ended
    if succeeded is not None:
        name = LAST_SUCCESS.removeprefix(f"{PREFIX}_")
        gauge(name, "When a check last knew the state of every host.").labels(report.inventory).set(succeeded)
    return bytes(generate_latest(registry))


def _last_success(path: Path) -> float | None:
    """Return the time in the file to be replaced, if it can be read."""
    try:
        families = list(text_string_to_metric_families(path.read_text()))
    except (OSError, ValueError):
        return None
    return next((sample.value for family in families for sample in family.samples if sample.name == LAST_SUCCESS), None)


def as_junit(report: Report, *_: object) -> bytes:
    """Render a suite for each host: a case for each object that drifted, and for each role where none did."""
    suites = ElementTree.Element("testsuites", name=f"drift of {report.inventory}", time=str(report.duration_seconds))
    for host in report.hosts:
        suite = ElementTree.SubElement(suites, "testsuite", name=host.name, timestamp=report.started)
        mine = [drift for drift in report.drift if drift.host == host.name]
        problems = [*report.unreachable, *report.failed, *report.not_checkable]
        spoken_of = {drift.role for drift in mine} | {found.role for found in problems if found.host == host.name}
        for role in host.roles:
            if role not in spoken_of:
                _case(suite, host.name, role, "is as declared")
        for drift in mine:
            case = _case(suite, host.name, drift.role, drift.object)
            if drift.accepted:
                ElementTree.SubElement(case, "skipped", message=_xml(f"accepted: {drift.accepted.reason}"))
            else:
                failure = ElementTree.SubElement(case, "failure", type=drift.kind, message=_xml(_what(drift)))
                failure.text = _xml(drift.diff or drift.remove or "")
        _problems(suite, host.name, "skipped", report.not_checkable)
        _problems(suite, host.name, "error", [*report.unreachable, *report.failed])
        if host.state == State.UNKNOWN:
            case = _case(suite, host.name, None, "is checked")
            ElementTree.SubElement(case, "error", message="the run ended before it had checked everything")
    for element in (*suites, suites):  # suites first, because the totals add them up
        counts = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
        for name, tag in counts.items():
            element.set(name, str(len(list(element.iter(tag)))))
    ElementTree.indent(suites)
    return bytes(ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(suite: ElementTree.Element, host: str, role: str | None, name: str) -> ElementTree.Element:
    classname = f"{host}.{role}" if role else host
    return ElementTree.SubElement(suite, "testcase", classname=classname, name=_xml(name))


def _problems(suite: ElementTree.Element, host: str, tag: str, problems: Sequence[Problem]) -> None:
    for problem in problems:
        if problem.host == host:
            case = _case(suite, host, problem.role, problem.task or "answers")
            ElementTree.SubElement(case, tag, message=_xml(problem.message))


def _what(drift: Drift) -> str:
    return f"{drift.kind}: {drift.task}"


def _xml(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)


KINDS: dict[str, tuple[Render, int]] = {
    "json": (as_json, PRIVATE),
    "html": (as_page, PRIVATE),
    "prometheus": (as_metrics, PUBLIC),
    "junit": (as_junit, PRIVATE),
}
