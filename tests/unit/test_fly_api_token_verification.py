"""Can each check of FLY_API_TOKEN fail, for the right reason, and is what it made deleted whatever happened?"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.contacts import CONTACTS
from components.fly.client import FlyClient
from components.github.client import GitHubClient
from components.http import ApiError
from components.verification import check, fly_api_token, fly_token_probe
from components.verification.check import CheckFailedError
from components.verification.consumers import machines_run_the_new_value
from components.verification.fly_api_token import (
    Settings,
    earlier_runs_are_finished,
    org_gets_a_machine,
    workflow_succeeds,
)

from .announced import assert_announced, assert_covered, assert_needed, changes
from .fake_control_plane import Answers, FakeControlPlane, machine
from .wire import START, Clock, Wire, at, booted, one_machine, reply

KIND = "rotationtest-fly"
SUBJECT = check.Subject(secret="FLY_API_TOKEN", generation=2, credential_id="t2")
ROOT = Path(fly_api_token.__file__).parents[2]
TOLD = {
    "app": "cp",
    "tenant_app": "tenant",
    "url": "https://cp.test",
    "owner_user_id": "owner",
    "repository": "o/r",
    "workflow": "publish.yml",
    "ref": "",
    "org_timeout": 60,
    "workflow_timeout": 120,
    "ci_timeout": 180,
}
SETTINGS = Settings(**TOLD)  # type: ignore[arg-type]
FLY, GITHUB = FlyClient("fo1_operator"), GitHubClient("gh-operator")


class World(FakeControlPlane):
    """The same with the tenants' machines and GitHub."""

    def __init__(self) -> None:
        super().__init__("FLY_API_TOKEN")
        self.status_of_new_orgs = ["provisioning", "running"]
        self.tenants: list[dict[str, Any]] = []
        self.has_machine = True
        self.machine_goes = True
        self.dispatch: list[httpx.Response] = []
        self.before: list[dict[str, Any]] = [self.run(1, conclusion="success")]
        self.own = self.run(77, conclusion="success", status="completed")
        self.others: list[dict[str, Any]] = []
        self.unfinished: list[list[dict[str, Any]]] = []
        self.dispatched = False

    @staticmethod
    def run(
        run_id: int, *, status: str = "completed", conclusion: str | None = None, seconds: float = -60
    ) -> dict[str, Any]:
        """A workflow run, `seconds` after the write."""
        return {
            "id": run_id,
            "status": status,
            "conclusion": conclusion,
            "created_at": at(seconds),
            "html_url": f"https://github.test/runs/{run_id}",
        }

    def created(self, slug: str) -> None:
        """Makes the tenant's machine."""
        if self.has_machine:
            self.tenants.append(machine("t1", config={"env": {"MOLECULE_ORG_ID": f"id-of-{slug}"}}))

    def deleted(self, slug: str) -> None:
        """Destroys the tenant's machine."""
        if self.machine_goes:
            self.tenants = [each for each in self.tenants if slug not in json.dumps(each)]

    def answers(self, body: Any, parameters: Mapping[str, str]) -> Answers:  # noqa: ANN401 - JSON
        """Of the tenants' app and GitHub, too."""
        return {
            **super().answers(body, parameters),
            "GET /v1/apps/tenant/machines": lambda: reply(200, self.tenants),
            r"GET /v1/apps/tenant/machines/(\w+)": lambda machine_id: one_machine(self.tenants, machine_id),
            "GET /repos/o/r": lambda: reply(200, {"default_branch": "trunk"}),
            "GET /repos/o/r/actions/secrets/FLY_API_TOKEN": lambda: reply(200, {"updated_at": at(0)}),
            "GET /repos/o/r/actions/workflows/publish.yml/runs": self._list_dispatched,
            "POST /repos/o/r/actions/workflows/publish.yml/dispatches": lambda: self._dispatch(body),
            r"GET /repos/o/r/actions/runs/(\d+)": self._one_run,
            "GET /repos/o/r/actions/runs": lambda: self._list_unfinished(parameters["status"]),
        }

    def _dispatch(self, body: dict[str, Any]) -> httpx.Response:
        self.log.append(f"dispatch {json.dumps(body)}")
        answer = self.dispatch.pop(0) if self.dispatch else reply(200, {"workflow_run_id": 77})
        self.dispatched = self.dispatched or answer.is_success
        return answer

    def _list_dispatched(self) -> httpx.Response:
        listed = [*self.others, self.own, *self.before] if self.dispatched else self.before
        return reply(200, {"workflow_runs": listed})

    def _one_run(self, run_id: str) -> httpx.Response:
        known = {str(each["id"]): each for each in (*self.others, self.own, *self.before)}
        return reply(200, known[run_id])

    def _list_unfinished(self, status: str) -> httpx.Response:
        now = self.unfinished[0] if self.unfinished else []
        found = [each for each in now if each["status"] == status]
        if status == "in_progress" and len(self.unfinished) > 1:
            self.unfinished.pop(0)
        return reply(200, {"workflow_runs": found})


@pytest.fixture
def world(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """All systems, with an operator who may use them."""
    world = World()
    wire.serve = world.serve
    for name in ("FLY_ACCESS_TOKEN", "GITHUB_TOKEN", "CP_ADMIN_API_TOKEN"):
        monkeypatch.setenv(name, f"value-of-{name}")
    yield world
    assert_covered(wire.requests, fly_api_token.announce(TOLD, leaked=False))


# Everything together


def test_a_rotation_that_went_well_is_verified(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    fly_api_token.verify(TOLD, SUBJECT)
    (slug,) = world.slugs("create")
    assert re.fullmatch(rf"{KIND}-\d{{10}}", slug)
    assert world.slugs("delete") == [slug]
    assert world.orgs == world.tenants == []
    evidence = capsys.readouterr().err
    for name in ("machines", "health", "disposable org", "workflow", "earlier CI runs"):
        assert f"{name}: " in evidence


def test_everything_that_is_announced_is_done_where_all_goes_well(world: World, wire: Wire) -> None:
    fly_api_token.verify(TOLD, SUBJECT)
    assert world.log
    made, announced = changes(wire.requests), fly_api_token.announce(TOLD, leaked=False)
    assert_announced(made, announced.writes)
    assert_needed(made, announced.writes)


def test_where_the_value_before_has_leaked_ci_runs_are_not_waited_for(
    world: World, wire: Wire, capsys: pytest.CaptureFixture[str]
) -> None:
    world.unfinished = [[world.run(5, status="in_progress")]]  # for ever
    fly_api_token.verify(TOLD, replace(SUBJECT, leaked=True))
    evidence = capsys.readouterr().err
    for name in ("machines", "health", "disposable org", "workflow"):
        assert f"{name}: " in evidence, "everything else is shown as ever"
    assert "earlier CI runs" not in evidence
    assert "GET /repos/o/r/actions/runs" not in wire.lines
    assert world.orgs == world.tenants == []


def test_what_is_not_waited_for_is_said_to_be_given_up() -> None:
    leaked, routine = (fly_api_token.announce(TOLD, leaked=each) for each in (True, False))
    assert "CI runs of o/r" in leaked.costs[0]
    assert "they lose it half-way" in leaked.costs[0]
    assert routine.costs == ()
    assert set(routine.words) - set(leaked.words) == {"CI runs that started with the value before have finished"}
    assert routine.writes == leaked.writes
    assert routine.dispatches == leaked.dispatches == ("publish.yml of o/r",)


def test_one_failing_check_fails_the_verification_and_the_org_is_deleted(world: World) -> None:
    world.status_of_new_orgs = ["provisioning"]
    world.own["conclusion"] = "failure"
    with pytest.raises(CheckFailedError, match="ended as failure"):
        fly_api_token.verify({**TOLD, "org_timeout": 10**6}, SUBJECT)
    assert world.orgs == []


def test_every_failing_check_is_named(world: World) -> None:
    world.secret = None
    world.own["conclusion"] = "cancelled"
    with pytest.raises(CheckFailedError) as failed:
        fly_api_token.verify(TOLD, SUBJECT)
    assert "machines: " in str(failed.value)


# Machines


def test_machines_that_booted_since_the_write_run_the_new_value(world: World) -> None:
    assert "2 machines" in machines_run_the_new_value(FLY, SETTINGS.app, SUBJECT.secret)
    assert world.log == []


def test_a_machine_that_booted_in_the_second_of_the_write_has_read_it(world: World) -> None:
    world.machines[1] |= {"events": booted(0)}
    machines_run_the_new_value(FLY, SETTINGS.app, SUBJECT.secret)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"events": booted(-1)}, "value before"),
        ({"events": booted(-1, "launch")}, "value before"),
        ({"events": []}, "value before"),
        ({"events": None}, "value before"),
        ({"events": [*booted(5, "start"), *booted(4, "exit"), *booted(-1)]}, "value before"),
        ({"events": booted(-1), "updated_at": at(60)}, "value before"),
        ({"events": booted(-1), "state": "stopped"}, "value before"),
        ({"state": "failed"}, "not healthy"),
        ({"host_status": "unreachable"}, "not healthy"),
        ({"config": {"checks": {"http": {}}}, "checks": [{"name": "http", "status": "critical"}]}, "not healthy"),
    ],
)
def test_a_machine_that_does_not_run_the_new_value_fails(world: World, changed: dict[str, Any], reason: str) -> None:
    world.machines[1] |= changed
    with pytest.raises(CheckFailedError, match="m2") as failed:
        machines_run_the_new_value(FLY, SETTINGS.app, SUBJECT.secret)
    assert reason in str(failed.value)


def test_a_machine_that_was_stopped_on_purpose_has_to_be_updated_but_not_to_run(world: World) -> None:
    world.machines[1] |= {"state": "stopped"}
    machines_run_the_new_value(FLY, SETTINGS.app, SUBJECT.secret)


@pytest.mark.parametrize("kind", ["launch", "update"])
def test_a_machine_counts_from_when_it_was_configured_last(world: World, kind: str) -> None:
    world.machines[1] |= {"updated_at": at(-60), "events": [*booted(9, "start"), *booted(5, kind), *booted(-60)]}
    machines_run_the_new_value(FLY, SETTINGS.app, SUBJECT.secret)
    world.machines[1] |= {"events": [*booted(-60), *booted(5, kind)]}
    machines_run_the_new_value(FLY, SETTINGS.app, SUBJECT.secret)


def test_an_app_without_the_secret_fails(world: World) -> None:
    world.secret = None
    with pytest.raises(CheckFailedError, match="no secret FLY_API_TOKEN"):
        machines_run_the_new_value(FLY, SETTINGS.app, SUBJECT.secret)


def test_a_secret_without_a_time_fails_in_plain_words(world: World) -> None:
    world.secret = {"name": "FLY_API_TOKEN", "digest": "d"}
    with pytest.raises(CheckFailedError):
        machines_run_the_new_value(FLY, SETTINGS.app, SUBJECT.secret)


# The disposable org


def provision() -> str:
    return org_gets_a_machine(SETTINGS.disposable_org(KIND), FLY, SETTINGS)


def test_an_org_gets_its_machine_and_both_are_deleted(world: World) -> None:
    evidence = provision()
    (slug,) = world.slugs("create")
    assert re.fullmatch(rf"{KIND}-\d{{10}}", slug)
    assert re.fullmatch(r"[a-z][a-z0-9-]{2,31}", slug), "the control plane takes no other slug"
    assert world.slugs("delete") == [slug]
    assert "t1" in evidence


def fails_and_is_deleted(world: World, reason: str) -> None:
    with pytest.raises((CheckFailedError, ApiError), match=reason):
        provision()
    assert world.slugs("delete") == world.slugs("create")
    assert world.orgs == []


@pytest.mark.parametrize("status", ["provisioning", "awaiting_payment", ""])
def test_an_org_that_never_runs_fails_in_time_and_is_deleted(world: World, clock: Clock, status: str) -> None:
    world.status_of_new_orgs = [status]
    fails_and_is_deleted(world, "to be running")
    assert 55 <= sum(clock.naps) <= 65


def test_an_org_that_failed_is_not_waited_for_and_is_deleted(world: World, clock: Clock) -> None:
    world.status_of_new_orgs = ["failed"]
    fails_and_is_deleted(world, "failed")
    assert sum(clock.naps) < 5


def test_an_org_that_is_gone_fails(world: World) -> None:
    world.has_orgs("customer")
    listing = world.list_orgs

    asked: list[str] = []

    def somebody_deletes_it_first() -> httpx.Response:
        asked.append("")
        if len(asked) > 2:  # the list before it was made, and once after
            del world.orgs[1:]
        return listing()

    world.status_of_new_orgs = ["provisioning"] * 10
    world.list_orgs = somebody_deletes_it_first  # type: ignore[method-assign]
    with pytest.raises(CheckFailedError, match="missing"):
        provision()
    assert world.slugs("delete") == world.slugs("create")


def test_an_org_that_is_said_to_run_without_a_machine_fails_and_is_deleted(world: World) -> None:
    world.has_machine = False
    world.tenants.append(machine("t9", config={"env": {"MOLECULE_ORG_ID": "somebody else's"}}))
    fails_and_is_deleted(world, "no machine")


def test_a_machine_that_outlives_its_org_fails(world: World) -> None:
    world.machine_goes = False
    fails_and_is_deleted(world, r"t1 .* to be gone")


@pytest.mark.parametrize("status", [400, 401, 500])
def test_an_org_that_may_have_been_created_all_the_same_is_deleted(world: World, status: int) -> None:
    world.creation = [status]
    fails_and_is_deleted(world, str(status))


def test_a_clean_up_that_fails_does_not_hide_the_failure(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.status_of_new_orgs = ["failed"]
    world.deletion = [403]
    with pytest.raises(CheckFailedError, match="failed"):
        provision()
    assert "is left" in capsys.readouterr().err


def test_a_deletion_that_fails_is_a_failure(world: World) -> None:
    world.deletion = [403]
    with pytest.raises(ApiError, match="delete org"):
        provision()


def test_waiting_that_is_ended_leaves_no_org(world: World, nothing_is_ending: threading.Event) -> None:
    world.status_of_new_orgs = ["provisioning"]
    nothing_is_ending.set()
    with pytest.raises(check.EndedError):
        provision()
    assert world.slugs("delete") == world.slugs("create") != []


def test_what_an_earlier_verification_left_is_deleted_and_nothing_else(world: World) -> None:
    left = f"{KIND}-1700000000"
    customers = ["customer", f"{left}-2", f"{KIND}-by-hand", f"x-{left}"]
    world.has_orgs(left, *customers)
    provision()
    assert world.slugs("delete") == [left, *world.slugs("create")]
    assert [org["slug"] for org in world.orgs] == customers


# The workflow


def test_the_run_that_was_dispatched_counts_and_no_other(world: World) -> None:
    world.others = [world.run(99, conclusion="failure")]
    assert "run 77" in workflow_succeeds(GITHUB, SETTINGS)
    assert world.log == ['dispatch {"ref": "trunk", "return_run_details": true}']


def test_a_newer_run_that_succeeded_does_not_count(world: World) -> None:
    world.others = [world.run(99, conclusion="success")]
    world.own["conclusion"] = "failure"
    with pytest.raises(CheckFailedError, match=r"run 77 .* failure: https://github\.test/runs/77"):
        workflow_succeeds(GITHUB, SETTINGS)


@pytest.mark.parametrize(
    "conclusion", ["failure", "cancelled", "timed_out", "skipped", "neutral", "startup_failure", None]
)
def test_any_conclusion_but_success_fails(world: World, conclusion: str | None) -> None:
    world.own["conclusion"] = conclusion
    with pytest.raises(CheckFailedError, match="run 77"):
        workflow_succeeds(GITHUB, SETTINGS)


def test_the_branch_of_the_settings_is_used(world: World) -> None:
    workflow_succeeds(GITHUB, replace(SETTINGS, ref="release"))
    assert '"ref": "release"' in world.log[0]


def test_a_run_is_waited_for(world: World, clock: Clock) -> None:
    world.own |= {"status": "in_progress", "conclusion": None}
    clock.on_sleep = lambda: world.own.update(
        {"status": "completed", "conclusion": "success"} if len(clock.naps) > 5 else {}
    )
    workflow_succeeds(GITHUB, SETTINGS)
    assert len(clock.naps) > 5


def test_a_run_that_never_ends_fails_in_time(world: World, clock: Clock) -> None:
    world.own |= {"status": "queued", "conclusion": None}
    with pytest.raises(CheckFailedError, match="run 77"):
        workflow_succeeds(GITHUB, SETTINGS)
    assert 115 <= sum(clock.naps) <= 125


UNNAMED = [[reply(204)], [reply(400, {"message": "return_run_details is not a permitted key"}), reply(204)]]


@pytest.mark.parametrize("number", range(len(UNNAMED)), ids=["says nothing", "refuses the field"])
@pytest.mark.parametrize(("conclusion", "good"), [("success", True), ("failure", False)])
def test_where_github_does_not_name_the_run_all_new_ones_have_to_succeed(
    world: World,
    number: int,
    conclusion: str,
    good: bool,  # noqa: FBT001 - a column
) -> None:
    world.dispatch = [httpx.Response(each.status_code, content=each.content) for each in UNNAMED[number]]
    world.before = [world.run(1, conclusion="failure")]
    world.others = [world.run(99, conclusion=conclusion)]
    if good:
        assert "77" in workflow_succeeds(GITHUB, SETTINGS)
        return
    with pytest.raises(CheckFailedError, match="run 99"):
        workflow_succeeds(GITHUB, SETTINGS)


def test_a_run_that_does_not_show_up_is_no_success(world: World) -> None:
    world.dispatch = [reply(204)]
    world._list_dispatched = lambda: reply(200, {"workflow_runs": world.before})  # type: ignore[method-assign]
    with pytest.raises(CheckFailedError, match=r"publish\.yml"):
        workflow_succeeds(GITHUB, SETTINGS)


# Earlier CI runs


@pytest.mark.parametrize(("seconds", "waits"), [(-60, True), (-1, True), (0, True), (1, False), (60, False)])
def test_runs_that_started_before_the_write_or_in_the_same_second_are_awaited(
    world: World,
    clock: Clock,
    seconds: float,
    waits: bool,  # noqa: FBT001 - a column
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = world.run(5, status="in_progress", seconds=seconds)
    world.unfinished = [[run], [run], [run], []]
    assert earlier_runs_are_finished(GITHUB, SETTINGS, SUBJECT).startswith("1" if waits else "0")
    assert (len(clock.naps) >= 3) is waits
    assert capsys.readouterr().err.count("https://github.test/runs/5") == (1 if waits else 0)


def test_a_run_that_was_not_to_be_seen_for_a_moment_is_awaited(world: World) -> None:
    run = world.run(5, status="in_progress")
    world.unfinished = [[], [run], [], [run], [], []]
    assert earlier_runs_are_finished(GITHUB, SETTINGS, SUBJECT).startswith("1")
    assert len(world.unfinished) == 1


def test_a_run_that_does_not_end_keeps_the_old_value_alive(world: World, clock: Clock) -> None:
    world.unfinished = [[world.run(5, status="waiting")]]
    with pytest.raises(CheckFailedError, match="CI runs"):
        earlier_runs_are_finished(GITHUB, SETTINGS, SUBJECT)
    assert 175 <= sum(clock.naps) <= 185


def test_the_times_are_compared_as_times(world: World) -> None:
    world.unfinished = [[{**world.run(5, status="queued"), "created_at": "2026-11-23T14:00:01+02:00"}]]
    assert datetime.fromisoformat("2026-11-23T14:00:01+02:00") > START
    assert earlier_runs_are_finished(GITHUB, SETTINGS, SUBJECT).startswith("0")


# The probe


def test_a_token_that_reaches_its_machines_is_good(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator-token")
    wire.will(reply(200, [machine("t1")]), reply(200, machine("t1")))
    monkeypatch.setattr(sys.stdin, "read", lambda: "FlyV1 fm2_new\n", raising=False)
    fly_token_probe.probe({"app": "tenant"}, SUBJECT)
    assert wire.lines == ["GET /v1/apps/tenant/machines", "GET /v1/apps/tenant/machines/t1"]
    assert wire.requests[0].headers["authorization"] == "Bearer fo1_operator-token"
    assert wire.last.headers["authorization"] == "FlyV1 fm2_new"


@pytest.mark.parametrize(("status", "called"), [(401, True), (403, True), (404, False), (503, True)])
def test_a_token_that_does_not_is_not(
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    called: bool,  # noqa: FBT001 - a column
) -> None:
    monkeypatch.setenv("FLY_API_TOKEN", "fo1_operator-token")
    wire.serve = lambda _request: reply(status, {"error": "bad token fm2_new-and-secret"})
    monkeypatch.setattr(sys.stdin, "read", lambda: "FlyV1 fm2_new-and-secret\n", raising=False)
    with pytest.raises(CheckFailedError, match="tenant") as failed:
        fly_token_probe.probe({"app": "tenant"}, SUBJECT)
    assert "fm2_new-and-secret" not in str(failed.value)
    assert failed.value.contact == (CONTACTS["Fly"] if called else "")


# As a process


@pytest.fixture
def address(world: World) -> Iterator[str]:
    """The same world on loopback, for a process."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            path, _, query = self.path.partition("?")
            parameters = dict(httpx.QueryParams(query))
            answer = world.answer(self.command, path, json.loads(content) if content else None, parameters)
            self.send_response(answer.status_code)
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the base class's names

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def process(address: str, module: str, **told: Any) -> subprocess.Popen[str]:  # noqa: ANN401 - settings
    settings = {
        "secret": "FLY_API_TOKEN",
        "generation": 2,
        "credential_id": "t2",
        "minted_at": "2026-11-24T12:00:00Z",
        "subject": "turn 3",
        "state_if_failed": "both work.",
        "settings": {**TOLD, **told},
    }
    environment = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        check.SETTINGS_VARIABLE: json.dumps(settings),
        "FLY_FLAPS_BASE_URL": address,
        "GITHUB_BASE_URL": address,
        "CONTROL_PLANE_URL": address,
    }
    return subprocess.Popen(
        [sys.executable, "-m", f"components.verification.{module}"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_process_reports_success(world: World, address: str) -> None:
    world.status_of_new_orgs = ["running"]
    with process(address, "fly_api_token") as running:
        out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert json.loads(out)["generation"] == 2
    assert json.loads(out)["subject"] == "turn 3"
    assert "value-of-" not in out + err


def test_a_process_reports_failure(world: World, address: str) -> None:
    world.own["conclusion"] = "failure"
    with process(address, "fly_api_token") as running:
        out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (1, "")
    assert "FLY_API_TOKEN generation 2" in err
    assert "both work." in err
    assert world.orgs == []


def test_a_probe_takes_the_token_from_standard_input(world: World, address: str) -> None:
    del world
    with process(address, "fly_token_probe") as running:
        out, err = running.communicate("FlyV1 fm2_new-and-secret", timeout=120)
    assert running.returncode == 0, err
    assert json.loads(out)["generation"] == 2
    assert "fm2_new" not in out + err


def test_a_process_that_is_ended_deletes_its_org(world: World, address: str) -> None:
    world.status_of_new_orgs = ["provisioning"]
    created = threading.Event()
    listing = world.list_orgs

    def list_orgs() -> httpx.Response:
        if world.orgs:
            created.set()
        return listing()

    world.list_orgs = list_orgs  # type: ignore[method-assign]
    with process(address, "fly_api_token", org_timeout=600) as running:
        assert created.wait(60)
        running.send_signal(signal.SIGTERM)
        out, _ = running.communicate(timeout=120)
    assert (running.returncode, out) == (143, "")
    assert world.orgs == []
    assert world.slugs("delete") == world.slugs("create")
