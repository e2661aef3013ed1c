"""What a guest is made of: a QEMU command line as the host resources that it names."""

from __future__ import annotations

from septum.guests.argv import parse
from septum.guests.found import Host
from septum.guests.lookup import ThisHost, read_file
from septum.guests.resource import Access, CommandLine, Kind, Resource, Sharing, Unknown

__all__ = [
    "Access",
    "CommandLine",
    "Host",
    "Kind",
    "Resource",
    "Sharing",
    "ThisHost",
    "Unknown",
    "parse",
    "read_file",
]
