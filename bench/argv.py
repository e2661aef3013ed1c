"""Reading a command line of the length that libvirt writes, beside cutting the same text into words."""

import shlex
import time
from collections.abc import Callable

from bench.figures import Figure, Result, ratio
from septum.guests import parse

_BATCH = 20
LINE = """/usr/bin/qemu-system-x86_64 -name guest=shop,debug-threads=on -S
-object '{"qom-type":"secret","id":"key0","format":"raw","file":"/srv/run/domain-7-shop/key.aes"}'
-blockdev '{"driver":"file","filename":"/usr/share/OVMF/OVMF_CODE.fd","node-name":"pflash0","read-only":true}'
-blockdev '{"driver":"file","filename":"/srv/nvram/shop.fd","node-name":"pflash1","read-only":false}'
-machine pc-q35-7.2,usb=off,vmport=off,dump-guest-core=off,memory-backend=ram,pflash0=pflash0,pflash1=pflash1
-accel kvm -cpu host,migratable=on -m 8192 -smp 4,sockets=4,cores=1,threads=1
-object '{"qom-type":"memory-backend-ram","id":"ram","size":8589934592}' -overcommit mem-lock=off
-uuid 7c0b2cf1-6a0e-4b0c-8a31-2d6a7e3f9b10 -display none -no-user-config -nodefaults
-chardev socket,id=monitor,fd=24,server=on,wait=off -mon chardev=monitor,id=monitor,mode=control
-rtc base=utc,driftfix=slew -global kvm-pit.lost_tick_policy=delay -no-hpet -no-shutdown -boot strict=on
-device '{"driver":"pcie-root-port","port":16,"chassis":1,"id":"pci.1","bus":"pcie.0","addr":"0x2"}'
-device '{"driver":"pcie-root-port","port":17,"chassis":2,"id":"pci.2","bus":"pcie.0","addr":"0x2.0x1"}'
-device '{"driver":"qemu-xhci","p2":15,"p3":15,"id":"usb","bus":"pci.1","addr":"0x0"}'
-device '{"driver":"virtio-serial-pci","id":"serial0","bus":"pci.2","addr":"0x0"}'
-blockdev '{"driver":"file","filename":"/srv/images/base.qcow2","node-name":"s2","auto-read-only":true}'
-blockdev '{"node-name":"f2","read-only":true,"driver":"qcow2","file":"s2","backing":null}'
-blockdev '{"driver":"file","filename":"/srv/images/shop.qcow2","node-name":"s1","auto-read-only":true}'
-blockdev '{"node-name":"f1","read-only":false,"driver":"qcow2","file":"s1","backing":"f2"}'
-device '{"driver":"virtio-blk-pci","bus":"pci.3","addr":"0x0","drive":"f1","id":"disk0","bootindex":1}'
-netdev '{"type":"tap","fd":"26","vhost":true,"vhostfd":"27","id":"net0"}'
-device '{"driver":"virtio-net-pci","netdev":"net0","id":"nic0","mac":"52:54:00:01:02:03","bus":"pci.4"}'
-chardev pty,id=serial1 -device '{"driver":"isa-serial","chardev":"serial1","id":"port1","index":0}'
-chardev socket,id=agent,path=/srv/run/domain-7-shop/agent.sock,server=on,wait=off
-device '{"driver":"virtserialport","bus":"serial0.0","nr":1,"chardev":"agent","id":"agent0","name":"org.agent"}'
-audiodev '{"id":"audio1","driver":"none"}' -object '{"qom-type":"rng-random","id":"rng0","filename":"/dev/urandom"}'
-device '{"driver":"virtio-rng-pci","rng":"rng0","id":"rngdev0","bus":"pci.5","addr":"0x0"}'
-device '{"driver":"virtio-balloon-pci","id":"balloon0","bus":"pci.6","addr":"0x0"}'
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -msg timestamp=on"""


def bench(runs: int) -> Result:
    """Measures."""
    words = shlex.split(LINE)
    read = _times(f"reading {len(words)} arguments", runs, lambda: parse(words, cwd="/"))
    cut = _times("cutting the same into words (shlex)", runs, lambda: shlex.split(LINE))
    return Result("argv", (read, cut), (ratio("reading to cutting", read, cut),))


def _times(name: str, runs: int, act: Callable[[], object]) -> Figure:
    act()  # what is imported when first needed is not meant here
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        for _ in range(_BATCH):
            act()
        times.append((time.perf_counter() - begun) / _BATCH * 1000)
    return Figure(name, "ms", tuple(times))
