"""What tests of declarations share: texts in place of files, and a platform with two realms and a door."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from septum.declare import Declaration, Fetched, Unfetched, parse
from septum.errors import DeclarationError

ROOT: Final = Path(__file__).resolve().parent.parent
EXAMPLE: Final = ROOT / "docs" / "examples" / "platform" / "platform.toml"

PLATFORM: Final = """
[realm.red]
file = "red.toml"
quota = { guests = 9, memory = "64 GiB", disk = "1 TiB", channels = 9 }
[realm.blue]
file = "blue.toml"
quota = { guests = 9, memory = "64 GiB", disk = "1 TiB", channels = 9 }
"""
RED: Final = """
[role.web]
memory = "1 GiB"
[role.mail]
memory = "1 GiB"
"""
BLUE: Final = """
[role.db]
memory = "1 GiB"
[role.other]
memory = "1 GiB"
[service.sql]
role = "db"
kind = "message"
"""
USE: Final = '[[use]]\nrole = "web"\nservice = "blue/sql"\n'
OFFER: Final = '[[offer]]\nservice = "sql"\nto = "red"\n'


def declare(platform: str = PLATFORM, **files: str) -> Declaration:
    """Parses texts: `red` stands for the file red.toml."""
    return parse("platform.toml", platform.encode(), fetcher({f"{name}.toml": text for name, text in files.items()}))


def fetcher(files: Mapping[str, str]) -> Callable[[str], Fetched]:
    def fetch(name: str) -> Fetched:
        if name not in files:
            raise Unfetched(f"{name} can't be read: No such file or directory")
        return Fetched(name, files[name].encode(), name)

    return fetch


def faults(platform: str = PLATFORM, **files: str) -> list[str]:
    """What is wrong with texts, as it is printed; nothing if nothing is."""
    try:
        declare(platform, **files)
    except DeclarationError as error:
        return [str(fault) for fault in error.faults]
    return []


def two(red: str = USE, blue: str = OFFER, platform: str = "") -> Declaration:
    """Red's web, and blue's sql."""
    return declare(PLATFORM + platform, red=RED + red, blue=BLUE + blue)
