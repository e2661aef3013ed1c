"""The kernel's security server, through selinuxfs: the policy that is loaded is the one that decides.

Vectors come from ``/sys/fs/selinux/access`` (security/selinux/selinuxfs.c, `sel_write_access`): it takes source, target
and the number of a class, and answers with six hexadecimal numbers, of which the first is what is allowed and the last
are flags. Whether the policy behind it has changed, and whether it is enforced, is in ``/sys/fs/selinux/status``
(`struct selinux_kernel_status`, security/selinux/include/security.h). It is meant to be mapped, which Python's `mmap`
refuses for a file that tells no size; reading it takes less than a microsecond.
"""

import errno
import os
import struct
from collections.abc import Mapping, Sequence, Set
from typing import Final

from septum.access.engine import Access, Triple, Why
from septum.access.question import Question
from septum.errors import EngineGone, HostError
from septum.host import selinux_kernel

__all__ = ["KernelEngine"]

_STATUS: Final = struct.Struct("=5I")  # version, sequence, enforcing, policyload, deny_unknown
_TRIES: Final = 1000


class KernelEngine:
    """Implements `septum.access.engine.Engine`.

    Raises:
        EngineGone: SELinux is off, or not enforcing: what it says would not hold.
    """

    name = "kernel"
    fingerprint = ""

    def __init__(self) -> None:
        self._numbers: dict[str, tuple[int, dict[str, int]]] = {}
        self._read_at = -1
        try:
            self._status = os.open(f"{selinux_kernel.FOLDER}/status", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise EngineGone(
                "the kernel's security server can't be asked: SELinux is off",
                target=selinux_kernel.FOLDER,
                rule=error.strerror or "",
                remedy="name a policy for libsepol with --policy",
            ) from error
        try:
            self.generation()
        except EngineGone:
            self.close()
            raise

    def classes(self) -> Mapping[str, Set[str]]:
        return {name: permissions.keys() for name, (_, permissions) in self._classes().items()}

    def generation(self) -> int:
        for _ in range(_TRIES):
            before = self._read()
            # The sequence is odd while the kernel writes, and another number afterwards.
            if not before[1] & 1 and before == self._read():
                break
        else:
            raise EngineGone("the kernel's SELinux status does not settle", target=selinux_kernel.FOLDER)
        if not before[2]:
            raise EngineGone(
                "SELinux is permissive: what the kernel's security server says is not enforced",
                target=selinux_kernel.FOLDER,
                remedy="setenforce 1",
            )
        return int(before[3])

    def compute(self, triples: Sequence[Triple]) -> list[Access]:
        classes = self._classes()
        return [self._compute(triple, classes) for triple in triples]

    def explain(self, questions: Sequence[Question]) -> list[Why]:
        # The kernel gives no reasons. Its policy can be read, but another one may be in force by then.
        return [Why("the loaded policy", "") for _ in questions]

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        if self._status >= 0:
            os.close(self._status)
            self._status = -1

    def _read(self) -> tuple[int, ...]:
        try:
            return _STATUS.unpack(os.pread(self._status, _STATUS.size, 0))
        except (OSError, struct.error) as error:
            raise EngineGone(
                "the kernel's SELinux status can't be read", target=selinux_kernel.FOLDER, rule=str(error)
            ) from error

    def _compute(self, triple: Triple, classes: Mapping[str, tuple[int, dict[str, int]]]) -> Access:
        known = classes.get(triple.tclass)
        if known is None:
            return Access(frozenset(), f"the policy has no class {triple.tclass}")
        number, permissions = known
        try:
            allowed, permissive = selinux_kernel.vector(triple.source, triple.target, number)
        except HostError as error:
            if error.errno != errno.EINVAL:
                raise EngineGone("the kernel's security server does not answer", rule=error.what) from error
            return Access(frozenset(), f"the kernel does not take it: {error.rule or error.what}")
        names = frozenset(name for name, bit in permissions.items() if allowed & bit)
        return Access(names, permissive=permissive)

    def _classes(self) -> dict[str, tuple[int, dict[str, int]]]:
        """Class → number and permissions → bit, read again when another policy was loaded."""
        generation = self.generation()
        if generation != self._read_at:
            self._numbers = selinux_kernel.classes()
            self._read_at = generation
        return self._numbers
