"""The public names of `septum.guests`, and the page that explains them."""

import pathlib
from typing import get_args

import septum.guests
from septum.guests import Kind, Resource, ThisHost, parse, read_file

ROOT = pathlib.Path(__file__).parents[1]


def test_the_public_names() -> None:
    assert septum.guests.__all__ == [
        "Access",
        "CommandLine",
        "Host",
        "Kind",
        "Resource",
        "Sharing",
        "ThisHost",
        "Unknown",
        "parse",
        "read_file",
    ]


def test_every_kind_is_explained() -> None:
    page = (ROOT / "docs" / "resources.md").read_text()
    assert not [kind for kind in get_args(Kind) if f"`{kind}`" not in page]


def test_this_host_answers_and_never_raises(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("17\n")
    (tmp_path / "link").symlink_to("../target")
    host = ThisHost()
    assert host.read(f"{tmp_path}/file") == "17"
    assert host.readlink(f"{tmp_path}/link") == "../target"
    assert sorted(host.listdir(str(tmp_path))) == ["file", "link"]
    assert host.exists(f"{tmp_path}/link")
    missing = f"{tmp_path}/missing"
    assert (host.read(missing), host.readlink(missing), list(host.listdir(missing)), host.exists(missing)) == (
        "",
        "",
        [],
        False,
    )


def test_a_configuration_file_of_this_host(tmp_path: pathlib.Path) -> None:
    (tmp_path / "vm.cfg").write_text('[drive]\n  file = "disk.img"\n')
    line = parse(["qemu", "-nodefaults", "-readconfig", "vm.cfg"], cwd=str(tmp_path), read_file=read_file)
    assert [resource.path for resource in line.resources] == [f"{tmp_path}/vm.cfg", f"{tmp_path}/disk.img"]
    assert isinstance(line.resources[0], Resource)


def test_a_configuration_file_that_is_too_large_is_unknown(tmp_path: pathlib.Path) -> None:
    (tmp_path / "vm.cfg").write_text("#" * (1 << 20) + "#")
    assert parse(["qemu", "-readconfig", "vm.cfg"], cwd=str(tmp_path), read_file=read_file).unknown
