"""Which requests of a rotation are disturbed, in which ways, and what is said of what came of it?"""

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tools.faults import document
from tools.faults.kinds import KINDS, Blow
from tools.faults.plan import COMPANY, Cell, cells, company, cover, sample
from tools.faults.recording import Phase, Position, positions, requests
from tools.faults.results import Results
from tools.faults.scenarios import SCENARIOS, SECRETS, Step
from tools.faults.snapshots import ports
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


def test_a_rotation_has_four_phases() -> None:
    delivered = log(
        *(
            (0.1 * number, *row)
            for number, row in enumerate(
                [
                    ("neon", "GET", "/plan", "/plan"),
                    ("neon", "GET", "/plan", "/plan"),
                ]
            )
        ),
        (5.0, "neon", "POST", "/keys", "/keys"),
        (6.0, "fly", "POST", "/v1/apps/cp/secrets", "/v1/apps/{app}/secrets"),
        (6.1, "fly", "POST", "/v1/apps/cp/machines/1/lease", "/v1/apps/{app}/machines/{machine}/lease"),
        (6.2, "fly", "POST", "/v1/apps/cp/machines/1", MACHINE),
        (6.3, "fly", "GET", "/v1/apps/cp/machines/1", MACHINE),
        (6.4, "neon", "DELETE", "/keys/1", "/keys/{key}"),
    )
    assert [str(each.phase) for each in positions(requests(delivered))] == [
        "plan",
        "mint",
        "deliver",
        "deliver",
        "deliver",
        "prove",
        "prove",
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
        begins = (
            2 if kind.blow is not Blow.NONE else 0
        )  # what is read first after the mint, and after the last delivery
        assert len(hit) == (len(writes) + begins if kind.writes_only else len(found()))
    assert not any(cell.kind.blow is not Blow.NONE and cell.position.before_minting for cell in all_cells)
    assert all_cells[0].position.writes
    assert all_cells[0].kind is KINDS[0]


def test_a_seed_is_a_sample() -> None:
    all_cells = cells(found())
    assert sample(all_cells, 5, seed=7) == sample(all_cells, 5, seed=7)
    assert sample(all_cells, 5, seed=7) != sample(all_cells, 5, seed=8)
    assert len(sample(all_cells, 10_000, seed=7)) == len(all_cells)


def test_every_sort_comes_once_before_any_comes_twice() -> None:
    everything = [cell for name in ("a", "b", "c") for cell in cells(found(), scenario=name)]
    ordered = cover(everything, seed=7)
    sorts = {cell.sort for cell in everything}
    assert Counter(map(repr, ordered)) == Counter(map(repr, everything))
    assert {cell.sort for cell in ordered[: len(sorts)]} == sorts
    assert cover(everything, seed=7) == ordered
    assert cover(everything, seed=8) != ordered


def test_a_sort_that_was_run_already_waits_for_the_others() -> None:
    everything = cells(found())
    done = {cell.sort for cell in everything if cell.kind.name == "500"}
    rest = {cell.sort for cell in everything} - done
    assert {cell.sort for cell in cover(everything, seed=1, covered=done)[: len(rest)]} == rest


def cell(label: str, kind: str = "500", scenario: str = "a", *, writes: bool = True) -> Cell:
    position = Position(
        provider="fly",
        method="GET",
        pattern=label,
        label=label,
        nth=1,
        of=1,
        writes=writes,
        before_minting=False,
        phase=Phase.MINT,
    )
    return Cell(position=position, kind=next(each for each in KINDS if each.name == kind), scenario=scenario)


def test_cells_whose_faults_are_likely_to_be_absorbed_share_a_rotation() -> None:
    absorbed = {
        ("500", "one"): True,
        ("timeout", "two"): True,
        ("500", "never"): False,
        ("500", "doubtful"): True,
        ("503", "doubtful"): False,
        ("401", "odd"): True,
    }
    others = [
        cell("one", "timeout"),  # the same request: the repetition after one fault would shift the other
        cell("two", "503"),  # another fault that is borne by asking again
        cell("two", "timeout", scenario="b"),
        cell("two", "503 lasting"),
        cell("two", "401"),
        cell("never"),
        cell("never", "429"),
        cell("doubtful", "429"),
        cell("doubtful"),
        cell("unknown"),
        cell("read", "timeout", writes=False),
        cell("refused", "403", writes=False),
        cell("odd", "401"),
    ]
    shared = company(cell("one"), others, absorbed)
    assert [(each.position.label, each.kind.name) for each in shared] == [
        ("one", "500"),
        ("two", "503"),
        ("doubtful", "500"),
        ("read", "timeout"),
        ("odd", "401"),
    ]
    assert company(cell("never"), others, absorbed) == [cell("never")]
    assert company(cell("unknown"), others, absorbed) == [cell("unknown")]


def test_a_rotation_is_not_shared_by_more_than_can_be_told_apart() -> None:
    many = [cell(str(number)) for number in range(2 * COMPANY)]
    assert len(company(many[0], many[1:], {("500", str(number)): True for number in range(2 * COMPANY)})) == COMPANY


def test_whoever_kills_shares_a_rotation_with_nobody() -> None:
    absorbed = {("kill-engine", "one"): True, ("500", "two"): True}
    assert company(cell("one", "kill-engine"), [cell("two")], absorbed) == [cell("one", "kill-engine")]


def test_each_secret_is_rotated_alone_and_deployed_first_and_all_are_at_once() -> None:
    for secret in SECRETS:
        assert SCENARIOS[secret].secrets == SCENARIOS[f"{secret} first"].secrets == (secret,)
    assert SCENARIOS["all at once"].secrets == SCENARIOS["all at once first"].secrets == SECRETS
    assert SCENARIOS["RESEND_API_KEY staged"].steps == (Step.UP, Step.REDEPLOY, Step.UP)
    assert len({each.slug for each in SCENARIOS.values()}) == len(SCENARIOS)


def test_scenarios_have_ports_of_their_own() -> None:
    ranges = [tuple(map(int, ports(each).split("-"))) for each in SCENARIOS.values()]
    assert all(first <= last for first, last in ranges)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ranges))


def test_only_what_a_strategy_announces_is_left_out() -> None:
    reset = SCENARIOS["DATABASE_URL reset"]
    lost = world(
        violations=[
            {"invariant": "works", "what": "DATABASE_URL of machine molecule-cp/1 is refused by PostgreSQL: user x"},
            {"invariant": "works", "what": "NEON_API_KEY of machine molecule-cp/1 is refused by neon: y"},
        ]
    )
    assert len(alarms(lost)) == len(alarms(lost, SCENARIOS["DATABASE_URL"])) == 2
    assert alarms(lost, reset) == ["works: NEON_API_KEY of machine molecule-cp/1 is refused by neon: y"]


def test_results_are_kept_until_they_are_forgotten(tmp_path: Path) -> None:
    results = Results(tmp_path)
    made = result("row", "500", Outcome.ABSORBED, together=3)
    assert results.read() == []
    results.add(made)
    results.note_rows("FLY_API_TOKEN", found())
    results.note_rows("other", found()[:1])
    assert Results(tmp_path).read() == [made]
    assert Results(tmp_path).rows() == {"FLY_API_TOKEN": found(), "other": found()[:1]}
    results.forget()
    assert results.read() == []


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


def test_a_branch_that_was_made_anew_is_no_difference() -> None:
    before, after = (
        shape(world(postgres={"roles": [f"owner-br-{name}"]})) for name in ("late-moon-b94b6d24", "royal-wood-fa536f86")
    )
    assert differences(before, after) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"control_plane": {"orgs": 1}}, "orgs: 1, not 0"),
        ({"neon": {"branches": [1, 2]}}, "branches at Neon: 2, not 1"),
        (
            {"postgres": {"roles": ["owner", "owner-br-late-moon-b94b6d24"]}},
            "roles of PostgreSQL: ['owner', 'owner-br'], not ['owner']",
        ),
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
    row = found()[0]
    written = document.write(
        [
            result("row 1", "500", Outcome.BROKEN, broken="an earlier try"),
            result("row 1", "500", Outcome.NEXT_UP),
            result("row 1", "timeout", Outcome.ABSORBED, together=4),
            result("row 2", "timeout", Outcome.BROKEN, broken="held: something", traceback=True),
            result("row 2", "500", Outcome.HUNG, advised=False),
            result(row.title, "500", Outcome.ABSORBED, revision="def+"),
        ],
        rows={"FLY_API_TOKEN": found(), "DATABASE_URL": found()[:1]},
    )
    whole = len(cells(found()))
    assert "| request | timeout | 500 |" in written
    assert "| row 1 | ∘ | u |" in written
    assert "| row 2 | **X** | h |" in written
    assert "- **FLY_API_TOKEN, row 2, timeout**: held: something" in written
    assert "an earlier try" not in written
    assert (
        f"| FLY_API_TOKEN | that secret alone, with the defaults | 5 of {whole} | 2 | 1 | 0 | 0 | 1 | 0 | **1** |"
        in written
    )
    assert f"| DATABASE_URL | that secret alone, with the defaults | 0 of {len(cells(found()[:1]))} |" in written
    assert "not recorded" in written
    assert f"{len(found()) - 1} of its {len(found())} requests have met no fault yet." in written
    assert f"Of {len({each.sort for each in cells(found())})} sorts 1 was run" in written
    assert "abc (4 cells), def+ (1 cell)" in written
    assert "Had to be ended by Ctrl-C, 1 cell: " in written


def test_a_run_without_trouble_says_so() -> None:
    assert "\nNothing.\n" in document.write([result("row", "500", Outcome.NEXT_UP)], rows={})
