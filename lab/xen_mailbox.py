"""Messages between dom0 and a guest through the guest's own folder in xenstore: no network, no disk, any kind of guest.

A message is JSON, packed, in nodes below ``data/lab/ask`` (dom0's) and ``data/lab/answer`` (the guest's), which say how
many there are; its number comes last. Runs on both sides with nothing but Python's standard
library, and septum's client of xenstore.
"""

import base64
import json
import select
import time
import zlib
from typing import Any

from septum.xen.xenstore import Store

_PIECE = 3000


def put(store: Store, box: str, number: int, message: Any) -> None:
    """Writes one message."""
    text = base64.b85encode(zlib.compress(json.dumps(message).encode()))
    pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
    for index, piece in enumerate(pieces):
        store.write(f"{box}/{index}", piece)
    store.write(f"{box}/number", f"{number} {len(pieces)}")


def number(store: Store, box: str) -> tuple[int, int]:
    """The number of the last message, and of its pieces; 0 if there is none."""
    words = store.text(f"{box}/number", "0 0").split()
    return int(words[0]), int(words[1])


def get(store: Store, box: str, pieces: int) -> Any:
    """Reads one message."""
    text = b"".join(store.read(f"{box}/{index}") for index in range(pieces))
    return json.loads(zlib.decompress(base64.b85decode(text)))


def ask(domid: int, message: Any, timeout: float) -> Any:
    """dom0's side: sends a message to a guest and waits for its answer.

    Raises:
        TimeoutError: there was none in time.
    """
    folder = f"/local/domain/{domid}/data/lab"
    until = time.monotonic() + timeout
    with Store.open() as store:
        asked = number(store, f"{folder}/ask")[0] + 1
        store.watch(f"{folder}/answer/number", "answer")
        put(store, f"{folder}/ask", asked, message)
        while (got := number(store, f"{folder}/answer"))[0] != asked:
            if not select.select([store.fd], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(f"the guest {domid} did not answer in {timeout:.0f} s")
            store.event()
        return get(store, f"{folder}/answer", got[1])
