"""The same strings through libsepol's security server: it must accept, refuse and print them as septum does.

One difference is known and wanted: libsepol ignores what follows a second dash (``s0-s0:c1-c9``), the kernel has
refused it since "selinux: refactor mls_context_to_sid() and make it stricter" (2018). So does septum, and such
strings are left out here.
"""

import ctypes
import os
import random
import subprocess
import sys
from pathlib import Path

from septum.errors import LabelError
from septum.labels import Bounds, Context

POLICY = """
(mls true)(class file (read))(classorder (file))(sid kernel)(sidorder (kernel))
(user u)(role r)(type t)(roletype r t)(userrole u r)
(sensitivity s0)(sensitivity s1)(sensitivityorder (s0 s1))
{categories}(categoryorder ({names}))
(sensitivitycategory s0 (range c0 c1023))(sensitivitycategory s1 (range c0 c1023))
(userlevel u (s0))(userrange u ((s0)(s1 (range c0 c1023))))
(sidcontext kernel (u r t ((s0)(s0))))(allow t t (file (read)))
"""
WRITTEN = """
s0 s1 s2 s0:c4,c5 s0:c4.c6 s0:c6,c4,c5 s0:c1,c1 s0:c5.c4 s0:c4.c4 s0: s0:c1, s0:,c1 s0:c01 s0:C1 s0:c1024 s0:c1023
s0-s0:c0.c1023 s0:c1-s0 s0:c1-s0:c1 s0-s0 s1-s0 s0-s1:c3 s0:c1.c3,c2.c5,c4,c9,c10 s0:c1.c3.c5 s0-s0-s0 :s0 s0::c1 - s0-
-s0 s0:c1- s00 s01 s0:c s0:c1.c s0:.c1 s0:c1. s0:c0 s0:c1022,c1023 s0:c1021.c1023 s0:c1.c3-s0:c1,c2,c3,c9
""".split()


def test_septum_and_libsepol_agree(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(1024)]
    source = tmp_path / "policy.cil"
    categories = "".join(f"(category {name})" for name in names)
    source.write_text(POLICY.format(categories=categories, names=" ".join(names)))
    policy = tmp_path / "policy"
    subprocess.run(["secilc", "-c", "33", "-o", policy, "-f", os.devnull, source], check=True)
    contexts = [f"u:r:t:{text}" for text in [*WRITTEN, *_random_ranges(5000)]]
    # libsepol keeps one policy for a whole process, so it gets one of its own.
    child = subprocess.run(
        [sys.executable, __file__, policy],
        input="\n".join(contexts),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = child.stdout.splitlines()
    assert len(answers) == len(contexts)
    assert [(text, _septum(text)) for text in contexts] == list(zip(contexts, answers, strict=True))
    assert 1000 < answers.count("refused") < 4500


def _septum(text: str) -> str:
    try:
        return str(Context.parse(text, Bounds(1024, 2)))
    except LabelError:
        return "refused"


def _random_ranges(count: int) -> list[str]:
    """Levels and ranges that look right, one in ten with a character replaced; never a second dash."""
    choose = random.Random(2013)
    made: list[str] = []
    while len(made) < count:
        text = "-".join(_random_level(choose) for _ in range(choose.choice((1, 1, 2))))
        if choose.random() < 0.1:
            place = choose.randrange(len(text))
            text = text[:place] + choose.choice("cs0:,.-x9") + text[place + 1 :]
        if text.count("-") < 2:
            made.append(text)
    return made


def _random_level(choose: random.Random) -> str:
    items = []
    for _ in range(choose.randint(0, 4)):
        first = choose.choice((choose.randint(0, 12), choose.randint(1015, 1024)))
        items.append(f"c{first}" + (f".c{max(0, first + choose.randint(-1, 4))}" if choose.random() < 0.4 else ""))
    return f"s{choose.randint(0, 1)}" + (":" + ",".join(items) if items else "")


def _answer(policy: str) -> None:
    """Reads contexts, one a line; prints each as libsepol does, or ``refused``."""
    libc, sepol = ctypes.CDLL(None), ctypes.CDLL("libsepol.so.2")
    libc.fopen.restype = ctypes.c_void_p
    libc.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    sepol.sepol_set_policydb_from_file.argtypes = [ctypes.c_void_p]
    sepol.sepol_context_to_sid.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint32)]
    sepol.sepol_sid_to_context.argtypes = [
        ctypes.c_uint32,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.POINTER(ctypes.c_size_t),
    ]
    sepol.sepol_debug(0)
    if sepol.sepol_set_policydb_from_file(libc.fopen(os.fsencode(policy), b"re")) < 0:
        sys.exit(f"{policy}: libsepol can't load it")
    sid, printed, size = ctypes.c_uint32(), ctypes.c_char_p(), ctypes.c_size_t()
    for line in sys.stdin.read().split("\n"):
        raw = line.encode()
        if sepol.sepol_context_to_sid(raw, len(raw) + 1, ctypes.byref(sid)) < 0:
            print("refused")
        elif sepol.sepol_sid_to_context(sid, ctypes.byref(printed), ctypes.byref(size)) < 0:
            sys.exit(f"{line}: libsepol can't print it")
        else:
            print((printed.value or b"").decode())


if __name__ == "__main__":
    _answer(sys.argv[1])
