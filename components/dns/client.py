"""Looks DNS records up over HTTPS. No Pulumi here.

HTTPS and not a resolver library: the program's environment needs no further package for it, and it works where port 53 is closed, as it
is in many CI networks. Nothing secret is asked, only names that are public anyway.

Source: Google Public DNS, "JSON API for DNS over HTTPS". Other services with the same interface will do: set DNS_OVER_HTTPS_URL.
"""

import re
from collections.abc import Mapping

import httpx

from components.answers import reads_answer
from components.http import Api, ApiError, Failure, RetryPolicy, json_body
from components.operator_credentials import endpoint

NO_ERROR, NAME_ERROR = 0, 3  # RFC 1035, section 4.1.1, "RCODE"
TXT = 16
# An operator waits for a preview meanwhile, and what is asked here is never decisive.
PATIENCE = RetryPolicy(attempts=2)
TIMEOUT = httpx.Timeout(5)
# RFC 1035, section 5.1: a string in quotes, in which \" and \\ stand for themselves and \DDD for an octet.
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
ESCAPE = re.compile(r"\\([0-9]{3}|.)")


@reads_answer
def txt_records(name: str) -> list[str]:
    """The texts of a name's TXT records. None where the name does not exist, or has no such record.

    Args:
        name: In ASCII form.

    Raises:
        ApiError: The service gave no answer, or none that tells.
    """
    api = Api(
        system="DNS",
        base_url=endpoint("DNS_OVER_HTTPS_URL", "https://dns.google"),
        headers={"accept": "application/dns-json, application/json"},
        judge=_failure,
    )
    operation = f"look up TXT {name}"
    parameters = {"name": name, "type": "TXT"}
    body = api.call(
        "GET", "/resolve", operation=operation, parameters=parameters, policy=PATIENCE, timeout=TIMEOUT
    ).json()
    try:
        # A name that is an alias is answered with the CNAME, too.
        return [_text(str(each["data"])) for each in body.get("Answer") or () if each["type"] == TXT]
    except (TypeError, KeyError):
        raise ApiError("DNS", operation, status=httpx.codes.OK, reason="the answer has another form") from None


def _failure(response: httpx.Response) -> Failure | None:
    """Every answer is 200, also where the name's servers gave none (SERVFAIL): then the status of the DNS tells."""
    if not response.is_success:
        return Failure(status=response.status_code, reason="")
    body = json_body(response)
    status = body.get("Status") if isinstance(body, Mapping) else None
    if status in {NO_ERROR, NAME_ERROR}:
        return None
    reason = "this is no answer of a DNS service" if status is None else f"DNS status {status}"
    return Failure(status=httpx.codes.BAD_GATEWAY, reason=reason)


def _text(data: str) -> str:
    """The text of a record: its strings without quotes, one after the other. Google leaves out the quotes at times."""
    if not data.startswith('"'):
        return data
    return "".join(ESCAPE.sub(_escaped, string) for string in STRING.findall(data))


def _escaped(match: re.Match[str]) -> str:
    return chr(int(match[1])) if match[1].isdigit() and len(match[1]) > 1 else match[1]
