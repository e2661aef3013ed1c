"""Image names with a protocol in front: ``nbd:unix:/run/x``, ``fat:rw:/export``, ``json:{…}``, …

A name becomes the tree of options that stands for the same thing, so that only one reader of block options is
needed. Each driver's syntax is from its ``bdrv_parse_filename`` in QEMU's block/*.c.
"""

from __future__ import annotations

from septum.errors import ArgvError
from septum.guests.addresses import unquote, url_query
from septum.guests.syntax import MAX_DEPTH, Tree, from_json, tree
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["parse_filename"]

# Xen's toolstacks put the backend's or the image's type in front of the path.
_XEN_PREFIXES = frozenset({"aio", "ioemu", "phy", "qcow", "qcow2", "qed", "raw", "tap", "tap2", "tapdisk", "vhd"})


def parse_filename(name: str, *, where: str = "", depth: int = 0) -> Tree:
    """The options that a name stands for; ``driver`` is always among them.

    Args:
        name: the name; without a known protocol it is a path.
        where: the option, for errors.
        depth: how many names this one is within.

    Raises:
        ArgvError: malformed JSON, or names within names beyond `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise ArgvError(f"{where or 'An image name'} is nested too deeply", target=name[:400])
    colon = name.find(":")
    slash = name.find("/")
    if colon < 0 or 0 <= slash < colon:
        return {"driver": "file", "filename": name}
    protocol, rest = name[:colon], name[colon + 1 :]
    if protocol == "json":
        return {"driver": "", **tree(from_json(rest, where=where), where=where)}
    if reader := _READERS.get(protocol):
        return reader(rest)
    if protocol in ("file", "host_device", "host_cdrom", "host_floppy"):
        return {"driver": protocol, "filename": rest}
    if protocol in ("blkdebug", "blkverify"):
        first, _, second = rest.partition(":")
        image = parse_filename(second, where=where, depth=depth + 1)
        if protocol == "blkdebug":
            return {"driver": protocol, "config": first, "image": image}
        return {"driver": protocol, "raw": parse_filename(first, where=where, depth=depth + 1), "test": image}
    if protocol in ("blkreplay", "blklogwrites"):
        return {"driver": protocol, "image": parse_filename(rest, where=where, depth=depth + 1)}
    if protocol in _XEN_PREFIXES:
        return parse_filename(rest, where=where, depth=depth + 1)
    if protocol in _REMOTE:
        return {"driver": protocol, "url": rest}
    if protocol in ("null-co", "null-aio"):
        return {"driver": protocol}
    return {"driver": f"unknown protocol {protocol}", "filename": name}


_REMOTE = frozenset({"http", "https", "ftp", "ftps", "tftp", "ssh", "sftp", "iscsi", "iser", "nfs", "sheepdog", "vxhs"})


def _url(rest: str) -> tuple[str, dict[str, str]]:
    """The path and the query of what follows a URL's scheme and colon."""
    address, _, query = rest.partition("?")
    return address.removeprefix("//").partition("/")[2], url_query(query)


def _nbd(rest: str) -> Tree:
    if rest.startswith("unix:"):
        path, _, export = rest[5:].partition(":exportname=")
        return {"driver": "nbd", "server": {"type": "unix", "path": path}, "export": export}
    return {"driver": "nbd", "server": {"type": "inet"}}


def _url_over_unix(driver: str) -> Callable[[str], Tree]:
    def read(rest: str) -> Tree:
        _, query = _url(rest)
        return {"driver": driver, "server": {"type": "unix", "path": query.get("socket", "")}}

    return read


def _url_over_inet(driver: str) -> Callable[[str], Tree]:
    def read(rest: str) -> Tree:
        _, query = _url(rest)
        return {"driver": driver, "server": {"type": "inet"}, "logfile": query.get("logfile", "")}

    return read


def _rbd(rest: str) -> Tree:
    """``pool/image@snapshot:key=value:…``; a backslash takes the meaning from a colon."""
    import re

    _, *settings = re.split(r"(?<!\\):", rest)
    options: Tree = {"driver": "rbd"}
    for setting in settings:
        key, _, value = setting.partition("=")
        options[key] = value.replace("\\", "")
    return options


def _fat(rest: str) -> Tree:
    options: Tree = {"driver": "vvfat"}
    while True:
        word, colon, after = rest.partition(":")
        if not colon or word not in ("rw", "floppy", "12", "16", "32"):
            break
        if word == "rw":
            options["rw"] = "on"
        rest = after
    return {**options, "dir": rest}


def _nvme(rest: str) -> Tree:
    return {"driver": "nvme", "device": unquote(rest.removeprefix("//").partition("/")[0])}


_READERS: dict[str, Callable[[str], Tree]] = {
    "nbd": _nbd,
    "nbds": _nbd,
    "nbd+tcp": _nbd,
    "nbds+tcp": _nbd,
    "nbd+unix": _url_over_unix("nbd"),
    "nbds+unix": _url_over_unix("nbd"),
    "gluster": _url_over_inet("gluster"),
    "gluster+tcp": _url_over_inet("gluster"),
    "gluster+rdma": _url_over_inet("gluster"),
    "gluster+unix": _url_over_unix("gluster"),
    "sheepdog+tcp": _url_over_inet("sheepdog"),
    "sheepdog+unix": _url_over_unix("sheepdog"),
    "rbd": _rbd,
    "fat": _fat,
    "nvme": _nvme,
}
