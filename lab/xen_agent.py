"""The agent in dom0: the lab's, and questions to guests."""

import json
from typing import Any

from lab import agent, xen_mailbox


class XenAgent(agent.Agent):
    """Adds one operation."""

    def guest(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        answer = xen_mailbox.ask(header["domid"], json.loads(payload), header["timeout"])
        return {"status": 0}, json.dumps(answer).encode()


def main() -> None:
    """Serves until the machine ends."""
    agent.main(XenAgent())
