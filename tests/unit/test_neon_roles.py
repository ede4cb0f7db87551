"""Do the passwords of two roles take turns, and is none reset that a consumer may hold?"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import RefusedError
from components.http import ApiError
from components.keyring import Credential, fingerprint
from components.lifecycle import RevocationOrder, make_current, revoke_all_but
from components.neon import roles
from components.neon.client import Branch, NeonClient
from components.neon.roles import RolePasswords, with_password
from components.secret import Family

FAMILY = Family(app="cp", stack="prod", secret="DATABASE_URL", longest_name=255)


@dataclass(frozen=True)
class FakeNeon(NeonClient):
    """One branch with roles in memory. `taken` holds the password that works, by role."""

    key: str = "napi"
    taken: dict[str, str] = field(default_factory=dict)
    resets: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def can_see_project(self, project_id: str) -> bool:
        """There is one."""
        return project_id == "p"

    def branches(self, project_id: str) -> list[Branch]:
        """It has one."""
        del project_id
        return [Branch(branch_id="br-1", name="main", created_at=datetime.now(UTC), default=True)]

    def roles(self, project_id: str, branch_id: str) -> list[str]:
        """Those of that branch."""
        assert (project_id, branch_id) == ("p", "br-1")
        return list(self.taken)

    def create_role(self, project_id: str, branch_id: str, name: str) -> str:
        """Like Neon, unless the answer to a try that was carried out is to be lost."""
        if name in self.taken:
            raise ApiError("Neon", "create", status=409, reason="there is one")
        password = self.reset_role_password(project_id, branch_id, name)
        if name in self.lost:
            self.lost.remove(name)
            raise ApiError("Neon", "create", status=409, reason="the first try was carried out")
        return password

    def reset_role_password(self, project_id: str, branch_id: str, name: str) -> str:
        """The one before is over."""
        assert (project_id, branch_id) == ("p", "br-1")
        self.resets.append(name)
        self.taken[name] = f"p/{next(self.numbers)}@:"
        return self.taken[name]

    def connection_uri(self, project_id: str, *, branch: str, database: str, role: str, pooled: bool) -> str:
        """With a stored password, which is not the new one."""
        assert (project_id, branch) == ("p", "br-1")
        host = "ep-1-pooler" if pooled else "ep-1"
        return f"postgresql://{role}:stored@{host}.neon.tech/{database}?sslmode=require"

    def works(self, uri: str) -> bool:
        """What the server says."""
        return any(with_password(uri, role, password) == uri for role, password in self.taken.items())


@pytest.fixture
def neon(monkeypatch: pytest.MonkeyPatch) -> FakeNeon:
    neon = FakeNeon()
    neon.taken["owner"] = "hand-made"
    monkeypatch.setattr(roles, "accepts", neon.works)
    return neon


def issuer(
    neon: FakeNeon, keyring: list[Credential], *, keep_from: int = 0, strategy: str = "alternate"
) -> RolePasswords:
    return RolePasswords(
        client=neon,
        project="p",
        branch="",
        database="neondb",
        pooled=False,
        strategy=strategy,
        role="owner" if strategy == "reset" else "cp",
        keyring=tuple(keyring),
        keep_from=keep_from,
    )


def turn(
    neon: FakeNeon, generation: int, keyring: list[Credential] | None, *, verified: int = 0, strategy: str = "alternate"
) -> tuple[Credential, list[Credential]]:
    it = issuer(neon, keyring or [], keep_from=verified, strategy=strategy)
    return make_current([it], FAMILY, generation, keyring=keyring)


def revoke(neon: FakeNeon, current: Credential, keyring: list[Credential], *, strategy: str = "alternate") -> None:
    order = RevocationOrder(
        family=FAMILY,
        verified=current,
        holdings={"Fly": fingerprint(current.value)},
        subject="s",
        verified_subject="s",
        known=tuple(keyring),
        also=(),
        proof_timeout=1,
    )
    revoke_all_but([issuer(neon, keyring, strategy=strategy)], order, sleep=lambda _seconds: None)


def test_two_roles_take_turns_and_the_old_password_works_until_it_is_revoked(neon: FakeNeon) -> None:
    keyring: list[Credential] | None = None
    before: Credential | None = None
    used = []
    for generation in range(1, 6):
        current, keyring = turn(neon, generation, keyring, verified=generation - 1)
        used.append(current.credential_id.partition("/")[0])
        assert neon.works(current.value)
        assert before is None or neon.works(before.value)
        revoke(neon, current, keyring)
        assert neon.works(current.value)
        assert before is None or not neon.works(before.value)
        before = current
    assert used == ["cp_a", "cp_b", "cp_a", "cp_b", "cp_a"]
    assert neon.taken["owner"] == "hand-made", "a role that is not ours is not touched"


def test_what_is_minted_says_how_to_connect(neon: FakeNeon) -> None:
    current, _ = turn(neon, 1, None)
    assert current.value == "postgresql://cp_a:p%2F0%40%3A@ep-1.neon.tech/neondb?sslmode=require"
    pooled = replace(issuer(neon, []), pooled=True).mint("n")
    assert "@ep-1-pooler." in pooled.value


def test_a_generation_that_was_never_verified_keeps_its_role_while_the_next_is_minted(neon: FakeNeon) -> None:
    first, keyring = turn(neon, 1, None)
    revoke(neon, first, keyring)
    second, keyring = turn(neon, 2, keyring, verified=1)
    third, keyring = turn(neon, 3, keyring, verified=1)
    assert all(neon.works(each.value) for each in (first, second, third))
    again, keyring = turn(neon, 1, keyring, verified=1)
    assert again.value == first.value
    revoke(neon, again, keyring)
    assert neon.works(first.value)
    assert not neon.works(second.value)
    assert not neon.works(third.value)


def test_after_a_lost_state_no_role_is_reset_that_may_be_in_use(neon: FakeNeon) -> None:
    first, _ = turn(neon, 1, None)
    found, keyring = turn(neon, 1, None)
    assert found.credential_id.startswith("cp_b/")
    assert neon.works(first.value)
    revoke(neon, found, keyring)
    assert neon.works(first.value), "the stack does not know it, so it is not of the family"


def test_a_lost_answer_of_a_creation_is_made_good(neon: FakeNeon) -> None:
    neon.lost.append("cp_a")
    current, _ = turn(neon, 1, None)
    assert neon.works(current.value)


def test_reset_has_one_role_whose_old_password_dies_at_once(neon: FakeNeon) -> None:
    first, keyring = turn(neon, 1, None, strategy="reset")
    second, keyring = turn(neon, 2, keyring, verified=1, strategy="reset")
    assert not neon.works(first.value)
    assert neon.works(second.value)
    resets = len(neon.resets)
    revoke(neon, second, keyring, strategy="reset")
    assert (len(neon.resets), neon.works(second.value)) == (resets, True)
    back, _ = turn(neon, 1, keyring, verified=1, strategy="reset")
    assert back.value != first.value
    assert neon.works(back.value), "a dead password does not come back: a new one is made"


def test_the_newest_password_is_the_one_that_lives_whatever_the_clocks_of_two_operators_said(neon: FakeNeon) -> None:
    _, keyring = turn(neon, 1, None, strategy="reset")
    second, keyring = turn(neon, 2, keyring, verified=1, strategy="reset")
    times = ("2026-11-26T11:00:00+00:00", "2026-11-27T12:00:00+00:00")
    keyring = [replace(each, created_at=time) for each, time in zip(keyring, times, strict=True)]
    revoke(neon, keyring[0], keyring, strategy="reset")
    assert neon.works(second.value)


def test_a_role_that_is_not_listed_yet_is_not_made_once_more(neon: FakeNeon, monkeypatch: pytest.MonkeyPatch) -> None:
    first, keyring = turn(neon, 1, None)
    monkeypatch.setattr(FakeNeon, "roles", lambda *_: [])
    second, _ = turn(neon, 2, keyring)
    assert first.credential_id.partition("/")[0] != second.credential_id.partition("/")[0]
    assert neon.works(first.value)


@given(st.lists(st.sampled_from(["bump", "verify", "back"]), max_size=12))
def test_what_is_verified_works_until_its_successor_is(steps: list[str]) -> None:
    neon = FakeNeon()
    patch = pytest.MonkeyPatch()
    patch.setattr(roles, "accepts", neon.works)
    current, keyring = turn(neon, 1, None)
    verified, newest = 0, 1
    good: Credential | None = None
    for step in steps:
        if step == "bump":
            newest += 1
            current, keyring = turn(neon, newest, keyring, verified=verified)
        elif step == "back" and good is not None:
            current, keyring = turn(neon, verified, keyring, verified=verified)
        elif step == "verify":
            revoke(neon, current, keyring)
            good, verified = current, current.generation
        assert good is None or neon.works(good.value)
        assert neon.works(current.value)
    patch.undo()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"project": "q"}, "no project q"),
        ({"branch": "br-9"}, "no branch br-9"),
        ({"strategy": "reset", "role": "nobody"}, "no role nobody"),
    ],
)
def test_what_stands_in_the_way_is_said(neon: FakeNeon, changed: dict[str, str], said: str) -> None:
    obstacles = replace(issuer(neon, []), **changed).obstacles()  # type: ignore[arg-type]
    assert [type(each) for each in obstacles] == [RefusedError]
    assert said in str(obstacles[0])
    assert issuer(neon, []).obstacles() == []


def test_what_a_strategy_costs_is_said(neon: FakeNeon) -> None:
    reset, alternate = (issuer(neon, [], strategy=each) for each in ("reset", "alternate"))
    assert "cannot reach its database" in reset.outage
    assert reset.warnings() == []
    assert alternate.outage == ""
    first, *others = alternate.warnings()
    assert "drops open connections" in first
    assert any("only owners alter" in each for each in others)
