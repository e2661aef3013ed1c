"""From sources to the binary that a security server takes: secilc, always with its checks.

secilc (package secilc) is the reference compiler of CIL. It checks every ``neverallow`` and every type bound, which
semodule does not do where ``expand-check=0`` is in semanage.conf, as on Debian.
"""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from septum.errors import NotFound, PolicyError
from septum.policy.sources import Source, Target, marker, source_fingerprint, sources
from septum.policy.store import Store, handle_unknown

FORMAT: Final = 33
"""Version of the binary format: what libsepol 3.4 writes by default and Linux 5.5 or later reads."""
XEN_FORMAT: Final = 30
"""Xen's: it reads 24 and 30 (``POLICYDB_VERSION_MAX`` in its xen/xsm/flask/include/security.h)."""

_CONSEQUENCES: Final = ("Failed to generate binary", "Failed to build policydb", "Failed to compile cildb")
_SECONDS: Final = 300
_LONGEST: Final = 4000  # bytes of a compiler's complaint that are quoted


class Built(NamedTuple):
    """A compiled policy.

    Attributes:
        target: what it is for.
        image: the binary.
        fingerprint: BLAKE2b-256 of `image`, as hex.
        source: of the sources that went in, see `source_fingerprint`.
    """

    target: Target
    image: bytes
    fingerprint: str
    source: str


def build(target: Target, *, store: Store | None = None, extra: Sequence[Source] = ()) -> Built:
    """Compiles one of the builds and checks all of it.

    Args:
        target: ``standalone``; ``xen``, for the hypervisor; or ``module``: then the whole policy of the host with
            septum's in it, as ``semodule -i`` would make it, but checked.
        store: the host's modules, for ``module``; None looks for the host's own.
        extra: further sources, such as roles that inherit ``septum_guest``.

    Raises:
        PolicyError: the compiler refuses it: the message quotes the rule or the neverallow.
        NotFound: there is no secilc, or no policy of the host's to build on.
    """
    parts = [*sources(target), marker(target), *extra]
    unknown = "deny"
    if target == "module":
        beneath = (store if store is not None else Store.of_host()).modules()
        parts = [*beneath, *parts]
        unknown = handle_unknown(beneath)
    image = compile_cil(parts, handle_unknown=unknown, xen=target == "xen")
    return Built(target, image, fingerprint(image), source_fingerprint(target))


def compile_cil(parts: Sequence[Source], *, handle_unknown: str = "deny", xen: bool = False) -> bytes:
    """The binary policy that these sources make together.

    Args:
        parts: in any order; names are what the compiler's messages say.
        handle_unknown: what becomes of classes and permissions that the policy lacks: ``deny``, ``allow``, ``reject``.
        xen: for Xen, not for Linux.

    Raises:
        PolicyError: the compiler refuses it.
        NotFound: there is no secilc.
    """
    with tempfile.TemporaryDirectory(prefix="septum-policy-") as name:
        folder = Path(name)
        files = []
        for part in parts:
            path = folder / part.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(part.text, encoding="utf-8")
            files.append(part.name)
        output = folder / "binary"
        command = ["secilc", "-M", "true", "-U", handle_unknown, "-o", str(output), "-f", os.devnull]
        command += ["-t", "xen", "-c", str(XEN_FORMAT)] if xen else ["-c", str(FORMAT)]
        done = run([*command, *files], folder=folder)
        if done.returncode != 0 or not output.exists():
            raise PolicyError(
                "the policy does not compile",
                rule=_quoted(done.stdout + done.stderr),
                remedy="correct the rule that is quoted; a neverallow says what no policy of septum's may allow",
            )
        return output.read_bytes()


def fingerprint(image: bytes) -> str:
    """BLAKE2b-256 of a binary policy, as hex."""
    return hashlib.blake2b(image, digest_size=32).hexdigest()


def run(command: Sequence[str], *, folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Runs a tool of SELinux to its end.

    Raises:
        NotFound: it is not installed.
        PolicyError: it did not end in time.
    """
    try:
        return subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        package = {"semodule": "policycoreutils", "restorecon": "policycoreutils"}.get(command[0], command[0])
        raise NotFound(f"{command[0]} is not installed", target=command[0], remedy=f"apt install {package}") from error
    except subprocess.TimeoutExpired as error:
        raise PolicyError(f"{command[0]} did not end within {_SECONDS} s", target=command[0]) from error


def _quoted(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith(_CONSEQUENCES)]
    return "\n          ".join(lines)[:_LONGEST] or "it said nothing"
