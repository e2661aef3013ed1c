"""The ring core against an other end that writes anything at any moment, under libFuzzer with ASan and UBSan.

Needs clang with libFuzzer and its sanitizers (Debian: clang-14, libclang-rt-14-dev); says so where they are missing.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = (ROOT / "tests/data/ring_fuzz.c", ROOT / "src/septum/ivc/ring.c")


def run(seconds: float) -> None:
    """Fuzz for that long.

    Raises:
        AssertionError: libFuzzer found something; it printed what.
    """
    compiler = shutil.which("clang") or shutil.which("clang-14")
    if compiler is None:
        print("no clang here: apt-get install clang-14 libclang-rt-14-dev")
        return
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "fuzz")
        flags = ["-std=c11", "-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
        include = f"-I{ROOT / 'src/septum/ivc'}"
        subprocess.run([compiler, *flags, include, *map(str, SOURCES), "-o", program], check=True)
        corpus = os.path.join(folder, "corpus")
        os.mkdir(corpus)
        words = [program, f"-max_total_time={seconds:.0f}", "-max_len=600", "-print_final_stats=1", corpus]
        done = subprocess.run(words, cwd=folder, check=False)
        assert done.returncode == 0
