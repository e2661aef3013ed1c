"""Debian packages for the lab, from wherever this machine gets its own: no host name is written down here."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from functools import cmp_to_key
from pathlib import Path

from lab.cache import LabError, run

CODENAME = "bookworm"
_SUITES = (CODENAME, f"{CODENAME}-updates", f"{CODENAME}-security")
_ETC = Path("/etc/apt")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def sources(types: Sequence[str] = ("deb",)) -> str:
    """This machine's entries for `CODENAME`, as one deb822 file.

    Entries for other suites (third parties, backports) are left out, whatever form they are written in.

    Args:
        types: ``deb`` for binary packages, ``deb-src`` for sources; entries count whichever of the two they name.

    Raises:
        LabError: the machine has no entry for `CODENAME`.
    """
    stanzas: dict[tuple[str, str], dict[str, str]] = {}
    for entry in _entries():
        suites = " ".join(suite for suite in entry["suites"].split() if suite in _SUITES)
        if suites and "main" in entry["components"].split():
            # deb and deb-src lines name one place twice; apt refuses the two to differ in their keyring.
            stanza = stanzas.setdefault((entry["uris"], suites), {"Components": entry["components"]})
            if entry.get("signed-by"):
                stanza["Signed-By"] = entry["signed-by"]
            if entry.get("trusted", "").lower() == "yes":
                stanza["Trusted"] = "yes"
    if not stanzas:
        raise LabError(f"no apt source on this machine names the suite {CODENAME}: the lab is made from its packages")
    texts = []
    for (uris, suites), stanza in stanzas.items():
        if _KEYRING.exists():
            stanza.setdefault("Signed-By", str(_KEYRING))
        fields = {"Types": " ".join(types), "URIs": uris, "Suites": suites, **stanza}
        texts.append("".join(f"{name}: {value}\n" for name, value in fields.items()))
    return "\n".join(texts)


def _entries() -> Iterator[dict[str, str]]:
    parts = _ETC / "sources.list.d"
    lists = [_ETC / "sources.list", *sorted(parts.glob("*.list"))]
    for path in lists:
        if path.exists():
            yield from _one_line_entries(path.read_text())
    for path in sorted(parts.glob("*.sources")):
        yield from _deb822_entries(path.read_text())


def _one_line_entries(text: str) -> Iterator[dict[str, str]]:
    """See sources.list(5): ``deb [option=value …] uri suite component …``."""
    for line in text.splitlines():
        found = re.match(r"deb(?:-src)?\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
        if found:
            options = dict(word.partition("=")[::2] for word in (found[1] or "").split())
            yield {"uris": found[2], "suites": found[3], "components": found[4].strip(), **options}


def _deb822_entries(text: str) -> Iterator[dict[str, str]]:
    text = re.sub(r"^#.*\n?", "", text, flags=re.M)
    for stanza in re.split(r"\n\s*\n", text):
        joined = re.sub(r"\n[ \t]+", "\n ", stanza)
        fields = dict(re.findall(r"^([A-Za-z0-9-]+):[ \t]*((?:.*)(?:\n .*)*)$", joined, flags=re.M))
        entry = {name.lower(): value.strip() for name, value in fields.items()}
        if {"uris", "suites", "components"} <= entry.keys() and entry.get("enabled", "yes").lower() != "no":
            yield entry


def options() -> list[str]:
    """What this machine's apt was told about fetching: proxies, retries, tolerance for old indexes."""
    kept = re.compile(r'^Acquire::(http|https|Retries|ForceIPv[46]|Check-Valid-Until|Check-Date)\b.* ".+";$')
    return [line.rstrip(";") for line in run(["apt-config", "dump"]).splitlines() if kept.match(line)]


def bootstrap(target: Path, packages: Sequence[str]) -> None:
    """Makes a small root file system with `packages`, without manuals and translations. Needs root."""
    sources_file = target.with_name(target.name + ".sources")
    sources_file.write_text(sources())
    apt = ["--aptopt=" + option for option in [*options(), 'APT::Install-Recommends "false"']]
    without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
    include = f"--include={','.join(packages)}"
    run(["mmdebstrap", "--mode=root", "--variant=minbase", *apt, *without, include, CODENAME, target, sources_file])
    sources_file.unlink()


class Apt:
    """A private apt: its own sources, lists and cache; keys and configuration are the machine's.

    Args:
        work: a folder for its state.
        types: ``deb`` for binary packages, ``deb-src`` for sources.
    """

    def __init__(self, work: Path, types: Sequence[str] = ("deb",)) -> None:
        self.work = work
        for name in ("state/lists/partial", "cache/archives/partial", "empty"):
            (work / name).mkdir(parents=True, exist_ok=True)
        list_file = work / "lab.sources"
        list_file.write_text(sources(types))
        self._set = [
            f"-oDir::Etc::SourceList={list_file}",
            f"-oDir::Etc::SourceParts={work / 'empty'}",
            f"-oDir::State={work / 'state'}",
            f"-oDir::Cache={work / 'cache'}",
            "-oAPT::Sandbox::User=root",
        ]
        run(["apt-get", "update", "-q", *self._set])

    def newest_dependency(self, package: str, pattern: str) -> str:
        """The package that a meta package stands for now."""
        found = re.findall(rf"Depends: ({pattern})$", run(["apt-cache", "depends", *self._set, package]), flags=re.M)
        if not found:
            raise LabError(f"{package} depends on nothing like {pattern}")
        return str(found[0])

    def unpack(self, package: str, target: Path) -> None:
        """Puts a binary package's files below `target`."""
        run(["apt-get", "download", "-q", *self._set, package], cwd=self.work)
        (archive,) = self.work.glob(f"{package}_*.deb")
        run(["dpkg-deb", "-x", archive, target])

    def source(self, package: str, target: Path) -> str:
        """Unpacks a source package, with its patches, into `target`; needs ``deb-src`` among the types.

        Returns:
            Its version: the newest of those that can be fetched whole. A security update is sometimes in the index
            before its files are there.

        Raises:
            LabError: none can.
        """
        shown = run(["apt-cache", "showsrc", *self._set, package])
        stanzas = [dict(re.findall(r"^(Package|Version): (\S+)$", text, flags=re.M)) for text in shown.split("\n\n")]
        versions = {stanza["Version"] for stanza in stanzas if stanza.get("Package") == package}
        failures = []
        for version in sorted(versions, key=_version_order, reverse=True):
            try:
                run(["apt-get", "source", "-q", "--download-only", *self._set, f"{package}={version}"], cwd=self.work)
            except LabError as error:
                failures.append(f"{version}: {error}")
                continue
            # A file's name has no epoch in it.
            (description,) = self.work.glob(f"{package}_{version.partition(':')[2] or version}.dsc")
            run(["dpkg-source", "--no-check", "-x", description, target])
            return str(version)
        raise LabError(f"no version of the source package {package} can be fetched\n" + "\n".join(failures))


@cmp_to_key
def _version_order(one: str, other: str) -> int:
    """As deb-version(7) orders them."""
    for relation, order in (("lt", -1), ("gt", 1)):
        if subprocess.run(["dpkg", "--compare-versions", one, relation, other], check=False).returncode == 0:
            return order
    return 0


def emulator() -> str:
    """The version of this machine's QEMU, on which saved states depend."""
    return run(["qemu-system-x86_64", "--version"]).splitlines()[0]
