"""Where a declared policy is put in force: septumd's own file, or the kernel."""

import os
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, Protocol

from septum.access import Client
from septum.access.client import SOCKET
from septum.errors import HostError, NotFound
from septum.policy import Built, Source, Store, build, install, installed, load_declared
from septum.sepol.image import with_booleans

__all__ = ["Kernel", "Place", "Standalone"]

_SELINUXFS: Final = "/sys/fs/selinux"
_SOURCE: Final = "declared.cil"


class Place(Protocol):
    """See the module's text. A policy is opaque here: bytes that this place made and understands."""

    def current(self) -> bytes:
        """The policy that is in force; b"" if none was ever put here."""

    def compiled(self, text: str) -> bytes:
        """The policy of a declaration, with all checks; nothing is changed.

        Raises:
            PolicyError: it does not compile, or breaks a neverallow.
        """

    def put(self, policy: bytes, values: Mapping[str, bool]) -> bool:
        """Puts a policy in force with these values of its booleans; False if nobody decides by it yet.

        Raises:
            Denied: it is refused; what was in force before still decides.
            HostError: it can't be written.
        """

    def put_back(self, policy: bytes) -> None:
        """Undoes a `put` that was refused, so that whoever starts later finds what is in force."""


class Standalone:
    """Implements `Place` for a host where septumd decides by a policy of its own.

    Args:
        folder: the state folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def current(self) -> bytes:
        return installed(self._folder)

    def compiled(self, text: str) -> bytes:
        return build("standalone", extra=[Source(_SOURCE, text)]).image

    def put(self, policy: bytes, values: Mapping[str, bool]) -> bool:
        self.put_back(with_booleans(policy, dict(sorted(values.items()))))
        try:
            with Client(os.path.join(self._folder, SOCKET)) as client:
                client.reload()
        except NotFound:
            return False
        return True

    def put_back(self, policy: bytes) -> None:
        if policy:
            fingerprint = blake2b(policy, digest_size=32).hexdigest()
            install(self._folder, Built("standalone", policy, fingerprint, ""))


class Kernel:
    """Implements `Place` for a host with SELinux: a policy is the text of a module beside septum's.

    Where the text is the same, booleans are set and no policy is loaded. Their values last until the next boot, so that
    doors are closed then until the declaration's are set again (`septum reconcile`).

    Args:
        store: None stands for the host's own.
        selinuxfs: where it is mounted.
    """

    def __init__(self, store: Store | None = None, selinuxfs: str = _SELINUXFS) -> None:
        self._store = store
        self._selinuxfs = selinuxfs

    def current(self) -> bytes:
        return self._host().declared().encode()

    def compiled(self, text: str) -> bytes:
        build("module", store=self._host(), extra=[Source(f"host/{_SOURCE}", text)])
        return text.encode()

    def put(self, policy: bytes, values: Mapping[str, bool]) -> bool:
        if policy != self.current():
            load_declared(policy.decode(), store=self._host())
        if not values:
            return True
        try:
            for name, value in sorted(values.items()):
                self._write(os.path.join("booleans", name), value)
            self._write("commit_pending_bools", True)
        except OSError as error:
            raise HostError(
                f"the doors' booleans can't be set: {error.strerror}",
                errno=error.errno or 0,
                target=error.filename or self._selinuxfs,
                rule="each door hangs on one; those that were not set are as they were",
            ) from error
        return True

    def put_back(self, policy: bytes) -> None:
        """Nothing: semodule changes all or nothing."""

    def _host(self) -> Store:
        return self._store if self._store is not None else Store.of_host()

    def _write(self, name: str, value: bool) -> None:
        with open(os.path.join(self._selinuxfs, name), "w") as file:
            file.write("1" if value else "0")
