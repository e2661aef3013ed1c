"""``septum reconcile``: after a crash or a reboot, put everything back."""

import os
from argparse import ArgumentParser, Namespace
from typing import Final

from septum.cli.common import add_json, add_state, folder, open_ledger, print_json, printable
from septum.errors import UsageError
from septum.launch.reconcile import reconcile

HELP: Final = "put back what guests that are gone have left changed"


def arguments(parser: ArgumentParser) -> None:
    add_json(parser)
    add_state(parser)
    parser.add_argument(
        "--forget",
        metavar="GUEST",
        action="append",
        default=[],
        help="give up on a guest that can't be put back, and free its label and uid; look at `septum show` first",
    )


def run(options: Namespace) -> int:
    ledger = open_ledger(options, read_only=False)
    if ledger is None:
        if options.forget:
            raise UsageError(f"there is no ledger in {folder(options)}")
        print_json([]) if options.json else print(f"there is no ledger in {folder(options)}: nothing to do")
        return 0
    if os.geteuid() != os.stat(folder(options)).st_uid:
        raise UsageError("only the ledger's owner can put things back", target=folder(options))
    reports = reconcile(ledger, folder(options), forget=options.forget)
    if ledger.document("declaration", "", "pending") or ledger.document("declaration", "", "in-force"):
        from septum.enact import Enactor, Kernel
        from septum.host import selinux_kernel

        place = Kernel() if selinux_kernel.mounted() and selinux_kernel.enforcing() else None
        enactor = Enactor(ledger, folder(options), place, groups=os.geteuid() == 0)
        if not enactor.finish() and place is not None:
            enactor.again()
    if options.json:
        print_json([{**report._asdict(), "steps": [step._asdict() for step in report.steps]} for report in reports])
    else:
        for report in reports:
            print(f"{report.realm}/{printable(report.name)}: {'released' if report.released else 'NOT released'}")
            for step in report.steps:
                print(f"  {step.outcome:9} {step.op:8} {printable(step.path)} {printable(step.why)}".rstrip())
        if not reports:
            print("nothing to put back")
    return 0 if all(report.released for report in reports) else 125
