"""Verbs on images: what is decided and written down. Files are made and removed by `septum.realms.perform`."""

from __future__ import annotations

import os
from typing import Any

from septum.errors import Changed, Denied, Held
from septum.ledger.records import Document, Spend
from septum.realms.caller import Caller, absent
from septum.realms.core import Core, Once, put
from septum.realms.model import Clone, ImageView, NewImage, OperationView

__all__ = ["clone", "create", "destroy", "get", "listed"]


def create(core: Core, caller: Caller, realm: str, new: NewImage, once: Once | None = None) -> OperationView:
    """Accepts the making of an image: empty, or a copy of a file of the host, which only the platform may name.

    Raises:
        NotFound: the caller may not.
        Held: there is such an image.
        OverQuota: the realm may have no more room.
        Denied: the file can't be copied.
    """
    core.permit(caller, (f"images:{realm}", "create"))
    if made := core.seen(realm, once):
        return core.operation(caller, realm, made)
    size = new.size
    if new.path:
        if caller.realm:
            raise absent()
        size = _size_of(new.path)
    return _make(core, caller, realm, new.name, size, "image.create", {"path": new.path}, once)


def clone(core: Core, caller: Caller, realm: str, name: str, new: Clone, once: Once | None = None) -> OperationView:
    """Accepts the copying of an image to which nobody writes.

    Raises:
        NotFound: there is none, or it is not the caller's.
        Held: a guest writes to it, or there is an image of the new name.
        OverQuota: the realm may have no more room.
    """
    core.permit(caller, (f"image:{realm}/{name}", "clone"), (f"images:{realm}", "create"))
    if made := core.seen(realm, once):
        return core.operation(caller, realm, made)
    document = core.document("image", realm, name)
    writers = [guest for guest, mode in document.body["users"].items() if mode == "rw"]
    if writers or not document.body["ready"]:
        raise Held(
            f"image {name} can't be copied now",
            target=name,
            holder=f"guest {writers[0]}" if writers else "its own operation",
            rule="a copy is of one moment",
            remedy="stop that guest, or take a snapshot of it",
        )
    # Nobody begins to write to it before the copy is there.
    reading = put("image", realm, name, document.version, _used(document, f"clone {new.name}"))
    arguments = {"source": name}
    return _make(core, caller, realm, new.name, document.body["size"], "image.clone", arguments, once, (reading,))


def listed(core: Core, caller: Caller, realm: str) -> list[ImageView]:
    """
    Raises:
        NotFound: the realm is not the caller's.
    """
    core.permit(caller, (f"realm:{realm}", "getattr"))
    return [image_view(one) for one in core.ledger.documents("image", realm)]


def get(core: Core, caller: Caller, realm: str, name: str) -> ImageView:
    """
    Raises:
        NotFound: there is none, or it is not the caller's.
    """
    core.permit(caller, (f"image:{realm}/{name}", "read"))
    return image_view(core.document("image", realm, name))


def destroy(core: Core, caller: Caller, realm: str, name: str, expected: int) -> OperationView:
    """Accepts the removal of an image that no guest has.

    Raises:
        NotFound: there is none, or it is not the caller's.
        Changed: the image is not at version `expected`.
        Held: a guest uses it, or is made with it.
    """
    core.permit(caller, (f"image:{realm}/{name}", "delete"))
    document = core.document("image", realm, name)
    if expected and expected != document.version:
        raise Changed(f"image {name} was changed meanwhile", target=name, remedy="read it again")
    if document.body["users"] or not document.body["ready"]:
        raise Held(
            f"image {name} is in use",
            target=name,
            holder=next(iter(document.body["users"]), "its own operation"),
            rule="an image that somebody uses stays",
            remedy="stop that guest first",
        )
    body = {**document.body, "ready": False}
    puts = [put("image", realm, name, document.version, body)]
    return core.accept(caller, realm, "image.destroy", f"image {name}", {"image": name}, puts)


def image_view(document: Document) -> ImageView:
    """An image as callers see it."""
    return ImageView(
        name=document.id,
        realm=document.realm,
        version=document.version,
        size=document.body["size"],
        ready=document.body["ready"],
    )


def _make(
    core: Core,
    caller: Caller,
    realm: str,
    name: str,
    size: int,
    verb: str,
    arguments: dict[str, Any],
    once: Once | None,
    more: tuple[Any, ...] = (),
) -> OperationView:
    body = {"size": size, "ready": False, "users": {}}
    puts = [put("image", realm, name, 0, body), *more]
    spends = [Spend(realm, "disk", size, core.quota(realm).disk)]
    return core.accept(caller, realm, verb, f"image {name}", {"image": name, **arguments}, puts, spends, once)


def _used(document: Document, user: str) -> dict[str, Any]:
    return {**document.body, "users": {**document.body["users"], user: "ro"}}


def _size_of(path: str) -> int:
    try:
        status = os.stat(path)
    except OSError as error:
        raise Denied(f"the file can't be copied: {error.strerror}", target=path) from error
    if not os.path.isabs(path) or not os.path.isfile(path):
        raise Denied("an image is a copy of a regular file", target=path, rule="a whole path, of a regular file")
    return status.st_size
