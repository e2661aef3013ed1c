"""Files come from people who don't trust each other: what may be taken, and from where."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from septum.declare import End, read
from septum.declare.document import MOST_BYTES
from septum.errors import DeclarationError
from tests.declarekit import BLUE, EXAMPLE, OFFER, PLATFORM, RED, USE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for name, text in (("platform", PLATFORM), ("red", RED + USE), ("blue", BLUE + OFFER)):
        write(tmp_path / f"{name}.toml", text)
    return tmp_path


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.write_text(text)
    path.chmod(mode)


def said() -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        read("platform.toml")
    return [str(fault) for fault in caught.value.faults]


def test_the_parts_make_one_declaration(folder: Path) -> None:
    declaration = read(str(folder / "platform.toml"))
    assert [door.state for door in declaration.doors] == ["open"]
    assert declaration.roles[End("red", "web")].where.file == str(folder / "red.toml")
    assert str(declaration.roles[End("red", "web")].where).endswith("red.toml:2:7")


def test_faults_of_all_files_are_told_at_once(folder: Path) -> None:
    write(folder / "red.toml", RED + "[role.bad]\n" + USE)
    write(folder / "blue.toml", "[service.sql\n")
    write(folder / "platform.toml", PLATFORM + "x = 1\n")
    assert said() == [
        'platform.toml:8:1: realm blue has no "x"; there is file, images, quota, role, service, image, offer, use',
        'red.toml:6:7: role bad lacks memory: expected a size such as "512 MiB" (B, KiB, MiB, GiB, TiB, PiB)',
        "blue.toml:1:13: this is no TOML: expected ']' at the end of a table declaration",
    ]


def link(path: Path) -> None:
    path.rename("elsewhere.toml")
    path.symlink_to("elsewhere.toml")


def hard_link(path: Path) -> None:
    os.link(path, "elsewhere.toml")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def everybodys(path: Path) -> None:
    path.chmod(0o666)


def everybodys_folder(path: Path) -> None:
    path.parent.chmod(0o777)


def the_platforms(path: Path) -> None:
    write(Path("platform.toml"), PLATFORM.replace("red.toml", "platform.toml"))


def anothers(path: Path) -> None:
    write(Path("platform.toml"), PLATFORM.replace("red.toml", "blue.toml"))


def too_long(path: Path) -> None:
    write(path, "#" * (MOST_BYTES + 1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            link,
            "platform.toml:3:8: realm red: file: red.toml can't be read: Too many levels of symbolic links (symbolic",
        ),
        (
            hard_link,
            "platform.toml:3:8: realm red: file: red.toml has 2 names: expected a file without other hard links",
        ),
        (pipe, "platform.toml:3:8: realm red: file: it is no regular file"),
        (directory, "platform.toml:3:8: realm red: file: it is no regular file"),
        (
            everybodys,
            "platform.toml:3:8: realm red: file: everybody may write red.toml (mode 0666), not only its realm",
        ),
        (
            everybodys_folder,
            "platform.toml:3:8: realm red: file: everybody may write the folder . on the way to red.toml",
        ),
        (the_platforms, "platform.toml:3:8: realm red: file: platform.toml is the platform's own file"),
        (anothers, "platform.toml:6:8: realm blue: file: blue.toml is the part of realm red already"),
        (too_long, "red.toml: the file has more than 262144 bytes"),
        (Path.unlink, "platform.toml:3:8: realm red: file: red.toml can't be read: No such file or directory"),
    ],
)
def test_a_realms_file_that_may_not_be_taken(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder / "red.toml")
    assert said()[0].startswith(message)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_platforms_file_that_others_write_is_refused(folder: Path, mode: int) -> None:
    (folder / "platform.toml").chmod(mode)
    assert said() == [
        f"platform.toml: others may write it (mode 0{mode:o}), and with it open doors: expected 0644 or less"
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_a_platforms_file_of_somebody_else_is_refused_and_a_realms_is_not(folder: Path) -> None:
    os.chown(folder / "red.toml", 4711, 4711)
    assert len(read("platform.toml").realms) == 2
    os.chown(folder / "platform.toml", 4711, 4711)
    assert said() == ["platform.toml: it belongs to uid 4711: expected root or whoever runs this"]


def test_a_link_among_the_folders_is_not_followed(folder: Path) -> None:
    (folder / "real").mkdir(mode=0o755)
    (folder / "red.toml").rename(folder / "real" / "red.toml")
    (folder / "realms").symlink_to("real")
    write(folder / "platform.toml", PLATFORM.replace("red.toml", "realms/red.toml"))
    assert said()[0].startswith(
        "platform.toml:3:8: realm red: file: realms/red.toml can't be read: Not a directory (symb"
    )
    write(folder / "platform.toml", PLATFORM.replace("red.toml", "real/red.toml"))
    assert len(read("platform.toml").doors) == 1


def test_no_descriptor_is_left_open(folder: Path) -> None:
    (folder / "blue.toml").unlink()
    before = os.listdir("/proc/self/fd")
    said()
    assert os.listdir("/proc/self/fd") == before


def test_the_example_is_a_declaration(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "realms").mkdir(mode=0o755)
    for source in EXAMPLE.parent.rglob("*.toml"):
        write(tmp_path / source.relative_to(EXAMPLE.parent), source.read_text())
    declaration = read(str(tmp_path / EXAMPLE.name))
    states = {f"{door.role} to {door.service}": door.state for door in declaration.doors}
    assert states == {
        "red to blue/restore": "pending",
        "red/db to blue/archive": "open",
        "red/web to platform/frames": "open",
        "red/web to red/sql": "open",
    }
