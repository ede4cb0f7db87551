"""Does a run of the fleet keep the order, stop or go on as asked, and tell the truth at the end? Stacks are numbers here."""

import io
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.errors import OperatorError, RefusedError
from components.keyring import Credential
from components.progress import Progress, State
from tools.audit import look
from tools.audit.stack import config_of, exported
from tools.fleet import engine, record, rotation, show
from tools.fleet.engine import FailedError, Preview, Step, StoppedError
from tools.fleet.outcome import Outcome
from tools.fleet.rotation import Fleet, Options

from . import audit_stacks as stacks

SECRET = stacks.SECRET
AFTER = {"staging": "", "qa": "", "prod-eu": "staging", "prod-us": "staging"}


@dataclass
class Deployed:
    """A stack in numbers."""

    requested: int = 1
    current: int = 1
    verified: int = 1
    verified_at: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(days=1))
    reasons: dict[str, str] = field(default_factory=dict)


class World:
    """The stacks, what was done to them, and what goes wrong."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.stacks = {name: Deployed() for name in AFTER}
        self.done: list[str] = []
        self.broken_previews: set[str] = set()
        self.broken_updates: set[str] = set()
        self.unwell: set[str] = set()
        self.staged: set[str] = set()
        self.unreadable: set[str] = set()
        self.bugs: set[str] = set()
        self.during: Callable[[str], None] = lambda _name: None
        self.stopping = False
        self.running = self.most = 0
        self.lock = threading.Lock()

    def interrupt(self) -> int:
        """What the command does."""
        self.stopping = True
        return self.running


@dataclass
class StandIn:
    """What stands in for `engine.Deployer`."""

    stack: str
    log: Path
    command: Any
    checkout: Path
    variables: Mapping[str, str]

    @property
    def world(self) -> World:
        """Where it is."""
        found: World = self.command
        return found

    @property
    def me(self) -> Deployed:
        """The stack."""
        return self.world.stacks[self.stack]

    def read(self, *, now: datetime) -> tuple[look.Stack, tuple[str, ...]]:
        """Config and state."""
        if self.stack in self.world.unreadable:
            raise OperatorError("incorrect passphrase", state="nothing was changed.", next_step="set it.")
        config = config_of(stacks.config(rotations={SECRET: self.me.requested}), stacks.PROJECT_FILE + DEFAULTS)
        found, unmapped = look.stack_of(self.stack, config, exported(stacks.export()), now=now)
        at = self.me.verified_at.isoformat()
        progress = Progress(
            current=self.me.current,
            verified=self.me.verified,
            verified_at=at,
            keyring=(Credential(generation=self.me.current, credential_id="c", name="n", value="", created_at=""),),
            has_revocation=True,
            revoked_for=at,
        )
        return replace(found, exported=replace(found.exported, state=State(progress={SECRET: progress}))), unmapped

    def preview(self, counters: Mapping[str, int], reasons: Mapping[str, str], *, first: bool = False) -> Preview:
        """What an update would do."""
        del reasons
        if self.world.stopping:
            raise StoppedError
        self.world.done.append(f"preview {self.stack}{' first' if first else ''}")
        if self.stack in self.world.broken_previews:
            raise FailedError("it is refused", "mend it")
        wanted = counters.get(SECRET, self.me.requested)
        pending = wanted != self.me.verified or self.stack in self.world.unwell
        return (
            Preview(steps=3, summary="sum", text=f"impact of {self.stack}", pending=pending, impact={})
            if pending
            else (Preview(steps=0, summary="", text="", pending=False, impact={}))
        )

    def bump(self, counters: Mapping[str, int], reasons: Mapping[str, str]) -> None:
        """Writes the config."""
        self.world.done.append(f"bump {self.stack}")
        self.me.requested = counters.get(SECRET, self.me.requested)
        self.me.reasons.update(reasons)

    def forget_reasons(self, secrets: Mapping[str, str]) -> None:
        """Takes reasons off."""
        for name in secrets:
            self.me.reasons.pop(name)

    def up(self, tell: Callable[[Step], None]) -> None:
        """Updates."""
        world = self.world
        if world.stopping:
            raise StoppedError
        with world.lock:
            world.running += 1
            world.most = max(world.most, world.running)
        try:
            world.done.append(f"up {self.stack}")
            world.during(self.stack)
            tell(Step(kind="x", name="y", ended=False))
            time.sleep(0.02)
            if self.stack in world.bugs:
                raise ZeroDivisionError(stacks.VALUE)
            self.me.current = self.me.requested
            if self.stack in world.broken_updates:
                raise FailedError("it broke", "mend it")
            if self.stack not in world.staged:
                self.me.verified, self.me.verified_at = self.me.requested, datetime.now(UTC)
        finally:
            with world.lock:
                world.running -= 1

    def unexpected(self, error: Exception) -> FailedError:
        """As the real one tells it."""
        return engine.Deployer.unexpected(self, error)  # type: ignore[arg-type]

    def _keep(self, line: str) -> None:
        with self.log.open("a") as opened:
            opened.write(line + "\n")


# Of the keys that `Pulumi.yaml` has with a default, those that matter here.
DEFAULTS = "".join((Path(rotation.__file__).parents[2] / "Pulumi.yaml").read_text().partition("\nconfig:\n")[2:])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    (tmp_path / "stacks").mkdir()
    for name, after in AFTER.items():
        text = f"config:\n  molecule-secrets:after: {after}\n" if after else "config: {}\n"
        (tmp_path / "stacks" / f"Pulumi.{name}.yaml").write_text(text)
    monkeypatch.setattr(rotation, "Deployer", StandIn)
    monkeypatch.setattr(engine, "stacks", lambda _checkout, _environment: {name: name for name in AFTER})
    return World(tmp_path)


def fleet(
    world: World,
    *,
    confirm: Callable[[str], bool] | None = None,
    environment: Mapping[str, str] | None = None,
    **options: Any,  # noqa: ANN401
) -> tuple[Fleet, io.StringIO]:
    stream = io.StringIO()
    made = Fleet(
        checkout=world.checkout,
        options=Options(**{"secrets": (SECRET,), "patterns": ("*",), **options}),
        environment=environment or {},
        given={},
        command=world,  # type: ignore[arg-type]
        reporter=show.Plain(stream),
        confirm=confirm,
        logs=world.checkout / "logs",
    )
    return made, stream


def run(world: World, **options: Any) -> Outcome:  # noqa: ANN401
    return fleet(world, **options)[0].run()


def states(outcome: Outcome) -> dict[str, str]:
    return {name: str(each.state) for name, each in outcome.results.items()}


def ups(world: World) -> list[str]:
    return [each.removeprefix("up ") for each in world.done if each.startswith("up ")]


def test_waves_one_after_another_and_stacks_of_one_at_once(world: World) -> None:
    done = run(world)
    assert done.status == 0
    assert set(states(done).values()) == {"verified"}
    assert [{*wave} for wave in done.waves] == [{"qa", "staging"}, {"prod-eu", "prod-us"}]
    assert ({*ups(world)[:2]}, {*ups(world)[2:]}) == ({"qa", "staging"}, {"prod-eu", "prod-us"})
    assert world.done.index("up staging") < world.done.index("preview prod-eu"), (
        "its preview may ask what staging has verified"
    )
    assert world.most == 2
    assert {each.requested for each in world.stacks.values()} == {2}
    assert len(done.changed) == 4
    assert not (world.checkout / record.FILE).exists()


def test_no_more_than_asked_at_once(world: World) -> None:
    run(world, parallel=1)
    assert world.most == 1


def test_the_first_failure_stops_and_the_same_command_goes_on(world: World) -> None:
    world.broken_updates = {"staging"}
    failed = run(world, patterns=("staging", "prod-eu"))
    assert failed.status == 1
    assert states(failed) == {"staging": "failed", "prod-eu": "not started"}
    assert failed.results["prod-eu"].why == "stopped, because staging is not verified"
    assert (failed.results["staging"].error, failed.results["staging"].next_step) == ("it broke", "mend it")
    assert "generation 2 is minted" in failed.results["staging"].left[0]
    assert world.stacks["prod-eu"] == replace(Deployed(), verified_at=world.stacks["prod-eu"].verified_at)

    world.broken_updates, world.done = set(), []
    done = run(world, patterns=("staging", "prod-eu"))
    assert done.status == 0
    assert [each for each in world.done if "bump" in each] == ["bump prod-eu"], "staging is finished, not bumped again"
    assert {world.stacks[name].verified for name in ("staging", "prod-eu")} == {2}
    assert not (world.checkout / record.FILE).exists()

    run(world, patterns=("staging", "prod-eu"))
    assert world.stacks["staging"].verified == 3, "and the next one is another rotation"


def test_what_is_verified_is_left_alone_until_the_rest_is(world: World) -> None:
    world.broken_updates = {"prod-us"}
    run(world, keep_going=True)
    for _ in range(2):
        again, told = fleet(world, keep_going=True)
        assert again.run().status == 1
        assert "goes on with the rotation that began" in told.getvalue()
    assert {name: each.verified for name, each in world.stacks.items()} == {
        "staging": 2,
        "qa": 2,
        "prod-eu": 2,
        "prod-us": 1,
    }
    # One that was done by hand meanwhile counts as well, and a part of the fleet may be named.
    world.stacks["prod-us"] = Deployed(requested=2, current=2, verified=2)
    assert run(world, patterns=("prod-us",)).status == 0
    assert not (world.checkout / record.FILE).exists()


def test_others_go_on_where_that_is_asked_for(world: World) -> None:
    world.broken_updates = {"staging"}
    done = run(world, keep_going=True)
    assert states(done) == {"qa": "verified", "staging": "failed", "prod-eu": "not started", "prod-us": "not started"}
    assert done.results["prod-us"].why == "it goes after staging"


def test_a_refused_preview_stops_before_anything_is_touched(world: World) -> None:
    world.broken_previews = {"staging"}
    done = run(world)
    assert states(done) == {
        "qa": "not started",
        "staging": "failed",
        "prod-eu": "not started",
        "prod-us": "not started",
    }
    assert done.results["qa"].why == "stopped, because the preview of staging failed"
    assert (ups(world), done.changed) == ([], ())
    assert not (world.checkout / record.FILE).exists(), "nothing is wanted yet"
    assert states(run(world, keep_going=True))["qa"] == "verified"


def test_nobody_says_yes(world: World) -> None:
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    done = run(world, confirm=no)
    assert (done.status, ups(world), done.changed) == (1, [], ())
    assert asked == ["Rotate qa, staging?"]
    assert not (world.checkout / record.FILE).exists()
    done = run(world, confirm=lambda question: "staging" not in question, each=True)
    assert states(done) == {
        "qa": "verified",
        "staging": "not started",
        "prod-eu": "not started",
        "prod-us": "not started",
    }


def test_a_look_changes_nothing(world: World) -> None:
    done = run(world, dry_run=True)
    assert (done.status, set(states(done).values())) == (0, {"previewed"})
    assert "preview prod-eu first" in world.done, "as if nothing went before it, since that is only looked at as well"
    assert not [each for each in world.done if not each.startswith("preview")]


def test_soaking(world: World) -> None:
    began = time.monotonic()
    made, told = fleet(world, patterns=("staging", "prod-eu"), soak=timedelta(milliseconds=300))
    assert made.run().status == 0
    assert time.monotonic() - began >= 0.3
    assert world.done == [
        "preview staging",
        "bump staging",
        "up staging",
        "preview staging",
        "preview prod-eu",
        "bump prod-eu",
        "up prod-eu",
    ]
    assert "After the soak" in told.getvalue()


def test_what_has_soaked_long_enough_is_not_waited_for(world: World) -> None:
    world.stacks["staging"] = Deployed(requested=2, current=2, verified=2)
    (world.checkout / record.FILE).write_text(
        '{"runs": [{"started_at": "yesterday", "targets": {"staging": {"FLY_API_TOKEN": 2}}, "verified": {}}]}'
    )
    began = time.monotonic()
    done = run(world, patterns=("staging", "prod-eu"), soak=timedelta(hours=1))
    assert (done.status, time.monotonic() - began < 5) == (0, True)
    assert "preview staging" in world.done, "it is looked at all the same"


def test_a_stack_that_is_not_well_after_the_soak(world: World) -> None:
    world.unwell = {"staging"}
    done = run(world, patterns=("staging", "prod-eu"), soak=timedelta(milliseconds=10))
    assert states(done) == {"staging": "failed", "prod-eu": "not started"}
    assert "after the soak no longer as it was: sum" in done.results["staging"].error
    world.unwell, world.done = set(), []
    assert run(world, patterns=("staging", "prod-eu"), soak=timedelta(milliseconds=10)).status == 0
    assert ups(world) == ["prod-eu"]


def test_a_staged_secret_holds_back_what_goes_after(world: World) -> None:
    world.staged = {"staging"}
    done = run(world, keep_going=True)
    assert states(done) == {"qa": "verified", "staging": "staged", "prod-eu": "not started", "prod-us": "not started"}
    assert "restart them" in done.results["staging"].next_step


def test_a_bug_of_ours_takes_no_other_stack_with_it(world: World) -> None:
    world.bugs = {"staging"}
    done = run(world, keep_going=True)
    assert states(done)["qa"] == "verified"
    assert done.results["staging"].error == "ZeroDivisionError where none is expected (the log has where)."
    log = (world.checkout / "logs" / "staging.log").read_text()
    assert "test_fleet_rotation.py" in log
    assert stacks.VALUE not in log


def test_an_interruption(world: World) -> None:
    made, told = fleet(world, parallel=1)
    world.during = lambda _name: made.interrupt()
    done = made.run()
    assert (done.status, done.interrupted) == (1, True)
    assert len(ups(world)) == 1
    assert sorted(states(done).values()) == ["not started", "not started", "not started", "verified"]
    assert {each.why for each in done.results.values()} == {"", "interrupted"}
    assert "Interrupted: nothing more is started, 1 running" in told.getvalue()
    world.during, world.stopping = lambda _name: None, False
    assert run(world).status == 0
    assert {each.verified for each in world.stacks.values()} == {2}


def test_a_leaked_value(world: World) -> None:
    seen: list[dict[str, str]] = []
    world.during = lambda name: seen.append(dict(world.stacks[name].reasons))
    world.broken_updates = {"prod-us"}
    run(world, reason="leaked", keep_going=True)
    assert seen == [{SECRET: "leaked"}] * 4
    assert {name: each.reasons for name, each in world.stacks.items() if each.reasons} == {
        "prod-us": {SECRET: "leaked"}
    }


def test_another_rotation_is_begun_where_one_is_not_finished(world: World) -> None:
    world.broken_updates = {"qa"}
    run(world, patterns=("qa", "staging"), keep_going=True)
    assert {name: world.stacks[name].requested for name in ("qa", "staging")} == {"qa": 2, "staging": 2}
    world.broken_updates = set()
    assert run(world, patterns=("qa", "staging"), anew=True).status == 0
    assert {name: world.stacks[name].verified for name in ("qa", "staging")} == {"qa": 2, "staging": 3}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"patterns": ("stagin",)}, "There is no stack stagin. Did you mean staging?"),
        ({"secrets": ("NEON_API_KEY",)}, "qa: its config does not list NEON_API_KEY"),
        ({"environment": {"CONTROL_PLANE_URL": "http://x"}}, "would be taken for the control plane of every stack"),
        ({"patterns": ("prod-eu", "staging"), "in_order": True}, "contradict each other"),
    ],
)
def test_refused_before_anything_is_touched(world: World, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RefusedError) as refused:
        run(world, **options)
    assert said in refused.value.happened
    assert world.done == []


def test_a_control_plane_for_one_stack(world: World) -> None:
    assert run(world, patterns=("qa",), environment={"CONTROL_PLANE_URL": "http://x"}).status == 0


def test_every_stack_that_cannot_be_read_is_named(world: World) -> None:
    world.unreadable = {"qa", "prod-us"}
    world.stacks["staging"] = Deployed(requested=1, current=5, verified=5)
    with pytest.raises(RefusedError) as refused:
        run(world, keep_going=True)
    for words in (
        "qa: incorrect passphrase",
        "prod-us: incorrect passphrase",
        "staging: the config asks for generation 1",
    ):
        assert words in refused.value.happened
    assert world.done == []


def test_one_run_at_a_time(world: World) -> None:
    other: list[str] = []

    def try_another(_name: str) -> None:
        try:
            run(world)
        except RefusedError as error:
            other.append(error.happened)

    world.during = try_another
    assert run(world, patterns=("qa",)).status == 0
    assert other == ["Another run of the fleet is under way in this checkout."]
