"""The guest's end of channels, inside a Linux guest: Python's standard library, and the ring's core.

::

    from septum.guest import channel

    with channel("logs") as end:  # a Sender, Receiver, Writer or Reader: which, the host has decided
        end.send(b"hello")
"""

from septum.guest.channels import channel, channels
from septum.ivc.carriers.port import Announced

__all__ = ["Announced", "channel", "channels"]
