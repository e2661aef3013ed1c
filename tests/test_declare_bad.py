"""One file for each kind of mistake, with all that is to be said about it."""

from pathlib import Path

import pytest

from septum.declare import read
from septum.errors import DeclarationError

FOLDER = Path(__file__).parent / "data" / "declare"
BAD = sorted(FOLDER.glob("*.toml"))


@pytest.mark.parametrize("source", BAD, ids=lambda path: path.stem)
def test_all_faults_are_told_with_their_places(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / source.name
    copy.write_bytes(source.read_bytes())
    copy.chmod(0o644)
    with pytest.raises(DeclarationError) as caught:
        read(source.name)
    said = "".join(f"{fault}\n" for fault in caught.value.faults)
    assert said == source.with_suffix(".expected").read_text()
    assert str(caught.value).splitlines()[1:] == [f"  {line}" for line in said.splitlines()]


def test_no_expectation_is_left_over() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.expected")) == [path.stem for path in BAD]
    assert len(BAD) >= 20
