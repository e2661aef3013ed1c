"""Platforms to ask about, and the same answers found the slow way."""

from itertools import product
from pathlib import Path

from septum.analysis import Flows, Instance, PolicyFile, Snapshot, directions
from septum.analysis.flows import SUBJECTS
from septum.labels import CategorySet, Level, RealmScheme
from septum.sepol import Memo, Policy

SCHEME = RealmScheme()
DATA = frozenset({"data"})
TRUSTS = """
never realm:* -> realm:*
trust process:septum_launcher_t because "it starts guests"
trust process:septum_watcher_t because "it puts back what guests had"
trust process:septum_daemon_t because "it decides, and passes nothing on"
"""


def process(name: str, realm: str, level: object, kind: str = "septum_vm.process", role: str = "system_r") -> Instance:
    return Instance(name, realm, "guest" if realm else "daemon", "process", f"system_u:{role}:{kind}:{level}")


def thing(name: str, realm: str, level: object, kind: str = "septum_vm.image", tclass: str = "file") -> Instance:
    return Instance(name, realm, "object", tclass, f"system_u:object_r:{kind}:{level}")


def level_of(realm: int, guest: int) -> str:
    """The level of a guest, by numbers."""
    return str(Level(0, SCHEME.guest_categories(SCHEME.realm_code(realm), guest)))


def septums(realms: int = 2, guests: int = 2) -> tuple[Instance, ...]:
    """Guests of realms with all that septum labels for them, orchestrators, and septum's own processes."""
    found = [
        process("launcher", "", "s0", "septum_launcher_t"),
        process("watcher", "", "s0", "septum_watcher_t"),
        process("septumd", "", "s0", "septum_daemon_t"),
    ]
    for realm in range(realms):
        name, code = f"r{realm}", SCHEME.realm_code(realm)
        boss = SCHEME.orchestrator_range(code)
        found.append(process(f"{name}/boss", name, boss, "septum_orchestrator.process"))
        found.append(thing(f"{name}/shared", name, Level(0, code), "septum_vm.content"))
        for guest in range(guests):
            level = level_of(realm, guest * 7 + realm)
            found.append(process(f"{name}/g{guest}", name, level))
            for kind, tclass in (("image", "file"), ("memory", "file"), ("socket", "sock_file"), ("tmp", "dir")):
                found.append(thing(f"{name}/g{guest}/{kind}", name, level, f"septum_vm.{kind}", tclass))
    return tuple(found)


def snapshot_of(instances: tuple[Instance, ...], folder: Path, image: bytes, title: str = "a platform") -> Snapshot:
    """A snapshot whose policy lies in a folder."""
    (folder / "policy").write_bytes(image)
    return Snapshot(title, {"selinux": PolicyFile("policy")}, instances, folder=str(folder))


def level(*numbers: int) -> Level:
    return Level(0, CategorySet(numbers))


def slowly(snapshot: Snapshot, policy: Policy, strengths: frozenset[str] = DATA) -> set[tuple[str, str]]:
    """Who passes information to whom in one step: every pair and class, each asked of libsepol itself."""
    of_process = Flows(snapshot._replace(instances=()), {"selinux": Memo(policy)})._classes_of("selinux", "process")
    found = set()
    for subject, target in product(snapshot.instances, repeat=2):
        if subject is target or subject.tclass not in SUBJECTS:
            continue
        for tclass in of_process if target.tclass in SUBJECTS else (target.tclass,):
            names = policy.names(tclass, policy.compute(subject.context, target.context, tclass).allowed)
            ways = directions(tclass, names, strengths)
            if ways.out:
                found.add((subject.name, target.name))
            if ways.back:
                found.add((target.name, subject.name))
    return found


def reached(steps: set[tuple[str, str]], begin: set[str], stopping: set[str]) -> set[str]:
    """All that is reached from some instances, by way of none of those in `stopping`."""
    seen, frontier = set(begin), set(begin)
    while frontier:
        frontier = {other for one, other in steps if one in frontier and one not in stopping - begin} - seen
        seen |= frontier
    return seen
