"""``septum decide``: what a policy says to a question, and by which rule. Decided by libsepol; nothing is changed."""

import json
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any, Final

from septum.cli.common import add_json, add_state, folder, print_json, printable
from septum.errors import PolicyError, SeptumError, Unenforceable, UsageError
from septum.sepol import Explanation, Policy
from septum.sepol.serve import end_with

HELP: Final = "say whether a policy allows something, and by which rule"
_KERNEL: Final = "/sys/fs/selinux/policy"
_LINE: Final = 1 << 16  # bytes
_NO_QUESTION: Final = "a question is: SCONTEXT TCONTEXT CLASS PERMISSION…"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", metavar="SCONTEXT", nargs="?", help="context of who would do it")
    parser.add_argument("target", metavar="TCONTEXT", nargs="?", help="context of what it would be done to")
    parser.add_argument("tclass", metavar="CLASS", nargs="?", help="object class")
    parser.add_argument("permissions", metavar="PERMISSION", nargs="*", default=[], help="one or more of the class's")
    parser.add_argument(
        "--policy",
        metavar="FILE",
        default="",
        help="a compiled policy (default: the kernel's, else the one that septum policy load --target standalone left)",
    )
    parser.add_argument(
        "--boolean",
        metavar="NAME=on|off",
        action="append",
        default=[],
        help="decide as if the boolean had this value; may be given several times",
    )
    parser.add_argument("--batch", action="store_true", help="read questions from standard input, one a line")
    add_json(parser)
    add_state(parser)
    parser.epilog = (
        "Exit status: 0 allowed, 1 denied, 125 there is no answer. With --batch a line that is no question gets an "
        "error for an answer and stops nothing; the exit status is the highest that the lines would have had."
    )


def run(options: Namespace) -> int:
    one = [options.source, options.target, options.tclass, *options.permissions]
    if options.batch and any(one):
        raise UsageError("--batch reads questions from standard input, and takes none as arguments")
    if not options.batch and not options.permissions:
        raise UsageError(_NO_QUESTION)
    booleans = dict(map(_boolean, options.boolean))
    status = _apart()
    if status is not None:
        return status
    with Policy.open(_policy(options), booleans=booleans) as policy:
        return _batch(policy, json_lines=options.json) if options.batch else _single(policy, one, as_json=options.json)


def _single(policy: Policy, question: list[str], *, as_json: bool) -> int:
    said = _decide(policy, question)
    if as_json:
        print_json({**said._asdict(), "policy": policy.name, "fingerprint": policy.fingerprint})
    else:
        rows = [
            ("granted", " ".join(said.granted)),
            ("refused", " ".join(said.refused)),
            ("reason", ", ".join(said.reasons)),
            ("rule", said.rule),
            ("policy", f"{policy.name}, {policy.fingerprint[:16]}…"),
        ]
        print("allowed" if said.allowed else "denied")
        for name, value in rows:
            if value:
                print(f"  {name + ':':9}{printable(value)}")
    return 0 if said.allowed else 1


def _batch(policy: Policy, *, json_lines: bool) -> int:
    worst = 0
    for number, line in _lines():
        answer: dict[str, Any] = {"line": number}
        try:
            if line is None:
                raise UsageError(f"line {number} is longer than {_LINE} bytes", rule=_NO_QUESTION)
            said = _decide(policy, line.split())
            answer |= said._asdict()
            status, text = (0, "allowed") if said.allowed else (1, "denied")
            detail = f"{', '.join(said.reasons)}: {said.rule}" if said.reasons else said.rule
        except SeptumError as error:
            answer |= error.as_dict()
            status, text, detail = SeptumError.exit_status, "error", error.what
        worst = max(worst, status)
        # Whoever asks line by line waits for each answer.
        print(json.dumps(answer) if json_lines else f"{number} {text} {printable(detail)}", flush=True)
    return worst


def _decide(policy: Policy, question: list[str]) -> Explanation:
    if len(question) < 4:
        raise UsageError(_NO_QUESTION)
    source, target, tclass, *permissions = question
    return policy.explain(source, target, tclass, permissions)


def _lines() -> Iterator[tuple[int, str | None]]:
    """Lines of standard input with their numbers, but empty ones; None for one that is too long."""
    number = 0
    while line := sys.stdin.buffer.readline(_LINE):
        number += 1
        if not line.endswith(b"\n") and len(line) == _LINE:
            while (rest := sys.stdin.buffer.readline(_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif text := line.decode("utf-8", "surrogateescape").strip():
            yield number, text


def _boolean(text: str) -> tuple[str, bool]:
    name, _, value = text.partition("=")
    if value not in ("on", "off"):
        raise UsageError(f"--boolean {text}: expected NAME=on or NAME=off")
    return name, value == "on"


def _policy(options: Namespace) -> str | bytes:
    if options.policy:
        return str(options.policy)
    if os.path.exists(_KERNEL):
        return _KERNEL
    from septum.policy import FILE

    path = os.path.join(folder(options), FILE)
    if os.path.exists(path):
        return path
    raise Unenforceable(
        "there is no policy to decide by: SELinux does not run here, and no stand-alone policy is in force",
        target=path,
        remedy="septum policy load --target standalone; or name a compiled policy with --policy",
    )


def _apart() -> int | None:
    """Goes on in a child, and returns None there; in the parent, the exit status that the child came to.

    A damaged policy can break libsepol, and then there has to be somebody left to say so.
    """
    life, end = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(end)
        end_with(life)
        return None
    os.close(life)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        raise PolicyError(
            "libsepol broke on the policy",
            rule=f"the process that opened it was ended by {signal.Signals(-status).name}",
            remedy="it is damaged, or made to do harm: compile it anew",
        )
    return status
