"""Disks: ``-drive``, ``-blockdev`` and their short forms, as one graph of nodes.

A node's access follows from its own ``read-only`` and from those above it, and nodes may be named before or after
they are used, so the graph is read first and walked when the command line is complete.
"""

from __future__ import annotations

from septum.errors import ArgvError
from septum.guests.addresses import socket_address
from septum.guests.filenames import parse_filename
from septum.guests.found import CONFIG, DEVICE, LOG, PEER_SOCKET, SECRET, SYSFS, TMPDIR, Found, Spec, looks_like_path
from septum.guests.passthrough import vfio_pci
from septum.guests.resource import Sharing
from septum.guests.syntax import MAX_DEPTH, Pairs, Tree, is_off, is_on, tree
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

__all__ = ["BLOCK_PATHS", "BLOCK_PLAIN", "CHILDREN", "PLAIN_FAMILIES", "BlockGraph"]

IMAGE = Spec("image", "rw")

# Names of block options that hold a path, for each driver (QEMU's qapi/block-core.json). IMAGE stands for "as the
# node is used"; everything else is what it says.
BLOCK_PATHS: dict[str, dict[str, Spec]] = {
    "file": {"filename": IMAGE},
    "host_device": {"filename": IMAGE},
    "host_cdrom": {"filename": IMAGE},
    "host_floppy": {"filename": IMAGE},
    "io_uring": {"filename": IMAGE},
    "nvme-io_uring": {"path": IMAGE},
    "virtio-blk-vfio-pci": {"path": SYSFS},
    "virtio-blk-vhost-user": {"path": PEER_SOCKET},
    "virtio-blk-vhost-vdpa": {"path": DEVICE},
    "vhost-user-blk": {"path": PEER_SOCKET},
    "vvfat": {"dir": Spec("directory", "rw")},
    "blkdebug": {"config": CONFIG},
    "gluster": {"logfile": LOG},
    "rbd": {"conf": CONFIG, "keyring": SECRET, "log_file": LOG, "admin_socket": Spec("socket", "rw", creates=True)},
}

CHILDREN = frozenset(
    """file backing data-file image test raw log header target children extents primary secondary hidden-disk""".split()
)

# Protocols whose paths and names are the other end's.
_REMOTE = frozenset(
    "nbd ssh sftp http https ftp ftps tftp iscsi iser nfs gluster rbd sheepdog vxhs".split()
)  # all of these open a connection

_FILTERS = frozenset(
    """throttle copy-on-read copy-before-write preallocate compress blkdebug blkverify blkreplay blklogwrites quorum
    replication snapshot-access backup-top commit_top mirror_top""".split()
)

# Block options, and those of -drive, that never hold a path of this host.
BLOCK_PLAIN = frozenset(
    """driver node-name discard cache read-only readonly auto-read-only detect-zeroes force-share copy-on-read
    filename.locking locking aio aio-max-batch drop-cache x-check-cache-dropped pr-manager size offset
    latency-ns read-zeroes namespace label fat-type floppy rw key-secret encrypt format backing-fmt
    lazy-refcounts pass-discard-request pass-discard-snapshot pass-discard-other discard-no-unref overlap-check
    cache-size l2-cache-size l2-cache-entry-size refcount-cache-size cache-clean-interval
    path user host host-key-check server volume debug url username password-secret proxy-username
    proxy-password-secret readahead timeout cookie cookie-secret sslverify transport portal target lun
    initiator-name header-digest pool image snapshot auth-client-required export tls-creds tls-hostname
    x-dirty-bitmap reconnect-delay open-timeout throttle-group vote-threshold read-pattern rewrite-corrupted
    blkverify bottom on-cbw-error cbw-timeout min-cluster-size bitmap log-sector-size log-append
    log-super-update-interval align max-transfer opt-write-zero max-write-zero opt-discard max-discard
    take-child-perms unshare-child-perms inject-error set-state mode top-id prealloc-align prealloc-size
    mem-region-alignment device vdi snap-id tag user-id page-cache-size readahead-size
    id if index bus unit media boot serial addr cyls heads secs trans werror rerror group iops bps
    throttling stats-account-invalid stats-account-failed stats-intervals file.locking hotpluggable
    mon_host auth_supported auth_client_required keyid key id-key ceph-id cow bps_rd bps_wr iops_rd iops_wr iops_size
    bps_max bps_rd_max bps_wr_max iops_max iops_rd_max iops_wr_max bps_max_length iops_max_length
    wce queues num-queues logical_block_size physical_block_size share-rw quota sync
    workarounds x-check-cache hash type blocksize direct no-flush writeback native
    vhdx-log offset-ns detect-zeros fua persistent x-image allow-write cluster_size""".split()
)

# Families of options of which only the first part of the name counts: encrypt.key-secret, throttling.bps-total, ….
PLAIN_FAMILIES = frozenset(
    """encrypt cache throttling inject-error set-state host-key-check bitmap auth-client-required
    stats-intervals match data""".split()
)

Role: TypeAlias = 'Literal["image", "backing", "firmware", "log"]'


class _Use(NamedTuple):
    """How a node is used from above."""

    read_only: bool
    role: Role
    format: str
    sharing: Sharing | None
    overrides: tuple[str, ...] = ()


class _Node:
    __slots__ = ("auto", "children", "driver", "leaves", "names", "option", "overrides", "read_only", "snapshot")

    def __init__(self, option: str, driver: str) -> None:
        self.option = option
        self.driver = driver
        self.overrides: tuple[str, ...] = ()
        self.names: list[str] = []
        self.read_only: bool | None = None
        self.auto = False
        self.snapshot = False
        self.children: list[tuple[str, _Node | str]] = []
        self.leaves: list[tuple[str, Spec]] = []


class BlockGraph:
    """The block nodes of one command line."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.roots: list[tuple[_Node, _Use]] = []
        self.by_name: dict[str, _Node] = {}
        self.cd_users: dict[str, bool] = {}
        self.share_rw: set[str] = set()
        self.firmware: set[str] = set()

    def blockdev(self, pairs: Pairs, option: str = "-blockdev") -> None:
        """Add the tree of a ``-blockdev``."""
        node = self._node(tree(pairs, where=option), option, 0)
        self.roots.append((node, _Use(False, "image", "raw", None)))

    def drive(self, pairs: Pairs, option: str = "-drive", *, snapshot: bool = False) -> None:
        """Add a ``-drive`` or one of its short forms.

        Args:
            pairs: its options.
            option: as a person writes it.
            snapshot: ``-snapshot`` is given.
        """
        options = tree(pairs, where=option)
        given = {key: value for key, value in options.items() if isinstance(value, str)}
        cdrom = given.get("media") == "cdrom"
        snapshot = snapshot or is_on(given.get("snapshot"))
        options.pop("snapshot", None)
        if "format" in options:
            options.setdefault("driver", options.pop("format"))
        self._name_of_file(options, option)
        node = self._node(options, option, 0)
        node.auto = not is_off(given.get("auto-read-only"))
        node.snapshot = snapshot
        if cdrom:
            node.read_only = True
        if name := given.get("id"):
            self._name(node, name)
        role: Role = "firmware" if given.get("if") == "pflash" else "image"
        self.roots.append((node, _Use(False, role, "raw", "shared" if cdrom else None)))
        if snapshot:
            self.found.add(self.found.tmpdir, TMPDIR, f"{option} snapshot=on")

    def _name_of_file(self, options: Tree, option: str) -> None:
        """Replace the image name of a ``-drive`` by the options it stands for."""
        file = options.get("file", "")
        name, members = (file.pop("", ""), file) if isinstance(file, dict) else (file, {})
        if not file and isinstance(options.get("filename"), str):
            name = options.pop("filename")
        driver = options.get("driver", "")
        if not name:
            if not members:
                options.pop("file", None)
            return
        options.pop("file", None)
        if driver in ("host_device", "host_cdrom", "host_floppy", "file"):
            options["filename"] = name.removeprefix(f"{driver}:")
            return
        protocol = parse_filename(name, where=option)
        if name.startswith("json:"):
            protocol = {key: value for key, value in protocol.items() if key not in options and value != ""}
            options.update(protocol)
            return
        if driver == protocol["driver"]:  # -drive driver=nbd,file=nbd:…
            options.update(protocol)
        else:
            options["file"] = {**protocol, **members}

    def attach(self, drive: str, driver: str, *, share_rw: bool) -> None:
        """A device uses the node or drive of that name."""
        is_cd = driver in ("ide-cd", "scsi-cd")
        self.cd_users[drive] = is_cd and self.cd_users.get(drive, True)
        if share_rw:
            self.share_rw.add(drive)

    def flash(self, node: str) -> None:
        """A machine maps the node of that name as flash memory."""
        self.firmware.add(node)

    def _name(self, node: _Node, name: str) -> None:
        node.names.append(name)
        self.by_name.setdefault(name, node)

    def _node(self, options: Tree, option: str, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise ArgvError(f"{option} is nested too deeply", target=option)
        driver = options.get("driver")
        driver = driver if isinstance(driver, str) else ""
        node = _Node(option, driver)
        node.overrides = _overrides(options)
        if not driver and "filename" in options:
            driver = "file"
        paths = BLOCK_PATHS.get(driver, {})
        for key, value in options.items():
            if key in ("read-only", "readonly"):
                node.read_only = is_on(value)
            elif key == "auto-read-only":
                node.auto = is_on(value)
            elif key == "node-name" and isinstance(value, str):
                self._name(node, value)
            elif key in paths and isinstance(value, str):
                self._leaf(node, key, value, paths[key], options)
            elif key in CHILDREN and not (driver in _REMOTE and isinstance(value, str)):
                self._child(node, key, value, depth)
            elif key == "server" and isinstance(value, dict):
                self._servers(value, option)
            elif key == "filename" and driver in _REMOTE and isinstance(value, str):
                self._remote_name(node, value, depth)
            elif isinstance(value, dict):
                self._members(node, key, value, depth)
            elif key not in BLOCK_PLAIN and looks_like_path(value):
                self.found.suspect(
                    f"{option} {key}=", value, f"no option of a {driver or 'block'} node is known by this name"
                )
        self._by_driver(node, driver, options)
        return node

    def _leaf(self, node: _Node, key: str, value: str, spec: Spec, options: Tree) -> None:
        if spec.kind == "directory" and not is_on(options.get("rw")):
            spec = Spec("directory", "ro")
        if spec is IMAGE:
            node.leaves.append((value, spec))
        else:
            self.found.add(value, spec, f"{node.option} {key}=")
            if spec is PEER_SOCKET:
                self.found.opens_connection(f"{node.option} {key}=")

    def _child(self, node: _Node, key: str, value: str | Tree, depth: int) -> None:
        if isinstance(value, str):
            if value:
                node.children.append((key, value))
        elif "" in value and len(value) == 1:
            node.children.append((key, value[""]))
        elif any(part.isdigit() for part in value):
            for inner in value.values():
                self._child(node, key, inner, depth + 1)
        else:
            node.children.append((key, self._node(value, node.option, depth + 1)))

    def _members(self, node: _Node, key: str, value: Tree, depth: int) -> None:
        if "driver" in value or "filename" in value:
            node.children.append((key, self._node(value, node.option, depth + 1)))
        elif key not in PLAIN_FAMILIES:
            for inner, text in value.items():
                if isinstance(text, dict):
                    self._members(node, f"{key}.{inner}", text, depth + 1)
                elif looks_like_path(text):
                    self.found.suspect(f"{node.option} {key}.{inner}=", text, "no block option is known by this name")

    def _remote_name(self, node: _Node, name: str, depth: int) -> None:
        """A remote node that is told where to go by a name instead of single options."""
        options = parse_filename(name, where=node.option)
        if options["driver"] == "file":
            self.found.suspect(f"{node.option} filename=", name, f"no {node.driver} node can be a path")
        else:
            node.children.append(("file", self._node(options, node.option, depth + 1)))

    def _servers(self, value: Tree, option: str) -> None:
        several = [inner for key, inner in value.items() if key.isdigit() and isinstance(inner, dict)]
        for one in several or [value]:
            socket_address(self.found, one, f"{option} server=", server=False)

    def _by_driver(self, node: _Node, driver: str, options: Tree) -> None:
        found, option = self.found, node.option
        if driver == "nvme" and isinstance(device := options.get("device"), str):
            vfio_pci(found, device, f"{option} device=")
        elif driver in _REMOTE and "server" not in options and "filename" not in options:
            path = options.get("path")
            if driver == "nbd" and isinstance(path, str):
                socket_address(found, {"type": "unix", "path": path}, f"{option} path=", server=False)
            else:
                found.opens_connection(f"{option} {driver}")
                found.needs_network(f"{option} {driver}")
        elif driver.startswith("unknown protocol"):
            found.suspect(f"{option} file=", str(options.get("filename", "")), f"{driver} in an image name")
        elif driver and driver not in BLOCK_PATHS and driver not in _REMOTE:
            filename = options.get("filename")
            if isinstance(filename, str) and filename:
                found.suspect(f"{option} filename=", filename, f"a {driver} node is not known to take a file name")

    def finish(self) -> None:
        """Walk from the nodes that no other node uses, and record what they come to."""
        referenced = self._referenced()
        uses: set[tuple[int, _Use]] = set()
        walked: set[int] = set()
        for node, use in self.roots:
            if referenced.isdisjoint(node.names):
                self._walk(node, self._top(node, use), uses, walked)
        # Nodes that only refer to each other in a ring have no top; QEMU refuses them, septum still names their files.
        for node, use in self.roots:
            if id(node) not in walked:
                self._walk(node, self._top(node, use), uses, walked)

    def _referenced(self) -> set[str]:
        """The names by which nodes use other nodes."""
        names: set[str] = set()
        stack = [node for node, _ in self.roots]
        while stack:
            for _, child in stack.pop().children:
                if isinstance(child, str):
                    names.add(child)
                else:
                    stack.append(child)
        return names

    def _top(self, node: _Node, use: _Use) -> _Use:
        in_cd_drive = any(self.cd_users.get(name, False) for name in node.names)
        read_only = node.snapshot or (node.auto and in_cd_drive)
        shared = (in_cd_drive and (read_only or node.read_only)) or not self.share_rw.isdisjoint(node.names)
        role: Role = use.role if self.firmware.isdisjoint(node.names) else "firmware"
        return _Use(read_only, role, use.format, "shared" if shared else use.sharing)

    def _walk(self, top: _Node, first: _Use, uses: set[tuple[int, _Use]], walked: set[int]) -> None:
        stack = [(top, first)]
        while stack:
            node, use = stack.pop()
            read_only = use.read_only if node.read_only is None else node.read_only
            if use.read_only and (node.auto or node.snapshot):
                read_only = True
            use = use._replace(read_only=read_only)
            if (id(node), use) in uses:
                continue
            uses.add((id(node), use))
            walked.add(id(node))
            self._record(node, use)
            for key, child in reversed(node.children):
                if isinstance(child, str):
                    target = self.by_name.get(child)
                    if target is None:
                        if looks_like_path(child):
                            self.found.suspect(
                                f"{node.option} {key}=", child, "a path where only a node's name can stand"
                            )
                        continue
                    child = target
                stack.append((child, _below(node, key, use)))

    def _record(self, node: _Node, use: _Use) -> None:
        for path, _ in node.leaves:
            spec = Spec("image", "ro" if use.read_only else "rw")
            if use.role == "backing":
                spec = spec._replace(kind="backing")
            elif use.role == "log":
                spec = LOG
            elif use.role == "firmware" and use.read_only:
                spec = Spec("firmware", "ro")
            self.found.add(
                path,
                spec,
                f"{node.option} file=",
                image_format=use.format,
                overrides=use.overrides,
                sharing=use.sharing,
            )


def _below(node: _Node, key: str, use: _Use) -> _Use:
    """How a node uses the child that is known by `key`."""
    if key == "backing":
        return _Use(True, "backing", "raw", None)
    if key == "log":
        return _Use(False, "log", "raw", None)
    if key == "target":
        return _Use(False, use.role, "raw", None)
    if key == "data-file":
        return use._replace(role="backing", format="raw", overrides=())
    if key == "header":
        return use._replace(format="", overrides=())
    return use if node.driver in _FILTERS else use._replace(format=node.driver, overrides=node.overrides)


def _overrides(options: Tree) -> tuple[str, ...]:
    """Which links of its image's header a node's options replace.

    A backing node, if it is given by name or says its own file, or said not to be (QEMU's block.c, bdrv_open_inherit
    and bdrv_open_backing_file); a data file in any form (block/qcow2.c, qcow2_do_open).
    """
    found = []
    backing = options.get("backing")
    file = backing.get("file") if isinstance(backing, dict) else None
    if isinstance(backing, str) or (isinstance(file, dict) and "filename" in file):
        found.append("backing file")
    if options.get("data-file"):
        found.append("data file")
    return tuple(found)
