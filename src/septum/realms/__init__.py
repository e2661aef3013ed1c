"""Realms, their guests and images, and the operations that change them: what is decided, written down, and done."""

from septum.realms import evidence, of_devices, of_doors, of_guests, of_images, of_realms, of_snapshots
from septum.realms.caller import Caller, Decider, absent
from septum.realms.core import Core, Once
from septum.realms.host import Launcher, Place, SeptumRun, connect
from septum.realms.perform import Performer
from septum.realms.sweep import sweep
from septum.realms.turns import Turns

__all__ = [
    "Caller",
    "Core",
    "Decider",
    "Launcher",
    "Once",
    "Performer",
    "Place",
    "SeptumRun",
    "Turns",
    "absent",
    "connect",
    "evidence",
    "of_devices",
    "of_doors",
    "of_guests",
    "of_images",
    "of_realms",
    "of_snapshots",
    "sweep",
]
