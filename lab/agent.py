"""The agent inside a machine, and the frames that it and the host exchange over a virtio-serial port.

A frame: two big-endian u32, the sizes of a JSON header and of a payload; then both. The host asks, the agent answers,
one at a time. Runs in the machine with nothing but Python's standard library.
"""

import glob
import json
import os
import select
import signal
import struct
import subprocess
import tempfile
import time
from typing import Any

_CHUNK = 1 << 15


class Frames:
    """Both directions over one descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._buffer = bytearray()

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Sends one frame, however small the pieces that the port takes."""
        text = json.dumps(header).encode()
        data = memoryview(struct.pack(">II", len(text), len(payload)) + text + payload)
        while data:
            data = data[os.write(self.fd, data[:_CHUNK]) :]

    def receive(self, timeout: float | None = None) -> tuple[dict[str, Any], bytes]:
        """Waits for one frame.

        Args:
            timeout: in seconds. None stands for the machine's side: no end, and end of file only means that the host
                is not connected now.

        Raises:
            TimeoutError: no whole frame arrived in time.
            EOFError: the other side is gone.
        """
        until = None if timeout is None else time.monotonic() + timeout
        head = self._take(8, until)
        text, payload = struct.unpack(">II", head)
        body = self._take(text + payload, until)
        return json.loads(body[:text]), bytes(body[text:])

    def _take(self, size: int, until: float | None) -> bytes:
        while len(self._buffer) < size:
            if until is not None and not select.select([self.fd], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError("the machine's agent did not answer in time")
            data = os.read(self.fd, 1 << 20)
            if not data and until is not None:
                raise EOFError("the machine is gone")
            if not data:
                time.sleep(0.02)
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


class Agent:
    """What the host may ask for; each method is one operation, named by the header's `op`."""

    def __init__(self) -> None:
        self.children: dict[int, tuple[subprocess.Popen[bytes], Any]] = {}

    def hello(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        time.clock_settime(time.CLOCK_REALTIME, header["time"])
        with open("/sys/fs/selinux/enforce") as enforce, open("/proc/self/attr/current") as current:
            return {"enforcing": enforce.read() == "1", "context": current.read().strip("\0\n")}, b""

    def run(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        with _stream() as source, _stream() as out, _stream() as errors:
            source.write(payload)
            source.seek(0)
            child = self._start(header, source, out, errors)
            try:
                status = child.wait(header["timeout"])
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                status = None
            out.seek(0)
            errors.seek(0)
            output = out.read()
            return {"status": status, "output": len(output)}, output + errors.read()

    def spawn(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        out = _stream()
        child = self._start(header, subprocess.DEVNULL, out, subprocess.STDOUT)
        self.children[child.pid] = child, out
        return {"pid": child.pid}, b""

    def wait(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        child, out = self.children[header["pid"]]
        try:
            status: int | None = child.wait(header["timeout"])
        except subprocess.TimeoutExpired:
            status = None
        out.seek(0)
        return {"status": status}, out.read()

    def untar(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        os.makedirs(header["folder"], exist_ok=True)
        argv = ["tar", "-C", header["folder"], "--no-same-owner", "-xf", "-"]
        done = subprocess.run(argv, input=payload, stderr=subprocess.PIPE)
        return {"status": done.returncode}, done.stderr

    def tar(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        done = subprocess.run(["tar", "-C", header["folder"], "-cf", "-", "."], stdout=subprocess.PIPE)
        return {"status": done.returncode}, done.stdout

    def write(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        # In one write: selinuxfs takes a policy only whole.
        with open(header["path"], "wb", buffering=0) as file:
            written = file.write(payload)
        return {"status": 0 if written == len(payload) else 1}, b""

    def read(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        with open(header["path"], "rb") as file:
            return {"status": 0}, file.read()

    def _start(self, header: dict[str, Any], source: Any, out: Any, errors: Any) -> "subprocess.Popen[bytes]":
        argv = header["argv"]
        if header["context"]:
            argv = ["/usr/bin/runcon", header["context"], *argv]
        return subprocess.Popen(
            argv,
            stdin=source,
            stdout=out,
            stderr=errors,
            cwd=header["folder"],
            env={**os.environ, **header["environment"]},
            start_new_session=True,
        )


def _stream() -> Any:
    """A file for a program's input or output, which a guest's type may use as well. Unlike a pipe it has an end even
    if the program leaves a child behind."""
    fd, path = tempfile.mkstemp()
    os.unlink(path)
    os.setxattr(fd, "security.selinux", b"system_u:object_r:lab_stream_t:s0\0")
    return open(fd, "w+b")


def main(agent: Agent) -> None:
    """Serves the first virtio-serial port until the machine ends."""
    while not (ports := glob.glob("/dev/vport*")):
        time.sleep(0.02)
    frames = Frames(os.open(ports[0], os.O_RDWR))
    while True:
        header, payload = frames.receive()
        try:
            frames.send(*getattr(agent, header["op"])(header, payload))
        except Exception as error:
            # Whatever went wrong belongs to the caller on the host, not to this process.
            frames.send({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main(Agent())
