"""``python -m lab build|shell``."""

import argparse
import sys

from lab import cache, guest, selinux, xen


def main() -> int:
    """The command line of the lab."""
    parser = argparse.ArgumentParser(prog="python -m lab", description="Machines with real kernels for tests.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="make whatever is not in the cache yet")
    shell = verbs.add_parser("shell", help="start a machine and type commands into it")
    shell.add_argument("--xen", action="store_true", help="the machine with Xen; commands run in dom0")
    shell.add_argument("--boot", action="store_true", help="boot it, instead of restoring the saved state")
    shell.add_argument("--context", default="", help="SELinux context for the commands")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "build":
            _build()
        else:
            _shell(xen.Machine if arguments.xen else selinux.Machine, arguments.boot, arguments.context)
    except cache.LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


def _build() -> None:
    for path in (guest.kernel().parent, selinux.snapshot(), xen.snapshot()):
        cache.say(f"ready: {path.name}")


def _shell(kind: type[selinux.Machine | xen.Machine], boot: bool, context: str) -> None:
    with kind.booted() if boot else kind.restored() as machine:
        print("Each line runs in bash, as root; end with Ctrl-D.")
        while True:
            try:
                line = input("lab# ")
            except EOFError:
                return
            done = machine.run(line, context=context, timeout=3600)
            print(done.output + done.errors, end="")
            for avc in machine.avcs():
                what = f"{avc.source} → {avc.target} {avc.cls} {{ {' '.join(sorted(avc.permissions))} }} {avc.details}"
                print(f"    {'denied' if avc.denied else 'granted'}: {what}")


if __name__ == "__main__":
    sys.exit(main())
