"""The index of places, held against tomllib: the same keys, each where it says; no text that only one of them takes."""

import string
import tomllib
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from septum.declare.document import MOST_BYTES, document
from septum.declare.positions import DEEPEST, MOST_KEYS, Path, Puzzled, Refused, Span, scan
from septum.errors import DeclarationError

bare = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=4)
quoted = st.sampled_from(['"a.b"', "'c d'", '"\\u00e9"', '""', "'#'", '"]"', '"\\""', '"="'])
key = st.one_of(bare, bare, quoted)
gap = st.sampled_from(["", " ", "\t", "  "])
comment = st.sampled_from(["", ' # no = ["x', "#]"])
dotted = st.lists(st.tuples(key, gap), min_size=1, max_size=3).map(lambda parts: ".".join(k + g for k, g in parts))
scalar = st.sampled_from([
    "1", "-0x1F".replace("-", ""), "+1_000", "1.5e-3", "inf", "-nan".replace("nan", "inf"), "true", "false",
    "1979-05-27", "1979-05-27 07:32:00", "1979-05-27T00:32:00.999-07:00", "07:32:00", '"x"', '"a # b"', "'\\'",
    '"\\"]"', '""', "''", '""""""', '"""a"b""c\n# d\n"""', '"""x"""""', '"""\\"""x"""', "'''a''b\n'''", "'''x'''''",
    '"""\\\n  y"""', '"\\\\"',
])  # fmt: skip
newline = st.sampled_from(["", " ", "\n", " # c, ]\n", "\n\n\t"])


def arrays(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    item = st.tuples(newline, inner, newline).map("".join)
    return st.tuples(st.lists(item, max_size=3), st.booleans(), newline).map(
        lambda made: "[" + ",".join(made[0]) + ("," if made[1] and made[0] else "") + made[2] + "]"
    )


def inlines(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(gap, dotted, st.just("="), gap, inner, gap).map("".join)
    return st.lists(pair, max_size=3).map(lambda pairs: "{" + ",".join(pairs) + "}")


value = st.recursive(scalar, lambda inner: st.one_of(arrays(inner), inlines(inner)), max_leaves=6)
pair = st.tuples(gap, dotted, st.just("="), gap, value, gap, comment).map("".join)
header = st.tuples(gap, st.sampled_from([("[", "]"), ("[[", "]]")]), gap, dotted, gap, comment).map(
    lambda made: made[0] + made[1][0] + made[2] + made[3] + made[1][1] + made[4] + made[5]
)
lines = st.lists(st.one_of(pair, pair, header, comment), max_size=8)
documents = st.tuples(lines, st.sampled_from(["\n", "\n\n"])).map(lambda made: made[1].join(made[0]))
noise = st.lists(
    st.one_of(st.sampled_from(list("[]{}=.,#\"'\\\n\t a1-")), st.sampled_from(['"""', "'''", "[[", "]]", "a=", "\r\n"]))
).map("".join)


def leaves(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Everything in a document by its path."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: dict[Path, Any] = {} if not path else {path: value}
    for key, one in below:
        found.update(leaves(one, (*path, key)))
    return found


def loads(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def by_header(text: str, span: Span, value: Any) -> bool:
    """Whether a table, or a list of tables, has a line of its own and not a value."""
    tables = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict) for one in value))
    line = text[: span.value].rpartition("\n")[2]
    return tables and (not line.strip() or text[span.value] not in "[{")


def check_places(text: str, values: dict[str, Any]) -> None:
    spans = scan(text)
    found = leaves(values)
    assert spans.keys() == found.keys()
    for path, span in spans.items():
        if isinstance(path[-1], str):
            names = [text[span.key : span.key + size] for size in range(1, 10)]
            assert {path[-1]: 1} in [loads(f"{name}=1") for name in names if name == name.strip()], path
        if not by_header(text, span, found[path]):
            assert repr(tomllib.loads(f"x={text[span.value : span.end]}")["x"]) == repr(found[path]), path


@settings(deadline=None)
@given(documents)
def test_every_key_and_value_is_where_the_index_says(text: str) -> None:
    values = loads(text)
    assume(values is not None)
    assert values is not None
    check_places(text, values)


@settings(deadline=None)
@given(st.one_of(noise, st.tuples(documents, noise).map("".join), st.tuples(noise, documents).map("".join)))
def test_tomllib_and_the_index_take_the_same_texts(text: str) -> None:
    content = text.encode()
    plain = text.replace("\r\n", "\n")
    values = loads(text)
    if values is None:
        with pytest.raises(DeclarationError) as caught:
            document("f", content)
        (fault,) = caught.value.faults
        assert fault.line == 0 or 1 <= fault.line <= plain.count("\n") + 1
        return
    try:
        spans = scan(plain)
    except Refused:
        return
    assert spans.keys() == leaves(values).keys()
    assert repr(document("f", content).values) == repr(values)


def test_a_leaf_is_exactly_its_text() -> None:
    text = 'a = [ 1, "x]" , { b.c = 1979-05-27 07:32:00 } ] # end\n[d."e.f"]\ng=\'h\'\n[[i]]\n[[i]]\nj=1.5 \n'
    spans = scan(text)
    pieces = {path: text[span.value : span.end] for path, span in spans.items()}
    assert pieces["a",] == '[ 1, "x]" , { b.c = 1979-05-27 07:32:00 } ]'
    assert pieces["a", 1] == '"x]"'
    assert pieces["a", 2, "b", "c"] == "1979-05-27 07:32:00"
    assert pieces["d", "e.f"] == '[d."e.f"]'
    assert pieces["d", "e.f", "g"] == "'h'"
    assert pieces["i", 1, "j"] == "1.5"
    assert text[spans["d", "e.f"].key :].startswith('"e.f"]')


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a = " + "[" * 100_000, "arrays or tables lie more than 8 deep"),
        ("a = " + "{a=" * 80_000, "arrays or tables lie more than 8 deep"),
        ("a." * 120_000 + "a = 1", "a key has more than 8 parts"),
        ("[" + "a." * 120_000 + "a]", "a key has more than 8 parts"),
        ("a = [" + "1," * 120_000 + "]", "there are more than 20000 keys"),
        ("\n".join(f"k{number}=1" for number in range(MOST_KEYS + 1)), "there are more than 20000 keys"),
        ("a = " + '"' * 200_000, "this is no TOML"),
        ("a = " + "'" * 200_001, "this is no TOML"),
        ("a = " + "9" * 200_000, "this is no TOML: exceeds the limit"),
        ('a = "' + "\\" * 200_001, "this is no TOML: unescaped"),
        ("a = " + " " * 200_000, "this is no TOML: invalid value"),
        ("? " + "a." * 120_000, "this is no TOML: invalid statement"),
        ("\n" * 250_000 + "x", "this is no TOML: expected '='"),
    ],
    ids=range(13),
)
def test_a_text_made_to_take_long_is_refused(text: str, what: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        document("f", text.encode())
    (fault,) = caught.value.faults
    assert fault.what.startswith(what)


def test_what_lies_too_deep_is_told_with_its_place() -> None:
    with pytest.raises(DeclarationError) as caught:
        document("f", ("x = 1\n" + ".".join("a" * (DEEPEST + 1)) + " = 1").encode())
    assert str(caught.value.faults[0]) == "f:2:16: a key has more than 8 parts, more than is read"


def test_a_scan_of_no_toml_is_puzzled() -> None:
    with pytest.raises(Puzzled):
        scan("a = \n")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a = 1\nb = '\xff'", "f:2:6: this is no UTF-8"), (b"#" * (MOST_BYTES + 1), "f: the file has more than 262144")],
    ids=["encoding", "size"],
)
def test_no_utf8_and_too_much_are_faults(content: bytes, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        document("f", content)
    assert str(caught.value.faults[0]).startswith(message)
