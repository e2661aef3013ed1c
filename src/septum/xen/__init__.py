"""Xen as a guest and its toolstack see it: the store, grants and event channels."""

from septum.xen.events import EventChannel
from septum.xen.grants import Grant, Mapping
from septum.xen.xenstore import Permission, Store, StoreError, may

__all__ = ["EventChannel", "Grant", "Mapping", "Permission", "Store", "StoreError", "may"]
