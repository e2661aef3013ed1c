"""Doors come of two halves. Whether one is open is decided here, and by nothing else.

Across realms the serving realm offers and the using realm uses, each in its own part; the platform may deny, and can't
open. A half that meets no other half is no fault: else one realm could keep another's part from being accepted, and
could learn from the refusal what the other declares.
"""

from collections.abc import Iterable, Mapping, Sequence

from septum.declare.model import ANY, Denial, Direction, Door, End, Limits, Offer, Service, State, Use

__all__ = ["join_doors"]


def join_doors(
    uses: Iterable[Use], offers: Sequence[Offer], denials: Sequence[Denial], services: Mapping[End, Service]
) -> tuple[Door, ...]:
    """All doors, open or not, by using role and service; at last the offers that nobody uses.

    Args:
        uses, offers: the halves. Of two offers that fit, the one to the role counts, not the one to its whole realm.
        denials: of the platform.
        services: that are declared.
    """
    by_end = {(offer.service, offer.to): offer for offer in offers}
    taken: set[tuple[End, End]] = set()
    doors = []
    for use in uses:
        offer = None
        if use.role.realm != use.service.realm:
            for end in (use.role, End(use.role.realm, "")):
                if (use.service, end) in by_end:
                    offer = by_end[use.service, end]
                    taken.add((use.service, end))
                    break
        doors.append(_door(use, offer, denials, services))
    for key, offer in by_end.items():
        if key not in taken:
            reason = f"{offer.service.realm} offers it, {offer.to.realm} does not use it"
            state: State = "denied" if _denied(offer.to, offer.service, denials) else "pending"
            reason = "the platform denies it" if state == "denied" else reason
            doors.append(Door(offer.to, offer.service, offer.direction, offer.limits, state, reason, offer.where))
    return tuple(sorted(doors, key=lambda door: (door.role, door.service)))


def _door(use: Use, offer: Offer | None, denials: Sequence[Denial], services: Mapping[End, Service]) -> Door:
    direction, limits = use.direction, use.limits
    state: State = "open"
    reason = ""
    if use.role.realm != use.service.realm:
        if offer is None:
            # The same words whether the service exists or not: a realm does not learn what another has.
            state, reason = "pending", f"{use.role.realm} uses it, {use.service.realm} does not offer it"
        else:
            met = _meet(use.direction, offer.direction)
            limits = Limits(*map(min, use.limits, offer.limits))
            if met is None:
                state, reason = "pending", f"the halves don't meet: {use.direction} is used, {offer.direction} offered"
            else:
                direction = met
    if state == "open" and use.service not in services:
        raise AssertionError(f"{use.service} is offered and does not exist")
    if _denied(use.role, use.service, denials):
        state, reason = "denied", "the platform denies it"
    return Door(use.role, use.service, direction, limits, state, reason, use.where)


def _meet(one: Direction, other: Direction) -> Direction | None:
    if one == other or other == "both":
        return one
    return other if one == "both" else None


def _denied(role: End, service: End, denials: Sequence[Denial]) -> bool:
    return any(_within(role, denial.role) and _within(service, denial.service) for denial in denials)


def _within(end: End, pattern: End) -> bool:
    return pattern.realm == ANY or (pattern.realm == end.realm and pattern.name in ("", end.name))
