"""``septum realm``: owners, their quotas and images, through the API."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from typing import Final

from septum.cli.api import add_api, api, show, table, wait
from septum.cli.common import print_json, printable

HELP: Final = "owners: make them, bound them, see what they use"
_QUOTA: Final = ("guests", "memory", "disk", "channels", "calls", "events")


def arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", title="what to do", required=True)
    listed = verbs.add_parser("list", help="list them")
    shown = verbs.add_parser("show", help="show one")
    make = verbs.add_parser("create", help="make one; prints a key that works once, for its orchestrator")
    destroy = verbs.add_parser("destroy", help="take one out that has no guests and images any more")
    quota = verbs.add_parser("quota", help="set what it may have")
    invite = verbs.add_parser("invite", help="give it a new key that works once, for its orchestrator")
    users = verbs.add_parser("delegate", help="say which users of the host act for it, on its socket")
    follow = verbs.add_parser("events", help="follow what happens in it")
    images = verbs.add_parser("images", help="list its images")
    image = verbs.add_parser("image", help="make an image: empty, or a copy of a file or of another image")
    drop = verbs.add_parser("drop-image", help="remove an image that no guest has")
    follow.add_argument("--after", type=int, default=-1, metavar="N", help="go on behind that event, not from now")
    devices = verbs.add_parser("devices", help="list the devices of the host that it has")
    device = verbs.add_parser("device", help="give it a block device of the host")
    undevice = verbs.add_parser("drop-device", help="take a device from it")
    of_one = (shown, make, destroy, quota, users, images, image, drop, follow, devices, device, undevice, invite)
    for one in of_one:
        one.add_argument("realm", metavar="REALM")
    for one in (make, quota):
        for name in _QUOTA:
            one.add_argument(f"--{name}", type=int, metavar="N", default=None, help=f"quota of {name}")
    users.add_argument("--uid", type=int, action="append", default=[], metavar="UID", help="may be given several times")
    for one in (device, undevice):
        one.add_argument("device", metavar="NAME")
    device.add_argument("path", metavar="/dev/NODE")
    for one in (image, drop):
        one.add_argument("image", metavar="IMAGE")
    image.add_argument("--size", type=int, default=0, metavar="BYTES", help="of an empty one")
    image.add_argument("--file", default="", metavar="PATH", help="of the host, to copy; only for the platform")
    image.add_argument("--clone", default="", metavar="IMAGE", help="of the same realm, to copy")
    for one in (listed, *of_one):
        add_api(one, realm=False)


def run(options: Namespace) -> int:
    with api(options) as client:
        match options.what:
            case "list":
                return table(options, ["name", "level", "enrolled"], client.realms())
            case "show":
                return show(options, client.realm(options.realm))
            case "create":
                return show(options, client.create_realm(options.realm, _quota(options)))
            case "destroy":
                client.destroy_realm(options.realm)
                if options.json:
                    print_json({"destroyed": options.realm})
                return 0
            case "quota":
                realm = client.realm(options.realm)
                return show(options, client.set_quota(realm.name, {**realm.quota, **_quota(options)}, realm.version))
            case "delegate":
                realm = client.realm(options.realm)
                return show(options, client.delegate(realm.name, options.uid, realm.version))
            case "events":
                for event in client.events(options.realm, options.after):
                    fields = " ".join(f"{name}={part}" for name, part in event.fields.items())
                    print(
                        json.dumps(event._asdict()) if options.json else printable(f"{event.seq} {event.kind} {fields}")
                    )
                    sys.stdout.flush()
                return 0
            case "invite":
                return show(options, client.invite(options.realm, client.realm(options.realm).version))
            case "devices":
                return table(options, ["name", "number", "guest"], client.devices(options.realm))
            case "device":
                return show(options, client.assign_device(options.realm, options.device, options.path))
            case "drop-device":
                client.release_device(options.realm, options.device)
                if options.json:
                    print_json({"released": options.device})
                return 0
            case "images":
                return table(options, ["name", "size", "ready"], client.images(options.realm))
            case "image":
                if options.clone:
                    return wait(options, client, client.clone_image(options.realm, options.clone, options.image))
                made = client.create_image(options.realm, options.image, size=options.size, path=options.file)
                return wait(options, client, made)
            case _:
                return wait(options, client, client.destroy_image(options.realm, options.image))


def _quota(options: Namespace) -> dict[str, int]:
    return {name: getattr(options, name) for name in _QUOTA if getattr(options, name) is not None}
