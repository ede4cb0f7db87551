"""As many resources as a stack of the program has, in the same order, which do nothing: what is left is the engine.

Config: `turns`, a number for each secret, whose change changes its chain; `tenants` and `repositories`: how many there are of each;
`generated` and `probed`: whether Pulumi generates the values, and whether there are probes.
"""

import pulumi
import pulumi_command as command
import pulumi_random as random
from nothing import Nothing

config = pulumi.Config()
turns: list[int] = config.require_object("turns")
tenants = config.require_int("tenants")
repositories = config.require_int("repositories")
generated, probed = config.get_bool("generated") or False, config.get_bool("probed") is not False

root = pulumi.ComponentResource("floor:index:Rotation", "floor")
child = pulumi.ResourceOptions(parent=root)


def after(*resources: pulumi.Resource) -> pulumi.ResourceOptions:
    """Of the component, after these."""
    return pulumi.ResourceOptions(parent=root, depends_on=list(resources))


def check(name: str, turn: int, options: pulumi.ResourceOptions) -> command.local.Command:
    """A check that finds everything in order."""
    return command.local.Command(name, create="true", triggers=[turn], opts=options)


def credential(number: int, turn: int) -> pulumi.Resource:
    """One value, and a probe of it."""
    options = child
    if generated:
        options = after(
            random.RandomBytes(f"generated-{number}", length=32, keepers={"generation": str(turn)}, opts=child)
        )
    minted = Nothing(f"credential-{number}", str(turn), options)
    return check(f"probe-{number}", turn, after(minted)) if probed else minted


credentials = [credential(number, turn) for number, turn in enumerate(turns)]
app = Nothing("app", ",".join(map(str, turns)), after(*credentials))
held_by_tenants = [Nothing(f"tenants-{number}", str(sum(turns)), after(app)) for number in range(tenants)]
for number, turn in enumerate(turns):
    locations: list[pulumi.Resource] = [app]
    if number < repositories:
        locations.append(Nothing(f"repository-{number}", str(turn), after(*locations)))
    verification = check(f"verification-{number}", turn, after(*locations, *held_by_tenants[: number == 0]))
    Nothing(f"revocation-{number}", str(turn), after(verification))
pulumi.ComponentResource("floor:index:Protection", "floor-protection", opts=pulumi.ResourceOptions(depends_on=[root]))
