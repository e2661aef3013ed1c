"""HTTP/1.1 to the API: over a unix socket, or over the character device of an orchestrator's port."""

from __future__ import annotations

import http.client
import io
import json
import os
import select
import socket
import stat
from collections.abc import Iterator, Mapping
from typing import Any, Final

from septum import errors
from septum.errors import HostError, MessageError, NotFound, SeptumError

__all__ = ["PORT", "Connection", "default_address"]

PORT: Final = "/dev/virtio-ports/org.septum.api"
"""Where an orchestrator guest finds its port."""

_MOST: Final = 64 << 20  # bytes of an answer


def default_address(environment: Mapping[str, str]) -> str:
    """SEPTUM_API; inside an orchestrator its port; else the platform's socket in the state folder."""
    if environment.get("SEPTUM_API"):
        return environment["SEPTUM_API"]
    if os.path.exists(PORT):
        return PORT
    return os.path.join(environment.get("SEPTUM_STATE") or "/var/lib/septum", "platform.sock")


class Connection:
    """One connection, opened with the first call; blocking, for one thread.

    Args:
        address: path of a socket or of a character device.
        timeout: seconds to wait for an answer over a socket.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self.address = address
        self._timeout = timeout
        self._http: _Http | None = None

    def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[Any, Mapping[str, str]]:
        """One call; returns what the answer says, and its headers.

        Raises:
            NotFound: nobody listens there, or there is no such object.
            SeptumError: the refusal, as the API says it, of the class that it names.
            HostError: the connection broke: it is not known whether the call was heard.
        """
        raw = json.dumps(body).encode() if body is not None else None
        given = dict(headers or {})
        if raw is not None:
            given["Content-Type"] = "application/json"
        # The daemon ends connections that were silent for long, and ports that a guest has closed. What may not be said
        # twice is said once.
        again = method != "POST" or "Idempotency-Key" in given
        while True:
            try:
                return self._exchange(method, path, raw, given)
            except (OSError, http.client.HTTPException) as error:
                if not again or not isinstance(error, (ConnectionError, http.client.BadStatusLine)):
                    raise HostError(
                        f"the connection broke: {error}",
                        target=self.address,
                        rule="it is not known whether the call was heard",
                        remedy="look at the object, or call again with the same Idempotency-Key",
                    ) from error
                again = False

    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[bytes]:
        """The lines of an answer that does not end, on a connection of its own.

        Raises:
            NotFound, SeptumError, HostError: as `call`.
        """
        http_ = _Http(self.address, self._timeout)
        try:
            http_.request("GET", path, None, dict(headers))
            response = http_.getresponse()
            if response.status >= 400:
                raise _refusal(json.loads(response.read(_MOST)), response.status)
            while line := response.readline():
                yield line
        except (OSError, http.client.HTTPException) as error:
            raise HostError(f"the connection broke: {error}", target=self.address) from error
        finally:
            http_.close()

    def close(self) -> None:
        """Ends the connection; closing twice does no harm."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[Any, Mapping[str, str]]:
        try:
            if self._http is not None and self._http.ended():
                self.close()
            if self._http is None:
                self._http = _Http(self.address, self._timeout)
            self._http.request(method, path, body, headers)
            response = self._http.getresponse()
            raw = response.read(_MOST)
            if response.will_close:
                self.close()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self.close()
            raise NotFound(
                "nobody serves the API here", target=self.address, remedy="septum-apid, or set SEPTUM_API"
            ) from error
        except BaseException:
            self.close()
            raise
        try:
            answer = json.loads(raw) if raw else None
        except ValueError as error:
            raise MessageError("the API's answer is none", target=self.address) from error
        if response.status >= 400:
            raise _refusal(answer, response.status)
        return answer, dict(response.headers)


class _Http(http.client.HTTPConnection):
    def __init__(self, address: str, timeout: float) -> None:
        super().__init__("septum", timeout=timeout)
        self._address = address

    def ended(self) -> bool:
        """Whether the daemon has closed the connection, as it does with those that were silent for long."""
        if not isinstance(self.sock, socket.socket):
            return False
        return bool(select.select([self.sock], [], [], 0)[0])

    def connect(self) -> None:
        if stat.S_ISCHR(os.stat(self._address).st_mode):
            self.sock = _Device(self._address)
            return
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        folder = -1
        try:
            made.settimeout(self.timeout)
            # sun_path has room for 108 bytes, and a state folder may have a longer name.
            folder = os.open(os.path.dirname(os.path.abspath(self._address)), os.O_PATH | os.O_DIRECTORY)
            made.connect(f"/proc/self/fd/{folder}/{os.path.basename(self._address)}")
        except BaseException:
            made.close()
            raise
        finally:
            if folder >= 0:
                os.close(folder)
        self.sock = made


class _Device:
    """A character device with as much of a socket as `http.client` uses."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(io.FileIO(os.dup(self._fd), "r"))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _refusal(answer: Any, status: int) -> SeptumError:
    if not isinstance(answer, dict):
        return MessageError(f"the API refuses with status {status}")
    kind = getattr(errors, str(answer.get("type", "")).rpartition(":")[2], SeptumError)
    if not (isinstance(kind, type) and issubclass(kind, SeptumError)) or kind is errors.DeclarationError:
        kind = SeptumError
    return kind(
        str(answer.get("detail", "")),
        target=str(answer.get("object", "")),
        holder=str(answer.get("holder", "")),
        rule=str(answer.get("rule", "")),
        remedy=str(answer.get("remedy", "")),
    )
