"""What libsepol decides by a compiled policy, in a process of its own: it keeps one policy for a whole process."""

import ctypes as c
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

Question = tuple[str, str, str, str]  # source, target, class, permission


def decide(policy: Path, questions: Sequence[Question]) -> list[bool]:
    """Whether each is allowed; contexts, classes and permissions that the policy lacks are errors."""
    done = subprocess.run(
        [sys.executable, __file__, policy], input=json.dumps(questions), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: list[bool] = json.loads(done.stdout)
    return answers


class _Decision(c.Structure):
    _fields_ = [(name, c.c_uint32) for name in ("allowed", "decided", "auditallow", "auditdeny", "seqno")]


def _main() -> None:
    libc, sepol = c.CDLL(None), c.CDLL("libsepol.so.2")
    libc.fopen.restype = c.c_void_p
    libc.fopen.argtypes = [c.c_char_p, c.c_char_p]
    sepol.sepol_set_policydb_from_file.argtypes = [c.c_void_p]
    sepol.sepol_context_to_sid.argtypes = [c.c_char_p, c.c_size_t, c.c_void_p]
    stream = libc.fopen(sys.argv[1].encode(), b"re")
    assert sepol.sepol_set_policydb_from_file(stream) == 0
    answers = []
    for source, target, cls, permission in json.load(sys.stdin):
        numbers = []
        for context in (source.encode(), target.encode()):
            number = c.c_uint32()
            assert sepol.sepol_context_to_sid(context, len(context) + 1, c.byref(number)) == 0, context
            numbers.append(number)
        kind, bit, decision, reason = c.c_uint16(), c.c_uint32(), _Decision(), c.c_uint32()
        assert sepol.sepol_string_to_security_class(cls.encode(), c.byref(kind)) == 0, cls
        assert sepol.sepol_string_to_av_perm(kind, permission.encode(), c.byref(bit)) == 0, permission
        code = sepol.sepol_compute_av_reason(*numbers, kind, bit, c.byref(decision), c.byref(reason))
        assert code == 0
        answers.append(decision.allowed & bit.value == bit.value)
    print(json.dumps(answers))


if __name__ == "__main__":
    _main()
