"""The calls of the API, one method each."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

from septum.client.transport import Connection, default_address
from septum.client.values import Device, Door, Event, Evidence, Guest, Image, Me, Operation, Realm, Snapshot, value
from septum.errors import SeptumError

__all__ = ["Client"]

_PAUSES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # seconds between looks at an operation


class Client:
    """Calls the API; blocking, for one thread. Every method may raise what `Connection.call` raises.

    Args:
        address: path of a socket, or of an orchestrator's port.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, address: str, *, timeout: float = 60.0) -> None:
        self._connection = Connection(address, timeout)

    @classmethod
    def open(cls) -> Client:
        """A client of the API that SEPTUM_API names, or of the one that is found here."""
        return cls(default_address(os.environ))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def me(self) -> Me:
        """Who this process is to the API."""
        return value(Me, self._get("/v1/me"))

    # realms

    def realms(self) -> list[Realm]:
        return [value(Realm, one) for one in self._get("/v1/realms")]

    def realm(self, name: str) -> Realm:
        return value(Realm, self._get(_path(name)))

    def create_realm(self, name: str, quota: Mapping[str, int] | None = None, *, key: str = "") -> Realm:
        """
        Args:
            quota: by name; what is left out has the default.
            key: idempotency key, if the call may have to be repeated by another process.
        """
        return value(Realm, self._make("/v1/realms", {"name": name, "quota": dict(quota or {})}, key))

    def destroy_realm(self, name: str) -> None:
        self._call("DELETE", _path(name))

    def set_quota(self, name: str, quota: Mapping[str, int], version: int) -> Realm:
        return value(Realm, self._change(f"{_path(name)}/quota", dict(quota), version))

    def delegate(self, name: str, uids: list[int], version: int) -> Realm:
        return value(Realm, self._change(f"{_path(name)}/delegates", {"uids": uids}, version))

    def invite(self, name: str, version: int) -> Realm:
        """Gives the realm a new one-time key for its orchestrator."""
        headers = {"If-Match": f'"{version}"'}
        return value(Realm, self._connection.call("PUT", f"{_path(name)}/enrolment", None, headers)[0])

    def doors(self, name: str) -> list[Door]:
        """The declared doors of the realm."""
        return [value(Door, one) for one in self._get(f"{_path(name)}/doors")]

    def enrol(self, name: str, key: str, public_key: str) -> Realm:
        """Makes an orchestrator's public key (Ed25519, base64) known; the one-time key burns."""
        body = {"key": key, "public_key": public_key}
        return value(Realm, self._call("POST", f"{_path(name)}/enrolment", body))

    def evidence(self, name: str, nonce: str = "") -> Evidence:
        """A signed statement of what separates the realm from others; `nonce` proves that it is fresh."""
        query = f"?nonce={quote(nonce, safe='')}" if nonce else ""
        return value(Evidence, self._get(f"{_path(name)}/evidence{query}"))

    def events(self, name: str, after: int = -1) -> Iterator[Event]:
        """What happens in a realm, from now on.

        Args:
            after: number of an event, to go on from there instead.
        """
        headers = {"Last-Event-ID": str(after)} if after >= 0 else {}
        seq, kind = after, ""
        for line in self._connection.stream(f"{_path(name)}/events", headers):
            field, _, text = line.decode("utf-8", "replace").rstrip("\n").partition(": ")
            if field == "id":
                seq = int(text)
            elif field == "event":
                kind = text
            elif field == "data":
                data = json.loads(text)
                yield Event(seq, data.get("time", 0.0), kind, data.get("fields", data))

    # guests

    def guests(self, realm: str) -> list[Guest]:
        return [value(Guest, one) for one in self._get(f"{_path(realm)}/guests")]

    def guest(self, realm: str, name: str) -> Guest:
        return value(Guest, self._get(_path(realm, "guests", name)))

    def create_guest(self, realm: str, name: str, config: Mapping[str, Any] | None = None, *, key: str = "") -> Guest:
        body = {"name": name, "config": dict(config or {})}
        return value(Guest, self._make(f"{_path(realm)}/guests", body, key))

    def configure_guest(self, realm: str, name: str, config: Mapping[str, Any], version: int) -> Guest:
        return value(Guest, self._change(f"{_path(realm, 'guests', name)}/config", dict(config), version))

    def destroy_guest(self, realm: str, name: str) -> None:
        self._call("DELETE", _path(realm, "guests", name))

    def start_guest(self, realm: str, name: str, *, key: str = "") -> Operation:
        return value(Operation, self._make(f"{_path(realm, 'guests', name)}/start", None, key))

    def stop_guest(self, realm: str, name: str, *, force: bool = False, seconds: int = 10, key: str = "") -> Operation:
        """
        Args:
            force: do not ask the guest.
            seconds: how long to wait for it before it is forced.
        """
        body = {"force": force, "seconds": seconds}
        return value(Operation, self._make(f"{_path(realm, 'guests', name)}/stop", body, key))

    def pause_guest(self, realm: str, name: str) -> Guest:
        return value(Guest, self._call("POST", f"{_path(realm, 'guests', name)}/pause"))

    def resume_guest(self, realm: str, name: str) -> Guest:
        return value(Guest, self._call("POST", f"{_path(realm, 'guests', name)}/resume"))

    def reset_guest(self, realm: str, name: str) -> Guest:
        return value(Guest, self._call("POST", f"{_path(realm, 'guests', name)}/reset"))

    def console(self, realm: str, name: str) -> str:
        """What the guest has printed since it was read last, at most 64 KiB."""
        return str(self._call("POST", f"{_path(realm, 'guests', name)}/console")["text"])

    def attach_image(self, realm: str, name: str, image: str, *, read_only: bool = False) -> Operation:
        body = {"image": image, "read_only": read_only}
        return value(Operation, self._call("POST", f"{_path(realm, 'guests', name)}/attach", body))

    def detach_image(self, realm: str, name: str, image: str) -> Operation:
        return value(Operation, self._call("POST", f"{_path(realm, 'guests', name)}/detach", {"image": image}))

    # snapshots

    def snapshots(self, realm: str) -> list[Snapshot]:
        return [value(Snapshot, one) for one in self._get(f"{_path(realm)}/snapshots")]

    def snapshot(self, realm: str, name: str) -> Snapshot:
        return value(Snapshot, self._get(_path(realm, "snapshots", name)))

    def create_snapshot(self, realm: str, guest: str, name: str, *, key: str = "") -> Operation:
        return value(Operation, self._make(f"{_path(realm, 'guests', guest)}/snapshots", {"name": name}, key))

    def restore_snapshot(self, realm: str, name: str, *, key: str = "") -> Operation:
        return value(Operation, self._make(f"{_path(realm, 'snapshots', name)}/restore", None, key))

    def destroy_snapshot(self, realm: str, name: str) -> Operation:
        return value(Operation, self._call("DELETE", _path(realm, "snapshots", name)))

    # images

    def images(self, realm: str) -> list[Image]:
        return [value(Image, one) for one in self._get(f"{_path(realm)}/images")]

    def image(self, realm: str, name: str) -> Image:
        return value(Image, self._get(_path(realm, "images", name)))

    def create_image(self, realm: str, name: str, *, size: int = 0, path: str = "", key: str = "") -> Operation:
        """
        Args:
            size: bytes of an empty one.
            path: file of the host to copy; only for the platform.
        """
        body = {"name": name, "size": size, "path": path}
        return value(Operation, self._make(f"{_path(realm)}/images", body, key))

    def clone_image(self, realm: str, name: str, to: str, *, key: str = "") -> Operation:
        return value(Operation, self._make(f"{_path(realm, 'images', name)}/clone", {"name": to}, key))

    def destroy_image(self, realm: str, name: str) -> Operation:
        return value(Operation, self._call("DELETE", _path(realm, "images", name)))

    # devices

    def devices(self, realm: str) -> list[Device]:
        return [value(Device, one) for one in self._get(f"{_path(realm)}/devices")]

    def assign_device(self, realm: str, name: str, path: str) -> Device:
        """Gives a block device of the host to a realm; only for the platform."""
        return value(Device, self._call("POST", f"{_path(realm)}/devices", {"name": name, "path": path}))

    def release_device(self, realm: str, name: str) -> None:
        self._call("DELETE", _path(realm, "devices", name))

    # operations

    def operation(self, realm: str, name: str) -> Operation:
        return value(Operation, self._get(_path(realm, "operations", name)))

    def operations(self, realm: str) -> list[Operation]:
        return [value(Operation, one) for one in self._get(f"{_path(realm)}/operations")]

    def wait(self, operation: Operation) -> Operation:
        """Waits until an operation is done.

        Raises:
            SeptumError: it failed; says why.
        """
        looks = 0
        while operation.state not in ("done", "failed"):
            time.sleep(_PAUSES[min(looks, len(_PAUSES) - 1)])
            looks += 1
            operation = self.operation(operation.realm, operation.id)
        if operation.failure is not None:
            parts = operation.failure
            raise SeptumError(
                parts["what"],
                target=parts.get("object", ""),
                holder=parts.get("holder", ""),
                rule=parts.get("rule", ""),
                remedy=parts.get("remedy", ""),
            )
        return operation

    def _get(self, path: str) -> Any:
        return self._call("GET", path)

    def _make(self, path: str, body: object, key: str) -> Any:
        # So that a call that is repeated by the connection is one.
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        return self._connection.call("POST", path, body, headers)[0]

    def _change(self, path: str, body: object, version: int) -> Any:
        return self._connection.call("PUT", path, body, {"If-Match": f'"{version}"'})[0]

    def _call(self, method: str, path: str, body: object = None) -> Any:
        return self._connection.call(method, path, body)[0]


def _path(realm: str, *parts: str) -> str:
    return "/".join(("/v1/realms", *(quote(part, safe="") for part in (realm, *parts))))
