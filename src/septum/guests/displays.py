"""What a person sees and hears: ``-display``, ``-vnc``, ``-spice``, ``-audiodev``."""

from __future__ import annotations

from septum.guests.addresses import dbus_address, unix_socket
from septum.guests.found import DEVICE, LOG, SECRET, SHARED_DEVICE, Found, Spec, looks_like_path
from septum.guests.syntax import Pairs, is_on

__all__ = [
    "AUDIO_PLAIN",
    "DISPLAY_PLAIN",
    "SPICE_PATHS",
    "SPICE_PLAIN",
    "VNC_PLAIN",
    "audiodev",
    "display",
    "spice",
    "vnc",
]

DISPLAY_PLAIN = frozenset(
    """type gl full-screen show-cursor window-close grab-on-hover zoom-to-fit show-tabs show-menubar keep-aspect-ratio
    scale charset alt_grab ctrl_grab grab-mod frame left-command-key full-grab swap-opt-cmd p2p audiodev
    vnc id audio-device""".split()
)

SPICE_PATHS: dict[str, Spec] = {
    "x509-dir": SECRET,
    "x509-key-file": SECRET,
    "x509-cert-file": SECRET,
    "x509-cacert-file": SECRET,
    "x509-dh-key-file": SECRET,
    "rendernode": SHARED_DEVICE,
}

SPICE_PLAIN = frozenset(
    """port tls-port ipv4 ipv6 unix password password-secret disable-ticketing disable-copy-paste
    disable-agent-file-xfer sasl x509-key-password tls-ciphers tls-channel plaintext-channel image-compression
    jpeg-wan-compression zlib-glz-wan-compression streaming-video video-codec max-refresh-rate agent-mouse
    playback-compression seamless-migration gl display head id""".split()
)

VNC_PLAIN = frozenset(
    """id to share display head connections websocket tls-creds tls-authz sasl-authz sasl reverse password
    password-secret lock-key-sync key-delay-ms ipv4 ipv6 lossy non-adaptive adaptive acl power-control audiodev tls
    audiodevs""".split()
)

AUDIO_PLAIN = frozenset(
    """driver id model timer-period mixing-engine fixed-settings frequency channels voices format buffer-length
    buffer-count client-name server-name connect-ports start-server exact-name name stream-name latency period-length
    try-mmap exclusive dsp-policy threshold nsamples try-poll server""".split()
)


def display(found: Found, pairs: Pairs, option: str = "-display") -> None:
    """Record what a ``-display`` uses; its name is under ``type``."""
    given = dict(pairs)
    kind = given.get("type", "")
    for key, value in pairs:
        if key == "rendernode":
            found.add(value, SHARED_DEVICE, f"{option} {kind},rendernode=")
        elif key == "addr" and kind == "dbus":
            dbus_address(found, value, f"{option} dbus,addr=")
        elif key not in DISPLAY_PLAIN and not key.startswith(("gtk.", "sdl.", "x-")) and looks_like_path(value):
            found.suspect(f"{option} {kind},{key}=", value, "no option of a display is known by this name")
    if "vnc" in given:
        vnc(found, pairs, option)
    elif kind == "egl-headless" and "rendernode" not in given:
        _default_render_node(found, f"{option} egl-headless")
    elif kind == "dbus" and "addr" not in given and not is_on(given.get("p2p")):
        found.opens_connection(f"{option} dbus")
    elif kind == "spice-app":
        found.executes[f"{option} spice-app"] = None


def _default_render_node(found: Found, option: str) -> None:
    """The first render node, as QEMU's ui/egl-helpers.c takes it, if the host knows."""
    nodes = sorted(name for name in found.host.listdir("/dev/dri") if name.startswith("renderD"))
    if nodes:
        found.add(f"/dev/dri/{nodes[0]}", SHARED_DEVICE, option)


def vnc(found: Found, pairs: Pairs, option: str = "-vnc") -> None:
    """Record what a ``-vnc`` uses; its address is under ``vnc``."""
    given = dict(pairs)
    reverse = is_on(given.get("reverse"))
    for key, value in pairs:
        if key in ("vnc", "websocket"):
            _listener(found, value, key, f"{option} {key}=", reverse=reverse)
        elif key in ("x509", "x509verify"):
            if not is_on(value):
                found.add(value, SECRET, f"{option} {key}=")
        elif key not in VNC_PLAIN and key != "type" and looks_like_path(value):
            found.suspect(f"{option} {key}=", value, "no option of VNC is known by this name")


def _listener(found: Found, address: str, key: str, option: str, *, reverse: bool) -> None:
    if address.startswith("unix:"):
        unix_socket(found, address[5:], option, server=not reverse)
    elif address not in ("none", "off", ""):
        found.needs_network(option)
        if reverse and key == "vnc":
            found.opens_connection(option)


def spice(found: Found, pairs: Pairs, option: str = "-spice") -> None:
    """Record what a ``-spice`` uses."""
    given = dict(pairs)
    for key, value in pairs:
        if spec := SPICE_PATHS.get(key):
            found.add(value, spec, f"{option} {key}=")
        elif key == "addr":
            if is_on(given.get("unix")) or value.startswith("/"):
                unix_socket(found, value.removeprefix("unix:"), f"{option} addr=", server=True)
        elif key not in SPICE_PLAIN and looks_like_path(value):
            found.suspect(f"{option} {key}=", value, "no option of SPICE is known by this name")
    if any(given.get(key, "0") != "0" for key in ("port", "tls-port")):
        found.needs_network(f"{option} port=")
    if is_on(given.get("gl")) and "rendernode" not in given:
        _default_render_node(found, f"{option} gl=on")


def audiodev(found: Found, pairs: Pairs, option: str = "-audiodev") -> None:
    """Record what an ``-audiodev`` uses; its driver is under ``driver``."""
    given = dict(pairs)
    driver = given.get("driver", "")
    devices = 0
    for key, value in pairs:
        name = key.rpartition(".")[2]
        if driver == "wav" and key == "path":
            found.add(value, LOG, f"{option} wav,path=")
        elif driver == "pa" and key == "server":
            _pulse_server(found, value, f"{option} pa,server=")
        elif name == "dev":
            devices += 1
            if value.startswith("/"):
                found.add(value, DEVICE, f"{option} {driver},{key}=")
        elif name not in AUDIO_PLAIN and looks_like_path(value):
            found.suspect(f"{option} {driver},{key}=", value, "no option of an audio backend is known by this name")
    if driver == "wav" and "path" not in given:
        found.add("qemu.wav", LOG, f"{option} wav")
    elif driver == "oss" and not devices:
        found.add("/dev/dsp", SHARED_DEVICE, f"{option} oss")
    elif driver in ("pa", "pipewire", "jack", "sndio"):
        found.opens_connection(f"{option} {driver}")


def _pulse_server(found: Found, server: str, option: str) -> None:
    """PulseAudio's list of servers: ``{machine}unix:/run/x tcp:host``; a bare path is a unix socket."""
    for one in server.split():
        address = one.rpartition("}")[2]
        if address.startswith(("unix:", "/")):
            unix_socket(found, address.removeprefix("unix:"), option, server=False, service=True)
        else:
            found.needs_network(option)
