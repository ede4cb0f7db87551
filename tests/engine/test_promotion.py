"""Production by hand before staging: refused with the reason; overridden, it is recorded. And an upgrade alone changes nothing.

Two stacks with a passphrase each rotate one secret of one sandbox in turn: what is under test is what one reads of the other.
"""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.engine.stage import WEBHOOK, Stage, one_line
from tools.report.model import parse_stack
from tools.workspace import STACK, Result

PRODUCTION = "production"
WHY = "the endpoint of production alone was disabled"
CHECK_FAILS = f"control_plane.misread_new={WEBHOOK}"


@dataclass(frozen=True, kw_only=True)
class Production:
    """The stack that follows, of the same clone. Whoever deploys it does not know the passphrase of the stack before."""

    stage: Stage

    def pulumi(self, *arguments: str) -> Result:
        """Runs the engine for it."""
        environment = {"PULUMI_CONFIG_PASSPHRASE": "another passphrase"}
        return self.stage.pulumi(*arguments, "--stack", PRODUCTION, environment=environment)

    def must(self, *arguments: str) -> str:
        """The same; has to succeed."""
        result = self.pulumi(*arguments)
        assert result.status == 0, result.output
        return result.output

    def configure(self, key: str, value: object) -> None:
        """Sets a key of its config."""
        self.must("config", "set", "--plaintext", "--path", key, str(value))

    def previews(self) -> str:
        """What a preview says, in one line."""
        return one_line(self.must("preview"))

    def refuses(self, *said: str, update: bool = True) -> None:
        """A preview is refused in these words, and so is an update; nothing is written anywhere."""
        writes = self.stage.writes()
        for command in (("preview",), *((("up", "--yes", "--skip-preview"),) if update else ())):
            result = self.pulumi(*command)
            assert result.status != 0, result.output
            for words in (*said, "nothing was changed"):
                assert words in one_line(result.output), (words, result.output)
            assert "Traceback" not in result.output, result.output
        assert self.stage.writes() == writes

    def secret(self) -> dict[str, Any]:
        """What its output says of the secret."""
        outputs = json.loads(self.must("stack", "output", "--json"))
        secret: dict[str, Any] = outputs["secrets"][WEBHOOK]
        return secret


@pytest.fixture
def production(whole_map: Stage) -> Production:
    """Comes after the stack of the sandbox, of which nothing is deployed yet."""
    whole_map.rotates(WEBHOOK)
    config = whole_map.stack_file.read_text()
    salt = next(line for line in config.splitlines(keepends=True) if line.startswith("encryptionsalt"))
    (whole_map.stack_file.parent / f"Pulumi.{PRODUCTION}.yaml").write_text(config.replace(salt, ""))
    made = Production(stage=whole_map)
    # Not selected: its passphrase is not the other one's.
    made.must("stack", "init", "--no-select")
    made.configure("after", STACK)
    return made


def test_production_waits_for_the_stack_before_unless_it_is_told_otherwise(production: Production) -> None:
    staging = production.stage
    production.refuses(
        f"{WEBHOOK} generation 1 waits for stack {STACK}", f"stack {STACK} has completed no update yet", update=False
    )
    production.configure("after", "stagin")
    production.refuses("there is no stack stagin of this project on this backend", update=False)
    production.configure("after", STACK)

    staging.deploys()
    program = staging.program_directory / "__main__.py"
    verified_with, upgraded = program.read_text(), program.read_text() + "\nUPGRADED = True\n"
    program.write_text(upgraded)
    staging.assert_no_change()
    program.write_text(verified_with)
    production.must("up", "--yes", "--skip-preview")
    first, proof = production.secret(), staging.outputs()["secrets"][WEBHOOK]
    # From here on the stack before finds its app changed by somebody else: they share it.
    assert first["promotion"] == {"after": STACK, "generation": 1, "verified_at": proof["verified_at"]}
    assert first["verified_with"] == proof["verified_with"], "the same program has verified the same kind of secret"
    unchanged = production.must("preview", "--expect-no-changes")
    assert "eliding undecryptable" not in unchanged, "nothing of the other stack's is asked for that is secret"

    program.write_text("# Somebody explains something.\n" + verified_with)
    production.configure(f"rotations.{WEBHOOK}", 2)
    preview = production.previews()
    assert f"promotion stack {STACK} has verified generation 1 with this program" in preview, (
        "a comment is no other version"
    )
    program.write_text(upgraded)
    production.refuses(
        f"stack {STACK} has verified generation 1 with another version of the program", "promotionOverrides"
    )

    production.configure(f"promotionOverrides.{WEBHOOK}.generation", 2)
    production.configure(f"promotionOverrides.{WEBHOOK}.reason", WHY)
    preview = production.previews()
    assert f"goes on without proof on stack {STACK}: {WHY}" in preview
    assert "NOT PROVEN" in preview
    staging.sandbox("set", CHECK_FAILS)
    assert production.pulumi("up", "--yes", "--skip-preview").status != 0
    assert production.secret() == first
    staging.sandbox("set", CHECK_FAILS.partition("=")[0] + "=")
    staging.redeploy()
    production.must("up", "--yes", "--skip-preview")
    second = production.secret()
    assert (second["generation"], second["promotion"]["override"]) == (2, WHY)
    assert "another version of the program" in second["promotion"]["because"]
    assert second["verified_with"]["program"] != proof["verified_with"]["program"]
    assert [each.get("override") for each in second["timeline"]] == [WHY, None]
    assert "is used up, because generation 2 is verified" in production.previews()
    production.must("config", "rm", "--path", f"promotionOverrides.{WEBHOOK}")
    production.must("preview", "--expect-no-changes")

    reported = parse_stack(PRODUCTION, json.loads(production.must("stack", "output", "--json")), [])
    assert reported.secrets[0].timeline[0].override == WHY
