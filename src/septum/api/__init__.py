"""The HTTP API of realms: sockets, who is at their other end, requests, answers."""

from septum.api.front import Bounds, Front
from septum.api.openapi import describe
from septum.api.routes import ROUTES, Call, Route

__all__ = ["ROUTES", "Bounds", "Call", "Front", "Route", "describe"]
