"""JSON of users, organizations, repositories and commits, with every member that GitHub's OpenAPI description requires.

Most members are links that nothing in the sandbox answers; typed clients refuse an object without them.
"""

import base64

from sandbox.github import store
from sandbox.github.wire import Call, Json

_USER_LINKS = {
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}
_REPOSITORY_LINKS = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}


def node_id(kind: str, id_: int) -> str:
    """Return the id that the GraphQL API would use."""
    return base64.b64encode(f"0{len(kind)}:{kind}{id_}".encode()).decode()


def account(call: Call, shown: store.Account) -> Json:
    """Return a user or an organization as it appears within other objects."""
    url = f"{call.root}/users/{shown.login}"
    return {
        "login": shown.login,
        "id": shown.id,
        "node_id": node_id(shown.type, shown.id),
        "avatar_url": f"{call.site}/avatars/u/{shown.id}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{call.site}/{shown.login}",
        **{name: url + path for name, path in _USER_LINKS.items()},
        "type": shown.type,
        "site_admin": False,
    }


def user(call: Call, shown: store.Account) -> Json:
    """Return a user as ``GET /users/{username}`` does."""
    return account(call, shown) | {
        "name": None,
        "company": None,
        "blog": "",
        "location": None,
        "email": None,
        "hireable": None,
        "bio": None,
        "public_repos": 0,
        "public_gists": 0,
        "followers": 0,
        "following": 0,
        "created_at": shown.created_at,
        "updated_at": shown.created_at,
    }


def private_user(call: Call, shown: store.Account) -> Json:
    """Return a user as only they see themselves."""
    return user(call, shown) | {
        "private_gists": 0,
        "total_private_repos": 0,
        "owned_private_repos": 0,
        "disk_usage": 0,
        "collaborators": 0,
        "two_factor_authentication": True,
    }


def organization(call: Call, shown: store.Account) -> Json:
    """Return an organization in full."""
    url = f"{call.root}/orgs/{shown.login}"
    return {
        "login": shown.login,
        "id": shown.id,
        "node_id": node_id("Organization", shown.id),
        "url": url,
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events",
        "hooks_url": f"{url}/hooks",
        "issues_url": f"{url}/issues",
        "members_url": f"{url}/members{{/member}}",
        "public_members_url": f"{url}/public_members{{/member}}",
        "avatar_url": f"{call.site}/avatars/u/{shown.id}",
        "description": None,
        "name": shown.login,
        "has_organization_projects": False,
        "has_repository_projects": False,
        "public_repos": 0,
        "public_gists": 0,
        "followers": 0,
        "following": 0,
        "html_url": f"{call.site}/{shown.login}",
        "type": "Organization",
        "total_private_repos": len(store.repositories(call.database, owner=shown)),
        "created_at": shown.created_at,
        "updated_at": shown.created_at,
        "archived_at": None,
    }


def minimal_repository(call: Call, shown: store.Repository) -> Json:
    """Return a repository as it appears within other objects."""
    url = f"{call.root}/repos/{shown.full_name}"
    host = call.request.url.netloc
    return {
        "id": shown.id,
        "node_id": node_id("Repository", shown.id),
        "name": shown.name,
        "full_name": shown.full_name,
        "private": shown.private,
        "visibility": "private" if shown.private else "public",
        "owner": account(call, shown.owner),
        "html_url": f"{call.site}/{shown.full_name}",
        "description": None,
        "fork": False,
        "url": url,
        **{name: url + path for name, path in _REPOSITORY_LINKS.items()},
        "clone_url": f"{call.site}/{shown.full_name}.git",
        "git_url": f"git://{host}/{shown.full_name}.git",
        "ssh_url": f"git@{host}:{shown.full_name}.git",
        "svn_url": f"{call.site}/{shown.full_name}",
        "mirror_url": None,
    }


def repository(call: Call, shown: store.Repository) -> Json:
    """Return a repository in full, with what the viewer may do in it."""
    role = call.role or 0
    return minimal_repository(call, shown) | {
        "homepage": None,
        "language": None,
        "license": None,
        "size": 0,
        "default_branch": shown.default_branch,
        "topics": [],
        "is_template": False,
        "has_issues": True,
        "has_projects": False,
        "has_wiki": False,
        "has_pages": False,
        "has_downloads": False,
        "has_discussions": False,
        "archived": False,
        "disabled": False,
        "forks": 0,
        "forks_count": 0,
        "network_count": 0,
        "open_issues": 0,
        "open_issues_count": 0,
        "stargazers_count": 0,
        "subscribers_count": 0,
        "watchers": 0,
        "watchers_count": 0,
        "permissions": {
            "admin": role >= store.Role.ADMIN,
            "maintain": role >= store.Role.ADMIN,
            "push": role >= store.Role.WRITE,
            "triage": role >= store.Role.WRITE,
            "pull": role >= store.Role.READ,
        },
        "created_at": shown.created_at,
        "updated_at": shown.pushed_at,
        "pushed_at": shown.pushed_at,
    }


def _person(author: store.Account) -> Json:
    return {"name": author.login, "email": f"{author.id}+{author.login}@users.noreply.github.com"}


def simple_commit(shown: store.Commit) -> Json:
    """Return a commit as it appears within a run."""
    return {
        "id": shown.sha,
        "tree_id": shown.tree,
        "message": shown.message,
        "timestamp": shown.created_at,
        "author": _person(shown.author),
        "committer": _person(shown.author),
    }


def commit(call: Call, shown: store.Commit) -> Json:
    """Return a commit as ``GET /repos/{owner}/{repo}/commits/{ref}`` does."""
    url = f"{call.root}/repos/{call.repository.full_name}"
    person = _person(shown.author) | {"date": shown.created_at}
    return {
        "sha": shown.sha,
        "node_id": node_id("Commit", call.repository.id),
        "url": f"{url}/commits/{shown.sha}",
        "html_url": f"{call.site}/{call.repository.full_name}/commit/{shown.sha}",
        "comments_url": f"{url}/commits/{shown.sha}/comments",
        "commit": {
            "message": shown.message,
            "author": person,
            "committer": person,
            "tree": {"sha": shown.tree, "url": f"{url}/git/trees/{shown.tree}"},
            "url": f"{url}/git/commits/{shown.sha}",
            "comment_count": 0,
        },
        "author": account(call, shown.author),
        "committer": account(call, shown.author),
        "parents": [],
    }
