"""QEMU's grammars: what is written is read again, and nothing can hide between two ways to cut a text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum.errors import ArgvError
from septum.guests import parse
from septum.guests.block import BLOCK_PATHS, IMAGE
from septum.guests.chardevs import CHARDEV_PATHS
from septum.guests.devices import DEVICE_PATHS
from septum.guests.network import NETDEV_PATHS
from septum.guests.objects import OBJECT_PATHS
from septum.guests.syntax import from_json, opts, read_config, tree

names = st.from_regex(r"[a-m][a-z-]{0,6}", fullmatch=True)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
# A path as an adversary would choose it: with every character that some grammar gives a meaning to.
paths = st.text(st.sampled_from("ab,=:'\"{}[]\\ é%?#-."), min_size=1, max_size=12).map("/t/{}x".format)


def escaped(text: str) -> str:
    return text.replace(",", ",,")


@given(st.lists(st.tuples(names, texts), max_size=6))
def test_a_comma_list_is_read_as_it_was_written(pairs: list[tuple[str, str]]) -> None:
    assert opts(",".join(f"{key}={escaped(value)}" for key, value in pairs)) == pairs


@given(st.lists(names, max_size=4))
def test_flags_are_on_or_off(flags: list[str]) -> None:
    assert opts(",".join([*flags, *(f"no{flag}" for flag in flags)])) == [
        *((flag, "on") for flag in flags),
        *((flag, "off") for flag in flags),
    ]


def test_the_first_element_may_lack_its_key() -> None:
    assert opts("tap,,1,fd=3", "type") == [("type", "tap,1"), ("fd", "3")]
    assert opts("unix:/a=b,,c,server", "path") == [("path", "unix:/a=b,c"), ("server", "on")]
    assert opts("a,,,b=c", "x") == [("x", "a,"), ("b", "c")]


documents = st.recursive(
    st.one_of(st.booleans(), st.none(), texts, st.integers()),
    lambda inner: st.one_of(
        st.dictionaries(names, inner, min_size=1, max_size=3), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(names, documents, max_size=4))
def test_json_and_dotted_keys_come_out_alike(document: dict[str, object]) -> None:
    pairs = from_json(json.dumps(document))
    assert opts(",".join(f"{key}={escaped(value)}" for key, value in pairs)) == pairs


@given(st.dictionaries(names, documents, min_size=1, max_size=4))
def test_dotted_keys_nest_again(document: dict[str, object]) -> None:
    def expected(value: object) -> object:
        if isinstance(value, dict):
            return {key: expected(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return {str(index): expected(inner) for index, inner in enumerate(value)}
        return {True: "on", False: "off", None: ""}[value] if isinstance(value, bool | None) else str(value)

    assert tree(from_json(json.dumps(document))) == expected(document)


@given(st.dictionaries(names, texts.filter(lambda text: "'" not in text and '"' not in text), min_size=1))
def test_qemu_also_takes_single_quotes(document: dict[str, str]) -> None:
    plain = json.dumps(document)
    assert from_json(plain.replace('"', "'")) == from_json(plain)


def test_quotes_within_quotes() -> None:
    assert from_json("""{'a': 'say "x"', "b": "it's", 'c': 'it\\'s'}""") == [
        ("a", 'say "x"'),
        ("b", "it's"),
        ("c", "it's"),
    ]


def test_numbers_keep_their_text() -> None:
    assert from_json('{"size": 18446744073709551616000, "f": 1.50, "z": %s}' % ("9" * 9000))[:2] == [
        ("size", "18446744073709551616000"),
        ("f", "1.50"),
    ]


@given(st.lists(st.tuples(names, st.lists(st.tuples(names, st.from_regex(r'[^"\0\s]*', fullmatch=True))))))
def test_a_configuration_file_is_read_as_it_was_written(sections: list[tuple[str, list[tuple[str, str]]]]) -> None:
    text = "# a comment\n\n" + "".join(
        f'[{group} "me"]\n' + "".join(f'  {key} = "{value}"\n' for key, value in pairs) for group, pairs in sections
    )
    assert [(found.group, found.pairs) for found in read_config(text)] == [
        (group, [("id", "me"), *pairs]) for group, pairs in sections
    ]


@pytest.mark.parametrize("text", ["key = 1", "[open", 'key = "1"', "[a]\nkey = 1", "[a]\nkey"])
def test_a_line_of_a_configuration_file_that_is_nothing_is_refused(text: str) -> None:
    with pytest.raises(ArgvError, match=r"neither a section nor an argument"):
        list(read_config(text, where="/c"))


PLANTED = [
    *(("chardev", "backend", kind, key) for kind, table in CHARDEV_PATHS.items() if kind for key in table),
    *(("object", "qom-type", kind, key) for kind, table in OBJECT_PATHS.items() for key in table),
    *(("netdev", "type", kind, key) for kind, table in NETDEV_PATHS.items() for key in table),
    *(("device", "driver", kind, key) for kind, table in DEVICE_PATHS.items() if kind for key in table if key != "db"),
    *(("blockdev", "driver", kind, key) for kind, table in BLOCK_PATHS.items() for key in table),
]


@given(st.sampled_from(PLANTED), paths, st.booleans())
def test_a_path_is_found_wherever_a_table_says_so(place: tuple[str, str, str, str], path: str, as_json: bool) -> None:
    option, implied, kind, key = place
    # Some of these are commands: only their first word is a file.
    assume_word = path.split(None, 1)[0] if key == "path" and kind == "passt" else path
    text = json.dumps({implied: kind, "id": "i", key: path}) if as_json else f"{kind},id=i,{key}={escaped(path)}"
    line = parse(["qemu", f"-{option}", text], cwd="/")
    found = [resource.path for resource in line.resources]
    assert assume_word.strip("'\"") in found or path in found
    assert not line.unknown


@given(st.sampled_from(["/", "a/", "./"]), paths)
def test_what_is_unknown_is_never_silent(start: str, path: str) -> None:
    for option in ("device", "chardev", "object", "netdev", "blockdev", "machine", "tpmdev", "display", "audiodev"):
        line = parse(["qemu", f"-{option}", f"made-up,made-up-key={escaped(start + path)}"], cwd="/")
        assert line.unknown


def test_an_image_is_not_a_fixed_kind() -> None:
    assert {spec.kind for table in BLOCK_PATHS.values() for spec in table.values() if spec is IMAGE} == {"image"}
