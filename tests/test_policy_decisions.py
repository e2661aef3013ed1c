"""What the policy decides, in both builds, by libsepol: the same questions must have the same answers."""

from pathlib import Path

import pytest

from septum.errors import NotFound
from septum.policy import TARGETS, Source, Target, build
from tests.judge import Question, decide

RED, RED_OTHER, BLUE = "s0:c1,c300,c301", "s0:c1,c300,c302", "s0:c2,c300,c301"
RED_REALM, BLUE_REALM = "s0:c1", "s0:c2"
RED_ORCHESTRATOR = "s0:c1-s0:c1,c256.c1021"
ROLES = "(block acme_router (blockinherit septum_guest))\n"
# A declared door: guests of the role may reach the service from another realm.
DOOR = """
(type acme_dns_t)(roletype object_r acme_dns_t)
(typeattributeset septum_door_service acme_dns_t)
(typeattributeset septum_door_client acme_router.process)
(allow acme_router.process acme_dns_t (septum_channel (create)))
(allow acme_router.process acme_dns_t (septum_service (connect)))
"""


def process(level: str, role: str = "septum_vm") -> str:
    return f"system_u:system_r:{role}.process:{level}"


def thing(kind: str, level: str, role: str = "septum_vm") -> str:
    return f"system_u:object_r:{role}.{kind}:{level}"


def own(name: str, level: str = "s0") -> str:
    return f"system_u:object_r:septum_{name}_t:{level}"


ORCHESTRATOR = process(RED_ORCHESTRATOR, "septum_orchestrator")
LAUNCHER = "system_u:system_r:septum_launcher_t:s0"
ROUTER = process(RED, "acme_router")
DNS = f"system_u:object_r:acme_dns_t:{BLUE_REALM}"


@pytest.fixture(scope="module", params=TARGETS)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target: Target = request.param
    path = tmp_path_factory.mktemp("policy") / target
    try:
        path.write_bytes(build(target, extra=[Source("acme.cil", ROLES + DOOR)]).image)
    except NotFound as error:
        pytest.skip(error.what)
    return path


ALLOWED: list[Question] = [
    # A guest and what is its own.
    *(
        (process(RED), thing("image", RED), "file", permission)
        for permission in ("open", "read", "write", "map", "lock")
    ),
    *((process(RED), thing("content", level), "file", "read") for level in (RED, RED_REALM, "s0")),
    (process(RED), thing("content", RED), "file", "map"),
    (process(RED), thing("image", RED_REALM), "file", "write"),
    (process(RED), thing("device", RED), "chr_file", "ioctl"),
    (process(RED), thing("socket", RED), "sock_file", "unlink"),
    (process(RED), process(RED), "anon_inode", "map"),
    (process(RED), process(RED), "unix_stream_socket", "connectto"),
    (process(RED), thing("memory", RED), "file", "map"),
    # Its launcher.
    (LAUNCHER, process(RED), "process", "transition"),
    (LAUNCHER, thing("image", RED), "file", "relabelto"),
    (LAUNCHER, own("var_lib"), "file", "write"),
    (process(RED), LAUNCHER, "fifo_file", "write"),
    (process(RED), LAUNCHER, "process", "sigchld"),
    # An orchestrator and its realm.
    (ORCHESTRATOR, process(RED), "septum_guest", "start"),
    (ORCHESTRATOR, thing("image", RED), "septum_image", "clone"),
    (ORCHESTRATOR, thing("image", RED), "septum_image", "relabelto"),
    (ORCHESTRATOR, own("realm", RED_REALM), "septum_realm", "consent"),
    (ORCHESTRATOR, own("audit", RED_REALM), "septum_audit", "read"),
    # Guests of one realm, and across a declared door.
    (process(RED), own("service", RED_REALM), "septum_service", "connect"),
    (process(RED), own("service", RED_REALM), "septum_channel", "create"),
    (process(RED), own("channel", RED_REALM), "septum_channel", "send"),
    (ROUTER, DNS, "septum_channel", "create"),
    (ROUTER, DNS, "septum_service", "connect"),
    # The platform.
    (LAUNCHER, own("policy"), "septum_policy", "load"),
    (LAUNCHER, own("category"), "septum_category", "allocate"),
    (LAUNCHER, process(BLUE), "septum_guest", "destroy"),
]
DENIED: list[Question] = [
    # Another guest's, of the same realm and of another: every permission, those too that Debian's policy leaves open.
    *(
        (process(RED), thing("image", level), "file", permission)
        for level in (RED_OTHER, BLUE)
        for permission in ("read", "write", "getattr", "map", "ioctl", "lock", "open", "setattr", "unlink", "watch")
    ),
    *((process(RED), thing(kind, BLUE), "file", "getattr") for kind in ("content", "memory")),
    (process(RED), thing("device", BLUE), "blk_file", "getattr"),
    (process(RED), thing("socket", BLUE), "sock_file", "write"),
    *(
        (process(RED), process(level), "process", permission)
        for level in (RED_OTHER, BLUE)
        for permission in ("signull", "getsched", "getattr", "signal", "sigkill", "ptrace", "sigchld")
    ),
    (process(RED), process(RED_OTHER), "fd", "use"),
    (process(RED), process(RED_OTHER), "unix_stream_socket", "connectto"),
    (process(RED), process(RED_OTHER), "unix_dgram_socket", "sendto"),
    (process(RED), process(RED_OTHER), "file", "read"),
    (process(RED), process(RED_OTHER), "shm", "read"),
    # Content is never written, whatever its level.
    *((process(RED), thing("content", RED), "file", permission) for permission in ("write", "append", "setattr")),
    # Nothing that it may write is executed; no memory is written and executed unless the boolean says so.
    (process(RED), thing("image", RED), "file", "execute"),
    (process(RED), process(RED), "process", "execmem"),
    # Another role's, even with the same categories.
    (process(RED), thing("image", RED, "acme_router"), "file", "read"),
    (ROUTER, thing("image", RED), "file", "getattr"),
    (ORCHESTRATOR, thing("image", RED), "file", "read"),
    (ORCHESTRATOR, thing("memory", RED), "file", "read"),
    (ORCHESTRATOR, process(RED), "process", "ptrace"),
    # septum's own.
    *(
        (process(RED), own("var_lib"), cls, "search" if cls == "dir" else "getattr")
        for cls in ("dir", "file", "sock_file")
    ),
    (process(RED), LAUNCHER, "process", "ptrace"),
    (process(RED), LAUNCHER, "file", "read"),
    (process(RED), LAUNCHER, "unix_stream_socket", "connectto"),
    # Labels and domains stay what they are.
    (process(RED), thing("image", RED), "file", "relabelfrom"),
    (process(RED), process(BLUE), "process", "dyntransition"),
    (process(RED), process(RED), "process", "setexec"),
    # An orchestrator and another realm; and what is the platform's alone.
    (ORCHESTRATOR, process(BLUE), "septum_guest", "getattr"),
    (ORCHESTRATOR, thing("image", BLUE), "septum_image", "read"),
    (ORCHESTRATOR, thing("image", BLUE), "septum_image", "relabelto"),
    (ORCHESTRATOR, thing("image", "s0"), "septum_image", "relabelto"),
    (ORCHESTRATOR, thing("image", "s0:c300,c301"), "septum_image", "relabelto"),
    (ORCHESTRATOR, own("realm", BLUE_REALM), "septum_realm", "getattr"),
    (ORCHESTRATOR, own("realm", RED_REALM), "septum_realm", "set_quota"),
    (ORCHESTRATOR, own("audit", BLUE_REALM), "septum_audit", "read"),
    (ORCHESTRATOR, own("policy"), "septum_policy", "load"),
    (ORCHESTRATOR, own("category"), "septum_category", "allocate"),
    # A guest manages nothing, and reaches no other realm but by a declared door.
    (process(RED), process(RED), "septum_guest", "stop"),
    (process(RED), own("service", BLUE_REALM), "septum_service", "connect"),
    (process(RED), own("service", BLUE_REALM), "septum_channel", "create"),
    (process(RED), own("channel", BLUE_REALM), "septum_channel", "recv"),
    (process(RED), DNS, "septum_channel", "create"),
    (ROUTER, own("service", BLUE_REALM), "septum_channel", "create"),
]


def test_what_is_needed_is_allowed(policy: Path) -> None:
    answers = decide(policy, ALLOWED)
    assert [question for question, allowed in zip(ALLOWED, answers, strict=True) if not allowed] == []


def test_everything_else_is_denied(policy: Path) -> None:
    answers = decide(policy, DENIED)
    assert [question for question, allowed in zip(DENIED, answers, strict=True) if allowed] == []
