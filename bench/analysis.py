"""What the analysis takes: all pairs of 10,000 guests, a proof over all assignments, and what a policy's change adds.

The peer is SETools' ``sediff``, which compares the same two policies rule by rule.
"""

import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.figures import Figure, Goal, Ratio, Result, ratio
from septum.analysis import Flows, Instance, PolicyFile, Snapshot, check, closure, parse
from septum.analysis.added import added
from septum.analysis.proof import prove
from septum.errors import NotFound
from septum.labels import Level, RealmScheme
from septum.policy import Store, build, compile_cil
from septum.policy.store import handle_unknown
from septum.sepol import Memo, Policy

_GOALS = parse("never realm:* -> realm:*\n")


def bench(runs: int, *, realms: int = 100, guests: int = 100, whole: bool = True) -> Result:
    """Measures.

    Args:
        runs: of each figure; long ones take fewer.
        realms, guests: how many realms, and guests in each.
        whole: with Debian's whole policy and SETools, where they are installed.
    """
    notes = ["“All pairs” is who reaches whom by any number of steps, and whether realms are apart; after loading."]
    figures: list[Figure] = []
    goals: list[Goal] = []
    ratios: list[Ratio] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "septum").write_bytes(build("standalone").image)
        snapshot = _platform(realms, guests, "septum_vm", folder, "septum")
        with Policy.open(str(folder / "septum")) as policy:
            memos = {"selinux": Memo(policy)}
            few = max(3, runs // 5)
            built = _timed(f"loading {len(snapshot.instances):,} instances", few, lambda: Flows(snapshot, memos))
            flows = Flows(snapshot, memos)
            pairs = _timed(
                "all pairs of their guests", few, lambda: (closure(flows.out, flows.back), check(flows, _GOALS))
            )
            figures += [built, pairs]
            goals.append(Goal("all pairs of 10,000 guests", pairs.median, 1000, "ms"))
        if whole:
            try:
                _debian(folder, runs, figures, goals, ratios)
            except NotFound as error:
                notes.append(f"Debian's policy: not measured ({error.what})")
    return Result("analysis", tuple(figures), tuple(ratios), tuple(goals), tuple(notes))


def _debian(folder: Path, runs: int, figures: list[Figure], goals: list[Goal], ratios: list[Ratio]) -> None:
    modules = Store.of_host().modules()
    (folder / "old").write_bytes(compile_cil(modules, handle_unknown=handle_unknown(modules)))
    (folder / "new").write_bytes(build("module").image)
    snapshot = _platform(2, 2, "svirt", folder, "old")
    few = max(3, runs // 5)
    with Policy.open(str(folder / "old")) as policy:
        policy.classes()
        proof = _timed(
            "a proof for all assignments, Debian's policy",
            few,
            lambda: prove(snapshot, {"selinux": Memo(policy)}, _GOALS, RealmScheme()),
        )
    difference = _timed("what septum's module adds to Debian's policy", few, lambda: _difference(folder))
    figures += [proof, difference]
    goals.append(Goal("a proof for all assignments on Debian's policy", proof.median, 1000, "ms"))
    goals.append(Goal("the difference of Debian's policy with septum's module", difference.median, 2000, "ms"))
    if shutil.which("sediff"):
        command = ["sediff", "--stats", str(folder / "old"), str(folder / "new")]
        peer = _timed("sediff of the same", 1, lambda: subprocess.run(command, capture_output=True, check=True))
        figures.append(peer)
        ratios.append(ratio("sediff to septum", peer, difference))


def _difference(folder: Path) -> None:
    with Policy.open(str(folder / "old")) as old, Policy.open(str(folder / "new")) as new:
        added(old, new)


def _timed(name: str, runs: int, act: Callable[[], object]) -> Figure:
    taken = []
    for _ in range(runs):
        begun = time.perf_counter()
        act()
        taken.append((time.perf_counter() - begun) * 1e3)
    return Figure(name, "ms", tuple(taken))


def _platform(realms: int, guests: int, kind: str, folder: Path, policy: str) -> Snapshot:
    scheme, choose, instances = RealmScheme(), random.Random(1), []
    process, image = (f"{kind}.process", f"{kind}.image") if kind != "svirt" else ("svirt_t", "svirt_image_t")
    for realm in range(realms):
        code, name = scheme.realm_code(realm), f"r{realm}"
        for guest, rank in enumerate(choose.sample(range(scheme.capacity.guests), guests)):
            level = Level(0, scheme.guest_categories(code, rank))
            who = f"{name}/g{guest}"
            instances += [
                Instance(who, name, "guest", "process", f"system_u:system_r:{process}:{level}"),
                Instance(f"{who}.img", name, "image", "file", f"system_u:object_r:{image}:{level}"),
            ]
    return Snapshot("a platform", {"selinux": PolicyFile(policy)}, tuple(instances), folder=str(folder))
