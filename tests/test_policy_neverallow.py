"""Every neverallow really refuses: for each one a rule that breaks it, and it alone of all that was written."""

import pytest

from septum.errors import PolicyError
from septum.policy import TARGETS, Source, build
from tests.cilkit import neverallows, pairs

# What is never allowed, and a rule that would allow some of it. A new neverallow without its rule here fails the test.
PAIRS = """
(neverallow process others septum_any_file)
    (allow septum_vm.process septum_orchestrator.memory (file (read)))
(neverallow process other_processes septum_any_process)
    (allow septum_vm.process septum_orchestrator.process (process (signull)))
(neverallow process other_processes (unix_stream_socket (connectto)))
    (allow septum_orchestrator.process septum_vm.process (unix_stream_socket (connectto)))
(neverallow process other_processes (unix_dgram_socket (sendto)))
    (allow septum_vm.process septum_orchestrator.process (unix_dgram_socket (sendto)))
(neverallow septum_guest_process septum_guest_content septum_change_file)
    (allow septum_vm.process septum_vm.content (file (append)))
(neverallow septum_guest_process septum_not_guest (process (transition dyntransition)))
    (allow septum_vm.process septum_watcher_t (process (transition)))
(neverallow septum_guest_process septum_guest_process (process (dyntransition setcurrent setexec setfscreate
    setsockcreate setkeycreate)))
    (allow septum_vm.process self (process (setexec)))
(neverallow septum_guest_process septum_labelled septum_relabel_file)
    (allow septum_vm.process septum_vm.image (file (relabelfrom)))
(neverallow septum_guest_process septum_not_guest septum_relabel_file)
    (allow septum_vm.process septum_realm_t (chr_file (relabelto)))
(neverallow septum_guest_process septum_not_guest (process (ptrace share sigkill sigstop signal setsched setpgid
    setrlimit setcap)))
    (allow septum_vm.process septum_launcher_t (process (ptrace)))
(neverallow septum_guest_process septum_guest_process (process (ptrace share)))
    (allow septum_vm.process self (process (ptrace)))
(neverallow septum_guest_process septum_trusted (dir (all)))
    (allow septum_vm.process septum_launcher_t (dir (search)))
(neverallow septum_guest_process septum_trusted (file (all)))
    (allow septum_vm.process septum_watcher_t (file (read)))
(neverallow septum_guest_process septum_trusted (unix_stream_socket (connectto)))
    (allow septum_vm.process septum_watcher_t (unix_stream_socket (connectto)))
(neverallow septum_guest_process septum_private septum_any_file)
    (allow septum_vm.process septum_var_lib_t (dir (search)))
(neverallow septum_guest_process septum_exec_t (file (execute execute_no_trans entrypoint)))
    (allow septum_vm.process septum_exec_t (file (execute)))
(neverallow septum_guest_process septum_daemon_exec_t (file (execute execute_no_trans entrypoint)))
    (allow septum_vm.process septum_daemon_exec_t (file (execute_no_trans)))
(neverallow septum_guest_process septum_guest_object (file (execute execute_no_trans entrypoint execmod)))
    (allow septum_vm.process septum_vm.image (file (execute)))
(neverallow septum_guest_process self (process (execstack execheap)))
    (allow septum_vm.process self (process (execheap)))
(neverallow septum_guest_process septum_not_guest (system (module_load module_request syslog_read syslog_mod
    syslog_console reboot halt)))
    (allow septum_vm.process septum_realm_t (system (module_load)))
(neverallow septum_guest_process septum_guest_process (bpf (all)))
    (allow septum_vm.process self (bpf (prog_load)))
(neverallow septum_guest_process septum_guest_process (perf_event (all)))
    (allow septum_vm.process self (perf_event (open)))
(neverallow septum_guest_process septum_not_guest (security (load_policy setenforce setbool setsecparam
    setcheckreqprot)))
    (allow septum_vm.process septum_realm_t (security (load_policy)))
(neverallow septum_guest_process self (capability (sys_admin sys_module sys_rawio sys_ptrace sys_boot mknod setfcap
    audit_control)))
    (allow septum_vm.process self (capability (sys_admin)))
(neverallow septum_guest_process septum_policy_t (septum_policy (load)))
    (allow septum_orchestrator.process septum_policy_t (septum_policy (load)))
(neverallow septum_guest_process septum_category_t (septum_category (allocate release reserve)))
    (allow septum_orchestrator.process septum_category_t (septum_category (allocate)))
(neverallow septum_guest_process septum_realm_t (septum_realm (create destroy suspend setattr delegate set_quota)))
    (allow septum_orchestrator.process septum_realm_t (septum_realm (set_quota)))
(neverallow septum_guest_process septum_audit_t (septum_audit (append export)))
    (allow septum_vm.process septum_audit_t (septum_audit (append)))
(neverallow septum_guest_process septum_broker_t (septum_broker (introspect drain)))
    (allow septum_vm.process septum_broker_t (septum_broker (drain)))
(neverallow septum_guest_process septum_guest_content (septum_image (write)))
    (allow septum_orchestrator.process septum_vm.content (septum_image (write)))
(neverallow septum_managed_process septum_guest_process (septum_guest (all)))
    (allow septum_vm.process self (septum_guest (start)))
(neverallow septum_managed_process septum_guest_object (septum_image (all)))
    (allow septum_vm.process septum_vm.image (septum_image (read)))
"""


def test_each_has_a_rule_that_breaks_it() -> None:
    assert set(pairs(PAIRS)) == {text for target in TARGETS for text in neverallows(target)}


@pytest.mark.parametrize(("never", "rule"), pairs(PAIRS).items())
def test_breaking_it_fails_the_build(never: str, rule: str) -> None:
    with pytest.raises(PolicyError) as caught:
        build("standalone", extra=[Source("broken.cil", f"{rule}\n")])
    place = neverallows("standalone")[never]
    assert f"neverallow check failed at {place}\n" in f"{caught.value.rule}\n"
    assert "allow at broken.cil:1" in caught.value.rule


def test_a_new_role_is_held_to_them() -> None:
    role = "(block acme_router (blockinherit septum_guest))\n"
    assert build("standalone", extra=[Source("acme.cil", role)]).image
    for rule in (
        "(allow acme_router.process septum_vm.image (file (read)))",
        "(allow septum_vm.process acme_router.image (file (read)))",
        "(allow acme_router.process acme_router.content (file (write)))",
    ):
        with pytest.raises(PolicyError, match="neverallow check failed"):
            build("standalone", extra=[Source("acme.cil", role + rule)])
