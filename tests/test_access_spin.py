"""Looking again before sleeping: what comes is returned, and looking ends."""

import pytest

from septum.access import spin


@pytest.mark.parametrize("several", [True, False])
def test_what_comes_is_returned_and_looking_ends(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spin, "_WORTH_IT", several)
    monkeypatch.setattr(spin, "_MOMENT", 30.0)
    looks = iter([b"", b"", b"found"])
    assert spin.spinning(lambda: next(looks)) == (b"found" if several else None)
    assert spin.spinning(lambda: b"at once") == b"at once"
    monkeypatch.setattr(spin, "_MOMENT", 0.0)
    assert spin.spinning(lambda: b"") is None
