"""Is a family ended only once nobody holds it, wholly, and does a run that was cut off at any call go on with the next?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import decommission as module
from components.decommission import Order, Outcome, Tenants, decommission, doomed, holding
from components.errors import OperatorError
from components.fly.client import FlyClient, Machine
from components.github.client import GitHubClient, WorkflowRun
from components.http import ApiError
from components.keyring import Credential
from components.secret import Family

from .fake_issuer import FakeIssuer, Watched
from .wire import Clock

FAMILY = Family(app="cp", stack="prod", secret="TOKEN", longest_name=255)
TENANTS = Tenants(app="tenant", variable="REDIS_URL")


def name(generation: int) -> str:
    return FAMILY.credential_name(generation)


def known(*generations: int, value: str | None = None) -> tuple[Credential, ...]:
    return tuple(
        Credential(
            generation=each,
            credential_id=f"t{each}",
            name=name(each),
            value=f"value of t{each}" if value is None else value,
            created_at="2026-11-23T12:00:00Z",
        )
        for each in generations
    )


def machine(**environment: str) -> Machine:
    return Machine(
        machine_id="m1", state="started", instance_id="v", region="ams", host_status="ok", config={"env": environment}
    )


def run(number: int) -> WorkflowRun:
    return WorkflowRun(
        run_id=number, status="in_progress", conclusion="", created_at=datetime(2026, 1, 1, tzinfo=UTC), url="https://u"
    )


@dataclass
class Places:
    """Fly and GitHub, beside an issuer. `again`: an earlier run has revoked something already."""

    issuer: FakeIssuer
    machines: list[Machine] = field(default_factory=list)
    runs: list[Sequence[int]] = field(default_factory=list)
    fails: ApiError | None = None
    deleted: list[str] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    again: bool = False

    def list_machines(self, app: str) -> list[Machine]:
        """Those of tenants."""
        assert app == "tenant"
        return self.machines

    def delete_secret(self, secrets_path: str, secret: str) -> None:
        """Deletes it, or fails."""
        assert self.again or self.issuer.revoked == [], "locations come first"
        if self.fails is not None:
            raise self.fails
        self.deleted.append(f"{secrets_path} {secret}")

    def unfinished_runs(self, repository: str) -> list[WorkflowRun]:
        """One listing after the other."""
        assert self.deleted, f"a run of {repository} could still start with it"
        return [run(each) for each in (self.runs.pop(0) if self.runs else ())]


def order(**changed: Any) -> Order:  # noqa: ANN401 - fields
    plain = Order(
        family=FAMILY, apps={"cp": True}, repositories=("o/r",), known=known(1), proof_timeout=30, ci_timeout=60
    )
    return replace(plain, **changed)


def end(
    issuer: FakeIssuer, it: Order | None = None, places: Places | None = None, *, issuers: Sequence[FakeIssuer] = ()
) -> Outcome:
    at = places or Places(issuer)
    return decommission(
        [issuer, *issuers],
        it or order(),
        fly=lambda: cast("FlyClient", at),
        github=lambda: cast("GitHubClient", at),
        report=at.reported.append,
        sleep=Clock().sleep,
    )


def seeded(*generations: int, dead: Sequence[int] = (), kind: type[FakeIssuer] = FakeIssuer) -> FakeIssuer:
    issuer = kind()
    for each in (*generations, *dead):
        issuer.seed(f"t{each}", name(each), live=each not in dead)
    issuer.seed("hand", "made by hand")
    issuer.seed("longer", name(1) + "-of-somebody")
    return issuer


def test_the_whole_family_dies_and_nothing_else() -> None:
    issuer = seeded(1, 2, 3)
    outcome = end(issuer)
    assert [each.name for each in outcome.revoked] == [name(1), name(2), name(3)]
    assert outcome.alive == ()
    assert sorted(issuer.alive) == ["hand", "longer"]


def test_it_is_deleted_at_every_place_at_github_before_anything_is_revoked() -> None:
    issuer = seeded(1)
    places = Places(issuer)
    at = ("/repos/o/r/environments/prod/secrets", "/orgs/o/dependabot/secrets")
    end(issuer, order(places=at), places)
    assert places.deleted == [f"{each} {FAMILY.secret}" for each in at]
    # An older version of this program named repositories alone.
    plain = Places(issuer, again=True)
    end(issuer, order(), plain)
    assert plain.deleted == [f"/repos/o/r/actions/secrets {FAMILY.secret}"]


@pytest.mark.parametrize(
    ("apps", "named"), [({"cp": False}, "cp"), ({"a": True, "b": False, "c": False}, "b, c")], ids=["one", "some"]
)
def test_nothing_is_revoked_while_an_app_holds_it(apps: Mapping[str, bool], named: str) -> None:
    issuer = seeded(1)
    with pytest.raises(OperatorError, match=f"Fly app {named} still holds it") as failed:
        end(issuer, order(apps=apps))
    assert "every credential is still alive" in failed.value.state
    assert issuer.calls == []


@pytest.mark.parametrize(
    ("environment", "keyring", "holds"),
    [
        ({"REDIS_URL": "value of t1"}, known(1), True),
        ({"REDIS_URL": "one of somebody's own"}, known(1), False),
        ({"REDIS_URL": "whose is this?"}, known(1, value=""), True),
        ({"REDIS_URL": "whose is this?"}, (), True),
        ({"REDIS_URL": "whose is this?"}, (*known(1), *known(2, value="")), True),
        ({"OTHER": "value of t1"}, known(1), False),
        ({}, (), False),
    ],
)
def test_who_holds_it(environment: dict[str, str], keyring: tuple[Credential, ...], holds: bool) -> None:  # noqa: FBT001 - a column
    assert bool(holding([machine(**environment)], "REDIS_URL", keyring)) is holds


def test_nothing_is_revoked_while_a_tenant_holds_it() -> None:
    issuer = seeded(1)
    places = Places(issuer, machines=[machine(REDIS_URL="value of t1")])
    with pytest.raises(OperatorError, match="1 machines of tenant still hold it") as failed:
        end(issuer, order(tenants=TENANTS), places)
    assert "tenants go on with it" in failed.value.state
    assert (issuer.calls, places.deleted) == ([], [])
    places.machines = [machine(REDIS_URL="another")]
    end(issuer, order(tenants=TENANTS), places)
    assert issuer.revoked == ["t1"]


def test_runs_that_may_have_started_with_it_are_waited_for() -> None:
    issuer = seeded(1)
    # The second listing finds one more; 9 starts later and finds no secret.
    places = Places(issuer, runs=[[7], [7, 8], [7, 8, 9], [8, 9], [9], [8, 9], [9], [9]])
    end(issuer, places=places)
    assert places.reported == [
        f"waiting for run {each}, which may have started with TOKEN: https://u" for each in (7, 8)
    ]
    assert places.runs == []
    assert issuer.revoked == ["t1"]


def test_a_run_that_never_ends_holds_the_revocation_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    issuer = seeded(1)
    places = Places(issuer, runs=[[7]] * 1000)
    with pytest.raises(OperatorError, match="run 7 of o/r, which may have started with it, has not finished") as failed:
        decommission(
            [issuer],
            order(),
            fly=lambda: cast("FlyClient", places),
            github=lambda: cast("GitHubClient", places),
            sleep=clock.sleep,
        )
    assert "unset at Fly app cp and at o/r; nothing was revoked" in failed.value.state
    assert issuer.revoked == []


def test_after_a_leak_no_run_is_waited_for() -> None:
    issuer = seeded(1)
    places = Places(issuer, runs=[[7]] * 10)
    end(issuer, order(ci_timeout=None), places)
    assert issuer.revoked == ["t1"]


def test_a_repository_that_cannot_be_written_to_holds_the_revocation_up() -> None:
    issuer = seeded(1)
    refused = ApiError("GitHub", "delete secret TOKEN of o/r", status=403, reason="no")
    with pytest.raises(OperatorError, match="is not decommissioned: GitHub: could not delete") as failed:
        end(issuer, places=Places(issuer, fails=refused))
    assert "Nothing was revoked" in failed.value.state
    assert failed.value.contact
    assert issuer.calls == []


def test_what_only_its_provider_can_end_is_named_as_alive() -> None:
    issuer = seeded(1, 2, kind=Watched)
    issuer.alive.pop("t1")
    issuer.dead["t1"] = name(1)
    outcome = end(issuer, order(known=known(1, 2)))
    assert ([each.name for each in outcome.alive], [each.name for each in outcome.revoked]) == ([name(2)], [name(1)])


def test_what_an_issuer_of_before_has_minted_dies_too() -> None:
    issuer, before = seeded(2), FakeIssuer()
    before.seed("t1", name(1))
    outcome = end(issuer, order(known=known(1, 2)), issuers=[before])
    assert {each.name for each in outcome.revoked} == {name(1), name(2)}
    assert (issuer.revoked, before.revoked) == (["t2"], ["t1"])


def test_what_is_not_listed_yet_dies_too() -> None:
    issuer = seeded(1, 2)
    issuer.stale = [each for each in issuer.issued() if each.credential_id != "t2"]
    outcome = end(issuer, order(known=known(2, 1)))
    assert {each.name for each in outcome.revoked} == {name(1), name(2)}
    assert sorted(issuer.alive) == ["hand", "longer"]
    assert issuer.calls.index("revoke t2") < issuer.calls.index("try t2", issuer.calls.index("revoke t2")), "with proof"


def test_where_no_value_can_be_tried_what_is_not_listed_is_revoked_as_well() -> None:
    issuer = seeded(1, 2)
    issuer.stale = [each for each in issuer.issued() if each.credential_id == "hand"]
    issuer.cannot_be_asked = True
    end(issuer, order(known=known(2, 1)))
    assert sorted(issuer.alive) == ["hand", "longer"]


def test_a_provider_that_revokes_lazily_is_waited_for() -> None:
    issuer = seeded(1)
    issuer.still_accepted = 5
    end(issuer)
    assert issuer.calls.count("try t1") == 6


def test_one_that_never_dies_is_told() -> None:
    issuer = seeded(1)
    issuer.still_accepted = 10**6
    with pytest.raises(OperatorError, match=r"t1 was revoked 0\.01 s ago and is still accepted") as failed:
        end(issuer, order(proof_timeout=0.01))
    assert "nobody holds it any more" in failed.value.state


@given(st.integers(min_value=1, max_value=12), st.booleans(), st.sampled_from([None, 401, 500]))
def test_whatever_call_fails_the_next_run_finishes(at: int, acted: bool, status: int | None) -> None:  # noqa: FBT001 - a column
    issuer = seeded(1, 2, 3)
    issuer.fail_at, issuer.after_acting, issuer.status = at, acted, status
    it = order(known=known(3, 2))
    errors: list[OperatorError] = []
    try:
        end(issuer, it)
    except OperatorError as error:
        errors.append(error)
        end(issuer, it, Places(issuer, again=True))
    assert all("unset everywhere" in each.happened and "value of" not in str(each) for each in errors)
    assert sorted(issuer.alive) == ["hand", "longer"]


def test_condemned_is_the_family_alone() -> None:
    issuer = seeded(1, dead=[2])
    assert [each.credential_id for each in doomed([issuer], FAMILY, ()).condemned] == ["t1"]
