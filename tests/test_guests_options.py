"""One option at a time: which paths it names, as what, and for whom."""

import shlex

import pytest

from septum.errors import ArgvError
from septum.guests import parse


def named(line: str) -> dict[str, str]:
    """Path → "kind access sharing", with "+" if QEMU may create it and the declared format of an image."""
    found = parse(["qemu-system-x86_64", "-nodefaults", *shlex.split(line)], cwd="/home/me")
    assert not found.unknown
    return {
        resource.path: " ".join(
            part
            for part in (
                resource.kind,
                resource.access,
                resource.sharing,
                "+" if resource.creates else "",
                resource.format,
            )
            if part
        )
        for resource in found.resources
    }


DISK = "image rw exclusive"
CD = "image ro shared"
DEVICE = "device rw exclusive"
SHARED = "shared-device rw shared"
LOG = "log rw exclusive +"
BOUND = "socket rw exclusive +"
PEER = "peer-socket rw exclusive"
BLOB = "blob ro exclusive"
SECRET = "secret ro exclusive"
FIRMWARE = "firmware ro shared"
HELPER = "helper ro shared"
SYSFS = "sysfs ro exclusive"
TMPDIR = "tmpdir rw exclusive +"

CASES: dict[str, dict[str, str]] = {
    # Disks by their short names
    "disk.img": {"/home/me/disk.img": DISK},
    "-hda /a -hdb /b -fda /f -sd /s -mtdblock /m": dict.fromkeys(("/a", "/b", "/f", "/s", "/m"), DISK),
    "--hda /a": {"/a": DISK},
    "-hda /odd,name.img": {"/odd,name.img": DISK},
    "-cdrom /c.iso": {"/c.iso": CD},
    "-pflash /vars.fd": {"/vars.fd": DISK},
    # -drive
    "-drive file=/a.qcow2,format=qcow2,if=virtio": {"/a.qcow2": f"{DISK} qcow2"},
    "-drive file=/a,,b.img": {"/a,b.img": DISK},
    "-drive file=/a,boot=on,cache=none,werror=stop,serial=a/b,index=1": {"/a": DISK},
    "-drive if=none,id=cd,media=cdrom,readonly=on": {},
    "-drive file=/c.iso,media=cdrom": {"/c.iso": CD},
    "-drive file=/a,readonly": {"/a": "image ro exclusive"},
    "-drive file=/a,read-only=on": {"/a": "image ro exclusive"},
    "-drive file=/code.fd,if=pflash,format=raw,readonly=on": {"/code.fd": f"{FIRMWARE} raw"},
    "-drive file=/vars.fd,if=pflash,format=raw": {"/vars.fd": f"{DISK} raw"},
    "-drive file=/a,snapshot=on": {"/a": "image ro exclusive", "/var/tmp": TMPDIR},
    "-snapshot -hda /a": {"/a": "image ro exclusive", "/var/tmp": TMPDIR},
    "-drive file.filename=/a,driver=qcow2": {"/a": f"{DISK} qcow2"},
    "-drive file=/a,file.locking=off,format=raw": {"/a": f"{DISK} raw"},
    "-drive driver=host_device,file=/dev/sdb": {"/dev/sdb": f"{DISK} raw"},
    "-drive driver=qcow2,file=/a,backing.file.filename=/b,backing.driver=raw": {
        "/a": f"{DISK} qcow2",
        "/b": "backing ro shared raw",
    },
    """-drive "file=json:{'driver':'qcow2',,'file':{'driver':'file',,'filename':'/x'}}\"""": {"/x": f"{DISK} qcow2"},
    """-drive 'file=json:{"file.driver":"file",,"file.filename":"/x"}'""": {"/x": DISK},
    "-drive file=/dev/fdset/3,format=raw": {},
    # Protocols in names
    "-drive file=nbd:unix:/run/n:exportname=e": {"/run/n": PEER},
    "-drive file=nbd+unix:///e?socket=/run/a%20b": {"/run/a b": PEER},
    "-drive file=nbd://host/e -drive file=https://host/x.iso -drive file=ssh://u@h/p": {},
    "-drive file=gluster+unix:///vol/img?socket=/run/g": {"/run/g": PEER},
    r"-drive 'file=rbd:pool/image:id=me:mon_host=a\:6789\;b:conf=/etc/c.conf,format=raw'": {
        "/etc/c.conf": "config ro exclusive"
    },
    "-drive file=iscsi://host/iqn.2001-04.com.example/1": {},
    "-drive file=fat:/srv": {"/srv": "directory ro exclusive"},
    "-drive file=fat:floppy:rw:/srv": {"/srv": "directory rw exclusive"},
    "-drive file=blkdebug:/rules:/img": {"/rules": "config ro exclusive", "/img": DISK},
    "-drive file=blkdebug::/img": {"/img": DISK},
    "-drive file=blkverify:/raw:/img": {"/raw": DISK, "/img": DISK},
    "-drive file=host_device:/dev/sdc": {"/dev/sdc": DISK},
    "-drive file=null-co://,if=none -drive file=null-aio://": {},
    "-drive file=nvme://0000:44:00.0/1": {
        "/sys/bus/pci/devices/0000:44:00.0": SYSFS,
        "/dev/vfio/vfio": SHARED,
    },
    "-drive file=vhd:/dev/vg/x": {"/dev/vg/x": DISK},
    "-drive file=dir/with:colon": {"/home/me/dir/with:colon": DISK},
    # -blockdev
    "-blockdev driver=file,filename=/a,node-name=n": {"/a": f"{DISK} raw"},
    "-blockdev file,filename=/a,node-name=n,read-only=on": {"/a": "image ro exclusive raw"},
    "-blockdev driver=file,filename=nbd:unix:/x,node-name=n": {"/home/me/nbd:unix:/x": f"{DISK} raw"},
    """-blockdev '{"driver":"qcow2","node-name":"n","file":{"driver":"file","filename":"/a"},
        "backing":{"driver":"qcow2","file":{"driver":"file","filename":"/b"},"backing":null},
        "data-file":{"driver":"file","filename":"/d"}}'""": {
        "/a": f"{DISK} qcow2",
        "/b": "backing ro shared qcow2",
        "/d": "backing rw exclusive raw",
    },
    "-blockdev driver=nbd,node-name=n,server.type=unix,server.path=/run/n,export=a/b": {"/run/n": PEER},
    "-blockdev driver=virtio-blk-vhost-user,path=/run/v,node-name=n": {"/run/v": PEER},
    "-blockdev driver=virtio-blk-vhost-vdpa,path=/dev/vhost-vdpa-1,node-name=n": {"/dev/vhost-vdpa-1": DEVICE},
    "-blockdev driver=io_uring,filename=/a,node-name=n": {"/a": f"{DISK} raw"},
    "-blockdev host_cdrom,filename=/dev/sr0,node-name=n,read-only=on -device ide-cd,drive=n": {"/dev/sr0": f"{CD} raw"},
    "-blockdev driver=vvfat,dir=/srv,rw=on,node-name=n": {"/srv": "directory rw exclusive"},
    "-blockdev driver=quorum,vote-threshold=1,node-name=q,children.0.driver=file,children.0.filename=/0,children.1=o "
    "-blockdev file,node-name=o,filename=/1": {"/0": f"{DISK} raw", "/1": f"{DISK} raw"},
    "-blockdev throttle,node-name=t,throttle-group=g,file.driver=qcow2,file.file.driver=file,file.file.filename=/a": {
        "/a": f"{DISK} qcow2"
    },
    "-blockdev blklogwrites,node-name=l,file.driver=file,file.filename=/a,log.driver=file,log.filename=/l": {
        "/a": f"{DISK} raw",
        "/l": "log rw exclusive + raw",
    },
    "-blockdev luks,node-name=l,key-secret=s,file.driver=file,file.filename=/a": {"/a": f"{DISK} luks"},
    # Booting
    "-kernel /k -initrd /i -dtb /d -append 'root=/dev/vda1 file=/etc/x'": {
        "/k": "kernel ro shared",
        "/i": "initrd ro shared",
        "/d": "dtb ro shared",
    },
    "-initrd '/one quiet,/two'": {"/one": "initrd ro shared", "/two": "initrd ro shared"},
    "-bios OVMF.fd": {"/home/me/OVMF.fd": FIRMWARE},
    "-bios bios-256k.bin": {"/usr/share/qemu/bios-256k.bin": FIRMWARE},
    "-M virt -bios none": {},
    "-machine q35,accel=kvm:tcg,kernel=/k,dumpdtb=/d,pflash0=c -blockdev file,filename=/c,node-name=c,read-only=on": {
        "/dev/kvm": SHARED,
        "/k": "kernel ro shared",
        "/d": LOG,
        "/c": f"{FIRMWARE} raw",
    },
    "-accel tcg": {},
    "-accel kvm,device=/dev/kvm1": {"/dev/kvm1": SHARED},
    "-enable-kvm": {"/dev/kvm": SHARED},
    "-option-rom /r,bootindex=1": {"/r": FIRMWARE},
    "-L /firmware": {"/firmware": "directory ro shared"},
    "-boot order=c,splash=/s.bmp": {"/s.bmp": FIRMWARE},
    "-fw_cfg name=opt/a/b,file=/f -fw_cfg opt/c/d,string=/no/path": {"/f": BLOB},
    "-acpitable sig=SLIC,file=/a:/b": {"/a": BLOB, "/b": BLOB},
    "-smbios file=/s -smbios type=11,value=/no/path,path=/p -smbios type=1,manufacturer=a/b": {"/s": BLOB, "/p": BLOB},
    # Character devices
    "-chardev file,id=c,path=/o,input-path=/i,logfile=/l": {"/o": LOG, "/i": BLOB, "/l": LOG},
    "-chardev null,id=c,logfile=/l": {"/l": LOG},
    "-chardev pipe,id=c,path=/p": {"/p": "pipe rw exclusive"},
    "-chardev serial,id=c,path=/dev/ttyS0 -chardev parport,id=d,path=/dev/parport0": {
        "/dev/ttyS0": DEVICE,
        "/dev/parport0": DEVICE,
    },
    "-chardev socket,id=c,path=/s,server,nowait": {"/s": BOUND},
    "-chardev socket,id=c,path=/s,server=on,wait=off": {"/s": BOUND},
    "-chardev socket,id=c,path=/s,server=off": {"/s": PEER},
    "-chardev socket,id=c,path=/s,reconnect=5 -mon chardev=c,mode=control": {"/s": "peer-socket rw shared"},
    "-chardev socket,id=c,path=s,abstract=on,server=on": {},
    "-chardev socket,id=c,fd=5 -chardev socket,id=d,host=::1,port=7,server=on": {},
    "-chardev pty,id=c": {"/dev/ptmx": SHARED},
    """-chardev '{"id":"c","backend":{"type":"file","data":{"out":"/o"}}}'""": {"/o": LOG},
    """-chardev '{"id":"c","backend":{"type":"socket","data":{"server":false,
        "addr":{"type":"unix","data":{"path":"/s"}}}}}'""": {"/s": PEER},
    "-serial file:/a,b -parallel /dev/parport1 -debugcon file:/d": {"/a,b": LOG, "/dev/parport1": DEVICE, "/d": LOG},
    "-monitor unix:/m,server,nowait -qmp unix:path=/q,server=on": {"/m": BOUND, "/q": BOUND},
    "-qmp unix:/a=b,server": {"/a=b": BOUND},
    "-serial mon:stdio -serial vc:80Cx24C -serial chardev:x -serial none -serial tcp::1,server": {},
    "-serial mon:unix:/s -serial pipe:/p": {"/s": PEER, "/p": "pipe rw exclusive"},
    "-monitor tcp::1,server,logfile=/l": {"/l": LOG},
    # Network
    "-netdev tap,id=n": {"/dev/net/tun": SHARED, "/etc/qemu-ifup": HELPER, "/etc/qemu-ifdown": HELPER},
    "-netdev tap,id=n,script=no,downscript=no,vhost=on": {"/dev/net/tun": SHARED, "/dev/vhost-net": SHARED},
    "-netdev tap,id=n,script=/up,downscript=": {"/dev/net/tun": SHARED, "/up": HELPER},
    "-netdev tap,id=n,fd=3,vhost=on,vhostfd=4": {},
    "-netdev tap,id=n,fds=3:4,vhost=on": {"/dev/vhost-net": SHARED},
    "-netdev tap,id=n,helper='/h --br=br0'": {"/h": HELPER},
    "-netdev bridge,id=n,br=br0": {"/usr/lib/qemu/qemu-bridge-helper": HELPER},
    "-net nic,vlan=0,macaddr=00:11:22:33:44:55 -net tap,vlan=0,ifname=t,script=/up,downscript=no": {
        "/dev/net/tun": SHARED,
        "/up": HELPER,
    },
    "-nic user,tftp=/t,bootfile=/pxelinux.0,net=10.0.0.0/8,model=e1000": {"/t": "directory ro exclusive"},
    "-netdev user,id=n,smb=/s": {"/s": "directory rw exclusive", "/usr/sbin/smbd": HELPER},
    "-netdev user,id=n,guestfwd=tcp:10.0.2.100:80-cmd:/bin/cat,hostfwd=tcp::22-:22": {"/bin/cat": HELPER},
    "-netdev user,id=n,guestfwd=tcp:10.0.2.100:80-unix:/g": {"/g": PEER},
    "-netdev vhost-user,id=n,chardev=c,vhostforce=on": {},
    "-netdev vhost-vdpa,id=n,vhostdev=/dev/vhost-vdpa-0": {"/dev/vhost-vdpa-0": DEVICE},
    "-netdev stream,id=n,addr.type=unix,addr.path=/p": {"/p": PEER},
    "-netdev stream,id=n,server=on,addr.type=unix,addr.path=/p": {"/p": BOUND},
    "-netdev dgram,id=n,local.type=unix,local.path=/l,remote.type=unix,remote.path=/r": {"/l": BOUND, "/r": PEER},
    "-netdev vde,id=n,sock=/v": {"/v": "directory rw exclusive"},
    """-netdev '{"type":"passt","id":"n","path":"/usr/bin/passt"}'""": {"/usr/bin/passt": HELPER},
    # Objects
    "-object rng-random,id=r": {"/dev/urandom": SHARED},
    "-object rng-random,id=r,filename=/dev/hwrng": {"/dev/hwrng": SHARED},
    "-object secret,id=s,file=/s -object secret,id=t,data=ab/cd==,iv=e/f": {"/s": SECRET},
    "-object tls-creds-x509,id=t,dir=/pki,endpoint=server": {"/pki": SECRET},
    "-object memory-backend-file,id=m,mem-path=/m,size=1G,share=on": {"/m": "memory rw exclusive +"},
    "-object memory-backend-file,id=m,mem-path=/m,size=1G,readonly=on": {"/m": "memory ro exclusive"},
    "-object memory-backend-file,id=m,mem-path=/dev/hugepages,size=1G": {"/dev/hugepages": "memory rw shared +"},
    "-object memory-backend-file,id=m,mem-path=/dev/hugepages/vm1,size=1G": {
        "/dev/hugepages/vm1": "memory rw exclusive +"
    },
    "-mem-path /m": {"/m": "memory rw exclusive +"},
    "-object pr-manager-helper,id=p,path=/run/pr": {"/run/pr": "peer-socket rw shared"},
    "-object input-linux,id=i,evdev=/dev/input/event3": {"/dev/input/event3": DEVICE},
    "-object filter-dump,id=f,netdev=n,file=/d": {"/d": LOG},
    "-object sev-guest,id=s,dh-cert-file=/d,session-file=/e": {"/dev/sev": SHARED, "/d": BLOB, "/e": BLOB},
    "-object authz-list-file,id=a,filename=/a": {"/a": "config ro exclusive"},
    "-object dbus-vmstate,id=d,addr=unix:path=/run/d,,guid=12": {"/run/d": "peer-socket rw shared"},
    """-object '{"qom-type":"memory-backend-epc","id":"e","size":1}'""": {"/dev/sgx_vepc": SHARED},
    "-object iommufd,id=i": {"/dev/iommu": SHARED},
    "-object iommufd,id=i,fd=22": {},
    # Devices
    "-device e1000,romfile=/r -device virtio-net-pci,romfile=": {"/r": FIRMWARE},
    "-device virtio-net-pci,romfile=pxe-virtio.rom": {"/usr/share/qemu/pxe-virtio.rom": FIRMWARE},
    "-device loader,file=/l,addr=0x100": {"/l": BLOB},
    "-device vfio-pci,host=01:00.0": {"/sys/bus/pci/devices/0000:01:00.0": SYSFS, "/dev/vfio/vfio": SHARED},
    "-device vfio-pci,sysfsdev=/sys/bus/mdev/devices/u": {"/sys/bus/mdev/devices/u": SYSFS, "/dev/vfio/vfio": SHARED},
    "-device vfio-pci,fd=7 -device vhost-vsock-pci,guest-cid=3,vhostfd=8": {},
    "-device vfio-pci,host=0000:01:00.0,iommufd=i": {"/sys/bus/pci/devices/0000:01:00.0": SYSFS},
    "-device pci-assign,host=06:12.5": {"/sys/bus/pci/devices/0000:06:12.5": "sysfs rw exclusive"},
    "-device usb-host,hostdevice=/dev/bus/usb/001/002": {"/dev/bus/usb/001/002": DEVICE},
    "-device usb-host,hostbus=1,hostaddr=0x0e": {"/dev/bus/usb/001/014": DEVICE},
    "-usbdevice host:1.2 -usbdevice tablet -usbdevice disk:format=raw:/u -usbdevice serial::/dev/ttyUSB0": {
        "/dev/bus/usb/001/002": DEVICE,
        "/u": f"{DISK} raw",
        "/dev/ttyUSB0": DEVICE,
    },
    "-device usb-mtp,rootdir=/m": {"/m": "directory ro exclusive"},
    "-device usb-mtp,rootdir=/m,readonly=off": {"/m": "directory rw exclusive"},
    "-device vhost-scsi-pci,wwpn=naa.1 -device vhost-vsock-pci,guest-cid=3": {
        "/dev/vhost-scsi": SHARED,
        "/dev/vhost-vsock": SHARED,
    },
    "-device virtio-input-host-pci,evdev=/dev/input/event1": {"/dev/input/event1": DEVICE},
    "-device u2f-passthru,hidraw=/dev/hidraw2": {"/dev/hidraw2": DEVICE},
    "-device isa-applesmc,osk=a/b -device virtio-9p-pci,fsdev=f,mount_tag=/no/path": {},
    "-device ivshmem,shm=x,size=1": {"/dev/shm/x": "memory rw exclusive +"},
    """-device '{"driver":"vhost-user-fs-pci","chardev":"c","tag":"/no/path"}'""": {},
    "-global virtio-net-pci.romfile=/g -global PIIX4_PM.disable_s3=1": {"/g": FIRMWARE},
    "-global driver=e1000,property=romfile,value=/g": {"/g": FIRMWARE},
    "-device e1000,id=x -set device.x.romfile=/r": {"/r": FIRMWARE},
    "-drive if=none,id=d -set drive.d.file=/a": {"/a": DISK},
    # Trees, TPM, migration
    "-fsdev local,id=f,path=/t,security_model=none": {"/t": "directory rw exclusive"},
    "-virtfs local,path=/t,mount_tag=/no,security_model=none,readonly=on": {"/t": "directory ro exclusive"},
    "-fsdev proxy,id=f,socket=/s -fsdev proxy,id=g,sock_fd=4": {"/s": PEER},
    "-tpmdev passthrough,id=t": {
        "/dev/tpm0": DEVICE,
        "/sys/class/tpm/tpm0/device/cancel": "sysfs rw exclusive",
    },
    "-tpmdev passthrough,id=t,path=/dev/tpm1,cancel-path=/c": {"/dev/tpm1": DEVICE, "/c": DEVICE},
    "-add-fd set=0,fd=9,opaque=/no/path -tpmdev passthrough,id=t,path=/dev/fdset/0,cancel-path=/dev/fdset/1": {},
    "-tpmdev emulator,id=t,chardev=c": {},
    "-incoming unix:/m": {"/m": BOUND},
    "-incoming file:/s,offset=4096": {"/s": BLOB},
    "-incoming 'exec:/bin/zcat /s'": {"/bin/zcat": HELPER},
    "-incoming defer -incoming fd:7 -incoming tcp:0:4444 -incoming rdma:h:1": {},
    """-incoming '{"channel-type":"main","addr":{"transport":"socket","type":"unix","path":"/m"}}'""": {"/m": BOUND},
    """-incoming '{"channel-type":"main","addr":{"transport":"exec","args":["/cat","/x"]}}'""": {"/cat": HELPER},
    "-incoming cpr,addr.transport=socket,addr.type=unix,addr.path=/c": {"/c": BOUND},
    # Screens and sound
    "-vnc unix:/v -vnc :1,tls-creds=t,websocket=on -vnc none": {"/v": BOUND},
    "-vnc vnc=unix:/a,,b,audiodev=x": {"/a,b": BOUND},
    "-vnc 127.0.0.1:3,tls,x509verify=/pki,sasl": {"/pki": SECRET},
    "-display vnc=unix:/v": {"/v": BOUND},
    "-spice unix=on,addr=/s,gl=on,rendernode=/dev/dri/renderD128": {"/s": BOUND, "/dev/dri/renderD128": SHARED},
    "-spice port=1,tls-port=2,addr=127.0.0.1,x509-dir=/pki,x509-cacert-file=/ca": {"/pki": SECRET, "/ca": SECRET},
    "-display egl-headless,rendernode=/dev/dri/renderD129": {"/dev/dri/renderD129": SHARED},
    "-display dbus,addr=unix:path=/run/d": {"/run/d": "peer-socket rw shared"},
    "-display gtk,gl=on,show-menubar=off -display sdl -sdl -k en-us": {},
    "-k /layout": {"/layout": "config ro exclusive"},
    "-audiodev wav,id=a,path=/w -audiodev alsa,id=b,out.dev=hw:1,,0": {"/w": LOG},
    "-audiodev pa,id=a,server=unix:/run/p": {"/run/p": "peer-socket rw shared"},
    """-audiodev '{"driver":"oss","id":"o","out":{"dev":"/dev/dsp1"}}'""": {"/dev/dsp1": DEVICE},
    # Files of QEMU's own
    "-pidfile /p -D /d -d int,cpu -dump-vmstate /v": {"/p": "pidfile rw exclusive +", "/d": LOG, "/v": LOG},
    "-trace 'events=/e,file=/t' -trace enable=virtio*": {"/e": "config ro exclusive", "/t": LOG},
    "-plugin /p.so,count=on -plugin file=/q.so": {"/p.so": "plugin ro shared", "/q.so": "plugin ro shared"},
    "-icount shift=auto,rr=record,rrfile=/r -icount 3,rr=replay,rrfile=/s": {"/r": LOG, "/s": BLOB},
    "-chroot /c -run-with chroot=/d": {"/c": "directory ro shared", "/d": "directory ro shared"},
    "-xen-domid 3 -xen-attach": {
        f"/dev/xen/{node}": SHARED for node in ("privcmd", "evtchn", "gntdev", "xenbus")
    },
    # Paths that are none of their own
    "-chardev file,id=a,path=/dev/stdout -chardev file,id=b,path=/dev/null": {"/dev/null": SHARED},
    "-drive file=/dev/fd/7,format=raw": {},
    "-hda ./a//b/./c -hdb ../d": {"/home/me/a/b/c": DISK, "/home/me/../d": DISK},
    # Names that try to pass for something harmless
    "-object rng-random,id=r,filename=/srv/other.img": {"/srv/other.img": BLOB},
    "-object rng-random,id=r,filename=/dev/sdb": {"/dev/sdb": DEVICE},
    "-display egl-headless,rendernode=/dev/dri/../sdb": {"/dev/dri/../sdb": DEVICE},
    "-hda /dev/fd/../sdb -hdb /dev/fdset/../sdc": {"/dev/fd/../sdb": DISK, "/dev/fdset/../sdc": DISK},
    "-device vfio-pci,sysfsdev=/srv/x": {"/srv/x": "device ro exclusive", "/dev/vfio/vfio": SHARED},
    "-device vfio-pci,sysfsdev=/sys/../srv/x": {"/sys/../srv/x": "device ro exclusive", "/dev/vfio/vfio": SHARED},
    "-drive driver=file,file=nbd:unix:/x": {"/home/me/nbd:unix:/x": f"{DISK} raw"},
    "-drive driver=file,file=file:/x": {"/x": f"{DISK} raw"},
    # Old and plain things that name nothing
    "-m 1G -smp 2 -cpu host,+vmx -rtc base=2006-06-17T16:01:21 -uuid 1 -usb -soundhw hda -vga std -no-acpi "
    "-no-kvm-irqchip -balloon virtio -tdf -no-fd-bootchk -g 800x600 -prom-env a=/b -nographic -domid 3 "
    "-numa node,memdev=/objects/m -bt hci,null -redir tcp:1::2 -localtime -realtime mlock=off -name a/b": {},
}  # fmt: skip


@pytest.mark.parametrize("line", CASES)
def test_an_option_names_these_paths(line: str) -> None:
    assert named(line) == CASES[line]


@pytest.mark.parametrize(
    "line",
    [
        "-drive file=foo:bar",
        "-device e1000,newpath=/x",
        "-blockdev qcow2,node-name=q,file=/a/path",
        "-blockdev driver=newfs,filename=/x,node-name=n",
        "-chardev newkind,id=c,where=/x",
        "-netdev newkind,id=n,where=/x",
        "-object newkind,id=o,where=/x",
        "-machine q35,newfile=/x",
        "-new-option /x",
        "-new-flag",
        "-plugin /p.so,out=/x",
        "-serial new:/x",
        "-incoming new:/x",
        "-fsdev local,id=f,path=/t,newdir=/x",
        "-set device.nobody.romfile=/x",
        "-spice port=1,newfile=/x",
        "-perfmap",
        "-jitdump",
        "-",
    ],
)
def test_what_no_table_explains_is_reported(line: str) -> None:
    assert parse(["qemu", *line.split()], cwd="/").unknown


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["-drive"], "-drive (argument 1) needs an argument"),
        (["-blockdev", '{"driver":'], "Malformed JSON in -blockdev"),
        (["-blockdev", '{"driver":"raw","driver":"qcow2"}'], "given twice"),
        (["-object", "[1]{"], None),
        (["-device", '{"driver":["' + "[" * 5000], "Malformed JSON in -device"),
        (["-blockdev", "a." * 500 + "b=c"], "nested too deeply"),
        (["-drive", "file=" + "blkdebug::" * 500 + "/x"], "nested too deeply"),
        (["-drive", "readonly,,file=/etc/shadow"], "doubled comma"),
        (["-drive", "file..filename=/x"], "empty part"),
        (["-hda", "a\0b"], "NUL"),
        (["-blockdev", '{"driver":"file","filename":"/a\\u0000b"}'], "NUL"),
        (["-set", "device.x"], "-set needs"),
        (["-xen-domid", "x"], "needs a number"),
    ],
)
def test_what_is_malformed_is_refused(line: list[str], says: str | None) -> None:
    if says is None:
        assert not parse(["qemu", *line], cwd="/").resources
        return
    with pytest.raises(ArgvError) as refused:
        parse(["qemu", *line], cwd="/")
    assert says in str(refused.value)


def test_no_command_and_a_relative_folder_are_refused() -> None:
    with pytest.raises(ArgvError):
        parse([], cwd="/")
    with pytest.raises(ArgvError):
        parse(["qemu"], cwd="here")
