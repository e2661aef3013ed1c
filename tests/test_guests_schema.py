"""The curated tables against the installed QEMU: every string option must be known, as a path or as none.

A string is the only type that QEMU gives a path, so an option of that type which stands in no table is one that
nobody has thought about.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from septum.guests.block import BLOCK_PATHS, BLOCK_PLAIN, CHILDREN, PLAIN_FAMILIES
from septum.guests.boot import MACHINE_PATHS, MACHINE_PLAIN
from septum.guests.chardevs import CHARDEV_PATHS, CHARDEV_PLAIN
from septum.guests.devices import DEVICE_PATHS, DEVICE_PLAIN, paths_of
from septum.guests.handlers import OPTIONS
from septum.guests.network import NETDEV_PATHS, NETDEV_PLAIN
from septum.guests.objects import OBJECT_PATHS, OBJECT_PLAIN
from septum.guests.options import FLAGS, QUERIES, SYNONYMS

pytestmark = pytest.mark.qemu

QEMU = "qemu-system-x86_64"

# Options whose value is a SocketAddress, read as a whole.
ADDRESSES = {"addr", "local", "remote", "server", "socket"}


class Qmp:
    """A QEMU that is only asked questions; it is started again when a question makes it abort."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [QEMU, "-nodefaults", "-display", "none", "-qmp", "stdio", *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout
        self.process.stdout.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> Any:
        """The answer, or None if QEMU has none or aborts over it, as it does for some of its own types."""
        assert self.process.stdin
        assert self.process.stdout
        question = {"execute": command, "arguments": arguments}
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
            while line := self.process.stdout.readline():
                answer = json.loads(line)
                if "return" in answer or "error" in answer:
                    return answer.get("return")
        except BrokenPipeError:
            pass
        self.close()
        self.start()
        return None

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def qemu() -> Iterator[Qmp]:
    qmp = Qmp("-machine", "none")
    yield qmp
    qmp.close()


class Schema:
    """What ``query-qmp-schema`` says, by name."""

    def __init__(self, entities: list[dict[str, Any]]) -> None:
        self.by_name = {entity["name"]: entity for entity in entities}

    def argument(self, command: str) -> dict[str, Any]:
        return self.by_name[self.by_name[command]["arg-type"]]

    def variants(self, entity: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Each case of a union with the members it has there, those of all cases included."""
        for variant in entity.get("variants", ()):
            yield variant["case"], entity["members"] + self.by_name[variant["type"]].get("members", [])

    def holds_text(self, name: str, within: frozenset[str] = frozenset()) -> bool:
        """May a value of that type be, or contain, an arbitrary text?"""
        entity = self.by_name[name]
        kind = entity["meta-type"]
        if name in within:
            return False
        within |= {name}
        if kind == "builtin":
            return bool(name == "str")
        if kind == "array":
            return self.holds_text(entity["element-type"], within)
        if kind not in ("object", "alternate"):
            return False
        types = [part["type"] for part in [*entity["members"], *entity.get("variants", ())]]
        return any(self.holds_text(inner, within) for inner in types)

    def unknown(self, members: list[dict[str, Any]], *known: object) -> set[str]:
        tables: set[str] = set()
        for table in known:
            assert isinstance(table, (set, frozenset, dict))
            tables |= set(table)
        return {member["name"] for member in members if self.holds_text(member["type"])} - tables


@pytest.fixture(scope="module")
def schema(qemu: Qmp) -> Schema:
    return Schema(qemu.ask("query-qmp-schema"))


def test_every_text_of_a_block_node_is_known(schema: Schema) -> None:
    unknown = {
        driver: left
        for driver, members in schema.variants(schema.argument("blockdev-add"))
        if (
            left := schema.unknown(
                members, BLOCK_PATHS.get(driver, {}), BLOCK_PLAIN, CHILDREN, PLAIN_FAMILIES, {"server"}
            )
        )
    }
    assert not unknown


def test_every_text_of_a_chardev_is_known(schema: Schema) -> None:
    backends = schema.by_name[
        next(member["type"] for member in schema.argument("chardev-add")["members"] if member["name"] == "backend")
    ]
    unknown = {}
    for backend, members in schema.variants(backends):
        (data,) = [member["type"] for member in members if member["name"] == "data"]
        paths = CHARDEV_PATHS.get(backend, {})
        if left := schema.unknown(schema.by_name[data]["members"], paths, CHARDEV_PATHS[""], CHARDEV_PLAIN, ADDRESSES):
            unknown[backend] = left
    assert not unknown


def test_every_text_of_a_network_backend_is_known(schema: Schema) -> None:
    unknown = {
        backend: left
        for backend, members in schema.variants(schema.argument("netdev_add"))
        if (left := schema.unknown(members, NETDEV_PATHS.get(backend, {}), NETDEV_PLAIN, ADDRESSES))
    }
    assert not unknown


def test_every_text_of_an_object_is_known(schema: Schema) -> None:
    unknown = {
        kind: left
        for kind, members in schema.variants(schema.argument("object-add"))
        if (left := schema.unknown(members, OBJECT_PATHS.get(kind, {}), OBJECT_PLAIN))
    }
    assert not unknown


def test_every_text_of_a_device_is_known(qemu: Qmp) -> None:
    unknown: dict[str, set[str]] = {}
    types = [entry["name"] for entry in qemu.ask("qom-list-types", implements="device", abstract=False)]
    assert len(types) > 300
    for driver in types:
        known = {*paths_of(driver), *DEVICE_PATHS[""], *DEVICE_PLAIN}
        for member in qemu.ask("device-list-properties", typename=driver) or ():
            if member["type"] in ("str", "string") and member["name"] not in known:
                unknown.setdefault(member["name"], set()).add(driver)
    assert not unknown


@pytest.mark.parametrize("machine", ["q35", "pc", "microvm"])
def test_every_text_of_a_machine_is_known(machine: str) -> None:
    qmp = Qmp("-machine", machine, "-S")
    try:
        members = qmp.ask("qom-list", path="/machine")
    finally:
        qmp.close()
    texts = {member["name"] for member in members if member["type"] in ("str", "string")}
    assert "kernel" in texts
    assert texts - {"type", *MACHINE_PATHS, *MACHINE_PLAIN, "pflash0", "pflash1", "initrd"} == set()


# Where the columns of the help text don't tell: "-dtb    file", "-async-teardown enable …".
_MISPRINTED = {"dtb": True, "async-teardown": False}


def test_every_option_of_the_help_is_known_with_its_argument() -> None:
    text = subprocess.run([QEMU, "-help"], capture_output=True, text=True, check=True).stdout
    wrong = {}
    seen = 0
    for line in text.splitlines():
        if not (synopsis := re.match(r"--?\w[\w-]*(?:(?:/| or )-[\w-]+)*( \S)?", line)):
            continue
        takes = synopsis[1] is not None
        for name in re.findall(r"--?(\w[\w-]*)", synopsis[0][: -2 if takes else None]):
            seen += 1
            known = SYNONYMS.get(name, name)
            takes = _MISPRINTED.get(name, takes)
            if (known in OPTIONS) is not takes or (known in FLAGS or known in QUERIES) is takes:
                wrong[name] = takes
    assert seen > 120
    assert not wrong
