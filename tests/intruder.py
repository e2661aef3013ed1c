"""A hostile end inside a guest: the raw memory and port of a channel, without the ring's rules."""

import os
import select
from contextlib import suppress

from septum.guest import channels, pci
from septum.ivc import Role
from septum.ivc.carriers.port import OWN, PEER
from septum.ivc.terms import length
from tests.ringkit import Segment


class Intruder:
    """Whoever has taken over one end.

    Args:
        name: of the channel, which is being plugged in.
    """

    def __init__(self, name: str) -> None:
        while not (found := [one for one in channels() if one.terms.name == name]):
            pass
        (one,) = found
        self.length = length(one.terms, one.role)
        other = Role.CONSUMER if one.role is Role.PRODUCER else Role.PRODUCER
        self.own = Segment(self._open(one.slot, OWN), self.length, True)
        # It asks to write the other end's as well, and the guest's kernel lets it.
        self.peer = Segment(self._open(one.slot, PEER), length(one.terms, other), True)
        for folder in os.listdir("/sys/class/virtio-ports"):
            with open(f"/sys/class/virtio-ports/{folder}/name") as file:
                if file.read().strip().endswith(f":{name}"):
                    self.port = os.open(f"/dev/{folder}", os.O_RDWR | os.O_NONBLOCK)

    @staticmethod
    def _open(slot: int, function: int) -> int:
        while (device := pci.device(slot, function)) is None:
            pass
        (device / "enable").write_text("1")
        return os.open(device / "resource2_wc", os.O_RDWR)

    def ring(self, times: int = 1) -> None:
        """Rings, as often as the port takes it."""
        with suppress(BlockingIOError):
            os.write(self.port, b"!" * times)

    def woken(self, seconds: float) -> bool:
        """Whether it is rung for."""
        return bool(select.select([self.port], [], [], seconds)[0])

    def close(self) -> None:
        """Lets go of the port; the memory stays mapped."""
        os.close(self.port)
