"""``septum doctor``: what this host can enforce, what is missing, and whether the ledger is sound."""

import fcntl
import os
from argparse import ArgumentParser, Namespace
from typing import Any, Final

from septum.cli import policy
from septum.cli.common import add_json, add_state, folder, open_ledger, print_json
from septum.errors import SeptumError
from septum.launch import drivers
from septum.launch.process import find_program
from septum.launch.state import SELINUXFS
from septum.launch.undo import survivors

HELP: Final = "say what this host can enforce, and what is missing"


def arguments(parser: ArgumentParser) -> None:
    add_json(parser)
    add_state(parser)


def run(options: Namespace) -> int:
    report: dict[str, Any] = {"drivers": [], "qemu": _qemu(), "ledger": _ledger(options)}
    for driver, availability in drivers.probe_all():
        report["drivers"].append({"name": driver.name, **availability._asdict(), "details": dict(availability.details)})
    if not os.path.isdir(SELINUXFS):
        report["drivers"].insert(
            0,
            {
                "name": "selinux",
                "works": False,
                "reason": "this kernel runs without SELinux",
                "details": {},
                "weaker": [],
            },
        )
    report["enforces"] = [entry["name"] for entry in report["drivers"] if entry["works"]]
    report["ok"] = bool(report["enforces"]) and report["ledger"]["ok"]
    if options.json:
        print_json(report)
    else:
        _print(report)
    return 0 if report["ok"] else 125


def _qemu() -> str:
    try:
        return find_program(f"qemu-system-{os.uname().machine}", os.environ.get("PATH", os.defpath))
    except SeptumError:
        return ""


def _ledger(options: Namespace) -> dict[str, Any]:
    path = folder(options)
    found: dict[str, Any] = {
        "path": path,
        "ok": True,
        "guests": 0,
        "stuck": [],
        "audit": 0,
        "policy": {},
        "watcher": _watcher(path),
    }
    try:
        ledger = open_ledger(options)
        if ledger is not None:
            guests = ledger.guests()
            found["guests"] = sum(1 for guest in guests if survivors(guest))
            found["stuck"] = [f"{guest.realm}/{guest.name}" for guest in guests if guest.state == "stuck"]
            found["audit"] = ledger.audit_verify()
        found["policy"] = policy.states(options, ledger)
    except SeptumError as error:
        found["ok"] = False
        found["error"] = error.as_dict()
    return found


def _watcher(path: str) -> bool:
    """Whether a watcher runs: it holds its lock as long as it lives."""
    try:
        fd = os.open(os.path.join(path, "watch.lock"), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def _mark(good: object) -> str:
    return "ok  " if good else "no  "


def _print(report: dict[str, Any]) -> None:
    for entry in report["drivers"]:
        reason = f": {entry['reason']}" if entry["reason"] else ""
        print(f"{_mark(entry['works'])} driver {entry['name']}{reason}")
        for key, value in entry["details"].items():
            print(f"       {key}: {value}")
        for sentence in entry["weaker"]:
            print(f"       weaker: {sentence}")
    print(f"{_mark(report['qemu'])} QEMU {report['qemu'] or 'is not in PATH'}")
    ledger = report["ledger"]
    counts = f"{ledger['guests']} guests, {ledger['audit']} audit records"
    print(f"{_mark(ledger['ok'])} ledger {ledger['path']}: {counts}")
    if "error" in ledger:
        print(f"       {ledger['error']['what']}")
    for guest in ledger["stuck"]:
        print(f"no   {guest} could not be put back: see `septum show {guest}`, then `septum reconcile`")
    for target, found in ledger["policy"].items():
        print(f"     policy {target}: {policy.SAYS[found]}")
    print(f"     watcher: {'runs' if ledger['watcher'] else 'not running (it is started with the first guest)'}")
    if not report["enforces"]:
        print("Nothing here keeps guests apart: septum refuses to run any, but with --unconfined.")
