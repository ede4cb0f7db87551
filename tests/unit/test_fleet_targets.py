"""Is nothing bumped twice, and nothing left unfinished, whatever config, state and an earlier run say?"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from components.errors import RefusedError
from components.keyring import Credential
from components.progress import Progress
from tools.fleet import record
from tools.fleet.record import Record, Run
from tools.fleet.targets import Target, target

SECRET = "FLY_API_TOKEN"


def credential(generation: int) -> Credential:
    return Credential(
        generation=generation, credential_id=f"t{generation}", name=f"g{generation}", value="", created_at=""
    )


def progress(verified: int, *, current: int | None = None, newest: int | None = None, revoked: bool = True) -> Progress:
    current = verified if current is None else current
    return Progress(
        current=current,
        verified=verified,
        verified_at="then" if verified else "",
        keyring=tuple(credential(each) for each in {current, newest or current} - {0}),
        has_revocation=verified > 0,
        revoked_for="then" if revoked and verified else "",
    )


def wanted(requested: int, so_far: Progress, *, remembered: int | None = None, to: int | None = None) -> Target:
    return target("prod", SECRET, requested=requested, progress=so_far, remembered=remembered, to=to)


@pytest.mark.parametrize(
    ("requested", "so_far", "remembered", "generation", "settled"),
    [
        (2, progress(2), None, 3, False),  # the usual case: the next one
        (1, Progress(), None, 1, False),  # nothing is deployed: what the config asks for
        (3, progress(2), None, 3, False),  # bumped by hand: finished, not bumped once more
        (3, progress(2, current=3), None, 3, False),  # minted, not verified: finished
        (3, progress(3, revoked=False), None, 3, False),  # verified, not revoked: finished
        (2, progress(2, newest=3), None, 4, False),  # 3 was given up, and is not taken again
        (2, progress(2), 3, 3, False),  # an earlier run wanted it, and was cut off before the bump
        (3, progress(2, current=3), 3, 3, False),  # … and after the bump
        (3, progress(3), 3, 3, True),  # … and has it: not bumped again
        (4, progress(4), 3, 4, True),  # somebody went further by hand meanwhile
    ],
)
def test_what_a_stack_is_to_have(
    requested: int, so_far: Progress, remembered: int | None, generation: int, *, settled: bool
) -> None:
    found = wanted(requested, so_far, remembered=remembered)
    assert (found.generation, found.settled) == (generation, settled)
    assert found.bumps == (generation != requested)


def test_a_generation_that_is_asked_for() -> None:
    assert wanted(2, progress(2), to=5).generation == 5
    assert wanted(3, progress(2, current=3), to=2).generation == 2, "going back, which the program decides about"
    assert wanted(2, progress(2), to=2).settled
    assert wanted(2, progress(2), to=3, remembered=4).generation == 3


def test_a_config_that_is_older_than_the_state() -> None:
    with pytest.raises(RefusedError) as refused:
        wanted(1, progress(2), to=3)
    assert "asks for generation 1 of FLY_API_TOKEN, and generation 2 is verified" in refused.value.happened
    assert "git pull" in refused.value.next_step


STAGING, PRODUCTION = ("staging", SECRET), ("production", SECRET)


def test_a_run_is_remembered_until_all_of_it_is_verified(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    begun = Record().wanting({STAGING: 2, PRODUCTION: 7}, now="monday")
    record.save(tmp_path, begun)
    assert record.load(tmp_path) == begun
    half = begun.with_verified([STAGING])
    record.save(tmp_path, half)
    again = record.load(tmp_path)
    assert again == half
    assert (again.generation(STAGING), again.generation(PRODUCTION)) == (2, 7), "neither is bumped once more"
    assert again.started([PRODUCTION]) == "monday"
    record.save(tmp_path, again.with_verified([PRODUCTION]))
    assert not (tmp_path / record.FILE).exists(), "and gone"
    assert record.load(tmp_path) == Record()


def test_the_same_command_joins_the_run_that_it_goes_on_with() -> None:
    canary = ("canary", SECRET)
    begun = Record().wanting({STAGING: 2, PRODUCTION: 7}, now="monday").with_verified([STAGING])
    joined = begun.wanting({STAGING: 2, PRODUCTION: 7, canary: 4}, now="tuesday")
    assert [run.started_at for run in joined.runs] == ["monday"]
    assert joined.generation(canary) == 4


def test_other_secrets_are_another_run() -> None:
    other = ("staging", "NEON_API_KEY")
    both = Record().wanting({STAGING: 2}, now="monday").wanting({other: 3}, now="tuesday")
    assert [run.started_at for run in both.runs] == ["monday", "tuesday"]
    assert both.with_verified([STAGING]).runs == (Run(started_at="tuesday", targets={other: 3}),)
    assert both.without([other]).runs == (Run(started_at="monday", targets={STAGING: 2}),)


def test_a_pair_stands_in_one_run_only() -> None:
    runs = Record().wanting({STAGING: 2}, now="monday").wanting({PRODUCTION: 3}, now="tuesday")
    joined = runs.wanting({STAGING: 4, PRODUCTION: 5}, now="wednesday")
    assert joined.runs == (Run(started_at="monday", targets={STAGING: 4, PRODUCTION: 5}),)


@pytest.mark.parametrize("text", ["", "[]", '{"runs": [{}]}', '{"runs": [{"started_at": "x", "targets": {"a": 1}}]}'])
def test_a_record_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / record.FILE).write_text(text)
    with pytest.raises(RefusedError, match=r"fleet.json cannot be read"):
        record.load(tmp_path)


def test_the_record_has_names_and_numbers_only(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    record.save(tmp_path, Record().wanting({STAGING: 2, PRODUCTION: 7}, now="monday").with_verified([STAGING]))
    assert json.loads((tmp_path / record.FILE).read_text()) == {
        "runs": [
            {
                "started_at": "monday",
                "targets": {"production": {SECRET: 7}, "staging": {SECRET: 2}},
                "verified": {"staging": [SECRET]},
            }
        ]
    }
    assert sorted(each.name for each in (tmp_path / "stacks").iterdir()) == ["fleet.json"]


def test_a_run_keeps_its_name() -> None:
    run = Run(started_at="monday", targets={STAGING: 2})
    assert Record(runs=(run,)).wanting({STAGING: 3}, now="tuesday").runs == (replace(run, targets={STAGING: 3}),)
