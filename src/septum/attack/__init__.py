"""A compromised device emulator, played: what a guest's process tries to reach from inside its own confinement.

The attacker is a child of ``septum attack`` that goes through the same entry actions as QEMU did, in QEMU's
namespaces, and then tries everything that `catalogue` lists. Nothing is harmed: what is opened is neither written nor
truncated, signals are number 0, and where a system call would do damage it gets an argument that the kernel looks at
only after it has decided about permission.
"""
