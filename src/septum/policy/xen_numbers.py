"""Xen's classes, permissions and initial SIDs as CIL.

Xen numbers them by their order in three files of its source (``xen/xsm/flask/policy``), from which its build makes
headers (``mkflask.sh``, ``mkaccess_vector.sh``); a policy has to have them in the same order. ``cil/xen/numbers.cil``
was made by `numbers_cil` from Xen 4.17's, and a test compares it with the source that the lab's hypervisor was
built from.
"""

import re
from typing import Final

from septum.errors import PolicyError

_COMMENT: Final = re.compile(r"#[^\n]*")
_WIDTH: Final = 120


def numbers_cil(security_classes: str, access_vectors: str, initial_sids: str) -> str:
    """The CIL that numbers what Xen numbers, in Xen's order.

    Args:
        security_classes, access_vectors, initial_sids: the content of the files of that name.

    Raises:
        PolicyError: the files don't fit each other.
    """
    classes = re.findall(r"^class\s+(\w+)\s*$", _COMMENT.sub("", security_classes), re.MULTILINE)
    vectors = dict(re.findall(r"class\s+(\w+)\s*\{([^}]*)\}", _COMMENT.sub("", access_vectors)))
    sids = re.findall(r"^sid\s+(\w+)\s*$", _COMMENT.sub("", initial_sids), re.MULTILINE)
    if not sids or not classes or set(classes) != set(vectors):
        raise PolicyError(
            "these are not Xen's classes, permissions and initial SIDs",
            target="xen/xsm/flask/policy",
            rule=f"every class has permissions: {sorted(set(classes) ^ set(vectors))}",
            remedy="give all three files of one version of Xen",
        )
    lines = ["; Made from Xen's source by septum.policy.numbers_cil: the order is the hypervisor's numbering."]
    for name in classes:
        lines += _wrapped(f"(class {name} (", vectors[name].split(), "))")
    lines += _wrapped("(classorder (", classes, "))")
    lines += [f"(sid {name})" for name in sids]
    lines += _wrapped("(sidorder (", sids, "))")
    return "\n".join(lines) + "\n"


def _wrapped(head: str, words: list[str], tail: str) -> list[str]:
    lines, line = [], head
    for word in words:
        if len(line) + len(word) + len(tail) + 1 > _WIDTH:
            lines.append(line.rstrip())
            line = "    "
        line += word + " "
    return [*lines, line.rstrip() + tail]
