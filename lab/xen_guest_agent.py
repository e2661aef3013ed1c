"""The agent inside a guest on Xen: runs Python that dom0 sends it, in one namespace that stays, so that what a test
made (a grant, an event channel) is still there at its next question."""

import importlib
import os
import traceback
from typing import Any

from lab import xen_mailbox
from septum.xen.xenstore import Store

_BOX = "data/lab"
_LIBRARY = "/lab"


def main() -> None:
    """Serves until the guest ends."""
    namespace: dict[str, Any] = {}
    store = Store.open()
    store.watch(f"{_BOX}/ask/number", "ask")
    done = 0
    while True:
        store.event()
        asked, pieces = xen_mailbox.number(store, f"{_BOX}/ask")
        if asked in (0, done):
            continue
        done = asked
        xen_mailbox.put(store, f"{_BOX}/answer", asked, _do(xen_mailbox.get(store, f"{_BOX}/ask", pieces), namespace))


def _do(message: dict[str, Any], namespace: dict[str, Any]) -> dict[str, Any]:
    try:
        for path, text in message["files"].items():
            os.makedirs(os.path.dirname(f"{_LIBRARY}/{path}"), exist_ok=True)
            with open(f"{_LIBRARY}/{path}", "w") as file:
                file.write(text)
        importlib.invalidate_caches()
        namespace.update(message["values"], result=None)
        exec(compile(message["code"], "<lab>", "exec"), namespace)
        return {"result": namespace["result"]}
    except Exception:
        return {"error": traceback.format_exc()}
