"""A block relay: the service of a platform guest for several realms, as a driver domain has it.

Each realm has two channels with it, ``REALM.requests`` and ``REALM.replies``, and a store of its own. Who asks is told
by the channel on which it is asked; a request has no field for it. So nothing passes from one realm to another but by
this program, and it has no way to do so.

A client that breaks the rules, never reads its replies, or dies, ends its own task and no other.
"""

import asyncio
import struct
import sys

from septum.errors import SeptumError
from septum.guest import channel
from septum.ivc import Receiver, Role, Sender

REQUEST = struct.Struct("<BxxxIQ")
"""What to do, how many bytes, and where; then the bytes to write."""

READ, WRITE = 0, 1
DONE, REFUSED = b"\0", b"\1"


class Store:
    """What one realm has.

    Args:
        size: in bytes.
    """

    def __init__(self, size: int) -> None:
        self._data = bytearray(size)

    def answer(self, request: bytes, limit: int) -> bytes:
        """Does what is asked, if it can be done.

        Args:
            request: as the realm sent it: anything.
            limit: bytes of the longest reply.
        """
        if len(request) < REQUEST.size:
            return REFUSED
        what, length, offset = REQUEST.unpack_from(request)
        data = request[REQUEST.size :]
        if offset + length > len(self._data) or length >= limit:
            return REFUSED
        if what == READ and not data:
            return DONE + bytes(self._data[offset : offset + length])
        if what == WRITE and len(data) == length:
            self._data[offset : offset + length] = data
            return DONE
        return REFUSED


async def serve(realm: str, size: int) -> None:
    """Serves one realm until its channels end."""
    requests = await asyncio.to_thread(channel, f"{realm}.requests", None, Role.CONSUMER)
    replies = await asyncio.to_thread(channel, f"{realm}.replies", None, Role.PRODUCER)
    assert isinstance(requests, Receiver)
    assert isinstance(replies, Sender)
    store = Store(size)
    with requests, replies:
        async for request in requests:
            await replies.send_async(store.answer(request, replies.limit))


async def main(realms: list[str], size: int = 1 << 20) -> None:
    """Serves several realms; one of them that fails is reported and left."""
    done = await asyncio.gather(*(serve(realm, size) for realm in realms), return_exceptions=True)
    for realm, error in zip(realms, done, strict=True):
        if isinstance(error, SeptumError):
            print(f"{realm}: {error}", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
