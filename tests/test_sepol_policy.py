"""Policies opened, asked and closed: names, decisions, reasons, booleans, and what is refused."""

import errno
import os
import random
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import septum.sepol
from septum.errors import LabelError, PolicyError, Unenforceable, UnknownName
from septum.sepol import CONTEXT_MAX, Memo, Policy, library, policy
from tests.sepolkit import Questions, built, image, small

__all__ = ["image"]

T, OBJECT = "u:r:t:s0", "u:object_r:o:s0"
RULES = """
(allow t o (file (read open)))
(allow t many (dir (search)))
(allow t self (process (fork)))
(boolean may_write false)(boolean may_map true)
(booleanif (and may_write (not (xor may_map may_write)))
    (true (allow t o (file (write))))
    (false (allow t x (file (map)))))
(booleanif may_map (true (allow t o (file (map)))))
(mlsconstrain (file (read)) (dom h1 h2))
"""


def test_public_names_are_pinned() -> None:
    assert septum.sepol.__all__ == ["CONTEXT_MAX", "Allow", "Explanation", "Memo", "Policy", "Rules", "Vector"]
    assert all(hasattr(septum.sepol, name) for name in septum.sepol.__all__)


class TestNames:
    def test_a_policy_says_what_it_is(self) -> None:
        with Policy.open(small(RULES, unknown="reject")) as one:
            assert (one.version, one.mls, one.handle_unknown) == (33, True, "reject")
            assert len(bytes.fromhex(one.fingerprint)) == 32
        for unknown in ("allow", "deny"):
            with Policy.open(small(RULES, mls=False, version=31, unknown=unknown)) as one:
                assert (one.version, one.mls, one.handle_unknown) == (31, False, unknown)

    def test_a_policy_for_xen(self) -> None:
        with Policy.open(small("(allow t o (file (read)))", version=30, target="xen")) as one:
            assert one.names("file", one.compute(T, OBJECT, "file").allowed) == ("read",)

    def test_all_of_its_names(self) -> None:
        with Policy.open(small(RULES)) as one:
            assert one.classes()["file"] == ("read", "write", "open", "getattr", "map")
            assert set(one.classes()) == {"process", "file", "dir", "unix_stream_socket", "septum_thing"}
            assert one.types() == {"t", "o", "x", "made_t", "named_t", "other_t"}
            assert one.attributes()["many"] == {"o", "x"}
            assert one.booleans() == {"may_write": False, "may_map": True}

    def test_every_permission_has_a_bit_of_its_own(self, image: bytes) -> None:
        with Policy.open(image) as one:
            for tclass, permissions in one.classes().items():
                assert one.names(tclass, -1) == permissions
                bits = [one.mask(tclass, [name]) for name in permissions]
                assert bits == [1 << place for place in range(len(permissions))]
                assert one.mask(tclass, permissions) == sum(bits)
                assert one.names(tclass, bits[-1]) == (permissions[-1],)

    @pytest.mark.parametrize(
        "name", ["", "nothing", "file ", "file\0", "fil\u00e9", "\ud800", "x" * 1_000_000, "(file"]
    )
    def test_names_that_it_does_not_have(self, name: str) -> None:
        with Policy.open(small(RULES)) as one:
            for ask in (
                lambda: one.compute(T, OBJECT, name),
                lambda: one.mask(name, ["read"]),
                lambda: one.names(name, 1),
                lambda: one.mask("file", [name]),
                lambda: one.explain(T, OBJECT, "file", ["read", name]),
                lambda: one.transition(T, OBJECT, name),
            ):
                with pytest.raises(UnknownName) as caught:
                    ask()
                assert len(str(caught.value)) < 1000
            with pytest.raises(UnknownName):
                Policy.open(small(RULES), booleans={name: True})


BAD_CONTEXTS = [
    "", "u", "u:r", "u:r:t", "u:r:t:", "u:r:t:s0:", "u:r:t:s2", "u:r:t:s0:c6", "u:r:t:s0:c2.c1", "u:r:t:s0:c1-s0",
    "u:r:t:s0-s0:c1-s0:c2", "u:r:t:s0\0", "u:r:t\0:s0", "\0", "u:r:t:s0\n", " u:r:t:s0", "u:r:t:s0 ", "u:r:nothing:s0",
    "u:nothing:t:s0", "nothing:r:t:s0", "u:r:o:s0", "v:q:t:s0", "v:r:t:s1", "v:r:t:s0:c2", "u:r:t:s0:c\u0661",
    "\u00fc:r:t:s0", "\ud800", "u:r:t:s0:" + ",".join(["c1"] * 350_000), "u" * (1 << 20), ":" * 5000, "u:r:t:s0:c0.c9",
]  # fmt: skip


@pytest.mark.parametrize("context", BAD_CONTEXTS, ids=lambda text: ascii(text[:24]))
def test_contexts_that_it_does_not_have(context: str) -> None:
    with Policy.open(small(RULES)) as one:
        assert not one.valid(context)
        for ask in (
            lambda: one.compute(context, OBJECT, "file"),
            lambda: one.compute(T, context, "file"),
            lambda: one.explain(T, context, "file", ["read"]),
            lambda: one.transition(context, OBJECT, "file"),
            lambda: Memo(one).allowed(T, context, "file"),
        ):
            with pytest.raises(LabelError) as caught:
                ask()
            assert len(str(caught.value)) < 1000


def test_a_context_as_long_as_may_be() -> None:
    with Policy.open(small(RULES)) as one:
        head = "u:r:t:s0:"
        text = head + ",".join(["c1"] * ((CONTEXT_MAX - len(head) + 1) // 3))
        assert CONTEXT_MAX - 3 < len(text) <= CONTEXT_MAX
        assert one.compute(text, OBJECT, "file") == one.compute("u:r:t:s0:c1", OBJECT, "file")
        assert not one.valid(text + ",c1")


class TestDecisions:
    def test_types_and_levels(self) -> None:
        with Policy.open(small(RULES)) as one:
            assert one.names("file", one.compute(T, OBJECT, "file").allowed) == ("read", "open", "map")
            assert one.names("file", one.compute(T, f"{OBJECT}:c1", "file").allowed) == ("open", "map")
            assert one.names("file", one.compute(T, "u:object_r:alias_t:s0", "file").allowed) == ("read", "open", "map")

    def test_reasons(self) -> None:
        text = RULES + "(allow t t (process (transition)))(roleallow r r)(typebounds t made_t)"
        with Policy.open(small(text + "(allow made_t o (file (getattr)))(allow t o (file (getattr)))")) as one:
            said = one.explain(T, OBJECT, "file", ["open", "read"])
            assert said.allowed
            assert (said.granted, said.refused, said.reasons, said.constraint) == (("open", "read"), (), (), "")
            assert said.rule == "(allow t o (file (read open getattr)))"
            said = one.explain(T, f"{OBJECT}:c1", "file", ["open", "read"])
            assert not said.allowed
            assert (said.granted, said.refused, said.reasons) == (("open",), ("read",), ("constraint",))
            assert "h1 dom h2" in said.constraint
            assert said.rule == said.constraint
            said = one.explain(T, OBJECT, "septum_thing", ["use"])
            assert said.reasons == ("type enforcement",)
            assert said.rule == "there is no (allow t o (septum_thing (use)))"
            said = one.explain(T, OBJECT, "file", ["write"])
            assert said.rule.startswith(
                "there is no (allow t o (file (write))); switched off: (allow t o (file (write)))"
            )
            said = one.explain(T, "u:q:t:s0", "process", ["transition"])
            assert said.reasons == ("role",)
            assert said.rule == "there is no (roleallow r q)"
            said = one.explain(T, "u:object_r:x:s0", "dir", ["search"])
            assert said.rule == "(allow t many (dir (search)))"
            said = one.explain(T, T, "process", ["fork", "transition"])
            assert said.rule == "(allow t self (process (fork transition)))"  # the compiler's, of two

    def test_a_type_may_do_no_more_than_its_bounds(self) -> None:
        text = "(typebounds t made_t)(allow made_t o (file (read)))(allow t o (file (read)))"
        widened = text + "(boolean wide false)(booleanif wide (true (allow made_t o (file (write)))))"
        with Policy.open(small(widened, checked=False), booleans={"wide": True}) as one:
            said = one.explain("u:r:made_t:s0", OBJECT, "file", ["read", "write"])
            assert (said.granted, said.refused) == (("read",), ("write",))
            assert "bounds" in said.reasons
            assert said.rule == "the type that bounds made_t may not { write } file of o"

    def test_each_permission_is_refused_for_its_own_reason(self) -> None:
        text = (
            "(allow t o (file (read write map)))(mlsconstrain (file (write open)) (dom h1 h2))"
            "(constrain (file (map)) (eq u1 u2))"
            "(boolean more false)(booleanif more (true (allow t o (file (getattr)))))"
        )
        level = "mlsconstrain file { write open } ((h1 dom h2 -Fail-) )"
        with Policy.open(small(text)) as one:
            said = one.explain(T, f"{OBJECT}:c1", "file", ["read", "open", "write", "getattr"])
            assert (said.granted, said.refused) == (("read",), ("open", "write", "getattr"))
            assert said.reasons == ("type enforcement", "constraint")
            assert said.constraint == level
            assert said.rule == (
                "there is no (allow t o (file (open getattr))); "
                f"switched off: (allow t o (file (getattr))) ; if more; {level}"
            )
            # A constraint that refuses what nobody asked for has no part in it.
            assert one.explain(T, f"{OBJECT}:c1", "file", ["read", "map"]).constraint == ""
            said = one.explain("v:r:t:s0", f"{OBJECT}:c1", "file", ["map"])
            assert (said.constraint, said.rule) == ("constrain file { map } ((u1 == u2 -Fail-) )",) * 2
            said = one.explain("v:r:t:s0", f"{OBJECT}:c1", "file", ["getattr"])
            assert (said.reasons, said.constraint) == (("type enforcement",), "")

    def test_as_many_rules_as_it_takes_are_quoted(self) -> None:
        rules = ("(allow t o (file (read)))", "(allow t many (file (open map)))")
        with Policy.open(small("".join(rules))) as one:
            said = one.explain(T, OBJECT, "file", ["read", "open"])
            assert said.allowed
            assert set(said.rule.split("; ")) == set(rules)
            assert one.explain(T, OBJECT, "file", ["map"]).rule == rules[1]

    def test_what_the_kernel_would_only_record(self) -> None:
        with Policy.open(small("(allow t o (file (read)))(typepermissive t)")) as one:
            said = one.explain(T, OBJECT, "file", ["write"])
            assert not said.allowed
            assert said.rule == "there is no (allow t o (file (write))); (typepermissive t): the kernel only records it"
            assert "permissive" not in one.explain(T, OBJECT, "file", ["read"]).rule

    def test_nothing_is_not_allowed(self) -> None:
        with Policy.open(small("(allow t o (file (read)))")) as one, pytest.raises(UnknownName, match="no permission"):
            one.explain(T, OBJECT, "file", [])

    def test_bounds_on_which_libsepol_breaks(self) -> None:
        """Its 3.4 writes to address 0 where a type and its bounding type both go beyond their bounds."""
        chain = "(typebounds t x)(typebounds x made_t)(allow t o (file (read)))"
        beyond = chain + "(allow x o (file (read write)))(allow made_t o (file (read write open)))"
        for text in (chain, beyond):
            with Policy.open(small(text, checked=False)) as one:
                for ask in (
                    lambda: one.compute("u:r:made_t:s0", OBJECT, "file"),
                    lambda: one.explain("u:r:made_t:s0", OBJECT, "file", ["write"]),
                    lambda: Memo(one),
                    lambda: one.classes(),
                ):
                    with pytest.raises(PolicyError, match="bounded itself: made_t"):
                        ask()

    def test_without_memory_nothing_is_decided(self) -> None:
        """libsepol takes a constraint for met when it gets no memory to write it down."""
        code = (
            "import ctypes, os, resource, sys\n"
            "from septum.sepol import Policy\n"
            f"question = ({T!r}, '{OBJECT}:c1', 'file')\n"
            "policy = Policy.open(sys.stdin.buffer.read())\n"
            "before = policy.compute(*question)\n"
            "malloc = ctypes.CDLL(None).malloc\n"
            "malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]\n"
            "pages = int(open('/proc/self/statm').read().split()[0])\n"
            "resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf('SC_PAGESIZE'),) * 2)\n"
            "for size in (1 << 20, 1 << 16, 4096, 512, 256, 128, 64, 32, 24):\n"
            "    while malloc(size): pass\n"
            "for ask in (policy.compute, lambda *words: policy.explain(*words, ['write'])):\n"
            "    try: os.write(1, b'allowed' if ask(*question) != before else b'denied')\n"
            "    except MemoryError: os.write(1, b'gone ')\n"
            "os._exit(0)\n"
        )
        policy = small("(allow t o (file (read write)))(mlsconstrain (file (write)) (dom h1 h2))")
        done = subprocess.run([sys.executable, "-c", code], input=policy, capture_output=True, check=False)
        assert (done.stdout, done.stderr) == (b"gone gone ", b"")

    def test_without_the_rule_that_was_quoted_it_is_denied(self) -> None:
        rules = [
            "(allow t o (file (read)))", "(allow many o (file (write open)))", "(allow t other_t (file (map)))",
            "(allow x self (process (fork)))", "(allow t many (dir (search add_name)))",
        ]  # fmt: skip
        questions = [
            ("t", "o", "file", "read"), ("x", "o", "file", "write"), ("t", "other_t", "file", "map"),
            ("x", "x", "process", "fork"), ("t", "x", "dir", "search"), ("t", "o", "dir", "add_name"),
        ]  # fmt: skip
        with Policy.open(small("".join(rules))) as whole:
            for source, target, tclass, permission in questions:
                ends = (f"u:r:{source}:s0", f"u:{'r' if tclass == 'process' else 'object_r'}:{target}:s0")
                said = whole.explain(*ends, tclass, [permission])
                assert said.allowed
                rest = [rule for rule in rules if whole_rule(rule) != whole_rule(said.rule)]
                assert len(rest) == len(rules) - 1, said.rule
                with Policy.open(small("".join(rest))) as less:
                    assert not less.explain(*ends, tclass, [permission]).allowed

    def test_what_it_explains_is_what_it_decides(self, image: bytes) -> None:
        with Policy.open(image) as one:
            asked = Questions(one, 4)
            for number in range(60):
                question = asked.near() if number % 3 else asked.any()
                permissions = one.classes()[question.tclass]
                said = one.explain(*question, permissions)
                assert one.mask(question.tclass, said.granted) == one.compute(*question).allowed
                assert said.allowed == (said.refused == ()) == (said.reasons == ())
                assert said.rule


def whole_rule(text: str) -> tuple[str, ...]:
    """A rule's words, whatever the order of its permissions."""
    words = text.replace("(", " ").replace(")", " ").split()
    return (*words[:4], *sorted(words[4:]))


class TestBooleans:
    @pytest.mark.parametrize("may_write", [False, True])
    @pytest.mark.parametrize("may_map", [False, True])
    def test_what_if(self, may_write: bool, may_map: bool) -> None:
        plain = small(RULES)
        with (
            Policy.open(plain) as before,
            Policy.open(plain, booleans={"may_write": may_write, "may_map": may_map}) as one,
        ):
            granted = set(one.names("file", one.compute(T, OBJECT, "file").allowed))
            both = may_write and not (may_map ^ may_write)
            assert ("write" in granted, "map" in granted) == (both, may_map)
            other = one.names("file", one.compute(T, "u:object_r:x:s0", "file").allowed)
            assert other == (() if both else ("map",))
            # The text tells the same as the decisions.
            for permission, target in (("write", OBJECT), ("map", OBJECT), ("map", "u:object_r:x:s0")):
                said = one.explain(T, target, "file", [permission])
                rules = [r for r in one.rules.allows("t", target.split(":")[2], "file") if permission in r.permissions]
                assert said.allowed == any(rule.active for rule in rules)
            assert one.booleans() == {"may_write": may_write, "may_map": may_map}
            assert before.booleans() == {"may_write": False, "may_map": True}
            assert one.fingerprint == before.fingerprint

    def test_nothing_else_changes(self, image: bytes) -> None:
        """Each boolean, flipped: every rule outside of conditionals still counts."""
        with Policy.open(image) as before:
            flipped = {name: not value for name, value in before.booleans().items()}
            with Policy.open(image, booleans=flipped) as after:
                assert after.booleans() == flipped
                assert before.booleans() != flipped or not flipped
                asked = Questions(before, 6)
                for _ in range(300):
                    question = asked.near()
                    rules = list(
                        after.rules.allows(
                            question.source.split(":")[2], question.target.split(":")[2], question.tclass
                        )
                    )
                    same = all(not rule.condition for rule in rules)
                    if same:
                        assert before.compute(*question) == after.compute(*question), question


class TestSeveral:
    def test_each_gives_its_own_answers(self) -> None:
        contents = [small(f"(allow t o (file ({name})))") for name in ("read", "write", "open")]
        opened = [Policy.open(content) for content in contents]
        try:
            for _ in range(3):
                found = [one.names("file", one.compute(T, OBJECT, "file").allowed) for one in opened]
                assert found == [("read",), ("write",), ("open",)]
        finally:
            for one in opened:
                one.close()

    def test_threads_get_the_answers_of_the_policy_they_ask(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(policy, "_SIDS_MAX", 6)
        wrong: list[Any] = []

        def ask(one: Policy, name: str, seed: int) -> None:
            choose = random.Random(seed)
            for _ in range(2000):
                low, high = sorted(choose.sample(range(6), 2))
                found = one.compute(f"u:r:t:s0:c{low}", f"u:object_r:o:s0:c{high}", "file")
                if one.names("file", found.allowed) != (name,):
                    wrong.append(found)

        with (
            Policy.open(small("(allow t o (file (read)))")) as one,
            Policy.open(small("(allow t o (file (map)))")) as two,
        ):
            threads = [
                threading.Thread(target=ask, args=(o, n, s)) for s in range(2) for o, n in ((one, "read"), (two, "map"))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not wrong

    def test_a_closed_one_answers_no_more_even_when_its_library_serves_another(self) -> None:
        one = Policy.open(small("(allow t o (file (read)))"))
        one.compute(T, OBJECT, "file")
        one.mask("file", ["read"])
        one.close()
        one.close()
        with Policy.open(small("(allow t o (file (write)))")):
            for ask in (
                lambda: one.compute(T, OBJECT, "file"),
                lambda: one.explain(T, OBJECT, "file", ["read"]),
                lambda: one.valid(T),
                lambda: one.mask("file", ["read"]),
                lambda: one.rules,
            ):
                with pytest.raises(PolicyError, match="closed"):
                    ask()

    def test_more_contexts_than_its_table_takes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The table is given up again and again, also between the two contexts of one question."""
        monkeypatch.setattr(policy, "_SIDS_MAX", 4)
        text = "(allow t o (file (read)))(allow x o (file (write)))(allow t x (file (open)))"
        choose = random.Random(8)
        with Policy.open(small(text)) as one:
            for _ in range(3000):
                source, target = choose.choice([("t", "o"), ("x", "o"), ("t", "x"), ("x", "t")])
                level = f"s0:c{choose.randrange(6)}"
                mask = one.compute(f"u:r:{source}:{level}", f"u:object_r:{target}:s0:c{choose.randrange(6)}", "file")
                wanted = {("t", "o"): ("read",), ("x", "o"): ("write",), ("t", "x"): ("open",)}.get(
                    (source, target), ()
                )
                assert one.names("file", mask.allowed) == wanted
                assert len(one._sids) <= 4


class TestRefused:
    @pytest.mark.parametrize(
        "content",
        [
            b"", b"\x8c\xff\x7c\xf9", b"x" * 100, b"\x8c\xff\x7c\xf9\x08\0\0\0SE Linux",
            b"(allow t o (file (read)))\n" * 9,
            struct.pack("<II", 0xF97CFF8C, 0xFFFFFFFF) + b"SE Linux" * 9,
            struct.pack("<II", 0xF97CFF8C, 8) + b"SE LinuX" * 9,
        ],
    )  # fmt: skip
    def test_what_is_no_policy(self, content: bytes, tmp_path: Path) -> None:
        with pytest.raises(PolicyError, match="the policy is no"):
            Policy.open(content)
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(PolicyError, match="file is no"):
            Policy.open(str(path))

    @pytest.mark.parametrize("number", [0, 14, 34, 99, 0xFFFFFFFF])
    def test_versions_that_it_does_not_know(self, number: int) -> None:
        content = bytearray(small(RULES))
        struct.pack_into("<I", content, 16, number)
        with pytest.raises(PolicyError, match="libsepol does not take"):
            Policy.open(bytes(content))

    def test_files_that_can_not_be_read(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "missing"):
            with pytest.raises(PolicyError, match="can't be read"):
                Policy.open(str(path))
        large = tmp_path / "large"
        large.touch()
        os.truncate(large, (64 << 20) + 1)
        with pytest.raises(PolicyError, match="larger than"):
            Policy.open(str(large))

    def test_a_policy_that_was_cut_off(self) -> None:
        content = small(RULES)
        for length in range(20, len(content), 97):
            with pytest.raises(PolicyError):
                Policy.open(content[:length])
        with Policy.open(content) as one:
            assert one.compute(T, OBJECT, "file").allowed

    def test_it_says_nothing_on_standard_error_and_leaves_no_descriptor(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        content = small(RULES)
        with Policy.open(content):
            before = os.listdir("/proc/self/fd")
        for _ in range(20):
            with Policy.open(content, booleans={"may_write": True}) as one:
                one.classes()
            with pytest.raises(PolicyError):
                Policy.open(content[:500])
            with pytest.raises(LabelError), Policy.open(content) as one:
                one.compute("u:r:t", OBJECT, "file")
        assert os.listdir("/proc/self/fd") == before
        assert capfd.readouterr() == ("", "")

    def test_a_libsepol_that_is_missing_or_too_old(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "_NAME", "libsepol.so.none")
        with pytest.raises(Unenforceable, match="libsepol can't be used") as caught:
            library.Library(copy=0)
        assert "3.4" in caught.value.rule
        monkeypatch.setattr(library, "_NAME", "libc.so.6")  # a library without its functions
        with pytest.raises(Unenforceable, match="libsepol can't be used"):
            library.Library(copy=0)


def test_memory_stays_bounded_for_policies_opened_in_turn(tmp_path: Path) -> None:
    program = """
import resource, sys
from septum.sepol import Policy
content = open(sys.argv[1], "rb").read()
def some(count):
    for _ in range(count):
        with Policy.open(content) as one:
            one.compute("u:r:t:s0", "u:object_r:o:s0", "file")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first = some(50)
print(some(1000) - first)
"""
    path = tmp_path / "policy"
    path.write_bytes(small(RULES))
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8192  # KiB


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_a_copy_that_the_kernel_refuses_is_an_error_that_says_so(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As SELinux did to septumd in a domain without the right; it must not come out as a defect of septum's."""
    content = built("septum")
    before = len(os.listdir("/proc/self/fd"))

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(PolicyError, match="can't be copied into memory: Permission denied"):
        Policy.open(content)
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) == before
    Policy.open(content).close()
