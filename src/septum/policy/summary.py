"""What a compiled policy holds, counted from its CIL (``checkpolicy -b -C``, in a process of its own)."""

import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from septum.errors import PolicyError
from septum.policy.compile import fingerprint, run

_COUNTED: Final = {
    "type": "types",
    "typeattribute": "attributes",
    "class": "classes",
    "role": "roles",
    "user": "users",
    "category": "categories",
    "boolean": "booleans",
    "allow": "allow rules",
    "dontaudit": "dontaudit rules",
    "auditallow": "auditallow rules",
    "typetransition": "type transitions",
    "constrain": "constraints",
    "mlsconstrain": "constraints",
}
_STATEMENT: Final = re.compile(r"^\s*\((\w+) ", re.MULTILINE)
_OWN: Final = re.compile(r"^\((type|class|boolean) (septum[\w.]*)(?: (true|false)\))?", re.MULTILINE)


class Summary(NamedTuple):
    """A compiled policy in numbers.

    Attributes:
        fingerprint: BLAKE2b-256 of the binary, as hex.
        counts: how many of each kind, by its name in English.
        types, classes: names of septum's own.
        booleans: names of septum's own → their values.
    """

    fingerprint: str
    counts: Mapping[str, int]
    types: tuple[str, ...]
    classes: tuple[str, ...]
    booleans: Mapping[str, bool]


def summarise(image: bytes) -> Summary:
    """Counts what is in a binary policy.

    Raises:
        PolicyError: it is none.
        NotFound: checkpolicy is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="septum-policy-") as name:
        binary, text = Path(name, "binary"), Path(name, "text")
        binary.write_bytes(image)
        done = run(["checkpolicy", "-M", "-b", "-C", "-o", str(text), str(binary)])
        if done.returncode != 0:
            raise PolicyError("this is no compiled policy", rule=(done.stderr or done.stdout).strip()[:500])
        cil = text.read_text(encoding="utf-8", errors="replace")
    found = Counter(_COUNTED[word] for word in _STATEMENT.findall(cil) if word in _COUNTED)
    own: dict[str, dict[str, bool]] = {"type": {}, "class": {}, "boolean": {}}
    for kind, one, value in _OWN.findall(cil):
        own[kind][one] = value == "true"
    return Summary(
        fingerprint(image),
        {name: found[name] for name in dict.fromkeys(_COUNTED.values())},
        tuple(sorted(own["type"])),
        tuple(sorted(own["class"])),
        dict(sorted(own["boolean"].items())),
    )
