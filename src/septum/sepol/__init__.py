"""Decisions of a compiled SELinux or Xen policy, taken in this process by libsepol, a real security server."""

from septum.sepol.memo import Memo
from septum.sepol.policy import CONTEXT_MAX, Explanation, Policy, Vector
from septum.sepol.rules import Allow, Rules

__all__ = ["CONTEXT_MAX", "Allow", "Explanation", "Memo", "Policy", "Rules", "Vector"]
