"""The policy that keeps guests apart, written in CIL, and its builds. See docs/policy.md."""

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

__all__ = [
    "SVIRT_MODULE",
    "TARGETS",
    "Source",
    "Target",
    "marker",
    "marker_context",
    "module",
    "source_fingerprint",
    "sources",
    "svirt",
]
