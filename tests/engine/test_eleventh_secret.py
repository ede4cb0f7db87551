"""The README's example of two more secrets is a program that works: one value that Pulumi generates, one that is handed in."""

import re

from tests.engine.stage import Stage, digest, json_of
from tools.workspace import CHECKOUT

GENERATED, HANDED_IN = "SESSION_KEY", "SENTRY_DSN"
EXAMPLE = re.compile(r"<!-- eleventh-secret:begin -->\s*```python\n(.*?)```\s*<!-- eleventh-secret:end -->", re.DOTALL)
DSNS = tuple(f"https://{number}f3c1d9a7e5b24c86@o4506.ingest.sentry.example/{number}" for number in (1, 2))


def value_of(stage: Stage, secret: str) -> str:
    """The current value, decrypted."""
    resources = json_of(stage.decrypted())["deployment"]["resources"]
    outputs = next(each["outputs"] for each in resources if each["urn"].endswith(f"rotation:Credential::{secret}"))
    return str(json_of(outputs["value"]["plaintext"]))


def test_two_more_secrets_rotate_and_return(whole_map: Stage) -> None:
    program = EXAMPLE.search((CHECKOUT / "README.md").read_text())
    assert program is not None
    (whole_map.program_directory / "__main__.py").write_text(program[1])
    whole_map.rotates(GENERATED, HANDED_IN)
    whole_map.configure("healthTimeout", "12")
    whole_map.refuses(f"{HANDED_IN} is listed in `rotations`, but its value has not been handed in")
    whole_map.hand_in(HANDED_IN, DSNS[0])
    whole_map.deploys()
    first = value_of(whole_map, GENERATED)
    whole_map.assert_holds(GENERATED, first)
    whole_map.assert_holds(HANDED_IN, DSNS[0])
    whole_map.assert_no_change()
    rollouts = whole_map.rollouts()
    whole_map.hand_in(HANDED_IN, DSNS[1])
    whole_map.set_generations(2, GENERATED, HANDED_IN)
    whole_map.deploys()

    second = value_of(whole_map, GENERATED)
    assert first != second
    assert whole_map.rollouts() == rollouts + 1
    whole_map.assert_holds(GENERATED, second)
    whole_map.assert_holds(HANDED_IN, DSNS[1])
    whole_map.assert_no_change()
    whole_map.assert_not_in_state((first, second, *DSNS))
    whole_map.sandbox("set", f"control_plane.unhealthy_on_new={GENERATED}")
    whole_map.set_generation(GENERATED, 3)
    assert f"The rollout of {GENERATED} to Fly app molecule-cp failed" in whole_map.fails()
    assert value_of(whole_map, GENERATED) != second
    whole_map.set_generation(GENERATED, 2)
    whole_map.deploys()

    assert value_of(whole_map, GENERATED) == second
    whole_map.assert_holds(GENERATED, second)
    assert digest(first) not in whole_map.holdings(GENERATED).values()
    assert whole_map.outputs()["secrets"][GENERATED]["generation"] == 2
    whole_map.assert_no_change()
