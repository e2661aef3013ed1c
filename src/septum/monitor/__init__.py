"""A guest's monitor, spoken to by somebody who does not trust the QEMU behind it (docs/monitor.md)."""

from septum.monitor.events import Event, Events
from septum.monitor.monitor import Added, Monitor

__all__ = ["Added", "Event", "Events", "Monitor"]
