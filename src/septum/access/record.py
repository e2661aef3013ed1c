"""How decisions are written down: lines of text, each chained to the one before. Nothing here touches a file.

A segment is a file of lines, ``DIGEST JSON``. DIGEST is BLAKE2b-256 in hex, over the digest of the line before (as
text) and the JSON (as it stands in the line); the very first line follows `GENESIS`. So a segment can be checked with
``b2sum --length=256`` alone, and read with any JSON parser. Lines are of four kinds:

- ``{"segment":7,"previous":…}``: the first one, which names the line it follows and says how the segment before ended;
- ``{"time":…,"define":{…},"asked":[[asker,[decision,…]],…]}``: a block of decisions, in the order of the answers;
- ``{"time":…,"event":…}``: what happened to the service itself: a policy was loaded, an engine went;
- ``{"time":…,"closed":…}``: the last one of a segment that was closed.

A block names askers and decisions by numbers which it or an earlier block of the segment defines: the hundredth same
answer costs a few bytes, and a segment can be read alone.
"""

import json
import re
from _blake2 import blake2b
from collections.abc import Mapping
from typing import Any, Final

from septum.access.question import Asker, Decision, ObjectQuestion, Question

__all__ = ["DIGEST_LENGTH", "GENESIS", "NAME", "SEGMENT", "VERSION", "encode", "line", "of_asker", "of_decision"]

VERSION: Final = 1
"""Of the format; it stands in each segment's first line."""

DIGEST_LENGTH: Final = 64
"""Characters of a digest."""

GENESIS: Final = "0" * DIGEST_LENGTH
"""What the first line of the first segment follows."""

NAME: Final = "{:08d}.log"
SEGMENT: Final = re.compile(r"([0-9]{8,})\.log")

encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""JSON in ASCII, without white space or newlines."""


def line(previous: str, body: str) -> tuple[str, bytes]:
    """The digest of a line, and the line.

    Args:
        previous: digest of the line before.
        body: JSON in ASCII without a newline.
    """
    digest = blake2b(f"{previous}{body}".encode("ascii"), digest_size=DIGEST_LENGTH // 2).hexdigest()
    return digest, f"{digest} {body}\n".encode("ascii")


def of_asker(asker: Asker) -> Mapping[str, Any]:
    """An asker as a definition."""
    return {"asker": asker.context, "uid": asker.uid, "pid": asker.pid, "started": asker.started}


def of_decision(question: Question | ObjectQuestion, target: str, tclass: str, decision: Decision) -> Mapping[str, Any]:
    """A decision as a definition.

    Args:
        question: as it was asked, with the subject filled in.
        target: context that it was decided for, "" if there is none.
        tclass: object class.
        decision: with its true reason.
    """
    fields: dict[str, Any] = {
        "subject": question.subject,
        "target": target,
        "class": tclass,
        "permissions": question.permissions,
        "allowed": decision.allowed,
        "granted": decision.granted,
        "reason": decision.reason,
        "rule": decision.rule,
        "seqno": decision.seqno,
        "engine": decision.engine,
    }
    if isinstance(question, ObjectQuestion):
        fields["object"] = question.object
    if decision.permissive:
        fields["permissive"] = True
    return fields
