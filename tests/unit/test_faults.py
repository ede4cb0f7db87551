"""Which requests of a rotation are disturbed, in which ways, and what is said of what came of it?"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tools.faults import document
from tools.faults.kinds import KINDS, Blow
from tools.faults.plan import cells, sample
from tools.faults.recording import Position, positions, requests
from tools.faults.trial import Outcome, Result, alarms, differences, holdings, shape

START = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
MACHINE = "/v1/apps/{app}/machines/{machine}"


def log(*made: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Requests: seconds, provider, method, target, template, and a consumer where there is one."""
    return [
        {
            "number": number,
            "at": (START + timedelta(seconds=seconds)).isoformat(),
            "provider": provider,
            "method": method,
            "target": target,
            "template": template,
            "consumer": consumer[0] if consumer else None,
        }
        for number, (seconds, provider, method, target, template, *consumer) in enumerate(made)
    ]


ROTATION = log(
    (0.0, "fly", "GET", "/v1/apps/cp/machines", "/v1/apps/{app}/machines"),
    (0.1, "fly", "POST", "/graphql app", "/graphql app"),
    (0.9, "fly", "POST", "/graphql app", "/graphql app"),
    (0.95, "fly", "POST", "/graphql app", "/graphql app"),
    (1.0, "fly", "POST", "/graphql createLimitedAccessToken", "/graphql createLimitedAccessToken"),
    (1.1, "fly", "GET", "/v1/apps/cp/machines/1", MACHINE),
    (1.2, "fly", "POST", "/v1/apps/cp/machines/1", MACHINE),
    (1.3, "fly", "GET", "/v1/apps/cp/machines/1", MACHINE),
    (2.3, "fly", "GET", "/v1/apps/cp/machines/1", MACHINE),
    (2.4, "fly", "POST", "/v1/apps/cp/machines/2", MACHINE),
    (2.5, "fly", "POST", "/v1/apps/tenants/machines", "/v1/apps/{app}/machines", "cp/1"),
    (
        2.6,
        "github",
        "GET",
        "/api/v3/repos/o/r/actions/secrets/N",
        "/repos/{owner}/{repo}/actions/secrets/{secret_name}",
    ),
    (2.7, "github", "GET", "/repos/o/r/actions/secrets/N", "/repos/{owner}/{repo}/actions/secrets/{secret_name}"),
)


def found() -> list[Position]:
    return positions(requests(ROTATION))


def test_rows_are_what_the_program_asks_for_once_between_two_writes() -> None:
    assert [each.title for each in found()] == [
        "fly GET /v1/apps/cp/machines",
        "fly POST /graphql app #1",
        "fly POST /graphql app #2",
        "fly POST /graphql createLimitedAccessToken",
        "fly GET /v1/apps/cp/machines/{machine} #1",
        "fly POST /v1/apps/cp/machines/{machine} #1",
        "fly GET /v1/apps/cp/machines/{machine} #2",
        "fly POST /v1/apps/cp/machines/{machine} #2",
        "github GET /api/v3/repos/o/r/actions/secrets/N",
        "github GET /repos/o/r/actions/secrets/N",
    ]


def test_what_is_read_before_the_longest_pause_before_the_first_write_belongs_to_the_plan() -> None:
    assert [each.title for each in found() if each.before_minting] == [
        "fly GET /v1/apps/cp/machines",
        "fly POST /graphql app #1",
    ]


def test_queries_of_graphql_are_reads() -> None:
    assert {each.label for each in found() if each.writes} == {
        "fly POST /graphql createLimitedAccessToken",
        "fly POST /v1/apps/cp/machines/{machine}",
    }


def test_patterns_match_the_same_requests_in_another_sandbox_and_no_others() -> None:
    by_title = {each.title: each.pattern for each in found()}
    assert by_title["fly POST /v1/apps/cp/machines/{machine} #1"] == "^/v1/apps/cp/machines/[^/ ]+$"
    assert by_title["github GET /api/v3/repos/o/r/actions/secrets/N"] == "^/api/v3/repos/o/r/actions/secrets/N$"


def test_nothing_recorded_is_nothing_to_disturb() -> None:
    assert positions([]) == []


def test_every_request_meets_every_fault_that_makes_sense_for_it() -> None:
    all_cells = cells(found())
    writes = [each for each in found() if each.writes]
    for kind in KINDS:
        hit = [cell.position for cell in all_cells if cell.kind is kind]
        assert len(hit) == (len(writes) if kind.writes_only else len(found()))
    assert not any(cell.kind.blow is not Blow.NONE and cell.position.before_minting for cell in all_cells)
    assert all_cells[0].position.writes
    assert all_cells[0].kind is KINDS[0]


def test_a_seed_is_a_sample() -> None:
    all_cells = cells(found())
    assert sample(all_cells, 5, seed=7) == sample(all_cells, 5, seed=7)
    assert sample(all_cells, 5, seed=7) != sample(all_cells, 5, seed=8)
    assert len(sample(all_cells, 10_000, seed=7)) == len(all_cells)


def test_names_of_faults_are_unique() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def world(**changes: object) -> dict[str, Any]:
    machine = {"id": "1", "healthy": True, "env_sha256": {"NAME": "aa"}}
    return {
        "credentials": [{"family": "family", "live": True}, {"family": "family", "live": False}],
        "fly": {"apps": {"molecule-cp": {"machines": [machine], "secrets": {"NAME": {"sha256": "aa"}}}}},
        "github": {"repositories": {"o/r": {"secrets": {"NAME": {"sha256": "bb"}}, "runs": [{"status": "completed"}]}}},
        "neon": {"branches": [1]},
        "control_plane": {"orgs": 0},
        "postgres": {"roles": ["owner"]},
        "violations": [],
        "breakages": [],
        **changes,
    }


def test_a_world_that_is_as_before_shows_no_difference() -> None:
    assert differences(shape(world()), shape(world())) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"control_plane": {"orgs": 1}}, "orgs: 1, not 0"),
        ({"neon": {"branches": [1, 2]}}, "branches at Neon: 2, not 1"),
        ({"credentials": []}, "live credentials: {}, not {'family': 1}"),
    ],
)
def test_what_is_left_behind_is_said(changes: dict[str, Any], said: str) -> None:
    assert differences(shape(world()), shape(world(**changes))) == [said]


def test_every_place_is_asked_what_it_holds() -> None:
    assert holdings(world(), "NAME") == {"machine 1": "aa", "Fly": "aa", "o/r": "bb"}


def test_alarms_are_violations_and_breakages() -> None:
    noticed = world(
        violations=[{"invariant": "held", "what": "this"}], breakages=[{"consumer": "machine", "what": "that"}]
    )
    assert alarms(noticed) == ["held: this", "breakage of machine: that"]


def result(row: str, kind: str, outcome: Outcome, **more: object) -> Result:
    plain = Result(secret="FLY_API_TOKEN", row=row, kind=kind, outcome=outcome, revision="abc", date="2026-11-26")
    return Result(**{**vars(plain), **more})


def test_a_result_survives_its_line() -> None:
    made = result("row", "500", Outcome.NEXT_UP, seconds=1.5)
    assert Result.of(made.line()) == made


def test_the_document_has_a_mark_for_every_cell_and_names_what_is_broken() -> None:
    written = document.write(
        [
            result("row 1", "500", Outcome.BROKEN, broken="an earlier try"),
            result("row 1", "500", Outcome.NEXT_UP),
            result("row 1", "timeout", Outcome.ABSORBED),
            result("row 2", "timeout", Outcome.BROKEN, broken="held: something", traceback=True),
            result("row 2", "500", Outcome.HUNG, advised=False),
        ],
        whole={"FLY_API_TOKEN": 860},
    )
    assert "| request | timeout | 500 |" in written
    assert "| row 1 | · | u |" in written
    assert "| row 2 | **X** | h |" in written
    assert "- **FLY_API_TOKEN, row 2, timeout**: held: something" in written
    assert "an earlier try" not in written
    assert "4 of the 860 cells of this secret were run: 1 absorbed, 1 next up, 1 hung, 1 BROKEN." in written
    assert "abc (4 cells)" in written
    assert "Had to be ended by Ctrl-C, 1 cells" in written


def test_a_run_without_trouble_says_so() -> None:
    assert "\nNothing.\n" in document.write([result("row", "500", Outcome.NEXT_UP)], whole={})
