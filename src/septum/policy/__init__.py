"""The policy that keeps guests apart, written in CIL, and its builds. See docs/policy.md."""

from septum.policy.compile import FORMAT, Built, build, compile_cil, fingerprint
from septum.policy.sources import (
    SVIRT_MODULE,
    TARGETS,
    Source,
    Target,
    marker,
    marker_context,
    module,
    source_fingerprint,
    sources,
    svirt,
)
from septum.policy.store import MODULE, Store

__all__ = [
    "FORMAT",
    "MODULE",
    "SVIRT_MODULE",
    "TARGETS",
    "Built",
    "Source",
    "Store",
    "Target",
    "build",
    "compile_cil",
    "fingerprint",
    "marker",
    "marker_context",
    "module",
    "source_fingerprint",
    "sources",
    "svirt",
]
