"""The dynamic providers of what is minted: thin, one function call each.

The dotted names of this module and its classes are kept in the state of every stack (`tests/unit/test_frozen_names.py`): never rename them.

| event | Credential | Revocation | Decommission |
|---|---|---|---|
| create | mints | revokes all but the verified one | unsets it at GitHub, revokes all |
| counter bumped | update: mints, keeps what lives | update: the same | |
| counter back to the verified generation | update: makes it current again | update: revokes the newer one | |
| an old credential that only its provider can end has ended | nothing | update: takes note | nothing |
| managed again, and decommissioned again before it was forgotten | | | update: as create |
| delete | nothing | nothing | nothing |
"""

from pulumi.dynamic import CreateResult, DiffResult, UpdateResult

from components.dynamic_provider import Properties, Provider, same

# `components.turning` is imported where something is to be done: see there.


class CredentialProvider(Provider):
    """The current credential of a secret, with the keyring of those that live beside it."""

    def create(self, props: Properties) -> CreateResult:
        from components import turning  # noqa: PLC0415

        return CreateResult(turning.identity(props), turning.turn(props, None, self.config))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        return DiffResult(changes=not same(_olds.get("generation"), _news.get("generation")))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        from components import turning  # noqa: PLC0415

        return UpdateResult(turning.turn(_news, _olds, self.config))


class RevocationProvider(Provider):
    """The death of every credential of a family but the verified one."""

    def create(self, props: Properties) -> CreateResult:
        from components import turning  # noqa: PLC0415

        return CreateResult(turning.identity(props), turning.revoke(props, None, self.config))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        # Not holdings and subject: they say whether it may run, not whether it has to. `verified_at` changes with every verification.
        compared = ("credential_id", "verified_at", "also")
        changed = not all(same(_olds.get(key), _news.get(key)) for key in compared)
        if changed or not _olds.get("alive"):
            return DiffResult(changes=changed)
        from components import turning  # noqa: PLC0415

        return DiffResult(changes=turning.one_has_ended(_olds, self.config))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        from components import turning  # noqa: PLC0415

        return UpdateResult(turning.revoke(_news, _olds, self.config))


class DecommissionProvider(Provider):
    """The end of a secret. What it leaves in the outputs holds no values."""

    def create(self, props: Properties) -> CreateResult:
        from components import turning  # noqa: PLC0415

        return CreateResult(turning.identity(props), turning.end(props, self.config))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        return DiffResult(changes=not same(_olds.get("about"), _news.get("about")))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        from components import turning  # noqa: PLC0415

        return UpdateResult(turning.end(_news, self.config))
