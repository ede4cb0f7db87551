"""The tables of the benchmarks: ratios from figures of which it is known what they mean, and what is written beside them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tools.bench import tables, tenants, written
from tools.bench.critical_path import Batch, Chain, Step
from tools.bench.fleet import Ran
from tools.bench.growth import Cell, Grown, pace_of
from tools.bench.growth import cell as cell_of
from tools.bench.parameters import Parameters
from tools.bench.processes import CHECKS, ENGINE, OTHERS, PROGRAM, PROVIDER, kind
from tools.bench.tables import Sheet

START = datetime(2026, 11, 26, tzinfo=UTC)


def cell(sheet: Sheet, heading: str, row: int = 0) -> str:
    return sheet.rows[row][sheet.headings.index(heading)]


def grown() -> Grown:
    return Grown(
        resources=53,
        up=60.0,
        floor=10.0,
        chain=Chain(secret="S", steps=(Step(what="mint", seconds=5.0), Step(what="write", seconds=25.0))),
        restarts=8,
        requests=250,
        preview=(6.0, 4.0),
        memory={ENGINE: 200_000_000, PROVIDER: 60_000_000, PROGRAM: 80_000_000},
        processors={ENGINE: 3.0, CHECKS: 7.5},
        state=1_500_000,
    )


def ran(seconds: float) -> Ran:
    return Ran(status=0, output="said", outcome={}, seconds=seconds, own=30_000_000, together=900_000_000, one=4e8)


def batch(began: float, ended: float, machines: int) -> Batch:
    names = tuple(str(number) for number in range(machines))
    return Batch(machines=names, began=START + timedelta(seconds=began), ended=START + timedelta(seconds=ended))


def test_a_cell_has_a_secret_for_every_app() -> None:
    assert cell_of("50x10") == Cell(secrets=50, places=10)
    for wrong in ("10x50", "10x0", "10", "x", "tenx1"):
        with pytest.raises(ValueError):  # noqa: PT011 - for argparse, which says what was wrong
            cell_of(wrong)


def test_only_who_writes_more_than_github_takes_in_a_minute_has_to_wait() -> None:
    assert pace_of(Cell(secrets=80, places=1)) == 0
    assert pace_of(Cell(secrets=81, places=1)) == 0.75


def test_an_update_is_compared_with_path_and_floor_together_and_costs_are_shared_out() -> None:
    time, work, processors = tables.of_secrets({Cell(secrets=10, places=2): grown()})
    assert cell(time, "per secret") == "5.30"
    assert cell(time, "critical path") == "30.0 s"
    assert cell(time, "up ÷ (path + floor)") == "1.50"
    assert cell(time, "preview ÷ floor") == "1.50"
    assert cell(work, "per secret") == "25.0"
    assert cell(work, "engine, peak memory") == "200 MB"
    assert cell(work, "state") == "1.50 MB"
    assert (cell(processors, CHECKS), cell(processors, OTHERS)) == ("7.5 s", "0.0 s")
    assert all(len(row) == len(sheet.headings) for sheet in (time, work, processors) for row in sheet.rows)


def test_a_batch_of_tenants_has_what_lies_between_it_and_the_next_one() -> None:
    few = tenants.moved(30.0, [batch(0, 5, 1), batch(7, 14, 9)], requests=100, memory={})
    many = tenants.moved(90.0, [batch(0, 5, 1), batch(7, 14, 30), batch(16, 42, 30)], requests=900, memory={})
    assert (few.rollout, few.batches, few.largest, few.of_a_batch) == (14, 2, 9, 7)
    sheet = tables.of_tenants({10: few, 1000: many}, compared_with=10)
    assert cell(sheet, "of that of 10", 1) == "2.00"
    assert cell(sheet, "per tenant", 1) == "0.9"
    assert "of that of 10" in tables.of_tenants({10: few}).headings  # nothing to compare with but itself


@pytest.mark.parametrize(
    ("cores", "parallel", "expected"),
    [(2, 4, "1.20"), (8, 4, "2.40"), (8, 1, "0.60")],
    ids=["cores are scarce", "engines at once are scarce", "one at a time"],
)
def test_a_stack_of_many_costs_per_core_what_its_share_of_the_cores_took(
    cores: int, parallel: int, expected: str
) -> None:
    sheet = tables.of_fleet({1: ran(50), 10: ran(300)}, parallel=parallel, cores=cores)
    assert cell(sheet, "a stack, per core") == "50.0 s"
    assert cell(sheet, "of that of 1", 1) == expected


def test_processes_are_told_apart_by_what_they_run() -> None:
    assert kind("pulumi", ["pulumi", "up"]) == ENGINE
    assert kind("python", ["/x/.venv/bin/python", "-u", "-m", "pulumi.dynamic", "127.0.0.1:1"]) == PROVIDER
    assert kind("python3", ["python3", "/cache/bin/pulumi-language-python-exec", "--monitor"]) == PROGRAM
    assert kind("python", ["python", "-m", "components.verification.fly_app"]) == CHECKS
    assert kind("sh", ["/bin/sh", "-c", "exec python -m components.verification.fly_app"]) == OTHERS
    assert kind("pulumi-resource-command", ["pulumi-resource-command"]) == OTHERS


def test_what_is_written_says_where_it_comes_from_and_has_every_figure(tmp_path: Path) -> None:
    few = tenants.moved(30.0, [batch(0, 5, 1)], requests=100, memory={})
    about = f"today, commit 1234. {Parameters().about()}"
    written.growth(tmp_path, {Cell(secrets=10, places=2): grown()}, {10: few}, about)
    written.fleet(tmp_path, {1: ran(50), 10: ran(300)}, about, parallel=4)
    figures = json.loads((tmp_path / "growth.json").read_text())
    assert figures["secrets"][0]["places"] == 2
    assert figures["secrets"][0]["chain"]["steps"][1]["seconds"] == 25.0
    assert figures["tenants"][0]["batches"] == 1
    assert [each["stacks"] for each in json.loads((tmp_path / "fleet.json").read_text())["stacks"]] == [1, 10]
    for name, bars in (("growth", "critical path: 30.0 s"), ("fleet", "seconds: 30.0 s")):
        text = (tmp_path / f"{name}.md").read_text()
        assert f"python -m tools.bench {name} --write" in text
        assert about in text
        assert bars in (tmp_path / f"{name}.svg").read_text()
    assert "| 10 | 2 | 53 | 5.30 |" in (tmp_path / "growth.md").read_text()


def test_a_pipe_in_a_cell_does_not_end_it() -> None:
    assert "a&#124;b" in Sheet(title="t", headings=("h",), rows=(("a|b",),)).markdown
