"""The policy that keeps guests apart, written in CIL, and its builds. See docs/policy.md."""

from septum.policy.compile import FORMAT, XEN_FORMAT, Built, build, compile_cil, fingerprint
from septum.policy.host_module import LABELLED, load_declared, load_module, relabel
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
from septum.policy.store import DECLARED, MODULE, Store
from septum.policy.summary import Summary, summarise
from septum.policy.xen_doors import XenDoor, xen_role_cil
from septum.policy.xen_numbers import numbers_cil

__all__ = [
    "DECLARED",
    "FILE",
    "FORMAT",
    "LABELLED",
    "MODULE",
    "SVIRT_MODULE",
    "TARGETS",
    "XEN_FORMAT",
    "Built",
    "Source",
    "Store",
    "Summary",
    "Target",
    "XenDoor",
    "build",
    "compile_cil",
    "fingerprint",
    "install",
    "installed",
    "load_declared",
    "load_module",
    "marker",
    "marker_context",
    "module",
    "numbers_cil",
    "relabel",
    "source_fingerprint",
    "sources",
    "summarise",
    "svirt",
    "xen_role_cil",
]
