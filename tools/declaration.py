"""Writes the reference in docs/declaration.md from the schema: ``python tools/declaration.py``; a test compares."""

from collections.abc import Iterator
from pathlib import Path

from septum.declare.schema import REQUIRED, TABLES, Shape

PAGE = Path(__file__).resolve().parent.parent / "docs" / "declaration.md"
BEGIN, END = "<!-- made by tools/declaration.py -->\n", "<!-- end -->\n"


def _title(name: str, shape: Shape) -> str:
    if " " in name:
        return name[:1].upper() + name[1:]
    return f"`[[{name}]]`" if shape.listed else f"`[{name}.NAME]`" if shape.named else f"`[{name}]`"


def _table(name: str, shape: Shape) -> Iterator[str]:
    yield f"### {_title(name, shape)}"
    yield f"{shape.table.about[:1].upper()}{shape.table.about[1:]}."
    if shape.table.tables:
        inside = ", ".join(_title(one, TABLES[one]) for one in shape.table.tables)
        yield f"In it: {inside}."
    if shape.table.keys:
        yield ""
        yield "| key | value | default | what it is |"
        yield "|---|---|---|---|"
    for key in shape.table.keys:
        default = "**required**" if key.default is REQUIRED else key.shown
        value = key.kind.expected.replace("|", "\\|")
        yield f"| `{key.name}` | {value} | {default} | {key.about} |"
    yield ""


def reference() -> str:
    """All tables and keys."""
    return "\n".join(line for name, shape in TABLES.items() for line in _table(name, shape)) + "\n"


def page(text: str) -> str:
    """The page with its reference made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{reference()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
