"""The policy that keeps guests apart, written in CIL, and its builds. See docs/policy.md."""

from septum.policy.compile import FORMAT, Built, build, compile_cil, fingerprint
from septum.policy.host_module import LABELLED, load_module, relabel
from septum.policy.installed import FILE, install, installed
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
from septum.policy.summary import Summary, summarise

__all__ = [
    "FILE",
    "FORMAT",
    "LABELLED",
    "MODULE",
    "SVIRT_MODULE",
    "TARGETS",
    "Built",
    "Source",
    "Store",
    "Summary",
    "Target",
    "build",
    "compile_cil",
    "fingerprint",
    "install",
    "installed",
    "load_module",
    "marker",
    "marker_context",
    "module",
    "relabel",
    "source_fingerprint",
    "sources",
    "summarise",
    "svirt",
]
