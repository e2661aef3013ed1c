"""A client of the API of realms: standard library alone, on the host and inside an orchestrator guest.

with Client.open() as api:
    operation = api.start_guest("acme", "web")
    api.wait(operation)
"""

from septum.client.calls import Client
from septum.client.values import Device, Door, Event, Evidence, Guest, Image, Me, Operation, Realm, Snapshot

__all__ = ["Client", "Device", "Door", "Event", "Evidence", "Guest", "Image", "Me", "Operation", "Realm", "Snapshot"]
