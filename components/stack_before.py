"""The stack that goes before this one: read, and asked before any resource is registered whether it has proven what is rotated (ADR 0011).

What is decided is decided in `promotion`, without Pulumi.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pulumi
import tenacity
from pulumi.runtime import invoke
from pulumi.runtime.config import is_config_secret

from components import program_version
from components.clock import utc_now
from components.errors import RefusedError
from components.promotion import CONFIG, Case, Decision, Promotion, assert_ordered, decide, load, predecessor, warnings
from components.rotated import Rotated
from components.secret import LEAKED
from components.work import Work

READ_TIMEOUT = 10.0  # seconds
UNKNOWN_STACK = re.compile(r"unknown stack|\[404\]")  # as self-managed backends and Pulumi Cloud say it
WITH_PASSWORD = re.compile(r"://[^@/\s]*@")  # of a backend's URL


def promotion_of_config(config: pulumi.Config) -> Promotion:
    """What the stack's config says of the stack that goes before.

    Raises:
        RefusedError: With what is wrong, stacks that wait for each other included.
    """
    promotion = load(
        after=config.get("after"),
        days=config.get("afterDays"),
        overrides=config.get_object(CONFIG),
        encrypted=is_config_secret(config.full_key(CONFIG)),
    )
    assert_ordered(pulumi.get_stack(), promotion.after, lambda stack: predecessor(program_version.ROOT, stack))
    return promotion


def promotions_of(
    rotated: Iterable[Rotated], works: Mapping[str, Work], promotion: Promotion, *, reasons: Mapping[str, str]
) -> Mapping[str, Decision]:
    """Whether the stack that goes before has proven what is rotated here. Says what goes on without that.

    Args:
        rotated: All secrets that are rotated.
        works: What is done for each.
        promotion: The config.
        reasons: Why each is rotated, as the config says.

    Raises:
        RefusedError: It has not.
    """
    cases = [
        Case(
            secret=each.secret,
            generation=each.generation,
            verified=each.progress.verified,
            turns=works[each.secret.name].turns,
            verifies=works[each.secret.name].verifies,
            leaked=reasons.get(each.secret.name) == LEAKED,
            recorded=each.progress.record,
        )
        for each in rotated
    ]
    decisions = decide(
        promotion,
        cases,
        version=program_version.of_this_program,
        outputs=lambda: outputs_of(promotion.after),
        now=utc_now(),
    )
    for warning in warnings(promotion, cases, decisions):
        pulumi.log.warn(warning)
    return decisions


def outputs_of(stack: str) -> Mapping[str, Any]:
    """The outputs of another stack of the project, on the same backend, as its last complete update left them. Nothing else of it.

    It is what a `pulumi.StackReference` reads, without the resource that one would be. Needs no passphrase of that stack: what is secret
    there is left out.

    Raises:
        RefusedError: There is no such stack, or it cannot be read.
    """
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{stack}"
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: UNKNOWN_STACK.search(str(error)) is None),
        stop=tenacity.stop_after_delay(READ_TIMEOUT),
        wait=tenacity.wait_random(0.05, 0.3),
        reraise=True,
    )
    try:
        answer: Mapping[str, Any] = attempts(invoke, "pulumi:pulumi:readStackOutputs", {"name": name}).value or {}
    except Exception as error:  # noqa: BLE001 - the SDK raises nothing more precise
        if UNKNOWN_STACK.search(str(error)):
            raise RefusedError(
                f"there is no stack {stack} of this project on this backend.",
                next_step=f"`pulumi stack ls` lists them: mend the config key `after`, or deploy stack {stack} first.",
            ) from None
        raise RefusedError(
            f"the outputs of stack {stack} could not be read: {WITH_PASSWORD.sub('://…@', str(error))}",
            next_step=f"see whether `pulumi stack output --stack {stack}` can read them.",
        ) from None
    return answer.get("outputs") or {}
