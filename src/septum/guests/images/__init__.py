"""Disk images: every file that QEMU opens for one, from headers that a guest may have written.

`chain` follows declared formats and never guesses; `would_probe` says what QEMU would guess.
"""

from __future__ import annotations

from septum.guests.images.chain import chain, would_probe
from septum.guests.images.model import Chain, Finding, Limits, Named, Opener, ParseFilename

__all__ = ["Chain", "Finding", "Limits", "Named", "Opener", "ParseFilename", "chain", "would_probe"]
