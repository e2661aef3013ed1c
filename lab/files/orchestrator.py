"""What an orchestrator does first, inside its guest: makes itself known, starts a guest of its realm, tries another's.

REALM, KEY, OWN and OTHER (a guest as REALM/NAME) come from the kernel's command line. Each step prints a line of JSON.
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable

from septum.client import Client
from septum.errors import SeptumError


def step(name: str, act: Callable[[], object]) -> None:
    try:
        found: object = act()
        if hasattr(found, "_asdict"):
            found = found._asdict()
    except SeptumError as error:
        found = error.as_dict()
    print("orchestrator:", json.dumps({name: found}), flush=True)


def main() -> None:
    realm, own = os.environ["REALM"], os.environ["OWN"]
    other, guest = os.environ["OTHER"].split("/")
    secret = hashlib.blake2b(os.urandom(32), digest_size=32).digest()
    public = base64.b64encode(secret).decode()
    with Client.open() as api:
        step("me", api.me)
        if os.environ.get("KEY"):
            step("enrolled", lambda: api.enrol(realm, os.environ["KEY"], public).enrolled)
            step("again", lambda: api.enrol(realm, os.environ["KEY"], public))
        step("started", lambda: api.wait(api.start_guest(realm, own)).state)
        step("own", lambda: api.guest(realm, own).state)
        step("other", lambda: api.start_guest(other, guest))
        step("absent", lambda: api.start_guest(other, "nothing"))
        step("realms", lambda: [one.name for one in api.realms()])


if __name__ == "__main__":
    main()
