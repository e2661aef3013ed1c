"""Xen: its store, grants, event channels, and what guests of it are labelled."""

from septum.xen.xenstore import Permission, Store, StoreError

__all__ = ["Permission", "Store", "StoreError"]
