"""What the API offers: one row for each verb. The server answers by this table, and describes itself by it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from septum.realms import (
    Caller,
    Core,
    Once,
    Performer,
    evidence,
    of_devices,
    of_doors,
    of_guests,
    of_images,
    of_realms,
    of_snapshots,
)
from septum.realms.model import (
    Attachment,
    Clone,
    Delegates,
    DeviceView,
    DoorView,
    Enrolment,
    Evidence,
    GuestConfig,
    GuestView,
    ImageView,
    Me,
    NewDevice,
    NewGuest,
    NewImage,
    NewRealm,
    NewSnapshot,
    OperationView,
    Output,
    QuotaBody,
    RealmView,
    SnapshotView,
    Stop,
)

__all__ = ["ROUTES", "Call", "Route", "match"]


class Call(NamedTuple):
    """One request, taken apart.

    Attributes:
        caller: who; not from the request.
        names: from the path, by what they name.
        body: of the route's type, None if it has none.
        once: the caller's idempotency key.
        expected: version from If-Match, 0 for any.
    """

    caller: Caller
    names: Mapping[str, str]
    body: Any
    once: Once | None
    expected: int

    @property
    def realm(self) -> str:
        return self.names["realm"]


class Route(NamedTuple):
    """One verb.

    Attributes:
        method, path: of HTTP.
        name: operationId of OpenAPI.
        says: one sentence.
        job: does it.
        answer: type of the answer, None for none.
        status: of success.
        body: type of the body, None for none.
        makes: it makes something: an Idempotency-Key is heeded.
        versioned: ``must`` if it needs an If-Match, ``may`` if it heeds one.
        query: names that the query may have.
        streams: the job gives whose events are sent from then on.
        act: what is done with the job's answer at once, outside of the ledger; gives the answer of the route.
    """

    method: str
    path: str
    name: str
    says: str
    job: Callable[[Core, Call], Any]
    answer: Any
    status: int = 200
    body: type | None = None
    makes: bool = False
    versioned: str = ""
    act: Callable[[Performer, Any], Awaitable[Any]] | None = None
    query: tuple[str, ...] = ()
    streams: bool = False


_R: Final = "/v1/realms/{realm}"
_G: Final = f"{_R}/guests/{{guest}}"
_S: Final = f"{_R}/snapshots/{{snapshot}}"
_I: Final = f"{_R}/images/{{image}}"

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/v1/me", "me", "Who the caller is.",
          lambda core, call: Me(realm=call.caller.realm, context=call.caller.context), Me),
    Route("GET", "/v1/realms", "realm.list", "Realms that the caller may see.",
          lambda core, call: of_realms.listed(core, call.caller), list[RealmView]),
    Route("POST", "/v1/realms", "realm.create", "Makes a realm, and a key that works once for its orchestrator.",
          lambda core, call: of_realms.create(core, call.caller, call.body, call.once), RealmView, 201, NewRealm, True),
    Route("GET", _R, "realm.get", "One realm.",
          lambda core, call: of_realms.get(core, call.caller, call.realm), RealmView),
    Route("DELETE", _R, "realm.destroy", "Takes out a realm that has nothing any more.",
          lambda core, call: of_realms.destroy(core, call.caller, call.realm, call.expected), None, 204,
          versioned="may"),
    Route("PUT", f"{_R}/quota", "realm.set_quota", "Says what a realm may have.",
          lambda core, call: of_realms.set_quota(core, call.caller, call.realm, call.body, call.expected), RealmView,
          200, QuotaBody, versioned="must"),
    Route("PUT", f"{_R}/delegates", "realm.delegate", "Says which users of the host act for a realm.",
          lambda core, call: of_realms.delegate(core, call.caller, call.realm, call.body, call.expected), RealmView,
          200, Delegates, versioned="must"),
    Route("PUT", f"{_R}/enrolment", "realm.invite", "Gives a realm a new key that works once.",
          lambda core, call: of_realms.invite(core, call.caller, call.realm, call.expected), RealmView,
          versioned="must"),
    Route("GET", f"{_R}/doors", "door.list", "The declared doors of a realm.",
          lambda core, call: of_doors.listed(core, call.caller, call.realm), list[DoorView]),
    Route("POST", f"{_R}/enrolment", "realm.enrol", "An orchestrator makes its key known, once.",
          lambda core, call: of_realms.enrol(core, call.caller, call.realm, call.body), RealmView, 200, Enrolment),
    Route("GET", f"{_R}/guests", "guest.list", "The guests of a realm.",
          lambda core, call: of_guests.listed(core, call.caller, call.realm), list[GuestView]),
    Route("POST", f"{_R}/guests", "guest.create", "Defines a guest.",
          lambda core, call: of_guests.create(core, call.caller, call.realm, call.body, call.once), GuestView, 201,
          NewGuest, True),
    Route("GET", _G, "guest.get", "One guest.",
          lambda core, call: of_guests.get(core, call.caller, call.realm, call.names["guest"]), GuestView),
    Route("PUT", f"{_G}/config", "guest.set_config", "Says what a guest is made of, from its next start on.",
          lambda core, call: of_guests.configure(
              core, call.caller, call.realm, call.names["guest"], call.body, call.expected),
          GuestView, 200, GuestConfig, versioned="must"),
    Route("DELETE", _G, "guest.destroy", "Forgets a guest that is stopped.",
          lambda core, call: of_guests.destroy(core, call.caller, call.realm, call.names["guest"], call.expected),
          None, 204, versioned="may"),
    Route("POST", f"{_G}/start", "guest.start", "Starts a guest.",
          lambda core, call: of_guests.start(core, call.caller, call.realm, call.names["guest"], call.once),
          OperationView, 202, makes=True),
    Route("POST", f"{_G}/stop", "guest.stop", "Stops a guest.",
          lambda core, call: of_guests.stop(
              core, call.caller, call.realm, call.names["guest"], call.body, call.once),
          OperationView, 202, Stop, True),
    Route("POST", f"{_G}/pause", "guest.pause", "Stops a guest's processors.",
          lambda core, call: of_guests.reach(core, call.caller, call.realm, call.names["guest"], "pause"), GuestView,
          act=lambda performer, guest: performer.pause(guest)),
    Route("POST", f"{_G}/resume", "guest.resume", "Has a guest's processors run.",
          lambda core, call: of_guests.reach(core, call.caller, call.realm, call.names["guest"], "pause"), GuestView,
          act=lambda performer, guest: performer.go_on(guest)),
    Route("POST", f"{_G}/reset", "guest.reset", "Resets a guest.",
          lambda core, call: of_guests.reach(core, call.caller, call.realm, call.names["guest"], "reset"), GuestView,
          act=lambda performer, guest: performer.reset(guest)),
    Route("POST", f"{_G}/console", "guest.console", "What a guest has printed since it was read last.",
          lambda core, call: of_guests.reach(core, call.caller, call.realm, call.names["guest"], "console"), Output,
          act=lambda performer, guest: performer.console(guest)),
    Route("POST", f"{_G}/snapshots", "guest.snapshot", "Copies all disks that a guest writes to.",
          lambda core, call: of_snapshots.create(
              core, call.caller, call.realm, call.names["guest"], call.body, call.once),
          OperationView, 202, NewSnapshot, True),
    Route("GET", f"{_R}/snapshots", "snapshot.list", "The snapshots of a realm's guests.",
          lambda core, call: of_snapshots.listed(core, call.caller, call.realm), list[SnapshotView]),
    Route("GET", _S, "snapshot.get", "One snapshot.",
          lambda core, call: of_snapshots.get(core, call.caller, call.realm, call.names["snapshot"]), SnapshotView),
    Route("POST", f"{_S}/restore", "snapshot.restore", "Makes a guest's disks what they were.",
          lambda core, call: of_snapshots.restore(
              core, call.caller, call.realm, call.names["snapshot"], call.once),
          OperationView, 202, makes=True),
    Route("DELETE", _S, "snapshot.destroy", "Removes a snapshot.",
          lambda core, call: of_snapshots.destroy(
              core, call.caller, call.realm, call.names["snapshot"], call.expected),
          OperationView, 202, versioned="may"),
    Route("POST", f"{_G}/attach", "guest.attach", "Attaches an image to a guest that runs.",
          lambda core, call: of_guests.attach(core, call.caller, call.realm, call.names["guest"], call.body),
          OperationView, 202, Attachment),
    Route("POST", f"{_G}/detach", "guest.detach", "Takes away an image that was attached while the guest ran.",
          lambda core, call: of_guests.detach(core, call.caller, call.realm, call.names["guest"], call.body),
          OperationView, 202, Attachment),
    Route("GET", f"{_R}/images", "image.list", "The images of a realm.",
          lambda core, call: of_images.listed(core, call.caller, call.realm), list[ImageView]),
    Route("POST", f"{_R}/images", "image.create", "Makes an image.",
          lambda core, call: of_images.create(core, call.caller, call.realm, call.body, call.once), OperationView,
          202, NewImage, True),
    Route("GET", _I, "image.get", "One image.",
          lambda core, call: of_images.get(core, call.caller, call.realm, call.names["image"]), ImageView),
    Route("POST", f"{_I}/clone", "image.clone", "Copies an image.",
          lambda core, call: of_images.clone(
              core, call.caller, call.realm, call.names["image"], call.body, call.once),
          OperationView, 202, Clone, True),
    Route("DELETE", _I, "image.destroy", "Removes an image that no guest has.",
          lambda core, call: of_images.destroy(core, call.caller, call.realm, call.names["image"], call.expected),
          OperationView, 202, versioned="may"),
    Route("GET", f"{_R}/devices", "device.list", "The devices of the host that a realm has.",
          lambda core, call: of_devices.listed(core, call.caller, call.realm), list[DeviceView]),
    Route("POST", f"{_R}/devices", "device.assign", "Gives a block device of the host to a realm.",
          lambda core, call: of_devices.assign(core, call.caller, call.realm, call.body), DeviceView, 201, NewDevice),
    Route("GET", f"{_R}/devices/{{device}}", "device.get", "One device.",
          lambda core, call: of_devices.get(core, call.caller, call.realm, call.names["device"]), DeviceView),
    Route("DELETE", f"{_R}/devices/{{device}}", "device.release", "Takes a device from a realm.",
          lambda core, call: of_devices.release(
              core, call.caller, call.realm, call.names["device"], call.expected),
          None, 204, versioned="may"),
    Route("GET", f"{_R}/events", "event.follow", "What happens in a realm, as it happens (text/event-stream).",
          lambda core, call: core.permit(call.caller, (f"realm:{call.realm}", "getattr")), None, streams=True),
    Route("GET", f"{_R}/evidence", "realm.evidence", "What separates a realm from others here, signed.",
          lambda core, call: evidence.give(core, call.caller, call.realm, call.names.get("nonce", "")), Evidence,
          query=("nonce",)),
    Route("GET", f"{_R}/operations", "operation.list", "What is being done, and what was.",
          lambda core, call: core.operations(call.caller, call.realm), list[OperationView]),
    Route("GET", f"{_R}/operations/{{operation}}", "operation.get", "One operation.",
          lambda core, call: core.operation(call.caller, call.realm, call.names["operation"]), OperationView),
)  # fmt: skip
"""All verbs."""

_NAME: Final = r"([A-Za-z0-9_][A-Za-z0-9._\-]{0,62})"
_PATTERNS: Final = tuple(
    (re.compile(re.sub(r"\\\{\w+\\\}", lambda _: _NAME, re.escape(route.path))), re.findall(r"\{(\w+)\}", route.path))
    for route in ROUTES
)


def match(method: str, path: str) -> tuple[Route | None, dict[str, str], list[str]]:
    """The route of a request, the names in its path, and the methods that the path has."""
    methods = []
    for route, (pattern, names) in zip(ROUTES, _PATTERNS, strict=True):
        if found := pattern.fullmatch(path):
            if route.method == method:
                return route, dict(zip(names, found.groups(), strict=True)), []
            methods.append(route.method)
    return None, {}, methods
