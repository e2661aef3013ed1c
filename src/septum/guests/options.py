"""The names of QEMU's options, and which of them take an argument.

From QEMU's qemu-options.hx, 0.12 to 10.1, and from what Xen's and Proxmox's builds add. An option that is in none
of these tables is reported as unknown.
"""

from __future__ import annotations

from septum.guests.found import (
    DTB,
    KERNEL,
    LOG,
    PIDFILE,
    TREE,
    Spec,
)

__all__ = ["DEVICE_STRINGS", "DRIVE_SHORTCUTS", "FLAGS", "PATHS", "PLAIN", "QUERIES", "SYNONYMS"]

# No argument, and nothing to do with the host.
FLAGS = frozenset(
    """S mem-prealloc usb nographic full-screen win2k-hack no-fd-bootchk preconfig no-reboot no-shutdown xen-attach
    xen-create xen-domid-restrict only-migratable nodefaults semihosting old-param no-user-config
    enable-sync-profile enable-kvm snapshot daemonize s perfmap jitdump async-teardown
    no-acpi no-hpet no-kvm no-kvm-irqchip no-kvm-pit no-kvm-pit-reinjection kvm std-vga sdl curses portrait no-frame
    no-quit alt-grab ctrl-grab localtime rtc-td-hack tdf enable-fips nodefconfig enable-nesting hax enable-hax
    show-cursor singlestep one-insn-per-tb acpi vncunused virtfs_synth no-kvm-device-assignment mlock opengl
    no-cirrus-vga cirrusvga no-code-copy kernel-kqemu no-kqemu enable-kqemu pv dm""".split()
)

# Options that make QEMU print something and exit.
QUERIES = frozenset("h help version audio-help".split())

# An argument that never names anything on the host.
PLAIN = frozenset(
    """cpu smp numa set m vga g append compat d dfilter seed action loadvm rtc watchdog watchdog-action echr
    prom-env semihosting-config msg iscsi mon id rotate clock tb-size balloon soundhw startdate bt hdachs
    kvm-shadow-memory nvram cpu-vendor domid domain-name vcpus vcpu_avail videoram vncpasswd gfx_passthru
    no-ide-dma bootp enable-nested tpm-version timeoffset stealtime realtime-clock net-ifname
    icount-align """.split()
)

# The argument is the path.
PATHS: dict[str, Spec] = {
    "kernel": KERNEL,
    "dtb": DTB,
    "shim": KERNEL,
    "pidfile": PIDFILE,
    "D": LOG,
    "dump-vmstate": LOG,
    "qtest-log": LOG,
    "smb": Spec("directory", "rw"),
    "tftp": TREE,
}

# A disk of its own; these stand for -drive with the given options.
DRIVE_SHORTCUTS: dict[str, list[tuple[str, str]]] = {
    "hda": [("index", "0")],
    "hdb": [("index", "1")],
    "hdc": [("index", "2")],
    "hdd": [("index", "3")],
    "fda": [("if", "floppy"), ("index", "0")],
    "fdb": [("if", "floppy"), ("index", "1")],
    "cdrom": [("media", "cdrom")],
    "mtdblock": [("if", "mtd")],
    "sd": [("if", "sd")],
    "pflash": [("if", "pflash")],
}

# The argument is a character device in one word.
DEVICE_STRINGS = frozenset("serial parallel monitor qmp qmp-pretty debugcon gdb qtest virtioconsole".split())

# One thing, two names.
SYNONYMS = {"M": "machine", "hax": "enable-hax", "kvm": "enable-kvm"}
