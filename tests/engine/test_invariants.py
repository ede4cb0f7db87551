"""For every invariant a mistake in the program that violates it: is it noticed, by whoever looks only afterwards?

The mistakes are made in the workspace's copy of the program, one at a time, on one sandbox.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox import invariants
from tests.engine.stage import SECRET
from tools.faults import trial
from tools.faults.bench import Bench, bench
from tools.faults.kinds import KINDS
from tools.faults.recording import Position

MINT = Position(
    provider="fly",
    method="POST",
    pattern="createLimitedAccessToken",
    label="mint",
    nth=1,
    of=1,
    writes=True,
    before_minting=False,
)


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One line of the program that is wrong.

    Attributes:
        module: The file.
        right: What stands there, once.
        wrong: What stands there instead.
        noticed: What is said of it.
        kind: Of the fault at the mint that it takes to show; "" for none.
    """

    module: str
    right: str
    wrong: str
    noticed: str
    kind: str = ""


MISTAKES = {
    # First: the others leave something behind, which the next rotation cleans up.
    "nothing is wrong, although the engine is killed": Mistake(
        module="lifecycle.py", right="POLL_SECONDS", wrong="POLL_SECONDS", noticed="", kind="kill-engine"
    ),
    "revoked before anybody has the new one": Mistake(
        module="lifecycle.py",
        right="    current = Credential(\n",
        wrong="    [issuers[0].revoke(each.credential_id) for each in turn.keep]\n    current = Credential(\n",
        noticed=f"at once: {invariants.HELD}: ",
    ),
    "minted again beside the orphan of a crash": Mistake(
        module="lifecycle.py",
        right="for orphan in turn.orphans:",
        wrong="for orphan in ():",
        noticed=f"{invariants.TWO}: 3 credentials of the family",
        kind="drop-after",
    ),
    "left alive, and forgotten": Mistake(
        module="keyring.py",
        right="        if issued.credential_id != verified_id\n",
        wrong="        if issued.credential_id in also\n",
        noticed="live credentials: [",
    ),
    "goes on without an engine": Mistake(
        module="dynamic_provider.py",
        right="        end_with_the_engine()\n",
        wrong="",
        noticed="the provider outlived the engine",
        kind="kill-engine",
    ),
    "a value is printed": Mistake(
        module="fly/rollout.py",
        right="written; restarting {len(machines)} machines",
        wrong="written: {dict(values)}",
        noticed="a value is in plaintext in output 1",
    ),
    "somebody else's secret is overwritten": Mistake(
        module="fly/client.py",
        right='json={"values": dict(values)}',
        wrong='json={"values": {**values, "RESEND_API_KEY": "re_nonsense"}}',
        noticed=f"at once: {invariants.WORKS}: RESEND_API_KEY of machine molecule-cp/",
    ),
}


@pytest.fixture(scope="module")
def rotating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("invariants") / "workspace", SECRET) as made:
        yield made


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_noticed(rotating: Bench, name: str) -> None:
    mistake = MISTAKES[name]
    position = MINT if mistake.kind else Position(**{**vars(MINT), "pattern": "^never$"})
    kind = next(each for each in KINDS if each.name == (mistake.kind or "drop-after"))
    wanted = trial.shape(rotating.inspect())

    with _made(rotating.stage.program_directory / "components" / mistake.module, mistake):
        result, printed = trial.attempt(rotating, position, kind, wanted=wanted)

    if result.broken:
        rotating.settled()  # the rotation is over all the same, and the next one cleans up
    assert bool(result.broken) is bool(mistake.noticed), printed
    assert mistake.noticed in result.broken, printed


@contextmanager
def _made(path: Path, mistake: Mistake) -> Iterator[None]:
    text = path.read_text()
    assert mistake.right in text
    path.write_text(text.replace(mistake.right, mistake.wrong))
    try:
        yield
    finally:
        path.write_text(text)
