"""Minting and revoking, whatever the provider: what the dynamic providers in `provider.py` do. No Pulumi here."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from components.errors import OperatorError
from components.http import ApiError
from components.issuer import Issuer
from components.keyring import Credential, Issued, flaw, holders_of_another_value, sentence, turn_to
from components.secret import Family

POLL_SECONDS = 2.0  # between two proofs that a revoked credential is refused


def make_current(
    issuers: Sequence[Issuer],
    family: Family,
    generation: int,
    *,
    keyring: Sequence[Credential] | None,
    keep_from: int = 0,
) -> tuple[Credential, list[Credential]]:
    """Makes one generation's credential the current one: an earlier one that still lives, or a new one.

    Args:
        issuers: Who mints, first; then whoever minted before, where the settings have changed since.
        family: Names the credential.
        generation: Which one.
        keyring: What the stack knows. None when it knows nothing at all (first deployment, lost state): then live credentials of the
            family are left alone, since consumers may hold them; they die at the next revocation, after verification.
        keep_from: Earlier generations are over. Counts where neither the list nor the value tells whether a credential lives.

    Returns:
        The current credential and the whole keyring.

    Raises:
        OperatorError: Nothing was minted, or what was minted has been revoked again.
    """
    name = family.credential_name(generation)
    try:
        listed = _all_issued(issuers)
        shown = {each.credential_id for each in listed}
        # Whoever is dropped from the keyring because the list lags would later be taken for an orphan, while consumers hold it.
        listed += alive_but_not_listed(issuers, listed, keyring or (), keep_from=keep_from)
        turn = turn_to(generation, keyring=keyring, listed=listed, family=family)
        if turn.reuse is not None and _may_be_reused(issuers, turn.reuse, listed=turn.reuse.credential_id in shown):
            return turn.reuse, [turn.reuse, *turn.keep]
        for orphan in turn.orphans:
            issuers[0].revoke(orphan)
    except ApiError as error:
        raise OperatorError(
            f"{family.secret}: no credential was minted: {error}.",
            state="nothing was delivered; every old credential is still alive.",
            next_step="`pulumi up` again once the provider answers.",
            contact=error.contact,
        ) from error
    try:
        minted = issuers[0].mint(name)
    except ApiError as error:
        if not issuers[0].overlaps:
            state = (
                "nothing was delivered. The value before may be dead already: consumers then fail until the next run has delivered "
                "a new one."
            )
        elif error.ambiguous:
            state = (
                "nothing was delivered; every old credential is still alive. One that nobody holds may have been minted; "
                "the next run revokes it, or names it in the output `unmanaged`."
            )
        else:
            state = "nothing was delivered; every old credential is still alive."
        raise OperatorError(
            f"{family.secret}: could not mint {name}: {error}.",
            state=state,
            next_step="`pulumi up` again.",
            contact=error.contact,
        ) from error
    if wrong := flaw(minted.value):
        lost = (
            "the one that was minted is held by nobody; the next run revokes it, and every old one is still alive."
            if issuers[0].overlaps
            else "the value before may be dead already: consumers then fail until the next run has delivered a new one."
        )
        raise OperatorError(
            f"{family.secret}: the value of {name} cannot be delivered: it {wrong}.",
            state=f"nothing was delivered; {lost}",
            next_step="`pulumi up` again; if that says the same, where the value comes from does not give what it should.",
        )
    current = Credential(
        generation=generation,
        credential_id=minted.credential_id,
        name=name,
        value=minted.value,
        created_at=minted.created_at,
    )
    return current, [current, *turn.keep]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a revocation leaves behind. No values.

    Attributes:
        revoked: Ids of the credentials that are now proven dead, with their names.
        alive: Old credentials that only their provider can end, and that it still accepts.
        unmanaged: Live credentials at the same provider that nobody asked to revoke.
    """

    revoked: tuple[Issued, ...]
    alive: tuple[Issued, ...]
    unmanaged: tuple[Issued, ...]


@dataclass(frozen=True, kw_only=True)
class RevocationOrder:
    """What is to be revoked, and what has to be true first.

    Attributes:
        family: Whose credentials die.
        verified: The credential that stays.
        holdings: The fingerprint of what each location holds.
        subject: What has to be verified: this turn of the credential, held by these locations.
        verified_subject: What the last successful verification was about.
        known: Credentials whose values can prove their death.
        also: Ids outside the family that the operator lists.
        proof_timeout: Seconds for the provider to refuse every dead credential.
        tenants_behind: Asks which machines of tenants hold another value than the one given.
    """

    family: Family
    verified: Credential
    holdings: Mapping[str, str]
    subject: str
    verified_subject: str
    known: tuple[Credential, ...]
    also: tuple[str, ...]
    proof_timeout: float
    tenants_behind: Callable[[str], Sequence[str]] = lambda _value: ()


def revoke_all_but(
    issuers: Sequence[Issuer], order: RevocationOrder, *, sleep: Callable[[float], None] = time.sleep
) -> Verdict:
    """Revokes every credential of a family but the verified one, and proves that each is dead.

    Raises:
        OperatorError: A location holds another value, the locations were not verified as they are now, or the credential that is to stay
            is not alive (each: nothing was revoked); a call failed, or a revoked credential is still accepted.
    """
    secret = order.family.secret
    both_work = (
        "every credential is still alive, so both values work."
        if issuers[0].overlaps
        else f"nothing was revoked, but minting generation {order.verified.generation} has ended the value before: who holds it fails."
    )
    elsewhere = holders_of_another_value(value=order.verified.value, holdings=order.holdings)
    if elsewhere:
        raise OperatorError(
            f"{secret}: the old credential is not revoked: {', '.join(elsewhere)} does not hold generation {order.verified.generation}.",
            state=both_work,
            next_step="`pulumi up` without --target: it delivers to every location, verifies, and then revokes.",
        )
    if order.subject != order.verified_subject:
        raise OperatorError(
            f"{secret}: the old credential is not revoked: generation {order.verified.generation} is delivered, but not verified.",
            state=both_work,
            next_step="`pulumi up` without --target: it verifies, and then revokes.",
        )
    try:
        if behind := order.tenants_behind(order.verified.value):
            raise OperatorError(
                f"{secret}: the old credential is not revoked: {', '.join(behind)} does not hold generation {order.verified.generation}.",
                state=f"every other location works with generation {order.verified.generation}, which is verified; nothing was revoked.",
                next_step="`pulumi up`: it moves them, verifies, and then revokes.",
            )
        listed = _listed_with_the_verified(issuers, order, sleep)
        everything = once_each(each for _, each in listed)
        doomed = sentence(
            verified_id=order.verified.credential_id, listed=everything, family=order.family, also=order.also
        )
        if doomed.missing:
            raise OperatorError(
                f"{secret}: `revokeUnmanaged` lists {', '.join(doomed.missing)}, which the provider does not list.",
                state=f"every location works with generation {order.verified.generation}, which is verified; nothing was revoked.",
                next_step="mend `revokeUnmanaged` (the output `secrets` names the ids), then `pulumi up`.",
            )
        # An issuer of before: its settings, or where the value comes from, have changed since.
        can_revoke = {each.credential_id for issuer, each in listed if issuer.revokes}
        if issuers[0].revokes:
            revoking = [issuer for issuer in issuers if issuer.revokes]
            others = [each for each in order.known if each.credential_id != order.verified.credential_id]
            missing = not_listed(revoking, everything, others)
            condemned = (
                *(each for each in doomed.condemned if each.credential_id in can_revoke),
                # Abandoned as soon as it was minted, and not listed yet; or revoked by a run that could not prove it.
                *(
                    as_issued(each, live=True)
                    for each, refused in missing
                    if refused is False or (refused is None and each.generation > order.verified.generation)
                ),
            )
            dead = (*doomed.dead, *(as_issued(each, live=False) for each, refused in missing if refused))
            for issued in condemned:
                issuers[0].revoke(issued.credential_id)
            prove_death(
                revoking,
                (*condemned, *doomed.dead),
                family=order.family,
                known=order.known,
                timeout=order.proof_timeout,
                state=f"every location works with generation {order.verified.generation}, which is verified.",
                sleep=sleep,
            )
            alive: set[str] = set()
            left: tuple[Issued, ...] = ()
        else:
            dead = doomed.dead
            # What an issuer of before has minted is not touched: it may be what the value in use was rolled from.
            condemned = tuple(each for each in doomed.condemned if each.credential_id not in can_revoke)
            left = tuple(each for each in doomed.condemned if each.credential_id in can_revoke)
            ids = {each.credential_id for each in condemned}
            known = [each for each in order.known if each.credential_id in ids and each.value]
            alive = still_accepted(issuers[:1], known) | (ids - {each.credential_id for each in known})
    except ApiError as error:
        raise OperatorError(
            f"{secret}: the old credential may still be alive: {error}.",
            state=f"every location works with generation {order.verified.generation}, which is verified.",
            next_step="`pulumi up` again: it goes on with the revocation.",
            contact=error.contact,
        ) from error
    known_ids = {each.credential_id for each in order.known}
    died_before = tuple(issued for issued in dead if issued.credential_id in known_ids)  # by a run whose proof failed
    return Verdict(
        revoked=(*(issued for issued in condemned if issued.credential_id not in alive), *died_before),
        alive=tuple(issued for issued in condemned if issued.credential_id in alive),
        unmanaged=(*doomed.unmanaged, *left),
    )


def still_accepted(issuers: Sequence[Issuer], credentials: Iterable[Credential]) -> set[str]:
    """The ids of those whose value nobody is known to refuse. Raises ApiError where an answer proves neither."""
    return {each.credential_id for each in credentials if each.value and not _is_refused(issuers, each.value)}


def _may_be_reused(issuers: Sequence[Issuer], credential: Credential, *, listed: bool) -> bool:
    """Whether its provider takes it: a list may lag behind a revocation, too."""
    if not issuers[0].revokes:
        return True
    refused = _is_refused(issuers, credential.value)
    return listed if refused is None else not refused


def _all_issued(issuers: Iterable[Issuer]) -> list[Issued]:
    """What all of them list, each credential once."""
    return once_each(issued for issuer in issuers for issued in issuer.issued())


def once_each(issued: Iterable[Issued]) -> list[Issued]:
    """Each credential once, whoever lists it."""
    return list({each.credential_id: each for each in issued}.values())


def not_listed(
    issuers: Sequence[Issuer], listed: Iterable[Issued], known: Iterable[Credential]
) -> list[tuple[Credential, bool | None]]:
    """Of the credentials that the stack knows, those that are not listed at all, each with whether its value is refused.

    A list may lag behind what was minted, and many show nothing of what was revoked. So a credential that is not listed may be alive.
    """
    seen = {each.credential_id for each in listed}
    return [(each, _is_refused(issuers, each.value)) for each in known if each.value and each.credential_id not in seen]


def alive_but_not_listed(
    issuers: Sequence[Issuer], listed: Iterable[Issued], known: Iterable[Credential], *, keep_from: int
) -> list[Issued]:
    """Of the credentials that the stack knows, those that live although no list shows them yet. Raises ApiError.

    Args:
        issuers: Who mints, first; then whoever minted before.
        listed: What they list.
        known: The keyring.
        keep_from: Earlier generations are over. Counts where a value cannot be tried.
    """
    if not issuers[0].revokes:
        return []
    return [
        as_issued(each, live=True)
        for each, refused in not_listed(issuers, listed, known)
        if refused is False or (refused is None and each.generation >= keep_from)
    ]


def as_issued(credential: Credential, *, live: bool) -> Issued:
    """A credential as its provider would list it."""
    return Issued(
        credential_id=credential.credential_id, name=credential.name, live=live, created_at=credential.created_at
    )


def _listed_with_the_verified(
    issuers: Sequence[Issuer], order: RevocationOrder, sleep: Callable[[float], None]
) -> list[tuple[Issuer, Issued]]:
    """What is listed, by whom, once the verified credential is known to live: by the list, by its value, or by waiting for the list.

    Raises:
        OperatorError: It is dead, or not listed within the time in which the death of others has to be proven.
    """
    deadline = time.monotonic() + order.proof_timeout
    while True:
        listed = [(issuer, each) for issuer in issuers for each in issuer.issued()]
        verified = [each for _, each in listed if each.credential_id == order.verified.credential_id]
        if any(each.live for each in verified):
            return listed
        refused = True if verified else _is_refused(issuers, order.verified.value)
        if refused is False and issuers[0].revokes:
            return listed
        if refused is not None or time.monotonic() > deadline:
            raise OperatorError(
                f"{order.family.secret}: the provider does not list the verified credential {order.verified.credential_id} as alive.",
                state="nothing was revoked by this run; consumers may be broken, if somebody revoked that credential by hand.",
                next_step="bump the counter and `pulumi up`: that mints, delivers and verifies a new one.",
            )
        sleep(POLL_SECONDS)


def prove_death(
    issuers: Sequence[Issuer],
    dead: Sequence[Issued],
    *,
    family: Family,
    known: Iterable[Credential],
    timeout: float,
    state: str,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Waits until the provider refuses each dead credential: by its value, or where nobody can be asked about that, by its list.

    Args:
        issuers: Who can be asked.
        dead: What was revoked.
        family: Theirs.
        known: Credentials whose values can prove their death.
        timeout: Seconds until all of them have to be refused.
        state: What is true meanwhile, for the operator.
        sleep: Waits, given seconds.

    Raises:
        ApiError: Nobody could be asked.
        OperatorError: One is still accepted.
    """
    ids = {issued.credential_id for issued in dead}
    tellers = [each for each in known if each.credential_id in ids and each.value]
    deadline = time.monotonic() + timeout
    while True:
        refused = {each.credential_id: _is_refused(issuers, each.value) for each in tellers}
        by_list = ids - {each for each, told in refused.items() if told is not None}
        listed = {issued.credential_id for issued in _all_issued(issuers) if issued.live} if by_list else set()
        alive = sorted({each for each, told in refused.items() if told is False} | listed & by_list)
        if not alive:
            return
        if time.monotonic() > deadline:
            shown = "listed as alive" if {*alive} <= by_list else "accepted"
            raise OperatorError(
                f"{family.secret}: {', '.join(alive)} was revoked {timeout:g} s ago and is still {shown}.",
                state=state,
                next_step="`pulumi up` again looks once more; if the credential lives on, ask the provider's support.",
            )
        sleep(POLL_SECONDS)


def _is_refused(issuers: Sequence[Issuer], value: str) -> bool | None:
    """Whether any of them refuses the value; None where none can be asked.

    One of before that is asked about another app's token may give an answer that proves nothing.
    """
    accepted = False
    errors: list[ApiError] = []
    for issuer in issuers:
        try:
            refused = issuer.refuses(value)
        except ApiError as error:
            errors.append(error)
            continue
        if refused:
            return True
        accepted = accepted or refused is False
    if accepted:
        return False
    if errors:
        raise errors[0]
    return None
