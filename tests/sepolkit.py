"""What tests of decisions share: policies to decide by, small ones made for a test, and questions."""

import os
import random
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from septum.errors import NotFound
from septum.policy import Store, build, compile_cil
from septum.policy.store import handle_unknown
from septum.sepol import Policy, Rules

SMALL: Final = """
(mls {mls})
(class process (fork transition sigchld dyntransition))
(class file (read write open getattr map))
(class dir (search add_name))
(class unix_stream_socket (connectto read))
(class septum_thing (use give))
(classorder (process file dir unix_stream_socket septum_thing))
(sid kernel)(sidorder (kernel))
(user u)(user v)
(role r)(role q)(role object_r)
(type t)(type o)(type x)(type made_t)(type named_t)(type other_t)
(typealias alias_t)(typealiasactual alias_t o)
(typeattribute many)(typeattributeset many (o x))
(roletype r t)(roletype r x)(roletype r made_t)(roletype q t)(roletype q x)(roletype q made_t)
(roletype object_r o)(roletype object_r x)(roletype object_r t)
(roletype object_r made_t)(roletype object_r named_t)(roletype object_r other_t)
(userrole u r)(userrole u q)(userrole u object_r)(userrole v r)(userrole v object_r)
(sensitivity s0)(sensitivity s1)(sensitivityorder (s0 s1))
(category c0)(category c1)(category c2)(category c3)(category c4)(category c5)
(categoryorder (c0 c1 c2 c3 c4 c5))
(sensitivitycategory s0 (range c0 c5))(sensitivitycategory s1 (range c0 c5))
(userlevel u (s0))(userrange u ((s0)(s1 (range c0 c5))))
(userlevel v (s0))(userrange v ((s0)(s0 (c0 c1))))
(sidcontext kernel (u r t ((s0)(s0))))
(allow other_t other_t (dir (add_name)))
"""
"""The frame of a policy; statements of a test's own follow."""


def small(
    text: str,
    *,
    mls: bool = True,
    version: int = 33,
    unknown: str = "deny",
    target: str = "selinux",
    checked: bool = True,
) -> bytes:
    """A policy of `SMALL` and more, compiled.

    Args:
        text: the statements.
        mls: whether contexts have levels.
        version: of the binary format.
        unknown: what becomes of unknown classes: deny, allow or reject.
        target: selinux or xen.
        checked: let the compiler refuse what is beyond a type's bounds.
    """
    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name, "small.cil"), Path(name, "policy")
        source.write_text(SMALL.format(mls=str(mls).lower()) + text)
        options = [
            "-M",
            str(mls).lower(),
            "-c",
            str(version),
            "-U",
            unknown,
            "-t",
            target,
            *([] if checked else ["-N"]),
        ]
        command = ["secilc", *options, "-o", output, "-f", os.devnull, source]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return output.read_bytes()


@cache
def debian() -> bytes:
    """Debian's whole policy, as its package installs it."""
    modules = Store.of_host().modules()
    return compile_cil(modules, handle_unknown=handle_unknown(modules))


@cache
def debian_with_septum() -> bytes:
    return build("module").image


@cache
def ours() -> bytes:
    return build("standalone").image


POLICIES: Final = {"debian": debian, "debian with septum": debian_with_septum, "septum": ours}
"""Every policy that decisions are checked on."""


def built(name: str) -> bytes:
    """One of `POLICIES`; skips the test where it can't be built."""
    try:
        return POLICIES[name]()
    except NotFound as error:
        pytest.skip(error.what)


@pytest.fixture(scope="session", params=POLICIES)
def image(request: pytest.FixtureRequest) -> bytes:
    """Each of them, for tests that import it."""
    return built(request.param)


class Question(NamedTuple):
    source: str
    target: str
    tclass: str


class Questions:
    """Random questions to a policy: contexts that are valid, or nearly so.

    Args:
        policy: the policy.
        seed: of the questions.
    """

    def __init__(self, policy: Policy, seed: int) -> None:
        self._random = random.Random(seed)
        rules = policy.rules
        self._classes = sorted(rules.classes)
        self._roles = {role: types for role, types in rules.roles.items() if types or role == "object_r"}
        self._role_names = sorted(self._roles)
        self._users = sorted(rules.users)
        self._types = sorted(rules.types)
        self._allowed = _types_of_rules(rules)
        self._policy = policy
        self._valid: dict[tuple[str, str, str], bool] = {}

    def any(self) -> Question:
        """Types and class without regard to each other: nearly all such questions are denied."""
        return Question(self._context(self._type()), self._context(self._type()), self._class())

    def near(self) -> Question:
        """Of a rule: at least type enforcement has something to say."""
        source, target, tclass = self._random.choice(self._allowed)
        return Question(self._context(source), self._context(source if target == "self" else target), tclass)

    def same(self) -> Question:
        """A process and its own type."""
        one = self._type()
        return Question(self._context(one), self._context(one), self._class())

    def range(self) -> str:
        """A level or a range; few categories, so that every relation occurs."""
        few = [self._random.sample(range(4), self._random.randint(0, 3)) for _ in range(2)]
        if self._random.random() < 0.3:
            few = [sorted({*few[0], *self._random.sample(range(1024), 2)}), few[1]]
        low, high = _level(few[0]), _level(sorted({*few[0], *few[1]}))
        return low if self._random.random() < 0.5 else f"{low}-{high}"

    def _context(self, one: str) -> str:
        for _ in range(100):
            user, role = self._random.choice(self._users), self._random.choice(self._role_names)
            if one not in self._roles[role]:
                role = "object_r"  # which every type may have
            names = (user, role, one)
            if names not in self._valid:
                self._valid[names] = self._policy.valid(f"{':'.join(names)}:s0")
            if self._valid[names]:
                text = f"{':'.join(names)}:{self.range()}"
                if self._policy.valid(text):
                    return text
        raise AssertionError(f"{one} has no valid context")

    def _type(self) -> str:
        return self._random.choice(self._types)

    def _class(self) -> str:
        return self._random.choice(self._classes)


def _types_of_rules(rules: Rules) -> list[tuple[str, str, str]]:
    """Of each rule: source type, target type or ``self``, and class; one of its types stands for an attribute."""
    choose = random.Random(5)
    members = {name: sorted(types) or [""] for name, types in rules.attributes.items()}
    found = []
    for source, target, tclass in re.findall(r"^ *\(allow (\S+) (\S+) \((\S+) ", rules.text, re.MULTILINE):
        ends = [choose.choice(members.get(name, [name])) for name in (source, target)]
        if all(ends):
            found.append((*ends, tclass))
    return found


def _level(categories: list[int]) -> str:
    return f"s0:{','.join(f'c{number}' for number in sorted(categories))}" if categories else "s0"
