"""Building the policy: both targets, hostile and missing inputs, and its place in the state folder."""

import bz2
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import septum.policy
from septum.errors import HostError, NotFound, PolicyError
from septum.policy import (
    FILE,
    LABELLED,
    TARGETS,
    Built,
    Source,
    Store,
    Target,
    build,
    compile_cil,
    fingerprint,
    install,
    installed,
    load_module,
    marker,
    marker_context,
    module,
    source_fingerprint,
    sources,
    summarise,
    svirt,
)
from tests.cilkit import statements

SMALL = Built("standalone", b"\x8c\xff\x7c\xf9" + b"first" * 1000, "f", "s")
OTHER = SMALL._replace(image=b"\x8c\xff\x7c\xf9" + b"other" * 3000)
# design of the object classes: what others ask questions with. A change here is one for them.
CLASSES = {
    "septum_realm": "create destroy suspend getattr setattr delegate set_quota consent audit_read",
    "septum_guest": "create start stop reset pause destroy getattr list set_config migrate_out migrate_in snapshot "
    "console attach detach",
    "septum_image": "create read write clone attach delete relabelfrom relabelto share",
    "septum_device": "list assign release",
    "septum_service": "register unregister connect accept list",
    "septum_channel": "create accept send recv notify getattr revoke",
    "septum_category": "allocate release reserve query",
    "septum_policy": "load check explain",
    "septum_broker": "hello introspect drain",
    "septum_audit": "append read export",
}


def test_public_names_are_pinned() -> None:
    assert sorted(septum.policy.__all__) == [
        "Built", "DECLARED", "FILE", "FORMAT", "LABELLED", "MODULE", "SVIRT_MODULE", "Source", "Store", "Summary",
        "TARGETS", "Target", "XEN_FORMAT", "XenDoor", "build", "compile_cil", "fingerprint", "install", "installed",
        "load_declared", "load_module", "marker", "marker_context", "module", "numbers_cil", "relabel",
        "source_fingerprint", "sources", "summarise", "svirt", "xen_role_cil",
    ]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_object_classes_are_those_agreed_on(target: Target) -> None:
    found = {
        str(statement[1]): " ".join(map(str, statement[2]))
        for source in sources(target)
        for _, statement in statements(source.text)
        if statement[0] == "class" and str(statement[1]).startswith("septum_")
    }
    assert found == CLASSES


def test_a_build_is_the_same_each_time_and_names_its_sources() -> None:
    one, two = build("standalone"), build("standalone")
    assert one == two
    assert one.fingerprint == fingerprint(one.image)
    assert one.source == source_fingerprint("standalone") != source_fingerprint("module")
    summary = summarise(one.image)
    assert marker_context("standalone").split(":")[2] in summary.types
    assert summary.classes == tuple(sorted(CLASSES))
    assert summary.counts["categories"] == 1024
    assert [name for name, value in summary.booleans.items() if value] == ["septum_use_network"]


def test_what_the_module_labels_is_relabelled_at_a_load() -> None:
    named = {
        str(statement[1]).strip('"').removesuffix("(/.*)?")
        for source in sources("module")
        for _, statement in statements(source.text)
        if statement[0] == "filecon"
    }
    assert named == set(LABELLED)


def test_the_module_is_one_file_of_all_its_sources() -> None:
    text = module().decode()
    assert all(source.text in text for source in (*sources("module"), marker("module")))


def test_what_does_not_compile_says_where() -> None:
    with pytest.raises(PolicyError) as caught:
        build("standalone", extra=[Source("mine/role.cil", "\n(allow septum_vm.process nowhere_t (file (read)))\n")])
    assert "mine/role.cil:2" in caught.value.rule


@pytest.mark.parametrize("text", ["(((", "\0", "(block", "(class file ())" * 2, "(" * 100_000, "(allow)", "ü"])
def test_hostile_sources_are_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        compile_cil([Source("bad.cil", text)])


def test_without_the_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NotFound) as caught:
        build("standalone")
    assert "secilc" in caught.value.remedy


class TestStore:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        (tmp_path / "etc/selinux").mkdir(parents=True)
        (tmp_path / "etc/selinux/config").write_text("# SELINUXTYPE=no\nSELINUX=enforcing\nSELINUXTYPE=mine\n")
        for priority, name, content in (
            ("100", "base", bz2.compress(b"(handleunknown allow)\n")),
            ("100", "over", b"old"),
            ("400", "over", b"new"),
            ("100", "off", b"off"),
            ("400", "septum", b"septum's"),
        ):
            folder = tmp_path / "var/lib/selinux/mine/active/modules" / priority / name
            folder.mkdir(parents=True)
            (folder / "cil").write_bytes(content)
        disabled = tmp_path / "var/lib/selinux/mine/active/modules/disabled"
        disabled.mkdir()
        (disabled / "off").touch()
        return tmp_path

    def test_the_highest_priority_counts_and_what_is_off_does_not(self, root: Path) -> None:
        store = Store.of_host(str(root))
        assert store.name == "mine"
        assert store.modules() == [
            Source("host/base.cil", "(handleunknown allow)\n"),
            Source("host/over.cil", "new"),
        ]

    @pytest.mark.parametrize("content", [bz2.compress(b"x" * 1000)[:20], b"BZhello", b"\xff\xfe"])
    def test_a_damaged_module_is_named(self, root: Path, content: bytes) -> None:
        path = root / "var/lib/selinux/mine/active/modules/100/base/cil"
        path.write_bytes(content)
        with pytest.raises(PolicyError) as caught:
            Store.of_host(str(root)).modules()
        assert caught.value.target == str(path)

    def test_a_host_without_a_policy_is_told_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="no SELinux policy on this host") as caught:
            Store.of_host(str(tmp_path))
        assert "standalone" in caught.value.remedy
        with pytest.raises(NotFound, match="can't be read"):
            Store(str(tmp_path), "default").modules()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A copy of Debian's policy store; the machine's own is not touched."""
    if not Path("/var/lib/selinux/default/active/modules").is_dir():
        pytest.skip("Debian's policy is not installed")
    root = tmp_path_factory.mktemp("host")
    for name in ("var/lib/selinux", "etc/selinux"):
        shutil.copytree(Path("/", name), root / name, symlinks=True)
    yield Store(str(root), "default")
    shutil.rmtree(root)


@pytest.mark.root
class TestModule:
    def test_is_checked_with_all_of_the_hosts_policy_and_installed(self, store: Store) -> None:
        built = load_module(store=store, with_svirt=True, reload=False)
        names = {path.name for path in store.folder.glob("400/*")}
        assert names == {"septum", "septum_svirt"}
        (binary,) = Path(store.root, "etc/selinux/default/policy").iterdir()
        made, checked = summarise(binary.read_bytes()), summarise(built.image)
        assert made.types == checked.types
        assert marker_context("module").split(":")[2] in made.types
        assert made.counts["allow rules"] > 100_000
        # Again, with what is there now; septum's own module beneath is the one that is replaced.
        assert load_module(store=store, with_svirt=True, reload=False).source == built.source

    def test_a_host_whose_policy_breaks_a_neverallow_is_left_alone(self, store: Store, tmp_path: Path) -> None:
        name = "breaks"
        folder = store.folder / "400" / name
        folder.mkdir(parents=True)
        (folder / "cil").write_text("(allow domain septum_guest_content (file (write)))\n")
        before = sorted(path.name for path in store.folder.glob("400/*"))
        try:
            with pytest.raises(PolicyError) as caught:
                load_module(store=store, reload=False)
        finally:
            shutil.rmtree(folder)
        assert "neverallow check failed at shared/neverallow.cil" in caught.value.rule
        assert "host/breaks.cil:1" in caught.value.rule
        assert before == sorted([*(path.name for path in store.folder.glob("400/*")), name])

    def test_libvirts_types_compile_with_it(self, store: Store) -> None:
        assert build("module", store=store, extra=[Source("host/svirt.cil", svirt().text)]).image


class TestInstalled:
    def test_is_whole_and_the_callers_own(self, tmp_path: Path) -> None:
        assert installed(str(tmp_path)) == b""
        for built in (SMALL, OTHER):
            path = Path(install(str(tmp_path), built))
            assert installed(str(tmp_path)) == built.image
            assert path.stat().st_mode & 0o777 == 0o600
        assert [path.name for path in tmp_path.iterdir()] == [FILE]

    def test_a_full_disk_leaves_the_old_one(self, tmp_path: Path) -> None:
        install(str(tmp_path), SMALL)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, before[1]))
        try:
            with pytest.raises(HostError) as caught:
                install(str(tmp_path), OTHER)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        assert caught.value.errno
        assert installed(str(tmp_path)) == SMALL.image
        assert [path.name for path in tmp_path.iterdir()] == [FILE]

    def test_readers_never_see_half_of_one(self, tmp_path: Path) -> None:
        install(str(tmp_path), SMALL)
        program = (
            "import sys; from septum.policy import Built, install\n"
            "while True:\n"
            "    for size in (1000, 300000):\n"
            "        image = bytes.fromhex('8cff7cf9') + str(size).encode() * size\n"
            "        install(sys.argv[1], Built('standalone', image, '', ''))\n"
        )
        writers = [subprocess.Popen([sys.executable, "-c", program, tmp_path]) for _ in range(2)]
        whole = {SMALL.image} | {b"\x8c\xff\x7c\xf9" + str(size).encode() * size for size in (1000, 300000)}
        try:
            seen = {installed(str(tmp_path)) for _ in range(3000)}
            while len(seen) < 2:
                seen.add(installed(str(tmp_path)))
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()
        assert seen <= whole
        # Killed at any point, the next one works.
        install(str(tmp_path), OTHER)
        assert installed(str(tmp_path)) == OTHER.image

    def test_what_is_no_policy_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / FILE).write_bytes(b"#!/bin/sh\n")
        with pytest.raises(PolicyError):
            installed(str(tmp_path))

    def test_a_symlink_is_neither_read_nor_followed(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").write_bytes(SMALL.image)
        os.symlink(tmp_path / "elsewhere", tmp_path / FILE)
        with pytest.raises(HostError):
            installed(str(tmp_path))
        install(str(tmp_path), OTHER)
        assert (tmp_path / "elsewhere").read_bytes() == SMALL.image
        assert installed(str(tmp_path)) == OTHER.image

    @pytest.mark.parametrize("image", [b"", b"\x8c\xff\x7c\xf9", SMALL.image])
    def test_what_only_begins_like_a_policy_has_no_summary(self, image: bytes) -> None:
        with pytest.raises(PolicyError):
            summarise(image)
