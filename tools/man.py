"""Writes docs/man/septum.1, septum-qemu.1, septumd.8, septum-apid.8 and septum-broker.8: ``python tools/man.py``.

Verbs, options and their help come from the parsers, the rest is here. A test compares the files with what this gives.
"""

import os
import re
from argparse import Action, ArgumentParser, _SubParsersAction
from collections.abc import Callable, Iterator
from pathlib import Path

from septum import __version__
from septum.api import main as apid
from septum.cli.main import VERBS, verb
from septum.daemon.main import HELP, arguments
from septum.rendezvous import main as broker

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "man"

_NAME = "septum \\- keeps the guests of mutually distrusting owners apart"
_DESCRIPTION = """\
Runs QEMU command lines, each confined under a label and, as root, a uid of its own, and puts everything back that was
changed for it once the guest is gone. What follows
.B \\-\\-
is a QEMU command line as it would be typed without septum.
.PP
Guests are named by name,
.IR realm / name
or uuid. A realm is one owner; it is made with its first guest.
"""
_ENVIRONMENT = (
    ("SEPTUM_STATE", "folder of the ledger, if \\-\\-state is not given"),
    ("SEPTUM_REALM", "the realm, if \\-\\-realm is not given"),
    ("SEPTUM_DRIVER", "the drivers, if \\-\\-driver is not given"),
    ("SEPTUM_SELINUX_TYPES", "septum or svirt: whose SELinux types guests get; default: septum's where they work"),
    ("PATH", "where QEMU is looked for"),
    ("TMPDIR", "where QEMU will put temporary files (snapshot=on)"),
    ("XDG_STATE_HOME", "its folder septum is the ledger's, for users other than root; default: ~/.local/state"),
)
_QEMU_ENVIRONMENT = (
    ("SEPTUM_REALM", "the realm; default: default"),
    ("SEPTUM_NAME", "name of the guest; default: that of \\-name"),
    ("SEPTUM_DRIVER", "selinux, landlock, both joined by a comma, or auto; default: auto"),
    ("SEPTUM_STATE", "folder of the ledger"),
    ("SEPTUM_SELINUX_TYPES", "septum or svirt: whose SELinux types guests get"),
    ("SEPTUM_QEMU", "the QEMU to run; default: by the name under which this program was called"),
)
_FILES = (
    (
        "/var/lib/septum",
        "root's ledger: ledger.db, the watcher's socket and log (watch.sock, watch.log), two locks; "
        "standalone.policy, if it was loaded",
    ),
)
_SIGNALS = (
    ("SIGHUP", "loads the policy anew; the old one stays if that fails"),
    ("SIGTERM, SIGINT", "answers what was sent, and ends"),
)
_DAEMON_FILES = (
    ("septumd.sock", "in the state folder: where it listens, unless it was passed a socket or \\-\\-socket"),
    ("standalone.policy", "in the state folder: the policy for libsepol"),
    ("decisions/", "in the state folder: the record"),
)
_BROKER_FILES = (("channels.sock", "in the state folder: where it listens, unless \\-\\-socket is given"),)
_APID_FILES = (
    ("platform.sock", "in the state folder: the platform's socket"),
    ("realms/NAME.sock", "in the state folder: a realm's"),
    ("/var/lib/septum\\-realms/NAME/", "a realm's images"),
)
_STATUS = (
    ("125", "septum failed, or a rule forbids it; nothing runs"),
    ("126", "QEMU is there and can't be executed"),
    ("127", "there is no such program, guest or path"),
    ("2", "septum's own command line is wrong"),
)


def roff(text: str) -> str:
    """Text in which nothing is taken for a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return re.sub(r"^([.'])", r"\\&\1", text)


def _option(parser: ArgumentParser, action: Action) -> Iterator[str]:
    names = ", ".join(f"\\fB{roff(name)}\\fR" for name in action.option_strings)
    if action.nargs != 0:
        value = action.metavar or (action.choices and "|".join(action.choices)) or action.dest
        names += f"{' ' if names else ''}\\fI{roff(str(value))}\\fR"
    text = (action.help or "") % {"default": action.default, "prog": parser.prog}
    yield from (".TP", names, roff(text) or "see above")


def _verb(name: str) -> Iterator[str]:
    module = verb(name)
    parser = ArgumentParser(prog=f"septum {name}")
    module.arguments(parser)
    yield from _section(name, module.HELP, parser)


def _section(name: str, text: str, parser: ArgumentParser) -> Iterator[str]:
    """A verb, and what it has below it (``septum policy build``)."""
    usage = re.sub(r"\s+", " ", parser.format_usage()).removeprefix("usage: ").strip()
    yield from (f".SS {name}", roff(text[:1].upper() + text[1:]) + ".", ".PP", f"\\fB{roff(usage)}\\fR")
    below = [action for action in parser._actions if isinstance(action, _SubParsersAction)]
    for action in parser._actions:
        if action.dest != "help" and action not in below:
            yield from _option(parser, action)
    if parser.epilog:
        yield from (".PP", roff(parser.epilog))
    for action in below:
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for one, inner in action.choices.items():
            yield from _section(f"{name} {one}", helps[one], inner)


def _table(title: str, rows: tuple[tuple[str, str], ...]) -> Iterator[str]:
    yield f".SH {title}"
    for name, text in rows:
        yield from (".TP", f".B {name}", text)


def septum() -> str:
    """The page septum(1)."""
    lines = [f'.TH SEPTUM 1 "" "septum {__version__}" "septum"', ".SH NAME", _NAME, ".SH SYNOPSIS"]
    lines += [".B septum", ".I verb", "[options] [\\-\\- qemu\\-system\\-x86_64 ...]", ".SH DESCRIPTION"]
    lines += [_DESCRIPTION.rstrip(), ".SH VERBS"]
    for name in VERBS:
        lines += _verb(name)
    lines += [*_table("ENVIRONMENT", _ENVIRONMENT), *_table("FILES", _FILES), *_table("EXIT STATUS", _STATUS)]
    lines += [".PP", "Otherwise 0;", ".B septum run", "ends as QEMU ends, since it has become QEMU."]
    lines += [".SH SEE ALSO", ".BR septum\\-qemu (1),", ".BR qemu\\-system (1),", ".BR landlock (7)"]
    return "\n".join(lines) + "\n"


def septum_qemu() -> str:
    """The page septum-qemu(1)."""
    lines = [f'.TH SEPTUM\\-QEMU 1 "" "septum {__version__}" "septum"', ".SH NAME"]
    lines += ["septum\\-qemu \\- septum run for programs that call QEMU themselves", ".SH SYNOPSIS"]
    lines += [".B septum\\-qemu", "[QEMU's options]", ".SH DESCRIPTION"]
    lines += [
        "Does what", ".B septum run", "does, with a command line that is wholly QEMU's. A symbolic link to it under",
        "QEMU's own name, in a folder that comes earlier in PATH, is enough: the real one is looked for further on.",
        "Called as septum\\-qemu it runs the emulator of this machine's architecture.",
        ".PP", "Exceptions from the rules (\\-\\-allow\\-path and the like) can't be given here: use", ".B septum run.",
    ]  # fmt: skip
    lines += [*_table("ENVIRONMENT", _QEMU_ENVIRONMENT), *_table("EXIT STATUS", _STATUS)]
    lines += [".PP", "Otherwise QEMU's own.", ".SH SEE ALSO", ".BR septum (1)"]
    return "\n".join(lines) + "\n"


def septumd() -> str:
    """The page septumd(8)."""
    parser = ArgumentParser(prog="septumd")
    arguments(parser)
    lines = [f'.TH SEPTUMD 8 "" "septum {__version__}" "septum"', ".SH NAME", f"septumd \\- {roff(HELP)}"]
    lines += [".SH SYNOPSIS", ".B septumd", "[options]", ".SH DESCRIPTION"]
    lines += [
        "Decides by SELinux where that enforces, else by a compiled policy through libsepol, and records each decision",
        "before it answers. Clients are identified by the kernel: label, uid, process. It takes a socket and sends",
        "notices as sd_listen_fds(3) and sd_notify(3) say.", ".SH OPTIONS",
    ]  # fmt: skip
    for action in parser._actions:
        if action.dest != "help":
            lines += _option(parser, action)
    lines += [*_table("SIGNALS", _SIGNALS), *_table("ENVIRONMENT", _ENVIRONMENT[:1]), *_table("FILES", _DAEMON_FILES)]
    lines += _table("EXIT STATUS", (("0", "it was told to stop"), ("125", "it can't start, or it failed"), _STATUS[-1]))
    lines += [".SH SEE ALSO", ".BR septum (1)"]
    return "\n".join(lines) + "\n"


def septum_apid() -> str:
    """The page septum-apid(8)."""
    text = (
        "Owners and their guests over HTTP. It asks",
        ".BR septumd (8)",
        "for each decision, and starts guests by",
        ".BR septum (1).",
        "Guests run on when it ends; started again, it finishes or undoes what was under way.",
    )
    return _daemon("septum-apid", apid.HELP, apid.arguments, text, _APID_FILES)


def septum_broker() -> str:
    """The page septum-broker(8)."""
    text = (
        "Makes channels between guests, and cuts them as soon as they are not allowed any more. It asks",
        ".BR septumd (8)",
        "for each decision. Channels end with it. SIGHUP reads the declaration anew.",
    )
    return _daemon("septum-broker", broker.HELP, broker.arguments, text, _BROKER_FILES)


def _daemon(
    name: str,
    title: str,
    arguments: Callable[[ArgumentParser], None],
    text: tuple[str, ...],
    files: tuple[tuple[str, str], ...],
) -> str:
    parser = ArgumentParser(prog=name)
    arguments(parser)
    lines = [f'.TH {name.upper()} 8 "" "septum {__version__}" "septum"', ".SH NAME", f"{name} \\- {roff(title)}"]
    lines += [".SH SYNOPSIS", f".B {name}", "[options]", ".SH DESCRIPTION", *text, ".SH OPTIONS"]
    for action in parser._actions:
        if action.dest != "help":
            lines += _option(parser, action)
    lines += [*_table("ENVIRONMENT", _ENVIRONMENT[:1]), *_table("FILES", files)]
    lines += _table("EXIT STATUS", (("0", "it was told to stop"), ("125", "it can't start, or it failed"), _STATUS[-1]))
    lines += [".SH SEE ALSO", ".BR septum (1),", ".BR septumd (8)"]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """File name → content, whatever SEPTUM_* is set here."""
    saved = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("SEPTUM_")}
    columns = os.environ.get("COLUMNS")
    try:
        os.environ["COLUMNS"] = "200"
        return {
            "septum.1": septum(),
            "septum-qemu.1": septum_qemu(),
            "septumd.8": septumd(),
            "septum-apid.8": septum_apid(),
            "septum-broker.8": septum_broker(),
        }
    finally:
        os.environ.update(saved)
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def main() -> None:
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
