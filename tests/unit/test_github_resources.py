"""Is every place written by its own resource, under a name that stays, and is an operator told what to do when a write fails or hangs?"""

import asyncio
import dataclasses
from dataclasses import replace
from typing import Any

import pulumi
import pytest

from components import own_state
from components.github import resources
from components.github.resources import Queue, Watch, resource_name
from components.progress import GitHubWrite, Progress
from components.secret import (
    DependabotOrganizationSecret,
    DependabotSecret,
    EnvironmentSecret,
    GitHubSecret,
    OrganizationSecret,
    RepositorySecret,
)

from .test_graph import SECRET, VALUE, concealed, options, run

__all__ = ["options"]

PLACE: dict[str, Any] = {"owner": "o", "repository": "r", "workflow": "publish.yml"}
SELECTS: dict[str, Any] = {"visibility": "selected", "selected": ("r", "s")}
READERS = {"visibility": "selected", "selectedRepositoryIds": [7, 8]}
WATCH = Watch(
    place="GitHub repository o/r", secret="TOKEN", old_credential="every old credential is still alive", queue=Queue()
)


@pytest.mark.parametrize(
    ("place", "name", "kind", "inputs"),
    [
        (RepositorySecret(**PLACE), "r-TOKEN", own_state.ACTIONS_SECRET_TYPE, {"repository": "r"}),
        (
            EnvironmentSecret(**PLACE, environment="e/1"),
            "r-e/1-TOKEN",
            own_state.ENVIRONMENT_SECRET_TYPE,
            {"repository": "r", "environment": "e/1"},
        ),
        (DependabotSecret(**PLACE), "r-TOKEN", own_state.DEPENDABOT_SECRET_TYPE, {"repository": "r"}),
        (OrganizationSecret(**PLACE, **SELECTS), "organization-TOKEN", own_state.ORGANIZATION_SECRET_TYPE, READERS),
        (
            OrganizationSecret(**PLACE, visibility="all"),
            "organization-TOKEN",
            own_state.ORGANIZATION_SECRET_TYPE,
            {"visibility": "all"},
        ),
        (
            DependabotOrganizationSecret(**PLACE, **SELECTS),
            "organization-TOKEN",
            own_state.DEPENDABOT_ORGANIZATION_SECRET_TYPE,
            READERS,
        ),
    ],
)
def test_each_place_has_its_resource(
    options: dict[str, pulumi.ResourceOptions],
    place: GitHubSecret,
    name: str,
    kind: str,
    inputs: dict[str, Any],
) -> None:
    graph = run(replace(SECRET, repositories=(place,)), options, repository_ids={"s": 8, "r": 7})
    assert graph.types[name] == kind
    registered = graph.inputs[name]
    assert concealed(registered.pop("value")) == VALUE
    assert registered == {"secretName": "TOKEN", **inputs}
    assert set(graph.inputs["revocation-TOKEN"]["holdings"]["value"]) == {"Fly app cp", str(place)}


def test_another_name_makes_the_engine_write_again(options: dict[str, pulumi.ResourceOptions]) -> None:
    place = RepositorySecret(**PLACE)
    secret = replace(SECRET, repositories=(place,))
    for before, again, name in (
        (0, True, "r-TOKEN-again-1"),
        (1, True, "r-TOKEN-again-2"),
        (2, False, "r-TOKEN-again-2"),
    ):
        progress = Progress(current=3, github_writes={"r": GitHubWrite(again=before)})
        graph = run(secret, options, progress=progress, writes_again=(place,) if again else ())
        assert [each for each, kind in graph.types.items() if kind == own_state.ACTIONS_SECRET_TYPE] == [name]
    assert resource_name(place, "TOKEN", again=0) == "r-TOKEN", "the state of every stack has it"


@pytest.mark.parametrize(
    ("said", "expected", "state"),
    [
        (
            "PUT https://h/x: 401 Bad credentials []",
            "export GITHUB_TOKEN with a token that GitHub accepts",
            "the one before",
        ),
        (
            "PUT https://h/x: 403 Resource not accessible []",
            "that may write the secrets of GitHub repository o/r",
            "the one before",
        ),
        ("GET https://h/public-key: 404 Not Found []", "still there", "the one before"),
        ("PUT https://h/x: 422 Secret value is too large []", "name, size or visibility", "the one before"),
        ("PUT https://h/x: 429 []", "rate limit is over", "the one before"),
        ("PUT https://h/x: 502 []", "until GitHub works again", "has it or the one before"),
        ('Put "https://h:4010/x": EOF', "until GitHub works again", "has it or the one before"),
        ("", "until GitHub works again", "has it or the one before"),
    ],
)
def test_what_to_do_after_a_write_that_failed(said: str, expected: str, state: str) -> None:
    error = WATCH.error(f"1 error occurred:\n\t* {said}\n\n")
    assert expected in error.next_step
    assert "`pulumi up`" in error.next_step
    assert f"GitHub repository o/r {state};" in error.state
    assert "every old credential is still alive, and nothing was revoked" in error.state
    assert said in error.happened or not said


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the engine is given to show."""
    shown: list[tuple[str, str]] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda text: shown.append(("warning", text)))
    monkeypatch.setattr(pulumi.log, "error", lambda text: shown.append(("error", text)))
    return shown


NOTHING: Any = None


def test_only_a_write_that_is_not_answered_is_spoken_of(logged: list[tuple[str, str]]) -> None:
    async def one_write(*, takes: float, fails: bool) -> None:
        watch = dataclasses.replace(WATCH, queue=Queue(), patience=0.05)
        await watch.begins(NOTHING)
        await asyncio.sleep(takes)
        if fails:
            arguments = pulumi.ErrorHookArgs(
                "urn", "", "n", "t", errors=["PUT https://h/x: 401 no", "PUT https://h/x: 500 no"]
            )
            assert await watch.fails(arguments) is False, "the engine does not try again: pulumi-github has"
        else:
            await watch.ends(NOTHING)
        await asyncio.sleep(0.2)

    asyncio.run(one_write(takes=0, fails=False))
    assert logged == []
    asyncio.run(one_write(takes=0.2, fails=False))
    ((kind, text),) = logged
    assert kind == "warning"
    assert "Ctrl-C twice, then `pulumi up`" in text
    logged.clear()
    asyncio.run(one_write(takes=0, fails=True))
    ((kind, text),) = logged
    assert (kind, "401" in text, "500" in text) == ("error", True, False), "the last one counts"


# The queue


class Writes:
    """What happened, in order, when so many writes were begun together."""

    def __init__(self, patience: float = 60.0) -> None:
        self.log: list[str] = []
        self.under_way: set[int] = set()
        self.most = 0
        self.failing: set[int] = set()
        self.silent: set[int] = set()
        self._queue = Queue(patience)

    async def write(self, number: int) -> None:
        """One write, which takes a moment."""
        watch = dataclasses.replace(WATCH, queue=self._queue)
        await watch.begins(NOTHING)
        self.log.append(f"begin {number}")
        self.under_way.add(number)
        self.most = max(self.most, len(self.under_way))
        await asyncio.sleep(0.01)
        self.log.append(f"end {number}")
        if number in self.failing:
            await watch.fails(pulumi.ErrorHookArgs("urn", "", "n", "t", errors=["PUT https://h/x: 403 no"]))
        elif number not in self.silent:
            await watch.ends(NOTHING)
        if number not in self.silent:
            self.under_way.remove(number)

    def all(self, count: int) -> None:
        """Writes that the engine begins together."""

        async def run() -> None:
            await asyncio.wait_for(asyncio.gather(*(self.write(number) for number in range(count))), 10)

        asyncio.run(run())
        assert sorted(self.log) == sorted(f"{what} {number}" for number in range(count) for what in ("begin", "end"))

    @property
    def begun(self) -> list[int]:
        """In which order."""
        return [int(line.split()[1]) for line in self.log if line.startswith("begin")]


def test_few_writes_are_under_way_at_once_in_the_order_in_which_they_come(logged: list[tuple[str, str]]) -> None:
    writes = Writes()
    writes.all(50)
    assert writes.most == resources.AT_ONCE
    assert writes.begun == [*range(50)]
    assert writes.log.index("end 0") < writes.log.index(f"begin {resources.AT_ONCE}")
    assert logged == []


def test_a_write_that_fails_lets_the_next_one_begin(logged: list[tuple[str, str]]) -> None:
    writes = Writes()
    writes.failing = {*range(0, 50, 3)}
    writes.all(50)
    assert writes.begun == [*range(50)]
    assert len(logged) == len(writes.failing)


def test_writes_that_never_end_hold_the_others_up_no_longer_than_an_operator_would_wait() -> None:
    writes = Writes(patience=0.1)
    writes.silent = {*range(resources.AT_ONCE)}
    writes.all(20)
    assert writes.begun[: resources.AT_ONCE] == [*range(resources.AT_ONCE)]


def test_a_long_queue_is_no_reason_to_give_up_waiting() -> None:
    """Each of them takes a moment, all of them together more than the patience."""
    writes = Writes(patience=0.08)
    writes.all(100)
    assert writes.most == resources.AT_ONCE


def test_a_second_write_of_the_same_resource_takes_its_turn() -> None:
    async def run() -> None:
        queue = Queue()
        watches = [dataclasses.replace(WATCH, queue=queue) for _ in range(resources.AT_ONCE)]
        for watch in watches:
            await watch.begins(NOTHING)
        again = asyncio.create_task(watches[-1].begins(NOTHING))
        await asyncio.sleep(0.02)
        assert not again.done()
        await watches[0].ends(NOTHING)
        await asyncio.wait_for(again, 5)

    asyncio.run(run())


def test_the_operator_waits_for_a_minute() -> None:
    assert resources.PATIENCE == 60
    assert "for 60 s" in WATCH.no_answer
