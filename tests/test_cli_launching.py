"""The short way through the options of `run` says what argparse says, or nothing."""

from argparse import ArgumentParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from septum.cli.launching import add_launch_options, read_plain

FLAGS = ("--unconfined", "--allow-probe")
WORDS = (
    "--realm",
    "--name",
    "--role",
    "--driver",
    "--adopt",
    "--platform",
    "--share",
    "--allow-path",
    "--allow-unknown",
    "--state",
)

plain = st.one_of(
    st.sampled_from(FLAGS).map(lambda flag: [flag]),
    st.tuples(st.sampled_from(WORDS), st.text(min_size=1).filter(lambda word: not word.startswith("-"))).map(list),
)
odd = st.sampled_from(
    [["--realm"], ["--realm=a"], ["--bogus"], ["word"], ["--name", "--realm"], ["-h"], ["--real", "a"]]
)


def parser() -> ArgumentParser:
    made = ArgumentParser()
    add_launch_options(made)
    return made


@given(st.lists(plain))
def test_both_say_the_same(options: list[list[str]]) -> None:
    words = [word for option in options for word in option]
    assert vars(read_plain(words)) == vars(parser().parse_args(words))


@given(st.lists(plain, max_size=3), odd)
def test_what_is_not_spelled_out_is_left_to_argparse(options: list[list[str]], last: list[str]) -> None:
    assert read_plain([*(word for option in options for word in option), *last]) is None


def test_every_option_is_in_the_table() -> None:
    known = {flag for action in parser()._actions for flag in action.option_strings} - {"-h", "--help"}
    assert known == {*FLAGS, *WORDS}


@pytest.mark.parametrize("words", [["--share", "a", "--share", "b"], []])
def test_lists_are_not_shared_between_calls(words: list[str]) -> None:
    first = read_plain(words)
    first.share.append("c")
    assert "c" not in read_plain(words).share
