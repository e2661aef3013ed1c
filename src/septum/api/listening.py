"""Sockets of realms: one for each, which only root and the users who act for the realm may connect to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

import msgspec

from septum.api.front import Front
from septum.daemon.listen import bind
from septum.errors import HostError
from septum.host.dac import READ, WRITE, XATTR, base, grant, pack
from septum.realms import Core, Turns
from septum.realms.model import QuotaBody

__all__ = ["Listening"]

_MODE: Final = 0o600


class Listening:
    """Keeps sockets as realms come and go.

    Args:
        front: serves them.
        turns: works on the ledger.
        folder: that the sockets are in.
    """

    def __init__(self, front: Front, turns: Turns[Core], folder: str) -> None:
        self._front = front
        self._turns = turns
        self._folder = folder
        self._users: dict[str, frozenset[int]] = {}

    async def follow(self) -> None:
        """A socket for each realm of the ledger, and none for one that is gone.

        Raises:
            SeptumError: a socket can't be made.
        """
        documents = await self._turns.run("", lambda core: core.ledger.documents("realm"))
        for document in documents:
            realm, users = document.realm, frozenset[int](document.body["delegates"])
            path = self._path(realm)
            self._front.allow(realm, users, msgspec.convert(document.body["quota"], QuotaBody).calls)
            if realm not in self._front.realms():
                self._front.listen(realm, bind(path, _MODE))
                self._users[realm] = frozenset()
            if users != self._users.get(realm):
                _let(path, users)
                self._users[realm] = users
        for gone in self._front.realms() - {"", *(document.realm for document in documents)}:
            self._front.forget(gone)
            self._users.pop(gone, None)
            os.unlink(self._path(gone))

    def _path(self, realm: str) -> str:
        return os.path.join(self._folder, f"{realm}.sock")


def _let(path: str, users: Iterable[int]) -> None:
    """Lets users connect, and nobody else but root.

    Not by a group: the realm's own is that of its guests' emulators, which have no business there.
    """
    acl = base(_MODE)
    for user in sorted(users):
        acl = grant(acl, _MODE, "user", user, READ | WRITE)
    try:
        if users:
            os.setxattr(path, XATTR, pack(acl), follow_symlinks=False)
        else:
            os.chmod(path, _MODE)
            if XATTR in os.listxattr(path, follow_symlinks=False):
                os.removexattr(path, XATTR, follow_symlinks=False)
    except OSError as error:
        raise HostError(
            f"users can't be let to a realm's socket: {error.strerror}",
            errno=error.errno or 0,
            target=path,
            rule="its file system must have ACLs",
        ) from error
