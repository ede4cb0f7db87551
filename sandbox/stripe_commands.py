"""`python -m sandbox stripe`: the Dashboard on the command line. New values go to standard output, once.

Not in `sandbox/stripe/`: to import that package takes longer than what these commands do. Defaults are the Dashboard's.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    class _Parsers(Protocol):
        """What `argparse.ArgumentParser.add_subparsers` returns."""

        def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser: ...  # noqa: A002

    _Call = Callable[[Path, str, str, object], dict[str, Any]]


def add(parsers: _Parsers, add_directory: Callable[[argparse.ArgumentParser], None], call: _Call) -> None:
    """Add the command.

    Args:
        parsers: The commands.
        add_directory: Adds `--dir` to a command.
        call: Calls the admin service of the sandbox in a folder: folder, method, path, JSON.
    """
    description = "do what people do in Stripe's Dashboard"
    verbs = parsers.add_parser("stripe", help=description, description=description).add_subparsers(
        required=True, metavar="ACTION"
    )

    def verb(name: str, description: str, shown: str, *document: str) -> argparse.ArgumentParser:
        """Add an action: `shown` is the member of its answer that is printed, `document` are the options it gets."""

        def run(options: argparse.Namespace) -> int:
            body = {option: getattr(options, option) for option in document}
            answer = call(options.dir, "POST", f"/stripe/{name}", body)[shown]
            for line in answer if isinstance(answer, list) else [answer]:
                sys.stdout.write(f"{line}\n")
            return 0

        parser = verbs.add_parser(name, help=description, description=description)
        parser.set_defaults(run=run)
        add_directory(parser)
        return parser

    roll = verb("roll-key", "replace a secret key and print the new one", "value", "name", "expires_in")
    roll.add_argument("--name", help="of the key (default: the control plane's)")
    roll.add_argument(
        "--expires-in", type=float, default=0.0, metavar="SECONDS", help="how long the old one works on (default 0)"
    )
    expire = verb("expire-key", "end the older keys of a name now, and print their ids", "expired", "name")
    expire.add_argument("--name", help="of the keys (default: the control plane's)")
    create = verb("create-key", "make a key and print it", "value", "name", "test", "other_account", "permissions")
    create.add_argument("--name", required=True)
    create.add_argument("--test", action="store_true", help="a test key (default: a live one)")
    create.add_argument(
        "--other-account", action="store_true", help="a key of another account than the control plane's"
    )
    create.add_argument(
        "--permission",
        dest="permissions",
        action="append",
        metavar="NAME",
        help="make a restricted key with this permission, such as rak_balance_read; may be repeated",
    )
    roll = verb(
        "roll-webhook-secret", "add a signing secret to an endpoint and print it", "value", "endpoint", "overlap"
    )
    roll.add_argument("--endpoint", metavar="ID", help="default: the only live one")
    roll.add_argument(
        "--overlap",
        type=float,
        metavar="SECONDS",
        help="how long events carry the old ones' signatures, too (default 86400)",
    )
    expire = verb(
        "expire-webhook-secret", "end an endpoint's older secrets now, and print their ids", "expired", "endpoint"
    )
    expire.add_argument("--endpoint", metavar="ID", help="default: the only live one")
    emit = verb("emit", "make an event and print its id", "event", "type", "test")
    emit.add_argument("type", metavar="TYPE", help="such as customer.subscription.updated")
    emit.add_argument("--test", action="store_true", help="in test mode (default: live)")
