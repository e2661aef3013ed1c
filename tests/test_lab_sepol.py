"""The kernel's own security server gives libsepol's answers, on the policy that it has loaded."""

from collections.abc import Iterator

import pytest

from lab.selinux import Machine
from septum.errors import LabelError
from septum.labels import Context
from septum.sepol import Memo, Policy
from tests.labkit import inside, machine_with_septum
from tests.sepolkit import Question, Questions

pytestmark = pytest.mark.lab

QUESTIONS = 10_000
MADE = 2_000
_ACCESS = """
import os, sys
numbers = {}
access = os.open("/sys/fs/selinux/access", os.O_RDWR)
for line in open(sys.argv[1]):
    source, target, tclass = line.split()
    if tclass not in numbers:
        numbers[tclass] = open("/sys/fs/selinux/class/%s/index" % tclass).read()
    os.lseek(access, 0, 0)
    os.write(access, ("%s %s %s" % (source, target, numbers[tclass])).encode())
    print(os.read(access, 4096).split()[0].decode())
    os.close(access)
    access = os.open("/sys/fs/selinux/access", os.O_RDWR)  # one answer for each opening
"""
_CREATE = """
import os, sys
for line in open(sys.argv[1]):
    source, target, tclass, *name = line.split()
    number = open("/sys/fs/selinux/class/%s/index" % tclass).read()
    create = os.open("/sys/fs/selinux/create", os.O_RDWR)
    try:
        os.write(create, " ".join([source, target, number, *name]).encode())
        print(os.read(create, 4096).rstrip(b"\\0").decode())
    except OSError as error:
        print("refused")
    os.close(create)
"""


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    yield from machine_with_septum(request)


@pytest.fixture(scope="module")
def loaded(machine: Machine) -> Iterator[Policy]:
    with Policy.open(machine.read("/sys/fs/selinux/policy")) as policy:
        yield policy


def test_ten_thousand_decisions_are_the_kernels(machine: Machine, loaded: Policy) -> None:
    asked = Questions(loaded, 10)
    kinds = (asked.any, asked.near, asked.near, asked.same, lambda: _guests(asked))
    questions = [kinds[number % len(kinds)]() for number in range(QUESTIONS)]
    machine.write("/tmp/questions", "".join(f"{' '.join(one)}\n" for one in questions).encode())
    answers = inside(machine, _ACCESS, "/tmp/questions", check=True, timeout=600).output.split()
    assert len(answers) == QUESTIONS
    remembered = Memo(loaded)
    wrong = [
        (question, answer)
        for question, answer in zip(questions, answers, strict=True)
        if not int(answer, 16) == loaded.compute(*question).allowed == remembered.allowed(*question)
    ]
    assert wrong == []
    assert QUESTIONS // 4 < sum(int(answer, 16) != 0 for answer in answers) < QUESTIONS


def test_what_is_made_is_what_the_kernel_makes(machine: Machine, loaded: Policy) -> None:
    asked = Questions(loaded, 12)
    questions = [(*asked.near(), "") if number % 4 == 0 else _flat(*asked.made()) for number in range(MADE)]
    machine.write("/tmp/questions", "".join(f"{' '.join(one)}\n" for one in questions).encode())
    answers = inside(machine, _CREATE, "/tmp/questions", check=True, timeout=600).output.splitlines()
    found = [_made(loaded, question) for question in questions]
    wrong = [both for both in zip(questions, answers, found, strict=True) if both[1] != both[2]]
    assert wrong == []
    assert answers.count("refused") < MADE // 2


def _guests(asked: Questions) -> Question:
    return Question(
        f"system_u:system_r:svirt_t:{asked.range()}", f"system_u:object_r:svirt_image_t:{asked.range()}", "file"
    )


def _flat(question: Question, name: str) -> tuple[str, str, str, str]:
    return (*question, name)


def _made(policy: Policy, question: tuple[str, str, str, str]) -> str:
    """As the kernel prints it."""
    try:
        return str(Context.parse(policy.transition(*question)))
    except LabelError:
        return "refused"
