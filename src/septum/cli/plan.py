"""``septum plan``: what `run` would do, shown and not done."""

import os
from argparse import ArgumentParser, Namespace
from typing import Any, Final

from septum.cli.common import add_json, open_ledger, print_json, print_table, printable
from septum.cli.launching import add_launch_options, request_of
from septum.errors import Denied, SeptumError
from septum.host.driver import Item
from septum.launch import drivers, identity, plan
from septum.launch.run import operations_of

HELP: Final = "show what run would do, and do nothing"


def arguments(parser: ArgumentParser) -> None:
    parser.usage = "septum plan [--json] [--no-probe] [options] -- qemu-system-x86_64 …"
    add_launch_options(parser)
    add_json(parser)
    parser.add_argument("--no-probe", action="store_true", help="don't look at any file; image chains stay unknown")


def run(options: Namespace) -> int:
    from septum.launch.images import chains

    request = request_of(options, probe=not options.no_probe)
    problems: list[SeptumError] = []
    subject = plan.resolve(request, cwd=os.getcwd(), chains=chains, problems=problems)
    # None of them working is no reason not to show the rest.
    chosen = drivers.choose(options.driver, subject.command, unconfined=True)
    own_uid = os.geteuid() == 0 and any(driver.name == "landlock" for driver in chosen)
    who = identity.preview(subject, request.realm, open_ledger(options), own_uid=own_uid)
    try:
        confinement = plan.confine(subject, who)
    except Denied as error:
        problems.append(error)
        confinement = plan.confine(subject, who._replace(uid=-1))
    steps = plan.steps_of(chosen, confinement)
    known = operations_of(chosen)
    described = [{"op": step.op, "path": step.path, "what": known[step.op].describe(step)} for step in steps]
    entering = sorted((e for driver in chosen for e in driver.entries(confinement)), key=lambda entry: entry.phase)
    described += [{"op": "enter", "path": "", "what": entry.what} for entry in entering]
    report = {
        "name": who.name,
        "realm": who.realm,
        "label": who.level,
        "uid": who.uid,
        "drivers": [driver.name for driver in chosen],
        "resources": [_resource(item) for item in subject.items],
        "steps": described,
        "unknown": [entry._asdict() for entry in subject.command.unknown],
        "network": list(subject.command.network),
        "warnings": list(subject.warnings),
        "refused": [problem.as_dict() for problem in problems],
    }
    if options.json:
        print_json(report)
    else:
        _print(report)
    return 0


def _resource(item: Item) -> dict[str, Any]:
    resource = item.resource
    return {
        "path": resource.path,
        "kind": resource.kind,
        "access": resource.access,
        "sharing": resource.sharing,
        "option": resource.option,
        "platform": item.platform,
        "exists": item.facts is not None,
    }


def _print(report: dict[str, Any]) -> None:
    who = f"uid {report['uid']}" if report["uid"] >= 0 else "the caller's uid"
    print(f"guest {report['realm']}/{printable(report['name'])}: label {report['label']}, {who}, ", end="")
    print(f"drivers {', '.join(report['drivers']) or 'none'} (label and uid are an example)\n")
    rows = [[r["access"], r["sharing"], r["kind"], r["path"], r["option"]] for r in report["resources"]]
    print_table(["ACCESS", "SHARING", "KIND", "PATH", "NAMED BY"], rows)
    print("\nsteps:")
    for number, step in enumerate(report["steps"], 1):
        print(f"{number:3}. {printable(step['what'])}")
    for entry in report["unknown"]:
        print(f"unknown: {printable(entry['option'])}: {printable(entry['value'])} ({entry['why']}); run refuses this")
    for problem in report["refused"]:
        print(f"refused: {printable(problem['what'])}")
    for option in report["network"]:
        print(f"keeps the host's network, as {printable(option)} needs it")
    for warning in report["warnings"]:
        print(f"warning: {printable(warning)}")
