"""The namespaces of a guest's process."""

import errno
import socket
from pathlib import Path

import pytest

from septum.host import kernel, namespaces
from tests.confined import errno_of, guest, inside


def test_only_root_gets_namespaces_and_the_network_is_kept_if_named() -> None:
    assert namespaces.flags(guest(uid=-1)) == 0
    assert namespaces.entries(guest(uid=-1)) == []
    assert namespaces.flags(guest(uid=70001)) == kernel.CLONE_NEWIPC | kernel.CLONE_NEWNET
    assert namespaces.flags(guest(uid=70001, network=True)) == kernel.CLONE_NEWIPC


@pytest.mark.root
@pytest.mark.parametrize("network", [False, True])
def test_a_process_finds_itself_where_the_flags_say(network: bool) -> None:
    outside = [namespaces.identity(kind) for kind in ("net", "ipc", "mnt")]
    (entry,) = namespaces.entries(guest(uid=70001, network=network))

    def act() -> list[int]:
        entry.act()
        return [namespaces.identity(kind) for kind in ("net", "ipc", "mnt")]

    found = inside(act)
    assert entry.phase == 20
    assert [one == other for one, other in zip(outside, found, strict=True)] == [network, False, True]


@pytest.mark.root
def test_an_empty_network_reaches_neither_udp_nor_tcp_nor_abstract_sockets() -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    tcp = socket.create_server(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0septum-test-namespaces")
    abstract.listen()
    targets = [
        (socket.AF_INET, socket.SOCK_DGRAM, udp.getsockname()),
        (socket.AF_INET, socket.SOCK_STREAM, tcp.getsockname()),
        (socket.AF_UNIX, socket.SOCK_STREAM, "\0septum-test-namespaces"),
    ]

    def tries() -> list[int]:
        found = []
        for family, kind, address in targets:
            with socket.socket(family, kind) as client:
                found.append(errno_of(lambda client=client, address=address: client.connect(address)))  # type: ignore[misc]
        return found

    def act() -> list[int]:
        namespaces.entries(guest(uid=70001))[0].act()
        return tries()

    try:
        assert inside(tries) == [0, 0, 0]
        assert inside(act) == [errno.ENETUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED]
        assert inside(lambda: [act(), Path("/proc/net/dev").read_text().count(":")])[1] == 1
    finally:
        for server in (udp, tcp, abstract):
            server.close()
