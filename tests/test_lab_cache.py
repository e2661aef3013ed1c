"""What the lab builds with: the cache, the module order, and this machine's apt sources."""

import multiprocessing
import os
from pathlib import Path

import pytest

from lab import cache, debian, initramfs


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "septum"


def test_a_broken_build_leaves_nothing_behind(own_cache: Path) -> None:
    def build(target: Path) -> None:
        (target / "half").write_text("half")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        cache.artifact("thing", "0" * 12, build)
    assert [path.name for path in own_cache.iterdir()] == ["thing.lock"]


def test_what_a_killed_build_left_goes_with_the_next(own_cache: Path) -> None:
    (own_cache / ".thing-x1y2" / "artifact").mkdir(parents=True)
    (own_cache / ".other-x1y2").mkdir()
    cache.artifact("thing", "0" * 12, lambda target: None)
    assert sorted(path.name for path in own_cache.iterdir()) == [".other-x1y2", f"thing-{'0' * 12}", "thing.lock"]


def test_what_is_there_is_not_built_again() -> None:
    first = cache.artifact("thing", "0" * 12, lambda target: None)
    assert cache.artifact("thing", "0" * 12, lambda target: pytest.fail("built twice")) == first


def build_and_count(log: Path) -> None:
    def build(target: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        (target / "content").write_text("x")

    assert (cache.artifact("thing", "0" * 12, build) / "content").exists()


def test_two_builds_at_once_become_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=build_and_count, args=(log,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert log.read_text() == "built\n"


def test_older_builds_go_but_the_newest_stay(own_cache: Path) -> None:
    for number in range(5):
        path = cache.artifact("thing", f"{number:012x}", lambda target: None)
        os.utime(path, (number, number))
    assert sorted(path.name for path in own_cache.glob("thing-*")) == [f"thing-{n:012x}" for n in (2, 3, 4)]


def test_a_recipe_changes_with_content_and_names_but_not_with_the_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    assert cache.recipe(tmp_path / "a") == cache.recipe(tmp_path / "b")
    (tmp_path / "b" / "file").rename(tmp_path / "b" / "other")
    assert cache.recipe(tmp_path / "a") != cache.recipe(tmp_path / "b")


def module(folder: Path, name: str, depends: str) -> None:
    (folder / f"{name}.ko").write_bytes(b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0")


def test_modules_come_after_what_they_depend_on(tmp_path: Path) -> None:
    (tmp_path / "modules.builtin").write_text("kernel/virtio-mmio.ko\n")
    module(tmp_path, "virtio_blk", "virtio_ring,virtio")
    module(tmp_path, "virtio", "virtio_ring")
    module(tmp_path, "virtio_ring", "")
    order = [path.stem for path in initramfs.module_files(tmp_path, ["virtio_blk", "virtio_mmio"])]
    assert order == ["virtio_ring", "virtio", "virtio_blk"]
    with pytest.raises(cache.LabError, match="no module nvme"):
        initramfs.module_files(tmp_path, ["nvme"])


ONE_LINE = """\
# deb http://mirror.invalid/commented bookworm main
deb [signed-by=/keys/d.gpg arch=amd64] http://mirror.invalid/debian bookworm main contrib # ours
deb-src http://mirror.invalid/debian bookworm main contrib
deb http://other.invalid/apt bookworm-thirdparty main
"""
DEB822 = """\
# comment
Types: deb
URIs: http://mirror.invalid/security
Suites: bookworm-security trixie-security
Components: main
Signed-By: /keys/d.gpg

Types: deb
Enabled: no
URIs: http://mirror.invalid/off
Suites: bookworm
Components: main
"""


def test_sources_are_the_machines_own_for_this_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (tmp_path / "sources.list.d" / "security.sources").write_text(DEB822)
    monkeypatch.setattr(debian, "_ETC", tmp_path)
    monkeypatch.setattr(debian, "_KEYRING", tmp_path / "none")
    stanzas = debian.sources(("deb-src",)).split("\n\n")
    assert [stanza.strip().splitlines() for stanza in stanzas] == [
        [
            "Types: deb-src",
            "URIs: http://mirror.invalid/debian",
            "Suites: bookworm",
            "Components: main contrib",
            "Signed-By: /keys/d.gpg",
        ],
        [
            "Types: deb-src",
            "URIs: http://mirror.invalid/security",
            "Suites: bookworm-security",
            "Components: main",
            "Signed-By: /keys/d.gpg",
        ],
    ]


def test_a_machine_without_such_sources_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "_ETC", tmp_path)
    with pytest.raises(cache.LabError, match="suite bookworm"):
        debian.sources()
