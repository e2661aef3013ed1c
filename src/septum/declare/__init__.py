"""The platform's declaration: who the owners are, what guests they run, and the doors between them."""

from septum.declare.files import read
from septum.declare.model import (
    ANY,
    PLATFORM,
    Declaration,
    Denial,
    Device,
    Door,
    End,
    Image,
    Limits,
    Offer,
    Quota,
    Realm,
    Role,
    Service,
    Use,
    Where,
)
from septum.declare.parse import Fetched, Unfetched, parse
from septum.declare.shown import Section, as_json, as_sections

__all__ = [
    "ANY",
    "PLATFORM",
    "Declaration",
    "Denial",
    "Device",
    "Door",
    "End",
    "Fetched",
    "Image",
    "Limits",
    "Offer",
    "Quota",
    "Realm",
    "Role",
    "Section",
    "Service",
    "Unfetched",
    "Use",
    "Where",
    "as_json",
    "as_sections",
    "parse",
    "read",
]
