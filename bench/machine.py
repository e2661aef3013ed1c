"""The machine on which it was measured, in one line, and whether it had other things to do."""

import os
import platform
import subprocess
from typing import Any

from septum.launch.drivers import probe_all

_BUSY = 0.25  # load per core from which on figures tell of the others too


def describe() -> dict[str, Any]:
    """Facts of this host; `busy` says that other work is going on. To be asked before anything is measured."""
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    return {
        "cpu": _cpu(),
        "cores": cores,
        "load": load,
        "busy": load > _BUSY * cores,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "qemu": version("qemu-system-x86_64"),
        "libvirt": version("libvirtd"),
        "drivers": [driver.name for driver, availability in probe_all() if availability.works],
    }


def line(facts: dict[str, Any]) -> str:
    """The same for people."""
    text = (
        f"{facts['cores']} cores ({facts['cpu']}), Linux {facts['kernel']}, Python {facts['python']}, "
        f"QEMU {facts['qemu'] or 'missing'}, libvirt {facts['libvirt'] or 'missing'}, "
        f"drivers {', '.join(facts['drivers']) or 'none'}"
    )
    if facts["busy"]:
        text += (
            f"\nThe machine is busy (load {facts['load']:.1f} on {facts['cores']} cores): "
            "trust ratios within one part, no absolute figure."
        )
    return text


def version(program: str) -> str:
    """The version that a program tells, "" if it is not there."""
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except FileNotFoundError:
        return ""
    return next((word for word in told.split() if word[0].isdigit()), "")


def _cpu() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [text.split(":", 1)[1].strip() for text in file if text.startswith("model name")]
    return names[0] if names else platform.machine()
