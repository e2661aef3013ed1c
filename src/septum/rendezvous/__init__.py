"""The rendezvous of channels: a broker that decides, enters and hands out, and the library of those whom it serves."""

from septum.rendezvous.client import Link, Listed, Rendezvous
from septum.rendezvous.wire import SOCKET

__all__ = ["SOCKET", "Link", "Listed", "Rendezvous"]
