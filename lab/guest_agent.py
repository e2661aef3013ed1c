"""The agent of the guest with Python: runs what the host sends it, as PID 1 of a machine that has nothing else.

The host sends source text; it runs in one namespace that stays, and may set ``result`` (JSON) and ``payload`` (bytes).
"""

import os
import traceback
from pathlib import Path
from typing import Any

from lab.agent import Frames

PORT = "lab"


def port(name: str) -> int:
    """Opens the virtio-serial port of this name, when it is there."""
    while True:
        for found in Path("/sys/class/virtio-ports").glob("*/name"):
            if found.read_text().strip() == name:
                return os.open(f"/dev/{found.parent.name}", os.O_RDWR)
        os.sched_yield()


def main() -> None:
    """Serves until the machine ends."""
    frames = Frames(port(PORT))
    frames.send({"up": float(Path("/proc/uptime").read_text().split()[0])})
    names: dict[str, Any] = {"__name__": "guest"}
    while True:
        header, payload = frames.receive()
        names.update(result=None, payload=payload, given=header.get("given"))
        answer: dict[str, Any] = {"number": header["number"]}
        try:
            exec(compile(header["source"], "<host>", "exec"), names)
            frames.send({**answer, "result": names["result"]}, bytes(names["payload"] or b""))
        except BaseException as error:  # whatever it is belongs to the host
            answer |= {"error": type(error).__name__, "text": str(error), "trace": traceback.format_exc()}
            frames.send(answer)


if __name__ == "__main__":
    main()
