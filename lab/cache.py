"""The cache of built artifacts: each is a folder named by a hash of its recipe, and is there whole or not at all."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_started = time.monotonic()


class LabError(Exception):
    """A machine of the lab could not be built, started or spoken to."""


class LabHalted(LabError):
    """A machine does not answer any more, not even that a program took too long."""


def say(text: str) -> None:
    """One line of progress for people, with the seconds since the program started."""
    print(f"[{time.monotonic() - _started:5.1f}s] {text}", file=sys.stderr, flush=True)


def folder() -> Path:
    """The cache folder, made if it is missing: ``$XDG_CACHE_HOME/septum``, else ``~/.cache/septum``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = Path(base) / "septum"
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    return path


def recipe(*parts: object) -> str:
    """Twelve hex digits over `parts`; a `Path` stands for its bytes, a folder for those of all files below it."""
    digest = hashlib.blake2b(digest_size=6)
    for part in parts:
        for name, content in _contents(part):
            digest.update(b"%d:%s%d:" % (len(name), name, len(content)))
            digest.update(content)
    return digest.hexdigest()


def _contents(part: object) -> Iterator[tuple[bytes, bytes]]:
    if not isinstance(part, Path):
        yield b"", repr(part).encode()
    elif part.is_dir():
        for path in sorted(part.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(part)).encode(), path.read_bytes()
    else:
        yield part.name.encode(), part.read_bytes()


def artifact(name: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder of an artifact; built now if it is not in the cache.

    Args:
        name: of the artifact, ``guest``.
        key: of its recipe, see `recipe`.
        build: fills the empty folder that it is given. If it raises, nothing stays behind.
    """
    done = folder() / f"{name}-{key}"
    if done.is_dir():
        return done
    with _lock(folder() / f"{name}.lock"):
        if done.is_dir():
            return done
        for left in folder().glob(f".{name}-*"):
            shutil.rmtree(left, ignore_errors=True)  # of a build that was killed: we hold its lock
        say(f"building {name}")
        begun = time.monotonic()
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder()))
        try:
            (work / "artifact").mkdir(mode=0o755)
            build(work / "artifact")
            os.sync()
            (work / "artifact").rename(done)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        _drop_older(name, done)
        say(f"built {name} in {time.monotonic() - begun:.0f} s")
    return done


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another build ({path.name})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _drop_older(name: str, keep: Path, spare: int = 2) -> None:
    """Takes out the oldest builds of `name`; the newest `spare` stay, as another checkout may be using them."""
    hex_digits = "[0-9a-f]" * 12
    others = [path for path in folder().glob(f"{name}-{hex_digits}") if path != keep]
    others.sort(key=lambda path: path.stat().st_mtime)
    for path in others[:-spare]:
        shutil.rmtree(path, ignore_errors=True)


def run(argv: Sequence[str | os.PathLike[str]], *, cwd: Path | None = None, quiet: bool = True) -> str:
    """Runs a tool to its end and returns what it printed.

    Raises:
        LabError: it is missing or failed; the message ends with its last lines.
    """
    try:
        done = subprocess.run(
            [os.fspath(word) for word in argv],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if quiet else None,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed; run tools/packages") from error
    if done.returncode:
        words = " ".join(os.fspath(word) for word in argv)
        tail = "\n".join(done.stdout.splitlines()[-30:])
        raise LabError(f"{words[:300]} failed with status {done.returncode}:\n{tail}")
    return done.stdout
