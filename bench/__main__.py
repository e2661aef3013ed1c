"""``python -m bench [PART…] [--runs N] [--json]``: measures on this machine; each ratio comes from one run."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Final

from bench import (
    access,
    allot,
    analysis,
    argv,
    decide,
    flood,
    ivshmem,
    ledger,
    machine,
    memory,
    realms,
    rendezvous,
    ring,
    start,
)
from bench.figures import BenchError, Result, render

PARTS: Final[dict[str, Callable[[int], Result]]] = {
    "start": start.bench,
    "allot": allot.bench,
    "ledger": ledger.bench,
    "argv": argv.bench,
    "memory": memory.bench,
    "access": access.bench,
    "decide": decide.bench,
    "ring": ring.bench,
    "realms": realms.bench,
    "flood": flood.bench,
    "analysis": analysis.bench,
    "ivshmem": ivshmem.bench,
    "rendezvous": rendezvous.bench,
}


def main(words: Sequence[str] | None = None) -> int:
    """Measures the parts that are asked for; 1 if one could not be measured."""
    parser = ArgumentParser(prog="python -m bench", description="Measures septum beside what it is compared with.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one or more of {', '.join(PARTS)}; default: all")
    parser.add_argument("--runs", type=int, default=15, help="of each measurement (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(words)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown or options.runs < 1:
        parser.error(f"no part {', '.join(unknown)}" if unknown else "--runs takes a number from 1 on")
    facts = machine.describe()
    if not options.json:
        print(machine.line(facts), flush=True)
    results = []
    failed = False
    for name in options.parts or PARTS:
        try:
            result = PARTS[name](options.runs)
        except BenchError as error:
            result = Result(name, notes=(f"not measured: {error}",))
            failed = True
        results.append(result)
        if not options.json:
            print(f"\n{render(result)}", flush=True)
    if options.json:
        print(json.dumps({"machine": facts, "parts": [result.as_dict() for result in results]}, indent=2))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
