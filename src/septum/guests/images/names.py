"""How QEMU turns a name in a header into a path (QEMU 7.2 and 9.1, block.c)."""

from __future__ import annotations

from os.path import normpath

from septum.errors import ImageError
from septum.guests.images.model import Link, Named, ParseFilename

_LOCAL = ("file", "host_device", "host_cdrom")
"""Protocols whose name, without the prefix, is a path."""

_REMOTE = frozenset(
    "http https ftp ftps ssh nfs iscsi iser rbd sheepdog vxhs gluster gluster+tcp gluster+rdma nbd nbd+tcp null-co "
    "null-aio".split()
)
"""Protocols that lead to no file of this host, as long as their name has no ``unix`` in it."""

_NESTING_MAX = 64
"""Brackets in a ``json:`` name. Real ones have under ten; without a limit a guest chose the parser's recursion."""

_OF_THE_PROCESS = ("/proc", "/dev/fd", "/dev/fdset", "/dev/stdin", "/dev/stdout", "/dev/stderr")


def resolve(link: Link, holder: str, cwd: str, parse_filename: ParseFilename | None) -> tuple[Named, ...]:
    """The host objects that a link leads to; none if it leads to another host.

    Args:
        link: as a header has it.
        holder: path of the image with that header.
        cwd: QEMU's working directory, or "".
        parse_filename: for the names that it takes a table of block drivers to explain.

    Raises:
        ImageError: the name can't be explained, or asks for more than a header may.
    """
    prefix = protocol(link.name)
    if prefix is not None and link.role == "backing file":
        return _by_protocol(link, prefix, holder, cwd, parse_filename)
    if prefix is not None:
        raise _refuse(
            link,
            holder,
            f"the {link.role} has a protocol prefix",
            rule="whether QEMU takes such a name for a path depends on its version (CVE-2024-4467)",
        )
    # verified with QEMU 7.2: it looks for backing files and extents beside the image, but for data files in its
    # own working directory
    path = _in_cwd(link, link.name, holder, cwd) if link.role == "data file" else beside(holder, link.name)
    return (Named(path, link.format, "ro"),)


def protocol(name: str) -> str | None:
    """The protocol prefix of a file name without its colon, None if it has none.

    A colon counts only before the first slash (`path_has_protocol`).
    """
    prefix, colon, _ = name.partition("/")[0].partition(":")
    return prefix if colon else None


def beside(image: str, name: str) -> str:
    """The path that a relative name in `image` stands for: in the folder of the image *as it was named*, not of what
    a symlink leads to (`path_combine`). Absolute names stay."""
    return name if name.startswith("/") else image[: image.rfind("/") + 1] + name


def is_of_the_process(path: str) -> bool:
    """The path means one thing to septum and another to QEMU: descriptors, ``/proc/self``."""
    plain = normpath("/" + path.lstrip("/"))
    return any(plain == prefix or plain.startswith(prefix + "/") for prefix in _OF_THE_PROCESS)


def _by_protocol(
    link: Link, prefix: str, holder: str, cwd: str, parse_filename: ParseFilename | None
) -> tuple[Named, ...]:
    if prefix in _LOCAL:
        return (Named(_in_cwd(link, link.name[len(prefix) + 1 :], holder, cwd), link.format, "ro"),)
    if prefix == "json" and link.name.count("{") + link.name.count("[") > _NESTING_MAX:
        raise _refuse(link, holder, "its json: name is nested too deeply", rule=f"at most {_NESTING_MAX} brackets")
    if parse_filename is None:
        if prefix in _REMOTE and "unix" not in link.name:
            return ()
        raise _refuse(link, holder, f"septum can't tell which files {prefix}: opens")
    found = tuple(named._replace(path=_in_cwd(link, named.path, holder, cwd)) for named in parse_filename(link.name))
    for named in found:
        if named.access != "ro" and named.kind != "peer-socket":
            # QEMU opens a backing file read-only unless its json: says "read-only": false
            raise _refuse(link, holder, f"it asks to write to {named.path}", rule="only the top image is written to")
    if not found or not link.format:
        return found
    # the declared format wins over the one within json:, and is that of the outermost node (bdrv_open_inherit)
    return (found[0]._replace(format=link.format), *found[1:])


def _in_cwd(link: Link, path: str, holder: str, cwd: str) -> str:
    if path.startswith("/"):
        return path
    if not cwd:
        raise _refuse(
            link,
            holder,
            f"it is relative to QEMU's working directory: {path!r}",
            rule="such a name means another file with each start",
            remedy="put an absolute path into the header (`qemu-img amend -o data_file=`, `qemu-img rebase -u -b`)",
        )
    return cwd.rstrip("/") + "/" + path


def _refuse(link: Link, holder: str, what: str, *, rule: str = "", remedy: str = "") -> ImageError:
    return ImageError(
        f"{link.role} {link.name[:200]!r}: {what}",
        target=link.name[:200],
        holder=f"overlay {holder}",
        rule=rule or "every file that QEMU will open must be known before it starts",
        remedy=remedy
        or "name the file by a plain path, or describe the whole chain with -blockdev on the command line",
    )
