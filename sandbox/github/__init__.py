"""The sandbox's GitHub: Actions secrets that are really sealed, workflows that really run.

- `wire`: what every answer has in common; authentication, permissions, pages, headers.
- `tokens`, `store`: who may do what, and what there is.
- `secret_stores`, `repositories`, `issues`, `actions`: the API, one module per area.
- `runs`: the life of a workflow run; `sandbox.runner`: the process in which its job runs.

Deviations from github.com: workflows are rows, not YAML, and do one thing, what ``publish-platform-image.yml`` does;
`ghcr.io`, to which it pushes as well with the built-in token, is left out, since no rotation touches it; accounts, git
and organizations are only as deep as a client of secrets and workflows looks; no pull requests: whoever comments on one
comments on an issue, as GitHub's API has it; no GraphQL.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, Final

from starlette.applications import Starlette

from sandbox import environments
from sandbox.environments import Environment
from sandbox.github import actions, issues, repositories, secret_stores, settings, store, tokens, wire
from sandbox.github.runs import Runs
from sandbox.world import World

ORGANIZATION: Final = environments.DEFAULT.owner
REPOSITORY: Final = environments.DEFAULT.repository
WORKFLOW: Final = environments.DEFAULT.workflow
OPERATOR: Final = "molecule-operator"
SITE_ADMINISTRATOR: Final = "site-admin"

__all__ = ["application", "inspect", "install", "seed", "settings"]


def install(world: World) -> None:
    """Create the tables."""
    store.create_tables(world)


def application(world: World) -> Starlette:
    """Return the API. Runs that an earlier sandbox left behind are dealt with when it starts."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        world.component(Runs).resume()
        yield

    nothing_here = wire.nothing_here(world)
    return Starlette(
        routes=wire.routes(
            world, [*repositories.ENDPOINTS, *issues.ENDPOINTS, *secret_stores.ENDPOINTS, *actions.ENDPOINTS]
        ),
        exception_handlers={HTTPStatus.NOT_FOUND: nothing_here, HTTPStatus.METHOD_NOT_ALLOWED: nothing_here},
        lifespan=lifespan,
    )


def seed(world: World, environment: Environment = environments.DEFAULT, *, fly_api_token: str) -> None:
    """Fill a new world: an organization with a repository, whose workflow pushes with a token made by hand.

    Keeps ``GITHUB_TOKEN`` (the operator's) and ``GITHUB_SITE_ADMIN_TOKEN`` (for tests: it makes users and tokens), for all
    environments.

    Args:
        world: The new world.
        environment: Whose repository it is.
        fly_api_token: What the repository's secret ``FLY_API_TOKEN`` holds.
    """
    operator = _account(world, OPERATOR, "User")
    organization = _account(world, environment.owner, "Organization")
    store.set_member(world, organization=organization, user=operator, role=store.Role.ADMIN)
    repository = store.add_repository(world, owner=organization, name=environment.repository, author=operator)
    store.add_workflow(
        world,
        repository=repository,
        file=environment.workflow,
        name="publish-platform-image",
        events=frozenset({"push", "workflow_dispatch"}),
        image=environment.tenant_app,
    )
    # The second one is nobody's business: a program that touches it manages what it must not.
    for name, value in (("FLY_API_TOKEN", fly_api_token), ("SENTRY_AUTH_TOKEN", f"sntrys_{secrets.token_hex(24)}")):
        secret_stores.write(
            world,
            store_name=secret_stores.repository_store(repository, "actions"),
            name=name,
            value=value.encode(),
        )
    if world.kept("GITHUB_TOKEN") is not None:
        return
    site_administrator = _account(world, SITE_ADMINISTRATOR, "User")
    for user, name, scopes, kept in (
        (operator, "operator", ("repo", "workflow", "admin:org"), "GITHUB_TOKEN"),
        (site_administrator, "site administration", ("site_admin",), "GITHUB_SITE_ADMIN_TOKEN"),
    ):
        _, value = tokens.issue_classic(world, user=user, name=name, scopes=scopes)
        world.keep(kept, value)


def _account(world: World, login: str, type_: str) -> store.Account:
    return store.account(world.database, login=login) or store.add_account(world, login=login, type_=type_)


def inspect(world: World) -> dict[str, Any]:
    """Return what DESIGN.md section 6 wants to be seen of GitHub; of secrets only the SHA-256."""
    return {
        "repositories": {
            repository.full_name: {
                "secrets": secret_stores.fingerprints(world, secret_stores.repository_store(repository, "actions")),
                "dependabot": secret_stores.fingerprints(
                    world, secret_stores.repository_store(repository, "dependabot")
                ),
                "environments": {
                    row["name"]: {
                        "secrets": secret_stores.fingerprints(world, secret_stores.environment_store(row["id"]))
                    }
                    for row in store.environments(world.database, repository=repository)
                },
                "issues": issues.shown(world, repository),
                "runs": [
                    {
                        "id": run.id,
                        "status": run.status,
                        "conclusion": run.conclusion,
                        "event": run.event,
                        "attempt": run.attempt,
                    }
                    for run in reversed(store.runs(world.database, repository=repository))
                ],
            }
            for repository in store.repositories(world.database)
        },
        "organizations": {
            organization.login: {
                "secrets": secret_stores.fingerprints(world, secret_stores.organization_store(organization, "actions")),
                "dependabot": secret_stores.fingerprints(
                    world, secret_stores.organization_store(organization, "dependabot")
                ),
            }
            for organization in store.organizations(world.database)
        },
    }
