"""Reversible changes of file system objects that any driver may ask for: owner and mode, an ACL entry, a new file,
the removal of what a guest leaves behind.

Each acts on a descriptor of the very object that was planned for, verifies by reading back, and can be undone by
another process at any later time, also when it was killed half-way through `apply`: an attribute counts as septum's
doing if it is either what was there before or what the step sets.
"""

from __future__ import annotations

import os
import stat

from septum.errors import HostError
from septum.host import dac
from septum.host.driver import Operation, Outcome, Step
from septum.host.objects import Gone, by_fd, lock, open_name, open_object, open_parent, read_xattr, recover
from septum.host.refusal import refused, using
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Own:
    """``own``: gives an object to the guest's uid and gid with a mode, without an extended ACL.

    args: uid, gid, mode; the uid may be -1 to leave the owner as it is.
    """

    def describe(self, step: Step) -> str:
        owner = f"uid {step.args['uid']}, " if step.args["uid"] >= 0 else ""
        return f"give {step.path} to {owner}gid {step.args['gid']}, mode {step.args['mode']:04o}"

    def capture(self, step: Step) -> Mapping[str, Any]:
        fd = open_object(step.path, step.key)
        try:
            return _owner_state(fd)
        finally:
            os.close(fd)

    def apply(self, step: Step, original: Mapping[str, Any]) -> None:
        fd = open_object(step.path, step.key)
        with using(fd, step.path, "its owner can't be changed"):
            # Narrow first, widen last: at no moment may both the old and the new owner, or others, write.
            _set_mode(fd, step.args["mode"] & original["mode"])
            os.chown(by_fd(fd), step.args["uid"], step.args["gid"])
            os.chmod(by_fd(fd), step.args["mode"])
            _expect(step, self._target(step, original), _owner_state(fd))

    def undo(self, step: Step, original: Mapping[str, Any]) -> Outcome:
        try:
            fd = recover(step.path, step.key)
        except Gone:
            return "gone"
        with using(fd, step.path, "its owner can't be put back"):
            now = _owner_state(fd)
            if now == original:
                return "untouched"
            if not self._ours(now, original, self._target(step, original)):
                return "foreign"
            _set_mode(fd, 0)
            os.chown(by_fd(fd), original["uid"], original["gid"])
            if original["acl"]:
                # It holds all permission bits; chmod first would give the mask's to the group for a moment.
                os.setxattr(by_fd(fd), dac.XATTR, bytes.fromhex(original["acl"]))
            os.chmod(by_fd(fd), original["mode"])
            _expect(step, original, _owner_state(fd))
            return "restored"

    @staticmethod
    def _ours(now: Mapping[str, Any], original: Mapping[str, Any], target: Mapping[str, Any]) -> bool:
        """Whether `apply` or `undo`, killed at any line, or the guest itself may have left it like this."""
        if now["uid"] == target["uid"] != original["uid"]:
            # The guest owns the object and may have changed mode, group and ACL.
            return True
        owners = {(state["uid"], state["gid"]) for state in (original, target)}
        modes = {mode & 0o777 for mode in (original["mode"], target["mode"], original["mode"] & target["mode"], 0)}
        # chown clears the set-id bits, and chmod at the end brings them back.
        special = now["mode"] & ~0o777
        return (
            (now["uid"], now["gid"]) in owners
            and now["mode"] & 0o777 in modes
            and special & (original["mode"] | target["mode"]) == special
            and now["acl"] in (original["acl"], "")
        )

    @staticmethod
    def _target(step: Step, original: Mapping[str, Any]) -> Mapping[str, Any]:
        uid = step.args["uid"] if step.args["uid"] >= 0 else original["uid"]
        return {"uid": uid, "gid": step.args["gid"], "mode": step.args["mode"], "acl": ""}


class Grant:
    """``acl``: one named entry in an object's access ACL; other entries stay as they are, and may come and go.

    args: tag (`user` or `group`), id, perms (letters).
    """

    def describe(self, step: Step) -> str:
        return f"let {step.args['tag']} {step.args['id']} {_verb(step.args['perms'])} {step.path}"

    def capture(self, step: Step) -> Mapping[str, Any]:
        fd = open_object(step.path, step.key)
        with using(fd, step.path, "its ACL can't be read"):
            acl = dac.parse(read_xattr(fd, dac.XATTR))
            return {"perms": dac.entry(acl, step.args["tag"], step.args["id"]), "spare": dac.spare(acl)}

    def apply(self, step: Step, original: Mapping[str, Any]) -> None:
        wanted = dac.bits(step.args["perms"])
        fd = open_object(step.path, step.key)
        with using(fd, step.path, "its ACL can't be changed"):
            guard = lock(fd, step.path)
            try:
                acl = dac.parse(read_xattr(fd, dac.XATTR))
                mode = stat.S_IMODE(os.fstat(fd).st_mode)
                # A running guest of the realm may have been given more under the same entry, and keeps it.
                wanted |= dac.entry(acl, step.args["tag"], step.args["id"]) or 0
                changed = dac.grant(acl, mode, step.args["tag"], step.args["id"], wanted)
                os.setxattr(by_fd(fd), dac.XATTR, dac.pack(changed))
                acl = dac.parse(read_xattr(fd, dac.XATTR))
                _expect(step, wanted, dac.entry(acl, step.args["tag"], step.args["id"]))
            finally:
                os.close(guard)

    def undo(self, step: Step, original: Mapping[str, Any]) -> Outcome:
        tag, qualifier, given = step.args["tag"], step.args["id"], dac.bits(step.args["perms"])
        try:
            fd = recover(step.path, step.key)
        except Gone:
            return "gone"
        with using(fd, step.path, "its ACL can't be put back"):
            guard = lock(fd, step.path)
            try:
                acl = dac.parse(read_xattr(fd, dac.XATTR))
                now = dac.entry(acl, tag, qualifier)
                if now == original["perms"]:
                    return "untouched"
                # More than this step gave: another step that gave to the same entry meanwhile.
                if now is None or now & given != given:
                    return "foreign"
                mode = stat.S_IMODE(os.fstat(fd).st_mode)
                kept = dac.revoke(acl, tag, qualifier, original.get("spare", 0))
                if original["perms"] is not None:
                    kept = dac.grant(kept, mode, tag, qualifier, original["perms"])
                if kept:
                    os.setxattr(by_fd(fd), dac.XATTR, dac.pack(kept))
                else:
                    _set_mode(fd, dac.plain_mode(acl, mode))
                _expect(step, original["perms"], dac.entry(dac.parse(read_xattr(fd, dac.XATTR)), tag, qualifier))
                return "restored"
            finally:
                os.close(guard)


class MakeFile:
    """``mkfile``: makes an empty file for QEMU to write to, as the guest may not make names in that directory.

    args: uid, gid, mode for the guest (-1: the caller's); context, or ""; back_uid, back_gid: who gets what the guest
    wrote. Undone, an empty file is removed, and one with content is handed over.
    """

    def describe(self, step: Step) -> str:
        return f"make the file {step.path}, mode {step.args['mode']:04o}"

    def capture(self, step: Step) -> Mapping[str, Any]:
        try:
            os.close(open_name(step.path))
        except Gone:
            return {"missing": True}
        raise HostError("somebody made this file meanwhile", target=step.path, remedy="run the command again")

    def apply(self, step: Step, original: Mapping[str, Any]) -> None:
        directory, name = open_parent(step.path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(f"{by_fd(directory)}/{name}", flags, 0)
            try:
                if step.args.get("context"):
                    os.setxattr(fd, "security.selinux", step.args["context"].encode() + b"\0")
                os.fchown(fd, step.args["uid"], step.args["gid"])
                os.fchmod(fd, step.args["mode"])
            finally:
                os.close(fd)
        except OSError as error:
            raise refused("it can't be made", step.path, error) from error
        finally:
            os.close(directory)

    def undo(self, step: Step, original: Mapping[str, Any]) -> Outcome:
        try:
            fd = open_name(step.path)
        except Gone:
            return "gone"
        with using(fd, step.path, "it can't be handed back"):
            status = os.fstat(fd)
            caller = os.geteuid()
            given = step.args["uid"] if step.args["uid"] >= 0 else caller
            # apply may have been killed before the owner was set.
            begun = (status.st_uid, stat.S_IMODE(status.st_mode), status.st_size) == (caller, 0, 0)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                return "foreign"
            if status.st_uid != given and not begun:
                return "untouched" if status.st_uid == step.args["back_uid"] else "foreign"
            if status.st_size == 0:
                _unlink(step.path, fd)
                return "restored"
            if step.args.get("context"):
                _default_context(fd, step.path)
            os.chmod(by_fd(fd), 0o600)
            # Last, as the owner tells that all is done.
            os.chown(by_fd(fd), step.args["back_uid"], step.args["back_gid"])
            return "restored"


class Unlink:
    """``unlink``: removes a name that the guest has made and can't remove itself: its sockets, its pid file.

    args: uid that must own it (-1: any). Nothing is done before the guest runs, but a dead socket left there by an
    earlier run is removed, as QEMU would do it itself.
    """

    def describe(self, step: Step) -> str:
        return f"remove {step.path} after the guest"

    def capture(self, step: Step) -> Mapping[str, Any]:
        return {}

    def apply(self, step: Step, original: Mapping[str, Any]) -> None:
        try:
            fd = open_name(step.path)
        except Gone:
            return
        with using(fd, step.path, "the old socket can't be removed"):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                _unlink(step.path, fd)

    def undo(self, step: Step, original: Mapping[str, Any]) -> Outcome:
        try:
            fd = open_name(step.path)
        except Gone:
            return "gone"
        with using(fd, step.path, "what the guest left can't be removed"):
            status = os.fstat(fd)
            removable = stat.S_ISSOCK(status.st_mode) or stat.S_ISREG(status.st_mode)
            if not removable or step.args["uid"] not in (-1, status.st_uid):
                return "untouched"
            _unlink(step.path, fd)
            return "restored"


OPERATIONS: Mapping[str, Operation] = {"own": Own(), "acl": Grant(), "mkfile": MakeFile(), "unlink": Unlink()}


def _owner_state(fd: int) -> dict[str, Any]:
    status = os.fstat(fd)
    acl = read_xattr(fd, dac.XATTR).hex()
    return {"uid": status.st_uid, "gid": status.st_gid, "mode": stat.S_IMODE(status.st_mode), "acl": acl}


def _set_mode(fd: int, mode: int) -> None:
    """Permission bits and no ACL, in one step where there was one: with an ACL chmod would change that instead, and
    taking it away first would leave its mask's bits to the group.

    The kernel keeps an ACL of nothing but the three base entries as the mode (fs/posix_acl.c `posix_acl_update_mode`).
    """
    if read_xattr(fd, dac.XATTR):
        os.setxattr(by_fd(fd), dac.XATTR, dac.pack(dac.base(mode)))
    os.chmod(by_fd(fd), mode)


def _unlink(path: str, fd: int) -> None:
    """Removes the name, if it still leads to the object behind `fd`."""
    directory, name = open_parent(path)
    try:
        here = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if (here.st_dev, here.st_ino) == (os.fstat(fd).st_dev, os.fstat(fd).st_ino):
            os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    finally:
        os.close(directory)


def _default_context(fd: int, path: str) -> None:
    """The context of the directory's other content is the best guess for a file that did not exist before."""
    directory, _ = open_parent(path)
    try:
        context = read_xattr(directory, "security.selinux")
        if context:
            os.setxattr(by_fd(fd), "security.selinux", context)
    finally:
        os.close(directory)


def _expect(step: Step, wanted: object, found: object) -> None:
    if wanted != found:
        raise HostError("what was written does not read back", target=step.path, rule=f"wanted {wanted}, found {found}")


def _verb(perms: str) -> str:
    return {"r": "read", "rw": "read and write", "x": "search", "wx": "make names in"}.get(perms, perms)
