"""``septum policy``: build, load, look at, and name exactly the policy that decides who may do what."""

import json
import sys
from argparse import ArgumentParser, Namespace
from typing import Any, Final

from septum import __version__
from septum.cli.common import add_json, add_state, folder, open_ledger, print_json, print_table
from septum.errors import HostError, SeptumError, Unenforceable, UsageError
from septum.host import selinux_kernel as se
from septum.launch import state
from septum.ledger.protocol import Ledger
from septum.ledger.sqlite import SqliteLedger
from septum.policy import (
    LABELLED,
    TARGETS,
    Target,
    build,
    fingerprint,
    install,
    installed,
    load_module,
    marker_context,
    module,
    relabel,
    source_fingerprint,
    summarise,
)

HELP: Final = "build, load and examine the policy"
_LOADED: Final = f"{se.FOLDER}/policy"
_OWN_TYPE: Final = "system_u:system_r:septum_vm.process:s0"
_DONE: Final[dict[Target, str]] = {
    "module": "The kernel has it, and septum's own files have its types.",
    "standalone": "Engines take it when they start, or are told to read it again.",
}


def arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", title="what to do", required=True)
    make = verbs.add_parser("build", help="compile it, with every check")
    make.add_argument("--out", metavar="F", default="", help="write it to F: a binary policy, or a module for semodule")
    load = verbs.add_parser("load", help="put it into force, and note it in the ledger")
    load.add_argument("--svirt", action="store_true", help="also let septum use libvirt's types (module septum_svirt)")
    show = verbs.add_parser("show", help="say what is in force")
    names = verbs.add_parser("fingerprint", help="print BLAKE2b-256 of sources, builds, and of what is in force")
    for one in (make, load, show):
        one.add_argument(
            "--target",
            choices=(*TARGETS, "xen") if one is make else TARGETS,
            default=None,
            help="module: into the host's SELinux policy; standalone: for libsepol, where SELinux does not run"
            + ("; xen: for the hypervisor, which takes it at boot or by xl loadpolicy" if one is make else "")
            + " (default: module where SELinux runs)",
        )
    for one in (make, load, show, names):
        add_json(one)
        add_state(one)


def run(options: Namespace) -> int:
    return {"build": _build, "load": _load, "show": _show, "fingerprint": _fingerprint}[options.what](options)


def states(options: Namespace, ledger: Ledger | None) -> dict[Target, str]:
    """For `doctor`: of each build, whether it is in force: ``same`` as this version's, ``differs``, or ``none``."""
    return {"module": _module_state(), "standalone": _standalone_state(options, ledger)}


def _target(options: Namespace) -> Target:
    chosen: Target | None = options.target
    return chosen or ("module" if se.mounted() else "standalone")


def _build(options: Namespace) -> int:
    target = _target(options)
    built = build(target)
    # For semodule, septum's own part in source form: the whole was compiled for its checks.
    content = module() if target == "module" else built.image
    if options.out == "-":
        sys.stdout.buffer.write(content)
        return 0
    if options.out:
        _write(options.out, content)
    report = {
        "target": target,
        "out": options.out,
        "bytes": len(content),
        "fingerprint": built.fingerprint,
        "source": built.source,
    }
    if options.json:
        print_json(report)
    else:
        written = f"; {len(content)} bytes in {options.out}" if options.out else ""
        print(f"{target}: every check passed{written}\nfingerprint  {built.fingerprint}\nsource       {built.source}")
    return 0


def _load(options: Namespace) -> int:
    target = _target(options)
    if target == "module" and not se.mounted():
        raise Unenforceable(
            "SELinux does not run in this kernel, so there is nothing to load a module into",
            target=se.FOLDER,
            rule="the module is for hosts that boot with SELinux",
            remedy="septum policy load --target standalone: libsepol decides then; guests are kept apart by Landlock",
        )
    if options.svirt and target != "module":
        raise UsageError("--svirt is for the module: libvirt's types are the host policy's")
    path = folder(options)
    state.make(path)
    ledger = SqliteLedger(path)
    fields = {"target": target, "source": source_fingerprint(target), "version": __version__}
    ledger.audit("policy.load", fields)
    if target == "module":
        built = load_module(with_svirt=options.svirt)
        se.canonical(marker_context("module"))
        relabel(LABELLED)
        in_force = _of_kernel() or built.fingerprint
    else:
        built = build(target)
        install(path, built)
        in_force = built.fingerprint
    fact = {**fields, "fingerprint": in_force}
    ledger.remember(_key(target), json.dumps(fact, sort_keys=True))
    ledger.audit("policy.loaded", fact)
    if options.json:
        print_json(fact)
    else:
        print(f"{target}: in force, fingerprint {in_force}\n{_DONE[target]}")
    return 0


def _show(options: Namespace) -> int:
    target = _target(options)
    image = _image(target, options)
    if not image:
        raise Unenforceable(
            f"no {target} policy is in force", target=folder(options), remedy=f"septum policy load --target {target}"
        )
    summary = summarise(image)
    report: dict[str, Any] = {"target": target, "state": states(options, open_ledger(options))[target]}
    report |= summary._asdict()
    if options.json:
        print_json(report)
        return 0
    print(f"{target}: {SAYS[report['state']]}\nfingerprint {summary.fingerprint}\n")
    print_table(["NUMBER", "OF"], [[number, name] for name, number in summary.counts.items()])
    print(f"\nseptum's types: {', '.join(summary.types) or 'none'}")
    print(f"septum's classes: {', '.join(summary.classes) or 'none'}")
    for name, value in summary.booleans.items():
        print(f"{name}: {'on' if value else 'off'}")
    return 0


def _fingerprint(options: Namespace) -> int:
    report: dict[str, dict[str, str]] = {}
    ledger = open_ledger(options)
    for target in TARGETS:
        entry = {"source": source_fingerprint(target), "built": "", "in force": "", "recorded": ""}
        try:
            entry["built"] = build(target).fingerprint
        except SeptumError as error:
            entry["not built"] = error.what
        image = _image(target, options)
        entry["in force"] = fingerprint(image) if image else ""
        entry["recorded"] = _fact(ledger, target).get("fingerprint", "")
        report[target] = entry
    if options.json:
        print_json(report)
    else:
        print_table(
            ["TARGET", "WHAT", "BLAKE2B-256"],
            [[target, what, value or "none"] for target, entry in report.items() for what, value in entry.items()],
        )
    return 0


def _module_state() -> str:
    if not se.mounted():
        return "none"
    for context, found in ((marker_context("module"), "same"), (_OWN_TYPE, "differs")):
        try:
            se.canonical(context)
            return found
        except HostError:
            continue
    return "none"


def _standalone_state(options: Namespace, ledger: Ledger | None) -> str:
    image = installed(folder(options))
    if not image:
        return "none"
    fact = _fact(ledger, "standalone")
    same = fact.get("source") == source_fingerprint("standalone") and fact.get("fingerprint") == fingerprint(image)
    return "same" if same else "differs"


SAYS: Final = {
    "same": "in force, of this version of septum",
    "differs": "in force, but not what this version of septum brings: septum policy load",
    "none": "not in force",
}


def _key(target: Target) -> str:
    return f"policy {target}"


def _fact(ledger: Ledger | None, target: Target) -> dict[str, str]:
    text = ledger.recall(_key(target)) if ledger else ""
    return dict(json.loads(text)) if text else {}


def _image(target: Target, options: Namespace) -> bytes:
    """What is in force, or nothing."""
    if target == "standalone":
        return installed(folder(options))
    try:
        with open(_LOADED, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _of_kernel() -> str:
    image = _image("module", Namespace())
    return fingerprint(image) if image else ""


def _write(path: str, content: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(content)
    except OSError as error:
        raise HostError(f"{path} can't be written: {error.strerror}", errno=error.errno or 0, target=path) from error
