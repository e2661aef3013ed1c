"""The documentation fits the program: manual pages, links, tests that it names, nothing of one machine."""

import re
from pathlib import Path

import pytest

from septum.cli.main import VERBS, whole_parser
from tools import declaration, man

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    """Those that the usual renderers make of headings."""
    text = _FENCE.sub("", path.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


@pytest.mark.parametrize("name", ["septum.1", "septum-qemu.1", "septumd.8", "septum-apid.8", "septum-broker.8"])
def test_manual_pages_are_those_of_the_parsers(name: str) -> None:
    assert (man.FOLDER / name).read_text() == man.pages()[name], "the parsers changed: python tools/man.py"


def test_every_verb_and_option_is_in_the_manual() -> None:
    text = man.pages()["septum.1"].replace("\\-", "-")
    (verbs,) = [action.choices for action in whole_parser()._actions if action.dest not in ("help", "version")]
    assert tuple(verbs) == VERBS
    for verb, parser in verbs.items():
        section = text.split(f"\n.SS {verb}\n")[1].split("\n.S")[0]
        for action in parser._actions:
            for word in action.option_strings if action.dest != "help" else ():
                assert f"\\fB{word}\\fR" in section, f"{verb} {word}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for groups in _LINK.findall(_FENCE.sub("", page.read_text())):
        link = next(group for group in groups if group)
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{name_of(page)} links to {link}"
        if anchor:
            assert anchor in anchors(there), f"{name_of(page)} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_page_can_be_reached_from_the_readme(page: Path) -> None:
    found, todo = set(), [ROOT / "README.md"]
    while todo:
        here = todo.pop()
        if here in found:
            continue
        found.add(here)
        links = [next(filter(None, groups)).partition("#")[0] for groups in _LINK.findall(here.read_text())]
        todo += [there for link in links if (there := (here.parent / link).resolve()) in PAGES]
    assert page in found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    defined = {
        name for file in (ROOT / "tests").glob("*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    files = {file.stem for file in (ROOT / "tests").glob("*.py")}
    for name in re.findall(r"\btest_\w+", text):
        assert name in defined | files, name
    for name in re.findall(r"`((?:src|tests|lab|bench|tools|policy|systemd|docs)/[\w./-]*\w)`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", [*PAGES, *sorted(man.FOLDER.glob("*.[18]"))], ids=name_of)
def test_nothing_is_of_one_machine(page: Path) -> None:
    assert not re.search(r"/wor[k]/|/root/|/home/\w|file://|\bTODO\b|\bTBD\b", page.read_text())


def test_the_reference_of_declarations_is_that_of_the_schema() -> None:
    text = declaration.PAGE.read_text()
    assert text == declaration.page(text), "the schema changed: python tools/declaration.py"
    assert declaration.reference().count("\n| `") > 40
