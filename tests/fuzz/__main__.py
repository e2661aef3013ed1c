"""``python -m tests.fuzz NAME [--seconds N]``: run one of the harnesses of this package, or all of them."""

import argparse
import importlib
import pathlib
import sys


def main() -> int:
    names = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("[!_]*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", choices=[*names, "all"])
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    for name in names if given.name == "all" else [given.name]:
        print(f"{name}: {given.seconds:g} s")
        importlib.import_module(f"tests.fuzz.{name}").run(given.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
