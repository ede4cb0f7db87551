"""The sandbox's Neon: API keys that authenticate, and the project whose branches are the tenants' databases.

- `wire`: what every answer has in common; authentication, rate limits, pages.
- `accounts`: users, organizations, API keys.
- `projects`, `roles`: projects, branches, computes, operations; roles and their passwords.
- `computes`: the databases and roles of a real PostgreSQL behind them.

Deviations from Neon: every branch has one database `neondb`, which a child does not copy, no compute ever idles, and a
project is created with what the first branch needs. `GET /projects` does not insist on `org_id`. Of the calls that this
description does not list none is there (404). See also `roles` for connection URIs, `computes` for names and for branches
that share a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from sandbox import environments
from sandbox.neon import accounts, computes, projects, roles, settings, wire

if TYPE_CHECKING:
    from sandbox.environments import Environment
    from sandbox.world import World

ORGANIZATION: Final = environments.DEFAULT.neon_organization
PROJECT: Final = environments.DEFAULT.neon_project
"""The project that the runbook names."""
OPERATOR: Final = accounts.User(
    id="7a2c1f7e-52a4-4bd4-9d3e-0b1f0a6c1e11", name="Molecule Operator", email="operator@molecule.example"
)
OWNER: Final = roles.OWNER
COLLEAGUE: Final = accounts.User(
    id="c4e0b7d2-9f0b-4f0e-8a55-6f0d2f5b7a22", name="Molecule Colleague", email="colleague@molecule.example"
)
"""A member of the organization who is not its admin."""
CONTROL_PLANE_ROLE: Final = "molecule_cp"
"""What the control plane connects as: not the owner of its tables, so that another role can take its place."""

__all__ = ["application", "inspect", "install", "seed", "settings"]


def install(world: World) -> None:
    """Create all tables."""
    for module in (wire, accounts, projects, roles, computes):
        module.install(world)


def application(world: World) -> Starlette:
    """Return the service."""
    return Starlette(
        routes=wire.routes(world, [*accounts.ENDPOINTS, *projects.ENDPOINTS]),
        exception_handlers={HTTPException: wire.answer_http_error},
    )


def seed(world: World, environment: Environment = environments.DEFAULT) -> dict[str, str]:
    """Fill a new world and return a control plane's secrets: an organization key that somebody made by hand, and a URI.

    Keeps `NEON_API_KEY` (the operator's personal key, an admin's) and `NEON_MEMBER_API_KEY` (a member's, for tests), for all
    environments.
    """
    organization = environment.neon_organization
    if accounts.add_organization(world, identifier=organization, name="Molecule AI"):
        accounts.add_user(world, OPERATOR, organization=organization, role=accounts.ADMIN)
        accounts.add_user(world, COLLEAGUE, organization=organization, role=accounts.MEMBER)
    branch = projects.add_project(
        world,
        project=environment.neon_project,
        name=environment.app,
        organization=organization,
        branch_name="production",
        more_roles=[CONTROL_PLANE_ROLE],
    )
    for user, kept in ((OPERATOR, "NEON_API_KEY"), (COLLEAGUE, "NEON_MEMBER_API_KEY")):
        if world.kept(kept) is None:
            _, value = accounts.mint(world, name=f"laptop of {user.name}", kind=wire.Kind.PERSONAL, owner=user.id)
            world.keep(kept, value)
    _, value = accounts.mint(
        world,
        name=f"{environment.app} production",
        kind=wire.Kind.ORGANIZATION,
        owner=OPERATOR.id,
        organization=organization,
    )
    return {"NEON_API_KEY": value, "DATABASE_URL": roles.uri(world, branch=branch.id, role=CONTROL_PLANE_ROLE)}


def add_tenants(
    world: World, slugs: list[str], environment: Environment = environments.DEFAULT
) -> dict[str, tuple[str, str]]:
    """Create the branches of tenants that a sandbox begins with; returns ids and URIs by slug."""
    return projects.add_shared(world, environment.neon_project, slugs)


def main_database(world: World, environment: Environment) -> tuple[str, str]:
    """Return what PostgreSQL calls the database of an environment's control plane, and the role that owns it."""
    branch = next(each.id for each in projects.branches(world, environment.neon_project) if each.default)
    return computes.database_name(world, branch), computes.role_name(world, branch, OWNER)


async def resume(world: World) -> None:
    """Make PostgreSQL what it should be by now, and see to what becomes due later."""
    await world.component(computes.Computes).settle()


def inspect(world: World) -> dict[str, Any]:
    """Return the value of `neon` in `inspect`."""
    return {
        "branches": [
            {
                "id": branch.id,
                "project": branch.project,
                "name": branch.name,
                "default": branch.default,
                "created_at": wire.iso(branch.created_at),
            }
            for branch in projects.branches(world)
        ]
    }
