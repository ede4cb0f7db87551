"""As many resources as a stack of the program has, in the same order, which do nothing: what is left is the engine.

Config: `turns`, a number for each secret, whose change changes its chain; `tenants` and `repositories`: how many there are of each;
`generated` and `probed`: whether Pulumi generates the values, and whether there are probes; `apps`: to how many apps the secrets go in turn;
`waits`: seconds that an app takes; `providers`: how many processes of their own the apps get, in turn, in place of the one that all share.
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

number_of_apps = config.get_int("apps") or 1
waits, number_of_providers = config.get_float("waits") or 0.0, config.get_int("providers") or 0

root = pulumi.ComponentResource("floor:index:Rotation", "floor")
child = pulumi.ResourceOptions(parent=root)


def after(*resources: pulumi.Resource) -> pulumi.ResourceOptions:
    """Of the component, after these."""
    return pulumi.ResourceOptions(parent=root, depends_on=list(resources))


def check(name: str, turn: int, options: pulumi.ResourceOptions) -> command.local.Command:
    """A check that finds everything in order. Another turn updates it in place, as it does ours (ADR 0013)."""
    return command.local.Command(name, create="true", environment={"TURN": str(turn)}, opts=options)


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
providers = [
    pulumi.ProviderResource("pulumi-python", f"worker-{number}", {}, child) for number in range(number_of_providers)
]


def app(place: int) -> Nothing:
    """One app with its secrets."""
    options = after(*credentials[place::number_of_apps])
    if providers:
        options.provider = providers[place % len(providers)]
    return Nothing(f"app-{place}", ",".join(map(str, turns[place::number_of_apps])), options, waits=waits)


apps = [app(place) for place in range(number_of_apps)]
held_by_tenants = [Nothing(f"tenants-{number}", str(sum(turns)), after(*apps)) for number in range(tenants)]
for number, turn in enumerate(turns):
    locations: list[pulumi.Resource] = [apps[number % number_of_apps]]
    if number < repositories:
        locations.append(Nothing(f"repository-{number}", str(turn), after(*locations)))
    verification = check(f"verification-{number}", turn, after(*locations, *held_by_tenants[: number == 0]))
    Nothing(f"revocation-{number}", str(turn), after(verification))
pulumi.ComponentResource("floor:index:Protection", "floor-protection", opts=pulumi.ResourceOptions(depends_on=[root]))
