"""What is said at GitHub: one comment for a stack on a pull request, and one issue for a stack. Both are found again by a marker.

Source: GitHub's REST API description, "Issues". A pull request is an issue there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.answers import reads_answers
from components.github.client import PAGE, GitHubClient, repository_path
from components.http import ONCE, REPEATABLE, ApiError, pages

BOT = "github-actions[bot]"
LABEL = "rotation"
LABEL_COLOR = "d93f0b"


@reads_answers
@dataclass(frozen=True)
class Conversation(GitHubClient):
    """Comments and issues of one token's account. What others wrote is left alone, even where it has our marker."""

    def account(self) -> str:
        """Whose token it is. An installation's, which every workflow run has, may not ask; its account is known."""
        try:
            body = self._call("GET", "/user", operation="read the token's account", policy=REPEATABLE).json()
        except ApiError as error:
            if error.status == 403:  # noqa: PLR2004 - "Resource not accessible by integration"
                return BOT
            raise
        return str(body["login"])

    def comment(self, repository: str, number: int, marker: str, body: str) -> None:
        """Writes our one comment with this marker, anew or over what it said before.

        Args:
            repository: `owner/name`.
            number: Of the pull request.
            marker: What the comment begins with.
            body: The whole text, with the marker.

        Raises:
            ApiError: GitHub refused, or did not answer.
        """
        account = self.account()
        path = f"/repos/{repository_path(repository)}/issues/{number}/comments"
        for found in self._pages(path, operation=f"read the comments on pull request {number}"):
            if _is_ours(found, account, marker):
                self._call(
                    "PATCH",
                    f"/repos/{repository_path(repository)}/issues/comments/{int(found['id'])}",
                    operation=f"change the comment on pull request {number}",
                    json={"body": body},
                    policy=REPEATABLE,
                )
                return
        self._call("POST", path, operation=f"comment on pull request {number}", json={"body": body}, policy=ONCE)

    def report(self, repository: str, marker: str, *, title: str, body: str) -> None:
        """Has one open issue with this marker say `body`: changes the one that there is, or opens one."""
        found = self._issues(repository, marker)
        if not found:
            self._label(repository)
            self._call(
                "POST",
                f"/repos/{repository_path(repository)}/issues",
                operation="open an issue",
                json={"title": title, "body": body, "labels": [LABEL]},
                policy=ONCE,
            )
            return
        if found[0]["body"] != body:
            self._change(repository, found[0]["number"], {"body": body})

    def all_clear(self, repository: str, marker: str, *, comment: str) -> None:
        """Closes every open issue with this marker, and says why."""
        for issue in self._issues(repository, marker):
            self._call(
                "POST",
                f"/repos/{repository_path(repository)}/issues/{int(issue['number'])}/comments",
                operation=f"comment on issue {issue['number']}",
                json={"body": comment},
                policy=ONCE,
            )
            self._change(repository, issue["number"], {"state": "closed", "state_reason": "completed"})

    def _change(self, repository: str, number: int, change: dict[str, str]) -> None:
        path = f"/repos/{repository_path(repository)}/issues/{number}"
        self._call("PATCH", path, operation=f"change issue {number}", json=change, policy=REPEATABLE)

    def _issues(self, repository: str, marker: str) -> list[dict[str, Any]]:
        """Our open issues with this marker, oldest first."""
        account = self.account()
        # All of them: a label can be taken off by anybody who triages, and then there would be a second issue.
        found = self._pages(
            f"/repos/{repository_path(repository)}/issues",
            operation=f"list the open issues of {repository}",
            state="open",
        )
        # Pull requests are in the list as well.
        ours = [each for each in found if "pull_request" not in each and _is_ours(each, account, marker)]
        return sorted(ours, key=lambda issue: int(issue["number"]))

    def _label(self, repository: str) -> None:
        try:
            self._call(
                "POST",
                f"/repos/{repository_path(repository)}/labels",
                operation=f"make the label {LABEL}",
                json={"name": LABEL, "color": LABEL_COLOR, "description": "Found by the nightly check"},
                policy=ONCE,
            )
        except ApiError as error:
            if error.status != 422:  # noqa: PLR2004 - there is one already
                raise

    def _pages(self, path: str, *, operation: str, **parameters: str) -> Iterator[dict[str, Any]]:
        count = pages()
        while True:
            page = next(count)
            found = self._call(
                "GET",
                path,
                operation=operation,
                parameters={**parameters, "per_page": PAGE, "page": page},
                policy=REPEATABLE,
            ).json()
            yield from found
            if len(found) < PAGE:
                return


def _is_ours(found: dict[str, Any], account: str, marker: str) -> bool:
    author = (found.get("user") or {}).get("login", "")
    return author.lower() == account.lower() and (found.get("body") or "").startswith(marker)
