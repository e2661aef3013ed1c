"""``septum guest``: guests of a realm, through the API."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any, Final

from septum.cli.api import add_api, api, realm_of, show, table, wait
from septum.cli.common import print_json, printable
from septum.client import Client

HELP: Final = "guests of a realm: define, start, stop, see them"


def arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", title="what to do", required=True)
    listed = verbs.add_parser("list", help="list them")
    make = verbs.add_parser("create", help="define one")
    shown = verbs.add_parser("show", help="show one")
    start = verbs.add_parser("start", help="start one")
    stop = verbs.add_parser("stop", help="stop one: ask it, and force it if it does not end")
    destroy = verbs.add_parser("destroy", help="forget one that is stopped; its images stay")
    pause = verbs.add_parser("pause", help="stop its processors")
    resume = verbs.add_parser("resume", help="have them run")
    reset = verbs.add_parser("reset", help="reset it")
    console = verbs.add_parser("console", help="what it has printed since this was asked last")
    attach = verbs.add_parser("attach", help="give it an image while it runs")
    detach = verbs.add_parser("detach", help="take away an image that it was given while it runs")
    copies = verbs.add_parser("snapshots", help="list snapshots")
    snapshot = verbs.add_parser("snapshot", help="copy all disks that it writes to, at one moment")
    restore = verbs.add_parser("restore", help="make its disks what they were")
    drop = verbs.add_parser("drop-snapshot", help="remove a snapshot")
    of_one = (make, shown, start, stop, destroy, pause, resume, reset, console, attach, detach, snapshot)
    for one in of_one:
        one.add_argument("guest", metavar="GUEST")
    for one in (attach, detach):
        one.add_argument("image", metavar="IMAGE")
    attach.add_argument("--read-only", action="store_true", help="it may not write to it")
    for one in (snapshot, restore, drop):
        one.add_argument("snapshot", metavar="SNAPSHOT")
    make.add_argument("--machine", default="q35", choices=("q35", "pc", "microvm", "none"), help="(%(default)s)")
    make.add_argument("--memory", type=int, default=128, metavar="MIB", help="(default: %(default)s)")
    make.add_argument("--vcpus", type=int, default=1, metavar="N", help="(default: %(default)s)")
    make.add_argument("--kernel", default="", metavar="IMAGE", help="to boot")
    make.add_argument("--initrd", default="", metavar="IMAGE", help="to boot it with")
    make.add_argument("--append", default="", metavar="TEXT", help="kernel command line")
    make.add_argument("--disk", action="append", default=[], metavar="IMAGE[:ro]", help="may be given several times")
    make.add_argument("--device", action="append", default=[], metavar="NAME", help="of the realm's; several times")
    make.add_argument("--paused", action="store_true", help="it starts with its processors stopped")
    make.add_argument("--orchestrator", action="store_true", help="it acts for its realm")
    stop.add_argument("--force", action="store_true", help="do not ask it")
    stop.add_argument("--seconds", type=int, default=10, metavar="N", help="to wait for it (default: %(default)s)")
    for one in (start, stop, attach, detach, snapshot, restore, drop):
        one.add_argument("--no-wait", action="store_true", help="end once it is accepted")
    for one in (listed, copies, restore, drop, *of_one):
        add_api(one)


def run(options: Namespace) -> int:
    with api(options) as client:
        realm = realm_of(options, client)
        return _VERBS[options.what](options, client, realm)


def _stop(options: Namespace, api: Client, realm: str) -> int:
    return wait(options, api, api.stop_guest(realm, options.guest, force=options.force, seconds=options.seconds))


def _destroy(options: Namespace, api: Client, realm: str) -> int:
    api.destroy_guest(realm, options.guest)
    if options.json:
        print_json({"destroyed": options.guest})
    return 0


def _console(options: Namespace, api: Client, realm: str) -> int:
    text = api.console(realm, options.guest)
    if options.json:
        print_json({"text": text})
    else:
        # A guest must not speak to the terminal of who looks at it.
        print("\n".join(printable(line.rstrip("\r")) for line in text.split("\n")))
    return 0


_VERBS: Final[dict[str, Callable[[Namespace, Client, str], int]]] = {
    "list": lambda o, api, realm: table(o, ["name", "state", "level", "pid"], api.guests(realm)),
    "create": lambda o, api, realm: show(o, api.create_guest(realm, o.guest, _config(o))),
    "show": lambda o, api, realm: show(o, api.guest(realm, o.guest)),
    "start": lambda o, api, realm: wait(o, api, api.start_guest(realm, o.guest)),
    "stop": _stop,
    "destroy": _destroy,
    "pause": lambda o, api, realm: show(o, api.pause_guest(realm, o.guest)),
    "resume": lambda o, api, realm: show(o, api.resume_guest(realm, o.guest)),
    "reset": lambda o, api, realm: show(o, api.reset_guest(realm, o.guest)),
    "console": _console,
    "attach": lambda o, api, realm: wait(o, api, api.attach_image(realm, o.guest, o.image, read_only=o.read_only)),
    "detach": lambda o, api, realm: wait(o, api, api.detach_image(realm, o.guest, o.image)),
    "snapshots": lambda o, api, realm: table(o, ["name", "guest", "size", "ready"], api.snapshots(realm)),
    "snapshot": lambda o, api, realm: wait(o, api, api.create_snapshot(realm, o.guest, o.snapshot)),
    "restore": lambda o, api, realm: wait(o, api, api.restore_snapshot(realm, o.snapshot)),
    "drop-snapshot": lambda o, api, realm: wait(o, api, api.destroy_snapshot(realm, o.snapshot)),
}


def _config(options: Namespace) -> dict[str, Any]:
    names = ("machine", "memory", "vcpus", "kernel", "initrd", "append", "paused", "orchestrator")
    disks = [{"image": image.removesuffix(":ro"), "read_only": image.endswith(":ro")} for image in options.disk]
    return {**{name: getattr(options, name) for name in names}, "disks": disks, "devices": options.device}
