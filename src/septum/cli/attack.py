"""``septum attack``: act as a guest's compromised emulator, from inside the guest's own confinement."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any, Final

from septum.attack.model import Result
from septum.attack.run import Report, attack
from septum.cli.common import add_json, add_state, find_guest, folder, open_ledger, print_json, printable
from septum.errors import SeptumError
from septum.launch.undo import survivors

HELP: Final = "play a guest's compromised emulator, and see whether it gets out"

_ESCAPED: Final = 1
_COLOURS: Final = {"ok": "32", "ESCAPE": "1;31", "BROKEN": "31", "gap": "33", "open": "36"}
_UNFIT: Final = ("BROKEN", "inconclusive")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("guest", nargs="?", help="name, realm/name or uuid; all that run, if none is given")
    add_json(parser)
    add_state(parser)
    parser.add_argument("--brief", action="store_true", help="leave out what was refused as expected")
    parser.epilog = (
        "Exit status: 0 as expected, 1 an escape, 125 no proof (an attempt was inconclusive, or a control failed)."
    )


def run(options: Namespace) -> int:
    reports = [attack(ledger, guest, folder(options)) for ledger, guest in _chosen(options)]
    if options.json:
        print_json([_as_json(report) for report in reports])
    else:
        for report in reports:
            _print(report, brief=options.brief)
        if not reports:
            print("no guest runs: there is nothing to attack")
    if any(report.count("ESCAPE") for report in reports):
        return _ESCAPED
    return SeptumError.exit_status if any(report.count(*_UNFIT) for report in reports) else 0


def _chosen(options: Namespace) -> list[Any]:
    if options.guest:
        return [find_guest(options, options.guest)]
    ledger = open_ledger(options)
    if ledger is None:
        return []
    running = sorted(ledger.guests(["running"]), key=lambda guest: (guest.realm, guest.name))
    return [(ledger, guest) for guest in running if survivors(guest)]


def summary(report: Report) -> str:
    """The last line: what the attack came to."""
    parts = [
        f"{report.count('ok')} attempts refused as expected",
        f"{report.count('open')} allowed as declared",
        f"{report.count('ESCAPE')} escapes",
    ]
    more = {"gap": "known gaps open", "BROKEN": "refused that the guest needs", "inconclusive": "inconclusive"}
    parts += [f"{report.count(verdict)} {words}" for verdict, words in more.items() if report.count(verdict)]
    if report.count("absent"):
        parts.append(f"{report.count('absent')} not there to try")
    return ", ".join(parts)


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "guest": report.guest,
        "mode": report.mode,
        "note": report.note,
        "escapes": report.count("ESCAPE"),
        "summary": summary(report),
        "attempts": [{**result._asdict(), "verdict": result.verdict} for result in report.results],
    }


def _print(report: Report, *, brief: bool) -> None:
    print(f"guest {printable(report.guest)}, {report.mode}")
    if report.note:
        print(f"  note: {printable(report.note)}")
    for title in dict.fromkeys(result.category for result in report.results):
        results = [result for result in report.results if result.category == title]
        refused = [result for result in results if result.verdict == "ok"]
        print(f"\n{printable(title)}: {len(refused)} of {len(results)} refused as expected")
        _print_rows([result for result in results if not (brief and result.verdict == "ok")])
    print(f"\n{summary(report)}\n")


def _print_rows(results: Sequence[Result]) -> None:
    if not results:
        return
    rows = [
        (r.verdict, printable(r.name), printable(r.target), (r.error or r.outcome) + (" (asked)" if r.asked else ""),
         printable(r.why))
        for r in results
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        mark = row[0].ljust(widths[0])
        if sys.stdout.isatty():
            mark = f"\033[{_COLOURS.get(row[0], '2')}m{mark}\033[0m"
        cells = [cell.ljust(width) for cell, width in zip(row[1:4], widths[1:], strict=True)]
        print(f"  {mark}  {'  '.join(cells)}  {row[4]}".rstrip())
