"""Hostile command lines: options of QEMU with values of every grammar that they know, put together at random.

Whatever is written, only SeptumError may escape from `septum.guests.parse`, each path it names is absolute and named
once, two readings agree, and time and memory stay bounded.
"""

import json
import resource
import time
from contextlib import suppress

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from septum.errors import SeptumError
from septum.guests import CommandLine, parse
from septum.guests.block import BLOCK_PATHS, BLOCK_PLAIN, CHILDREN
from septum.guests.chardevs import CHARDEV_PATHS, CHARDEV_PLAIN
from septum.guests.devices import DEVICE_PATHS, DEVICE_PLAIN
from septum.guests.handlers import OPTIONS
from septum.guests.network import NETDEV_PATHS, NETDEV_PLAIN
from septum.guests.objects import OBJECT_PATHS, OBJECT_PLAIN
from septum.guests.options import FLAGS, QUERIES

SECONDS_MAX = 2.0
"""For one command line of up to some hundred kilobytes."""

MEMORY_MAX = 96 << 10
"""KiB by which the process may grow after the first round, Hypothesis included."""

TABLES = (BLOCK_PATHS, CHARDEV_PATHS, DEVICE_PATHS, NETDEV_PATHS, OBJECT_PATHS)
KEYS = sorted(
    {key for table in TABLES for paths in table.values() for key in paths}
    | {*BLOCK_PLAIN, *CHILDREN, *CHARDEV_PLAIN, *DEVICE_PLAIN, *NETDEV_PLAIN, *OBJECT_PLAIN}
    | {"media", "snapshot", "hostfwd", "guestfwd", "backend.type", "backend.data.path", "addr.transport", "0", ""}
)
DRIVERS = sorted(
    {driver for table in TABLES for driver in table} | {"qcow2", "raw", "throttle", "nbd", "ide-cd", "tap"}
)
WORDS = (
    *(
        "/etc/shadow",
        "a,,b",
        ",",
        ",,",
        ",,,",
        "=",
        "",
        "on",
        "off",
        "no",
        "help",
        "?",
        "0",
        "-1",
        "9" * 5000,
        "é",
        "\udcff",
    ),
    *("unix:/run/x,server", "file:/x", "pipe:/x", "mon:" * 50 + "stdio", "tcp::1", "fd:3", "exec:cat /x", "cdrom"),
    *(
        "nbd:unix:/x:exportname=y",
        "nbd+unix:///?socket=%2fx",
        "rbd:p/i:conf=/x",
        "fat:rw:/x",
        "blkdebug:/c:" * 90 + "/x",
    ),
    *(
        "json:{",
        'json:{"driver":"file","filename":"/x"}',
        "json:{'file':'n'}",
        "a" * 3000,
        "/" * 3000,
        "../..",
        "/dev/fd/9",
    ),
    *(
        "/dev/fdset/1",
        "host:1.2",
        "host:1:2",
        "serial::/dev/x",
        "disk:format=raw:/x",
        "blkverify:a:b",
        "/self.cfg",
        "n0",
    ),
)

keys = st.one_of(
    st.sampled_from(KEYS),
    st.lists(st.sampled_from([*CHILDREN, "server", "0", "1", "data", ""]), min_size=1, max_size=90).map(".".join),
)
values = st.one_of(st.sampled_from(WORDS), st.sampled_from(DRIVERS), st.text(max_size=20))
lists = st.lists(
    st.one_of(values, st.tuples(keys, values).map("=".join), keys.map("no{}".format)), min_size=1, max_size=8
).map(",".join)
trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), values),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5)),
    max_leaves=20,
)
documents = st.dictionaries(keys, trees, max_size=6).map(json.dumps)
nested = st.integers(1, 30000).map(lambda depth: '{"file":' * depth + '"x"' + "}" * depth)
texts = st.one_of(
    lists,
    documents,
    documents.map("json:{}".format),
    documents.map(lambda text: text.replace('"', "'")),
    documents.flatmap(lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut])),
    nested,
    values,
)
names = st.sampled_from(sorted(OPTIONS | FLAGS | QUERIES))
options = st.tuples(st.sampled_from(["-", "--", ""]), names, texts).map(lambda parts: [parts[0] + parts[1], parts[2]])
command_lines = st.lists(st.one_of(options, texts.map(lambda text: [text])), max_size=8).map(
    lambda found: ["qemu", *(word for words in found for word in words)]
)
sections = st.tuples(
    st.sampled_from(["device", "drive", "chardev", "object", "readconfig", "netdev", "machine", "x", "memory"]),
    st.dictionaries(keys, values, max_size=5),
).map(lambda parts: f'[{parts[0]} "n0"]\n' + "".join(f'{key} = "{value}"\n' for key, value in parts[1].items()))
configs = st.lists(sections, max_size=4).map("".join)


def check(argv: list[str], config: str) -> CommandLine | None:
    """Read one command line, and see that the promises hold.

    Raises:
        AssertionError: one does not.
    """
    begun = time.process_time()
    line: CommandLine | None = None
    again: CommandLine | None = None
    with suppress(SeptumError):
        line = parse(argv, cwd="/work", read_file=lambda path: config)
        again = parse(argv, cwd="/work", read_file=lambda path: config)
    assert time.process_time() - begun < SECONDS_MAX
    if line is not None:
        assert line == again
        paths = [found.path for found in line.resources]
        assert all(path.startswith("/") for path in paths)
        assert len(paths) == len(set(paths))
    return line


def run(seconds: float) -> None:
    """Try command lines for that long."""
    end = time.monotonic() + seconds
    before = 0
    tried = understood = rounds = 0

    while time.monotonic() < end:
        rounds += 1

        @seed(time.time_ns())
        @settings(
            max_examples=400,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(argv=command_lines, config=configs)
        def attempt(argv: list[str], config: str) -> None:
            nonlocal tried, understood
            tried += 1
            understood += check(argv, config) is not None

        attempt()
        before = before or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{tried} command lines in {rounds} rounds, {understood} understood, grown by {grown} KiB")
    assert grown < MEMORY_MAX
