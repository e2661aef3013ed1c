"""The CIL sources, as they come with this version of septum, and what names exactly them.

Each build holds a type `septum_source.x…` that nothing has and that no rule mentions. Its name is a digest of the
sources, so that whoever can ask a security server whether a context is valid can tell which version it decides by:
unlike a digest of the compiled policy, that outlives a change of a boolean, other modules, and another compiler.
"""

import hashlib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, Literal, NamedTuple

Target = Literal["module", "standalone", "xen"]
TARGETS: Final[tuple[Target, ...]] = ("module", "standalone")
"""Builds for a host; ``xen`` is the hypervisor's."""
SVIRT_MODULE: Final = "septum_svirt"
"""The optional module that lets septum use libvirt's types."""

_PARTS: Final[dict[Target, tuple[str, ...]]] = {
    "module": ("shared", "debian"),
    "standalone": ("shared", "base"),
    "xen": ("xen", "base/categories.cil"),
}
_MARKER_DIGITS: Final = 16


class Source(NamedTuple):
    """One file of CIL.

    Attributes:
        name: its path below the folder of sources: ``shared/guest.cil``.
        text: its content.
    """

    name: str
    text: str


@cache
def sources(target: Target) -> tuple[Source, ...]:
    """The hand-written files of one build, in the order of their names."""
    return tuple(source for part in _PARTS[target] for source in _folder(*part.split("/")))


@cache
def svirt() -> Source:
    """The optional module for hosts whose guests keep libvirt's types."""
    (source,) = _folder("svirt")
    return source


@cache
def source_fingerprint(target: Target) -> str:
    """BLAKE2b-256 over names and content of the files of one build, as hex."""
    digest = hashlib.blake2b(digest_size=32)
    for source in sources(target):
        for part in (source.name.encode(), source.text.encode()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def marker(target: Target) -> Source:
    """The declaration of the type that names this version's sources."""
    name = f"x{source_fingerprint(target)[:_MARKER_DIGITS]}"
    return Source("marker.cil", f"(block septum_source (type {name}) (roletype object_r {name}))\n")


def marker_context(target: Target) -> str:
    """A context that is valid exactly where this version's policy decides."""
    return f"system_u:object_r:septum_source.x{source_fingerprint(target)[:_MARKER_DIGITS]}:s0"


def module() -> bytes:
    """The module `septum` for ``semodule -i septum.cil``: all files in one, since they make sense only together."""
    parts = [f"; {source.name}\n{source.text}" for source in (*sources("module"), marker("module"))]
    return "\n".join(parts).encode()


def _folder(name: str, only: str = "") -> tuple[Source, ...]:
    found: list[Traversable] = [file for file in (files(__package__) / "cil" / name).iterdir() if file.is_file()]
    return tuple(
        Source(f"{name}/{file.name}", file.read_text(encoding="utf-8"))
        for file in sorted(found, key=lambda file: file.name)
        if file.name.endswith(".cil") and only in ("", file.name)
    )
