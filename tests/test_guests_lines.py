"""Whole command lines, in the manner of the tools that write them, and what only the whole line decides."""

import shlex
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings

from septum.errors import ArgvError
from septum.guests import CommandLine, parse
from tests.fuzz.argv import check, command_lines, configs


class Told:
    """A host that knows only what it is told."""

    def __init__(self, *, files: dict[str, str] | None = None, links: dict[str, str] | None = None) -> None:
        self.files = files or {}
        self.links = links or {}

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.links

    def readlink(self, path: str) -> str:
        return self.links.get(path, "")

    def listdir(self, path: str) -> Sequence[str]:
        return sorted(
            {name.removeprefix(path + "/").split("/")[0] for name in self.files if name.startswith(path + "/")}
        )

    def read(self, path: str) -> str:
        return self.files.get(path, "")


def line(text: str, **more: object) -> CommandLine:
    return parse(shlex.split(text), cwd="/vm", **more)  # type: ignore[arg-type]  # the tests pass what parse takes


def paths(found: CommandLine) -> dict[str, str]:
    return {resource.path: f"{resource.kind} {resource.access} {resource.sharing}" for resource in found.resources}


LIBVIRT = """/usr/bin/qemu-system-x86_64 -name guest=web,debug-threads=on -S
-object '{"qom-type":"secret","id":"masterKey0","format":"raw","file":"/var/lib/libvirt/domain-1-web/key.aes"}'
-blockdev '{"driver":"file","filename":"/usr/share/OVMF/CODE.fd","node-name":"pflash0-storage","auto-read-only":true}'
-blockdev '{"node-name":"pflash0-format","read-only":true,"driver":"raw","file":"pflash0-storage"}'
-blockdev '{"driver":"file","filename":"/nvram/web.fd","node-name":"pflash1-storage","auto-read-only":true}'
-blockdev '{"node-name":"pflash1-format","read-only":false,"driver":"raw","file":"pflash1-storage"}'
-machine pc-q35-9.0,usb=off,pflash0=pflash0-format,pflash1=pflash1-format,memory-backend=pc.ram -accel kvm -cpu host
-object '{"qom-type":"memory-backend-file","id":"pc.ram","mem-path":"/dev/hugepages/libvirt/qemu/1-web","size":1}'
-overcommit mem-lock=off -uuid 3a5f6a0e-0000-4000-8000-000000000001 -display none -no-user-config -nodefaults
-chardev socket,id=charmonitor,fd=26,server=on,wait=off -mon chardev=charmonitor,id=monitor,mode=control
-blockdev '{"driver":"file","filename":"/base.qcow2","node-name":"libvirt-2-storage","auto-read-only":true}'
-blockdev '{"node-name":"libvirt-2-format","read-only":true,"driver":"qcow2","file":"libvirt-2-storage","backing":null}'
-blockdev '{"driver":"file","filename":"/web.qcow2","node-name":"libvirt-1-storage","auto-read-only":true}'
-blockdev '{"node-name":"libvirt-1-format","driver":"qcow2","file":"libvirt-1-storage","backing":"libvirt-2-format"}'
-device '{"driver":"virtio-blk-pci","drive":"libvirt-1-format","id":"virtio-disk0"}'
-blockdev '{"driver":"file","filename":"/isos/d.iso","node-name":"libvirt-3-storage","read-only":true}'
-device '{"driver":"ide-cd","bus":"ide.0","drive":"libvirt-3-storage","id":"ide0-0-0"}'
-netdev '{"type":"tap","fd":"28","vhost":true,"vhostfd":"30","id":"hostnet0"}'
-chardev pty,id=charserial0 -add-fd set=0,fd=31,opaque=serial0-log
-chardev file,id=charserial1,path=/dev/fdset/0,append=on
-audiodev '{"id":"audio1","driver":"none"}' -sandbox on,obsolete=deny,spawn=deny -msg timestamp=on"""


def test_as_libvirt_writes_it() -> None:
    found = line(LIBVIRT)
    assert paths(found) == {
        "/var/lib/libvirt/domain-1-web/key.aes": "secret ro exclusive",
        "/dev/kvm": "shared-device rw shared",
        "/dev/hugepages/libvirt/qemu/1-web": "memory rw exclusive",
        "/dev/ptmx": "shared-device rw shared",
        "/usr/share/OVMF/CODE.fd": "firmware ro shared",
        "/nvram/web.fd": "image rw exclusive",
        "/web.qcow2": "image rw exclusive",
        "/base.qcow2": "backing ro shared",
        "/isos/d.iso": "image ro shared",
    }
    assert {resource.path: resource.format for resource in found.resources if resource.format} == {
        "/usr/share/OVMF/CODE.fd": "raw",
        "/nvram/web.fd": "raw",
        "/web.qcow2": "qcow2",
        "/base.qcow2": "qcow2",
        "/isos/d.iso": "raw",
    }
    assert (found.name, found.uuid[:8], found.sandbox[:3]) == ("web", "3a5f6a0e", "on,")
    assert (found.unknown, found.network, found.connects, found.executes) == ((), (), (), ())
    assert set(found.descriptors) == {26, 28, 30, 31}
    assert not found.memlock


def test_as_proxmox_writes_it() -> None:
    found = line(
        """/usr/bin/kvm -id 101 -name db,debug-threads=on -no-shutdown
        -chardev socket,id=qmp,path=/var/run/qemu-server/101.qmp,server=on,wait=off -mon chardev=qmp,mode=control
        -chardev socket,id=qmp-event,path=/var/run/qmeventd.sock,reconnect-ms=5000 -mon chardev=qmp-event,mode=control
        -pidfile /var/run/qemu-server/101.pid -daemonize -nodefaults -vnc unix:/var/run/qemu-server/101.vnc,password=on
        -drive if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/pve-edk2-firmware//OVMF_CODE.fd
        -drive if=pflash,unit=1,id=drive-efidisk0,format=raw,file=/dev/pve/vm-101-disk-0
        -chardev socket,id=tpmchar,path=/var/run/qemu-server/101.swtpm -tpmdev emulator,id=tpmdev,chardev=tpmchar
        -blockdev '{"detect-zeroes":"unmap","driver":"throttle","throttle-group":"throttle-drive-scsi0",
        "node-name":"drive-scsi0","file":{"driver":"qcow2","read-only":false,"node-name":"f1",
        "file":{"driver":"file","filename":"/images/101/vm-101-disk-1.qcow2","node-name":"e1","read-only":false}}}'
        -drive if=none,id=drive-ide2,media=cdrom,aio=io_uring -device ide-cd,bus=ide.1,drive=drive-ide2
        -netdev type=tap,id=net0,ifname=tap101i0,vhost=on,script=/libexec/pve-bridge,downscript=/libexec/pve-bridgedown
        -device vfio-pci,host=0000:f0:43.0,id=hostpci0 -boot menu=on,splash=/usr/share/qemu-server/bootsplash.jpg"""
    )
    assert paths(found) == {
        "/var/run/qemu-server/101.qmp": "socket rw exclusive",
        "/var/run/qmeventd.sock": "peer-socket rw shared",
        "/var/run/qemu-server/101.pid": "pidfile rw exclusive",
        "/var/run/qemu-server/101.vnc": "socket rw exclusive",
        "/var/run/qemu-server/101.swtpm": "peer-socket rw exclusive",
        "/dev/vhost-net": "shared-device rw shared",
        "/dev/net/tun": "shared-device rw shared",
        "/libexec/pve-bridge": "helper ro shared",
        "/libexec/pve-bridgedown": "helper ro shared",
        "/sys/bus/pci/devices/0000:f0:43.0": "sysfs ro exclusive",
        "/dev/vfio/vfio": "shared-device rw shared",
        "/usr/share/qemu-server/bootsplash.jpg": "firmware ro shared",
        "/dev/kvm": "shared-device rw shared",
        "/usr/share/pve-edk2-firmware/OVMF_CODE.fd": "firmware ro shared",
        "/dev/pve/vm-101-disk-0": "image rw exclusive",
        "/images/101/vm-101-disk-1.qcow2": "image rw exclusive",
    }
    assert found.daemonize
    assert found.memlock
    assert found.executes == ("-netdev tap,script=", "-netdev tap,downscript=")
    assert found.unknown == ()


def test_as_libxl_writes_it() -> None:
    found = line(
        """/usr/lib/xen/bin/qemu-system-i386 -xen-domid 7 -no-shutdown
        -chardev socket,id=libxl-cmd,path=/var/run/xen/qmp-libxl-7,server=on,wait=off
        -mon chardev=libxl-cmd,mode=control
        -nodefaults -no-user-config -name hvm -vnc 127.0.0.1:0,to=99 -display none -serial pty -device cirrus-vga
        -boot order=cd -smp 2,maxcpus=2 -device rtl8139,id=nic0,netdev=net0 -machine xenfv,suppress-vmdesc=on -m 1016
        -netdev type=tap,id=net0,ifname=vif7.0-emu,br=xenbr0,script=no,downscript=no
        -drive file=/dev/vg/hvm,if=ide,index=0,media=disk,format=raw,cache=writeback
        -drive if=ide,index=1,readonly=on,media=cdrom,id=ide-832,file=/isos/d.iso,format=raw"""
    )
    assert found.xen_domid == 7
    assert found.unknown == ()
    assert found.network == ("-vnc vnc=", "-netdev tap")
    assert paths(found)["/dev/vg/hvm"] == "image rw exclusive"
    assert paths(found)["/isos/d.iso"] == "image ro shared"
    assert paths(found)["/dev/xen/evtchn"] == "shared-device rw shared"


INCUS = """
# Machine
[machine]
type = "q35"
accel = "kvm"

[chardev "monitor"]
backend = "socket"
path = "/run/incus/c1/qemu.monitor"
server = "on"
wait = "off"

[drive]
file = "/opt/incus/OVMF_CODE.fd"
if = "pflash"
format = "raw"
unit = "0"
readonly = "on"

[object "qemu_rng"]
qom-type = "rng-random"
filename = "/dev/urandom"

[fsdev "qemu_config"]
fsdriver = "local"
path = "/run/incus/c1/config"
readonly = "on"

[device "dev-gpu"]
driver = "vfio-pci"
host = "0000:01:00.0"

[global]
driver = "virtio-net-pci"
property = "romfile"
value = "/roms/net.rom"

[memory]
size = "1024M"
"""


def test_as_incus_writes_it_in_a_configuration_file() -> None:
    host = Told(links={"/sys/bus/pci/devices/0000:01:00.0/iommu_group": "../../../kernel/iommu_groups/17"})
    found = line(
        "qemu -name c1 -daemonize -nodefaults -serial chardev:console -readconfig qemu.conf -pidfile /run/c1.pid "
        "-D /log/c1.log -runas nobody",
        read_file={"/vm/qemu.conf": INCUS}.__getitem__,
        host=host,
    )
    assert paths(found) == {
        "/vm/qemu.conf": "config ro exclusive",
        "/dev/kvm": "shared-device rw shared",
        "/run/incus/c1/qemu.monitor": "socket rw exclusive",
        "/dev/urandom": "shared-device rw shared",
        "/run/incus/c1/config": "directory ro exclusive",
        "/sys/bus/pci/devices/0000:01:00.0": "sysfs ro exclusive",
        "/dev/vfio/vfio": "shared-device rw shared",
        "/dev/vfio/17": "device rw exclusive",
        "/roms/net.rom": "firmware ro shared",
        "/run/c1.pid": "pidfile rw exclusive",
        "/log/c1.log": "log rw exclusive",
        "/opt/incus/OVMF_CODE.fd": "firmware ro shared",
    }
    assert found.runas == "nobody"
    assert found.unknown == ()


def test_a_configuration_file_that_cannot_be_read_is_unknown() -> None:
    def refuse(path: str) -> str:
        raise FileNotFoundError(path)

    found = line("qemu -nodefaults -readconfig /c", read_file=refuse)
    assert [unknown.value for unknown in found.unknown] == ["/c"]


def test_configuration_files_that_read_each_other_end() -> None:
    with pytest.raises(ArgvError, match="Too many configuration files"):
        line("qemu -readconfig /c", read_file=lambda path: '[readconfig]\nfile = "/c"\n')


def test_an_unknown_section_is_reported_if_it_may_name_something() -> None:
    section = '[new-thing "x"]\nfile = "/x"\ncount = "3"\n'
    found = line("qemu -nodefaults -readconfig /c", read_file=lambda path: section)
    assert [unknown.value for unknown in found.unknown] == ["/x"]


@pytest.mark.parametrize(
    ("nodes", "access"),
    [
        ("-blockdev file,node-name=f,filename=/x -blockdev raw,node-name=r,file=f", "rw"),
        ("-blockdev file,node-name=f,filename=/x -blockdev raw,node-name=r,file=f,read-only=on", "ro"),
        ("-blockdev raw,node-name=r,file=f,read-only=on -blockdev file,node-name=f,filename=/x", "ro"),
        ("-blockdev file,node-name=f,filename=/x,read-only=on -blockdev raw,node-name=r,file=f", "ro"),
        ("-blockdev raw,node-name=r,read-only=on,file.driver=file,file.filename=/x", "ro"),
        ("-blockdev raw,node-name=r,read-only=on,file.driver=file,file.filename=/x,file.read-only=off", "rw"),
        ("-blockdev file,node-name=f,filename=/x,read-only=off -blockdev raw,node-name=r,file=f,read-only=on", "rw"),
        (
            "-blockdev file,node-name=f,filename=/x,read-only=off,auto-read-only=on "
            "-blockdev raw,node-name=r,file=f,read-only=on",
            "ro",
        ),
        # One reader and one writer above it: the writer decides.
        (
            "-blockdev file,node-name=f,filename=/x -blockdev raw,node-name=r,file=f,read-only=on "
            "-blockdev raw,node-name=w,file=f",
            "rw",
        ),
        # A ring: QEMU refuses it, it must not hide its files.
        (
            "-blockdev raw,node-name=a,file=b -blockdev quorum,node-name=b,children.0=a,children.1=f "
            "-blockdev file,node-name=f,filename=/x",
            "rw",
        ),
        # What a drive for CDs opens for lack of a better idea is opened read-only, unless the node says otherwise.
        ("-drive if=none,id=d,file=/x -device ide-cd,drive=d", "ro"),
        ("-drive if=none,id=d,file=/x -device ide-hd,drive=d", "rw"),
        ("-blockdev file,node-name=f,filename=/x,auto-read-only=on -device scsi-cd,drive=f", "ro"),
        ("-blockdev file,node-name=f,filename=/x -device scsi-cd,drive=f", "rw"),
    ],
)
def test_access_comes_from_the_node_and_those_above_it(nodes: str, access: str) -> None:
    (found,) = line(f"qemu -nodefaults {nodes}").resources
    assert (found.path, found.access) == ("/x", access)


def test_only_the_command_line_makes_a_writable_image_shared() -> None:
    disk = "qemu -blockdev file,node-name=d,filename=/x -device virtio-blk-pci,drive=d"
    assert paths(line(disk))["/x"] == "image rw exclusive"
    assert paths(line(f"{disk},share-rw=on"))["/x"] == "image rw shared"
    assert paths(line("qemu -drive file=/x,file.locking=off"))["/x"] == "image rw exclusive"


def test_a_path_that_is_named_twice_has_the_stronger_access_once() -> None:
    found = line("qemu -nodefaults -cdrom /x -hda /x -chardev null,id=c,logfile=/l -D /l")
    assert paths(found) == {"/x": "image rw exclusive", "/l": "log rw exclusive"}
    assert [resource.creates for resource in found.resources if resource.path == "/l"] == [True]


def test_what_one_option_shares_and_another_does_not_is_exclusive() -> None:
    assert paths(line("qemu -cdrom /x -drive file=/x,readonly=on")) == {"/x": "image ro exclusive"}
    assert paths(line("qemu -drive file=/x,readonly=on -cdrom /x")) == {"/x": "image ro exclusive"}


@pytest.mark.parametrize(
    ("given", "network"),
    [
        ("-nodefaults", False),
        ("", True),
        ("-net none", False),
        ("-nic none", False),
        ("-nodefaults -netdev user,id=n", True),
        ("-nodefaults -netdev tap,id=n,fd=3", False),
        ("-nodefaults -netdev tap,id=n", True),
        ("-nodefaults -netdev bridge,id=n", True),
        ("-nodefaults -netdev socket,id=n,listen=:1", True),
        ("-nodefaults -netdev stream,id=n,addr.type=unix,addr.path=/x", False),
        ("-nodefaults -netdev stream,id=n,addr.type=inet,addr.host=h,addr.port=1", True),
        ("-nodefaults -netdev stream,id=n,addr.type=fd,addr.str=5", False),
        ("-nodefaults -vnc :1", True),
        ("-nodefaults -vnc unix:/x", False),
        ("-nodefaults -spice port=5900", True),
        ("-nodefaults -spice unix=on,addr=/x", False),
        ("-nodefaults -serial tcp::1,server", True),
        ("-nodefaults -gdb tcp::1234", True),
        ("-nodefaults -s", True),
        ("-nodefaults -drive file=nbd://host/x", True),
        ("-nodefaults -drive file=nbd:unix:/x", False),
        ("-nodefaults -incoming tcp:0:1", True),
        ("-nodefaults -chardev socket,id=c,cid=3,port=1", False),
    ],
)
def test_the_host_network_is_asked_for_only_where_it_is_used(given: str, network: bool) -> None:
    assert bool(line(f"qemu {given}").network) is network


@pytest.mark.parametrize(
    ("given", "connects"),
    [
        ("-chardev socket,id=c,path=/x", True),
        ("-chardev socket,id=c,path=/x,server=on", False),
        ("-gdb tcp::1234", False),
        ("-drive file=nbd:unix:/x", True),
        ("-netdev stream,id=n,server=on,addr.type=unix,addr.path=/x", False),
        ("-netdev dgram,id=n,remote.type=unix,remote.path=/x", True),
        ("-vnc unix:/x", False),
        ("-vnc host:1,reverse=on", True),
        ("-audiodev pa,id=a", True),
    ],
)
def test_connections_that_qemu_opens_by_itself(given: str, connects: bool) -> None:
    assert bool(line(f"qemu -nodefaults {given}").connects) is connects


@pytest.mark.parametrize(
    "given",
    ["-version", "--help", "-h", "-machine help", "-device help", "-device e1000,help", "-device e1000,?", "-cpu ?",
     "-drive format=?", "-audio-help", "-L help", "-netdev help", "-object rng-random,help"],
)  # fmt: skip
def test_a_question_makes_no_guest(given: str) -> None:
    assert line(f"qemu {given}").query


@pytest.mark.parametrize(
    "given",
    [
        "-name help",
        "-device e1000,romfile=/x,,?,,y",
        "-device e1000,romfile=help",
        "-drive file=/x,help",
        "-k help",
        "-new-option -version",
        "-name -version",
        "-hda help",
        '-device \'{"driver":"e1000","romfile":"/x,help,y"}\'',
    ],
)
def test_what_only_looks_like_a_question_is_a_guest(given: str) -> None:
    assert not line(f"qemu -nodefaults {given}").query


def test_a_question_hides_nothing() -> None:
    assert "/x" in paths(line("qemu -device e1000,help,romfile=/x -version"))


@pytest.mark.parametrize("given", ["-overcommit mem-lock=on", "-realtime mlock=on", "-device vfio-pci,host=01:00.0"])
def test_locked_memory_is_noticed(given: str) -> None:
    assert line(f"qemu {given}").memlock


def test_descriptors_are_numbers_only() -> None:
    found = line(
        "qemu -nodefaults -netdev tap,id=a,fds=3:4,vhostfds=5:x -add-fd fd=6,set=1 -incoming fd:7 "
        "-drive file=/dev/fd/8 -device vfio-pci,fd=9 -netdev socket,id=b,fd=named -object iommufd,id=i,fd=10"
    )
    assert sorted(found.descriptors) == [3, 4, 5, 6, 7, 8, 9, 10]


def test_the_host_is_asked_where_only_it_can_know() -> None:
    host = Told(
        files={
            "/p.in": "",
            "/vm/bios.bin": "",
            "/vm/a,b": "",
            "/dev/dri/renderD129": "",
            "/dev/dri/card0": "",
            "/sys/class/misc/tpm1/device/cancel": "",
            "/sys/bus/usb/devices/1-2/busnum": "1",
            "/sys/bus/usb/devices/1-2/devnum": "9",
            "/sys/bus/usb/devices/1-2/idVendor": "04b8",
            "/sys/bus/usb/devices/1-2/idProduct": "0202",
            "/sys/bus/pci/devices/0000:02:00.0/vfio-dev/vfio3": "",
        },
        links={"/sys/bus/mdev/devices/u/iommu_group": "../../9"},
    )
    found = line(
        "qemu -nodefaults -chardev pipe,id=p,path=/p -bios bios.bin -initrd a,b -display egl-headless "
        "-tpmdev passthrough,id=t,path=/dev/tpm1 -device usb-host,vendorid=0x04b8,productid=0x0202 "
        "-device vfio-pci,host=02:00.0,iommufd=i -device vfio-ccw,sysfsdev=/sys/bus/mdev/devices/u",
        host=host,
    )
    assert set(paths(found)) == {
        "/p.in",
        "/p.out",
        "/vm/bios.bin",
        "/vm/a,b",
        "/dev/dri/renderD129",
        "/dev/tpm1",
        "/sys/class/misc/tpm1/device/cancel",
        "/dev/bus/usb/001/009",
        "/sys/bus/pci/devices/0000:02:00.0",
        "/dev/vfio/devices/vfio3",
        "/sys/bus/mdev/devices/u",
        "/dev/vfio/vfio",
        "/dev/vfio/9",
    }


def test_temporary_files_go_where_qemu_would_put_them() -> None:
    assert "/run/vm/tmp" in paths(line("qemu -snapshot -hda /x", tmpdir="/run/vm/tmp"))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(command_lines, configs)
def test_whatever_is_written_is_read_or_refused(argv: list[str], config: str) -> None:
    check(argv, config)
