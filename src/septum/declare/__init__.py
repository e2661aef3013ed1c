"""The platform's declaration: who the owners are, what guests they run, and the doors between them."""

from septum.declare.assign import Assignment, assign
from septum.declare.difference import Change, difference
from septum.declare.files import read
from septum.declare.model import (
    ANY,
    DIRECTIONS,
    NETWORKS,
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
from septum.declare.policy import cil, consents, door_name, process_type, role_name, service_name, service_type
from septum.declare.shown import Section, as_json, as_sections

__all__ = [
    "ANY",
    "DIRECTIONS",
    "NETWORKS",
    "PLATFORM",
    "Assignment",
    "Change",
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
    "assign",
    "cil",
    "consents",
    "difference",
    "door_name",
    "parse",
    "process_type",
    "read",
    "role_name",
    "service_name",
    "service_type",
]
