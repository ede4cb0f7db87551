"""As many resources as a stack of the program has, in the same order, which do nothing: what is left is the engine.

Config: `turns`, a number for each secret, whose change changes its chain; `apps`, `tenants` and `repositories`: how many there are of each.
"""

import pulumi
import pulumi_command as command
from nothing import Nothing

config = pulumi.Config()
turns: list[int] = config.require_object("turns")
apps, tenants = config.require_int("apps"), config.require_int("tenants")
repositories = config.require_int("repositories")

root = pulumi.ComponentResource("floor:index:Rotation", "floor")
child = pulumi.ResourceOptions(parent=root)


def after(*resources: pulumi.Resource) -> pulumi.ResourceOptions:
    """Of the component, after these."""
    return pulumi.ResourceOptions(parent=root, depends_on=list(resources))


def check(name: str, turn: int, options: pulumi.ResourceOptions) -> command.local.Command:
    """A check that finds everything in order."""
    return command.local.Command(name, create="true", triggers=[turn], opts=options)


credentials = [Nothing(f"credential-{number}", str(turn), child) for number, turn in enumerate(turns)]
probes = [
    check(f"probe-{number}", turn, after(credential))
    for number, (turn, credential) in enumerate(zip(turns, credentials, strict=True))
]
delivered: list[pulumi.Resource] = []
for number in range(apps):
    held = [index for index in range(len(turns)) if index % apps == number]
    turn = ",".join(str(turns[index]) for index in held)
    delivered.append(Nothing(f"app-{number}", turn, after(*(probes[index] for index in held))))
held_by_tenants = [Nothing(f"tenants-{number}", str(sum(turns)), after(*delivered)) for number in range(tenants)]
for number, turn in enumerate(turns):
    locations = [delivered[number % apps]]
    if number < repositories:
        locations.append(Nothing(f"repository-{number}", str(turn), after(*locations)))
    verification = check(f"verification-{number}", turn, after(*locations, *held_by_tenants[: number == 0]))
    Nothing(f"revocation-{number}", str(turn), after(verification))
