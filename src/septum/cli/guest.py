"""``septum guest``: guests of a realm, through the API."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any, Final

from septum.cli.api import add_api, api, realm_of, show, table, wait
from septum.cli.common import print_json

HELP: Final = "guests of a realm: define, start, stop, see them"


def arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", title="what to do", required=True)
    listed = verbs.add_parser("list", help="list them")
    make = verbs.add_parser("create", help="define one")
    shown = verbs.add_parser("show", help="show one")
    start = verbs.add_parser("start", help="start one")
    stop = verbs.add_parser("stop", help="stop one: ask it, and force it if it does not end")
    destroy = verbs.add_parser("destroy", help="forget one that is stopped; its images stay")
    for one in (make, shown, start, stop, destroy):
        one.add_argument("guest", metavar="GUEST")
    make.add_argument("--machine", default="q35", choices=("q35", "pc", "microvm", "none"), help="(%(default)s)")
    make.add_argument("--memory", type=int, default=128, metavar="MIB", help="(default: %(default)s)")
    make.add_argument("--vcpus", type=int, default=1, metavar="N", help="(default: %(default)s)")
    make.add_argument("--kernel", default="", metavar="IMAGE", help="to boot")
    make.add_argument("--initrd", default="", metavar="IMAGE", help="to boot it with")
    make.add_argument("--append", default="", metavar="TEXT", help="kernel command line")
    make.add_argument("--disk", action="append", default=[], metavar="IMAGE[:ro]", help="may be given several times")
    make.add_argument("--paused", action="store_true", help="it starts with its processors stopped")
    make.add_argument("--orchestrator", action="store_true", help="it acts for its realm")
    stop.add_argument("--force", action="store_true", help="do not ask it")
    stop.add_argument("--seconds", type=int, default=10, metavar="N", help="to wait for it (default: %(default)s)")
    for one in (start, stop):
        one.add_argument("--no-wait", action="store_true", help="end once it is accepted")
    for one in (listed, make, shown, start, stop, destroy):
        add_api(one)


def run(options: Namespace) -> int:
    with api(options) as client:
        realm = realm_of(options, client)
        match options.what:
            case "list":
                return table(options, ["name", "state", "level", "pid"], client.guests(realm))
            case "create":
                return show(options, client.create_guest(realm, options.guest, _config(options)))
            case "show":
                return show(options, client.guest(realm, options.guest))
            case "start":
                return wait(options, client, client.start_guest(realm, options.guest))
            case "stop":
                stopping = client.stop_guest(realm, options.guest, force=options.force, seconds=options.seconds)
                return wait(options, client, stopping)
            case _:
                client.destroy_guest(realm, options.guest)
                if options.json:
                    print_json({"destroyed": options.guest})
                return 0


def _config(options: Namespace) -> dict[str, Any]:
    names = ("machine", "memory", "vcpus", "kernel", "initrd", "append", "paused", "orchestrator")
    disks = [{"image": image.removesuffix(":ro"), "read_only": image.endswith(":ro")} for image in options.disk]
    return {**{name: getattr(options, name) for name in names}, "disks": disks}
