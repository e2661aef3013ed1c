"""The two halves of a channel over a stream socket, with the ring's answers to every call (`protocol`)."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Final

from septum.ivc import _ring
from septum.ivc.carriers import frames
from septum.ivc.terms import Terms

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["StreamHalf", "StreamRx", "StreamTx"]

_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_PORTION: Final = 1 << 18
_PART: Final = 32768  # bytes of a frame of a stream, as in ring.c
_PATIENCE: Final = 1000  # frames without news, as `ends.PATIENCE` for rings
_LAST: Final = 1.0  # seconds that closing waits for room for what was promised to be sent


class StreamHalf:
    """What both have in common.

    Args:
        line: the socket, past what it begins with.
        terms: of the channel.
    """

    def __init__(self, line: socket.socket, terms: Terms) -> None:
        self.fault = 0
        self.limit = frames.limit_of(terms.size)
        self.seen = 0
        self._line = line
        self._size = terms.size
        self._in = bytearray()
        self._at = 0
        self._out = bytearray()
        self._gone = self._done = False
        self._seen_last = self._idles = 0
        self._lock = Lock()

    def pull(self) -> int:
        """Reads what has come: how many bytes; 0: nothing; -1: and nothing will come any more."""
        came = 0
        while not self._gone and len(self._in) - self._at <= 2 * self._size:
            try:
                data = self._line.recv(_PORTION, _FLAGS)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._gone = True
                break
            self._in += data
            came += len(data)
            if len(data) < _PORTION:
                break
        self._flush()
        return -1 if self._gone and not came else came

    def finish(self) -> None:
        """See `Half.finish`."""
        self._last(frames.DONE)

    def poison(self, fault: int, /) -> int:
        """See `Half.poison`."""
        if not self.fault:
            self.fault = fault
            self._last(frames.BROKEN)
        return _ring.POISONED

    def detach(self) -> bool:
        """See `Half.detach`."""
        return self._lock.acquire(blocking=False)

    def _last(self, kind: int) -> None:
        if not self._gone:
            self._send(frames.control(kind))
        if self._out and kind == frames.DONE:
            poll = select.poll()
            poll.register(self._line, select.POLLOUT)
            while self._out and poll.poll(_LAST * 1000):
                self._flush()

    def _send(self, data: bytes) -> None:
        self._out += data
        self._flush()

    def _flush(self) -> None:
        while self._out:
            try:
                done = self._line.send(self._out, _FLAGS)
            except BlockingIOError:
                return
            except OSError:
                self._out.clear()  # nobody is there to read it; what has come can still be read
                return
            del self._out[:done]

    def _frame(self) -> frames.Frame | None:
        """The next header, if it is there and sound; it stays."""
        if len(self._in) - self._at < frames.HEADER.size:
            return None
        found = frames.parse(self._in, self._at, self.limit)
        if isinstance(found, int):
            self.poison(found)
            return None
        return found

    def _drop(self, count: int) -> None:
        self._at += count
        if self._at == len(self._in):
            self._in.clear()
            self._at = 0
        elif self._at > _PORTION:
            del self._in[: self._at]
            self._at = 0

    def _idle(self) -> None:
        """Counts what comes without news: an honest other end has some before long."""
        if self.seen != self._seen_last:
            self._seen_last, self._idles = self.seen, 0
        self._idles += 1
        if self._idles > _PATIENCE:
            self.poison(_ring.FLOOD)

    def _state(self, kind: int) -> None:
        """Takes note of a frame that ends the channel."""
        if kind == frames.BROKEN:
            self.poison(frames.PEER_BROKE)
        elif self._done:
            self.poison(frames.STATE)
        self._done = True
        self.seen += 1

    def _over(self) -> int:
        return _ring.POISONED if self.fault else _ring.FINISHED if self._done else _ring.AGAIN


class StreamTx(StreamHalf):
    """The producer's half; implements `Sink`."""

    def __init__(self, line: socket.socket, terms: Terms) -> None:
        super().__init__(line, terms)
        self._sent = self._read = self._sequence = 0
        self._asked = self._stopped = False

    def put(self, data: ReadableBuffer, spin: bool, /) -> int:
        """See `Sink.put`."""
        view = memoryview(data).cast("B")
        if not self._lock.acquire(blocking=False):
            return _ring.BUSY
        try:
            return self._put(view)
        finally:
            self._lock.release()

    def put_many(self, messages: list[ReadableBuffer], first: int, /) -> int:
        """See `Sink.put_many`."""
        sent = first
        while sent < len(messages):
            status = self.put(messages[sent], False)
            if status:
                return sent - first or status
            sent += 1
        return sent - first

    def write(self, data: ReadableBuffer, first: int, spin: bool, /) -> int:
        """See `Sink.write`."""
        view = memoryview(data).cast("B")[first:]
        part = min(_PART, self.limit)
        sent = 0
        while sent < len(view):
            piece = view[sent : sent + part]
            status = self.put(piece, spin)
            if status:
                return sent or status
            sent += len(piece)
        return sent

    def drained(self) -> int:
        """See `Sink.drained`."""
        self._look()
        return 0 if self._read == self._sent and not self.fault else self._over()

    def want_drained(self) -> bool:
        """See `Sink.want_drained`."""
        self._ask()
        return self._look() or self._read == self._sent

    def want(self, need: int, /) -> bool:
        """See `Half.want`."""
        news = self._look()
        whole = frames.size_of(min(need, self.limit))
        waits = self._out or self._stopped or self._gone
        if news or self._done or not (waits or self._sent + whole - self._read > self._size):
            return True
        self._ask()
        return self._look()

    def _put(self, view: memoryview) -> int:
        if self.fault:
            return _ring.POISONED
        if len(view) > self.limit:
            return _ring.TOO_LONG
        self._look()
        if self.fault or self._done:
            return self._over()
        whole = frames.size_of(len(view))
        if self._out or self._gone or self._sent + whole - self._read > self._size:
            return _ring.AGAIN
        head = frames.HEADER.pack(len(view), frames.DATA, 0, self._sequence)
        try:
            done = self._line.sendmsg([head, view], [], _FLAGS)
        except BlockingIOError:
            # Many small ones take more of the kernel's memory than of the window. What is unread there will be read,
            # and that is told.
            self._stopped = True
            return _ring.AGAIN
        except OSError:
            self._gone = True
            return _ring.AGAIN
        if done < len(head) + len(view):
            self._out += (head + bytes(view))[done:]
        self._sent += whole
        self._sequence += 1
        return 0

    def _ask(self) -> None:
        if not self._asked and not self._gone:
            self._asked = True
            self._send(frames.control(frames.TELL))

    def _look(self) -> bool:
        """Takes what the consumer says; True: it was news."""
        before = self.seen
        self.pull()
        while not self.fault and (frame := self._frame()) is not None:
            self._drop(frames.HEADER.size)
            if frame.kind == frames.READ:
                self._note(frame.sequence)
            elif frame.kind in (frames.DONE, frames.BROKEN):
                self._state(frame.kind)
            elif frame.kind == frames.MORE:
                self._idle()
            else:
                self.poison(frames.TYPE)
        return self.seen != before or bool(self.fault)

    def _note(self, read: int) -> None:
        if read < self._read:
            self.poison(frames.BACK)
        elif read > self._sent:
            self.poison(frames.FAR)
        elif read % 16:
            self.poison(frames.ODD)
        elif read > self._read:
            self._read = read
            self._asked = self._stopped = False
            self.seen += 1
        else:
            self._idle()


class StreamRx(StreamHalf):
    """The consumer's half; implements `Source`."""

    def __init__(self, line: socket.socket, terms: Terms) -> None:
        super().__init__(line, terms)
        self._read = self._told = self._sequence = self._offset = self._counted = 0
        self._asked = self._shown = False

    def get(self, spin: bool, /) -> bytes | int:
        """See `Source.get`."""
        if self._shown:
            return _ring.BUSY
        length = self._next()
        if length < 0:
            return length
        data = bytes(memoryview(self._in)[self._at + 16 : self._at + 16 + length])
        self._consume(length)
        return data

    def get_many(self, most: int, spin: bool, /) -> list[bytes] | int:
        """See `Source.get_many`."""
        first = self.get(spin)
        if isinstance(first, int):
            return first
        found = [first]
        until = self._size  # what has come since would keep this going for ever
        while len(found) < most and until > 0:
            one = self.get(False)
            if isinstance(one, int):
                break
            found.append(one)
            until -= frames.size_of(len(one))
        return found

    def get_into(self, buffer: WriteableBuffer, spin: bool, /) -> int:
        """See `Source.get_into`."""
        view = _writable(buffer)
        if self._shown:
            return _ring.BUSY
        length = self._next()
        if length < 0:
            return length
        if length > len(view):
            return _ring.TOO_LONG
        with memoryview(self._in) as whole:
            view[:length] = whole[self._at + 16 : self._at + 16 + length]
        self._consume(length)
        return length

    def read_into(self, buffer: WriteableBuffer, spin: bool, /) -> int:
        """See `Source.read_into`."""
        view = _writable(buffer)
        done = 0
        while done < len(view):
            length = self._next()
            if length < 0:
                return done or length
            if length == 0:
                return done or self.poison(frames.LENGTH)
            part = min(length - self._offset, len(view) - done)
            start = self._at + 16 + self._offset
            with memoryview(self._in) as whole:
                view[done : done + part] = whole[start : start + part]
            done += part
            self._offset += part
            if self._offset == length:
                self._offset = 0
                self._consume(length)
        return done

    def peek(self, spin: bool, /) -> memoryview | int:
        """See `Source.peek`; what it shows is a copy that nobody changes."""
        if self._shown:
            return _ring.BUSY
        length = self._next()
        if length < 0:
            return length
        self._shown = True
        return memoryview(bytes(memoryview(self._in)[self._at + 16 : self._at + 16 + length]))

    def skip(self) -> None:
        """See `Source.skip`."""
        if self._shown:
            self._shown = False
            length = self._next()
            if length >= 0:
                self._consume(length)

    def want(self, need: int, /) -> bool:
        """See `Half.want`."""
        if self._told != self._read:
            self._tell()
        elif self._at < len(self._in) and not self._gone:
            self._send(frames.control(frames.MORE))
        self.pull()
        frame = self._frame()
        if self.fault or self._done or frame is None:
            return bool(self.fault) or self._done
        return len(self._in) - self._at >= frames.HEADER.size + frame.length

    def detach(self) -> bool:
        """See `Half.detach`."""
        return not self._shown and super().detach()

    def _next(self) -> int:
        """The length of the next message's payload, all of which is there; or a status."""
        while not self.fault:
            frame = self._frame()
            whole = frame is not None and len(self._in) - self._at >= frames.HEADER.size + frame.length
            if frame is None or not whole:
                if self.fault or self.pull() <= 0:
                    return self._over()
                continue
            if frame.kind == frames.DATA:
                return self._data(frame)
            self._drop(frames.HEADER.size)
            if frame.kind in (frames.DONE, frames.BROKEN):
                self._state(frame.kind)
            elif frame.kind == frames.TELL:
                self._tell_soon()
                self._maybe_tell()
            else:
                self.poison(frames.TYPE)
        return _ring.POISONED

    def _data(self, frame: frames.Frame) -> int:
        if self._done:
            return self.poison(frames.STATE)
        if frame.sequence != self._sequence:
            return self.poison(frames.SEQUENCE)
        if self._sequence >= self._counted:
            self._counted = self._sequence + 1
            self.seen += 1
        return frame.length

    def _consume(self, length: int) -> None:
        self._sequence += 1
        self._drop(frames.HEADER.size + length)
        self._read += frames.size_of(length)
        # Who asks may ask for nothing more, and this end may be done: so a question is not left for the next call.
        while (frame := self._frame()) is not None and frame.kind == frames.TELL:
            self._drop(frames.HEADER.size)
            self._tell_soon()
        self._maybe_tell()

    def _tell_soon(self) -> None:
        self._asked = True
        self._idle()

    def _maybe_tell(self) -> None:
        """Says how far it has read: when all is read, when it was asked, and after each sixteenth."""
        late = self._read - self._told
        if late and (self._asked or self._at == len(self._in) or late >= self._size // 16):
            self._tell()

    def _tell(self) -> None:
        self._asked = False
        self._told = self._read
        if not self._gone:
            with suppress(OSError):
                self._send(frames.control(frames.READ, self._read))


def _writable(buffer: WriteableBuffer) -> memoryview:
    view = memoryview(buffer).cast("B")
    if view.readonly:
        raise BufferError("the buffer is read-only")
    return view
