"""A ledger's file: private, made whole, never overwritten when it is damaged, upgraded with a copy kept."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from septum.errors import LedgerCorrupt, LedgerError, LedgerTooNew
from septum.ledger import schema
from septum.ledger.records import Guest, Hold, Realm
from septum.ledger.sqlite import SqliteLedger
from tests.ledger_conformance import ACME, RW, claims, entry, guest

OLD = Path(__file__).parent / "data" / "ledger-v1.sql"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ledger's folder with a realm, a guest and a journal in it; nobody has it open."""
    path = tmp_path / "ledger"
    ledger = SqliteLedger(str(path))
    fill(ledger)
    ledger.close()
    return path


def fill(ledger: SqliteLedger, guests: int = 1) -> None:
    ledger.add_realm(ACME)
    for number in range(guests):
        one = ledger.admit(guest(number), claims(guest(number)))
        ledger.begin(one.uuid, [RW._replace(key=f"f:{number}")], [entry(one.uuid)])


def use(path: Path) -> None:
    """Reads all there is."""
    ledger = SqliteLedger(str(path))
    try:
        ledger.guests()
        ledger.realms()
        ledger.audit_verify()
        ledger.check()
    finally:
        ledger.close()


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


# Private


def test_folder_and_files_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ledger = SqliteLedger(str(tmp_path / "a" / "ledger"))
        ledger.add_realm(ACME)
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "ledger").stat().st_mode & 0o7777 == 0o700
    files = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "a" / "ledger").iterdir()}
    assert files == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}
    ledger.close()


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o770, 0o701])
def test_a_folder_that_is_open_to_others_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(LedgerError, match=f"open to others: its mode is {mode:04o}") as refusal:
        SqliteLedger(str(folder))
    assert f"chmod 700 {folder}" in refusal.value.remedy


@pytest.mark.parametrize("mode", [0o640, 0o602])
def test_a_file_that_is_open_to_others_is_refused(folder: Path, mode: int) -> None:
    (folder / "ledger.db").chmod(mode)
    with pytest.raises(LedgerError, match="open to others"):
        SqliteLedger(str(folder))


def test_a_folder_behind_a_symbolic_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(LedgerError, match="folder can't be opened"):
        SqliteLedger(str(tmp_path / "link"))


@pytest.mark.parametrize("kind", ["link", "hardlink", "dir", "fifo"])
def test_what_is_no_plain_file_of_its_own_is_refused(folder: Path, tmp_path: Path, kind: str) -> None:
    file = folder / "ledger.db"
    if kind == "hardlink":
        (tmp_path / "second").hardlink_to(file)
    else:
        file.rename(tmp_path / "moved")
        {"link": lambda: file.symlink_to(tmp_path / "moved"), "dir": file.mkdir, "fifo": lambda: os.mkfifo(file)}[
            kind
        ]()
    with pytest.raises(LedgerError, match="hard links" if kind == "hardlink" else "not a plain file"):
        SqliteLedger(str(folder))


def test_without_create_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0o700)
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(LedgerError, match="no ledger"):
            SqliteLedger(str(tmp_path / "empty"), **options)
        with pytest.raises(LedgerError, match="can't be opened"):
            SqliteLedger(str(tmp_path / "missing"), **options)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_names_that_mean_something_in_a_uri(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory#%41 ü\udcff"
    ledger = SqliteLedger(str(path))
    fill(ledger)
    assert os.path.samefile(os.path.join(path, "ledger.db"), path / "ledger.db")
    assert len(SqliteLedger(str(path)).guests()) == 1
    ledger.close()


def as_nobody(code: str, *arguments: str) -> str:
    """Runs code as another user; returns what it raised."""
    wrapped = (
        "import sys\nfrom septum.errors import *\nfrom septum.ledger.sqlite import SqliteLedger\n"
        "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"try:\n    {code}\nexcept LedgerError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", wrapped, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.root
def test_somebody_elses_ledger_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/tmp") and path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o011)
    assert "Permission denied" in as_nobody("SqliteLedger(sys.argv[1])", str(folder))
    os.chown(folder, 65534, 65534)
    told = as_nobody("SqliteLedger(sys.argv[1])", str(folder))
    assert "ledger.db belongs to uid 0, and this process has uid 65534" in told
    with pytest.raises(LedgerError, match="belongs to uid 65534, and this process has uid 0"):
        SqliteLedger(str(folder))
    assert "can't be opened: Permission denied" in as_nobody("SqliteLedger(sys.argv[1])", str(tmp_path / "new"))


# Damaged


def other_database(file: Path) -> None:
    file.unlink()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE t (a)")
    connection.close()
    file.chmod(0o600)


def garble(file: Path, page: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(page * 4096)
        opened.write(b"\xa5" * 4096)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("realm: acme\n" * 1000),
    "zeros": lambda file: file.write_bytes(b"\0" * 65536),
    "random": lambda file: file.write_bytes(os.urandom(65536)),
    "other database": other_database,
    "cut in half": lambda file: os.truncate(file, file.stat().st_size // 8192 * 4096),
    "cut to a page": lambda file: os.truncate(file, 4096),
    "cut to a byte": lambda file: os.truncate(file, 1),
    "cut within a page": lambda file: os.truncate(file, file.stat().st_size - 1000),
    "first page": lambda file: garble(file, 0),
    "third page": lambda file: garble(file, 2),
    "a page of rows": lambda file: garble(file, file.stat().st_size // 4096 - 2),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_ledger_is_neither_used_nor_overwritten(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "ledger"
    ledger = SqliteLedger(str(folder))
    fill(ledger, 40)
    ledger.close()
    DAMAGE[damage](folder / "ledger.db")
    before = content(folder)
    with pytest.raises(LedgerCorrupt) as refusal:
        use(folder)
    assert str(folder / "ledger.db") in str(refusal.value)
    assert "put back a backup" in refusal.value.remedy
    after = content(folder)
    assert after["ledger.db"] == before["ledger.db"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE guests SET argv = 'no json'",
        "UPDATE guests SET details = x'ff'",
        "DELETE FROM meta",
        "UPDATE guests SET name = CAST(x'ff' AS TEXT)",
        "DELETE FROM realms",
        "DELETE FROM audit_head",
    ],
)
def test_rows_that_septum_can_not_have_written(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "ledger.db", isolation_level=None)
    connection.execute(statement)
    connection.close()
    with pytest.raises(LedgerCorrupt):  # noqa: PT012 - each finds another one of them
        SqliteLedger(str(folder)).secret()
        use(folder)


def test_no_new_ledger_over_the_remains_of_another(folder: Path) -> None:
    ledger = SqliteLedger(str(folder))
    ledger.advance("x")
    (folder / "ledger.db").unlink()
    before = content(folder)
    with pytest.raises(LedgerCorrupt, match="is gone, and its write-ahead log is still there"):
        SqliteLedger(str(folder))
    assert content(folder) == before
    ledger.close()


def test_what_an_interrupted_creation_left_is_cleared(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir(mode=0o700)
    (folder / "ledger.db.new").write_bytes(b"half of a ledger")
    (folder / "ledger.db.new-wal").write_bytes(b"and its log")
    ledger = SqliteLedger(str(folder))
    fill(ledger)
    ledger.close()
    assert [path.name for path in folder.iterdir()] == ["ledger.db"]


# Gone, busy, full, read-only


@pytest.mark.parametrize("way", ["file", "folder", "replaced"])
def test_a_ledger_that_goes_away_while_in_use(folder: Path, tmp_path: Path, way: str) -> None:
    ledger = SqliteLedger(str(folder))
    ledger.advance("x")
    if way == "folder":
        folder.rename(tmp_path / "moved")
    else:
        (folder / "ledger.db").rename(tmp_path / "moved.db")
    if way == "replaced":
        shutil.copy(tmp_path / "moved.db", folder / "ledger.db")
    with pytest.raises(LedgerError, match="replaced" if way == "replaced" else "vanished"):
        ledger.advance("x")
    ledger.close()


def test_waiting_for_another_process_ends(folder: Path) -> None:
    other = sqlite3.connect(folder / "ledger.db", isolation_level=None)
    ledger = SqliteLedger(str(folder), timeout=0.05)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match=r"busy for more than 0\.05 s") as refusal:
        ledger.advance("x")
    assert type(refusal.value) is LedgerError
    assert len(ledger.guests()) == 1
    other.execute("ROLLBACK")
    assert ledger.advance("x") == 0
    other.close()
    ledger.close()


def test_read_only_refuses_changes(folder: Path) -> None:
    ledger = SqliteLedger(str(folder), read_only=True)
    assert len(ledger.guests()) == 1
    with pytest.raises(LedgerError, match="can't be written"):
        ledger.advance("x")
    assert ledger.audit_verify() == 3
    ledger.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.root
def test_a_full_disk_loses_nothing(small: Path) -> None:
    ledger = SqliteLedger(str(small))
    ledger.add_realm(ACME)
    admitted: list[Guest] = []
    with pytest.raises(LedgerError, match=r"no room|SQLITE_IOERR") as refusal:  # noqa: PT012
        while True:
            number = len(admitted)
            admitted.append(ledger.admit(guest(number, details={"big": "x" * 2000}), claims(guest(number))))
    assert type(refusal.value) is LedgerError
    assert len(admitted) > 5
    assert sorted(ledger.guests(), key=lambda g: g.uid) == admitted
    assert ledger.audit_verify() == 1 + len(admitted)
    ledger.check()
    ledger.close()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
    ledger = SqliteLedger(str(small))
    assert sorted(ledger.guests(), key=lambda g: g.uid) == admitted
    ledger.admit(guest(len(admitted)), [])
    ledger.close()


@pytest.mark.root
def test_no_room_for_a_new_ledger(small: Path) -> None:
    (small / "ballast").write_bytes(b"x" * (990 << 10))
    with pytest.raises(LedgerError):
        SqliteLedger(str(small))
    (small / "ballast").unlink()
    ledger = SqliteLedger(str(small))
    assert ledger.guests() == []
    ledger.close()
    assert not (small / "ledger.db.new").exists()


@pytest.mark.root
def test_a_read_only_file_system(small: Path) -> None:
    ledger = SqliteLedger(str(small))
    fill(ledger)
    ledger.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    with pytest.raises(LedgerError, match=r"can't be (opened|written)"):  # noqa: PT012
        opened = SqliteLedger(str(small))
        opened.advance("x")
    with pytest.raises(LedgerError, match="can't be opened: Read-only file system"):
        SqliteLedger(str(small / "new"))


# Versions


NEXT = schema.Migration(
    schema.MIGRATIONS[-1].version + 1,
    ("ALTER TABLE realms ADD COLUMN note TEXT NOT NULL DEFAULT 'from before'", "CREATE TABLE extra (a)"),
)


def version(file: Path) -> int:
    connection = sqlite3.connect(file)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


@pytest.fixture
def later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """As if this septum knew one version more than the one that made `folder`."""
    assert version(folder / "ledger.db") < NEXT.version
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT))
    return NEXT.version


def test_a_newer_ledger_is_refused(folder: Path) -> None:
    connection = sqlite3.connect(folder / "ledger.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = content(folder)
    for read_only in (False, True):
        with pytest.raises(LedgerTooNew, match="has version 99"):
            SqliteLedger(str(folder), read_only=read_only)
    assert content(folder)["ledger.db"] == before["ledger.db"]


@pytest.mark.usefixtures("later")
def test_an_older_ledger_is_upgraded_and_its_copy_kept(folder: Path) -> None:
    before = NEXT.version - 1
    use(folder)
    assert version(folder / "ledger.db") == NEXT.version
    copy = folder / f"ledger.db.v{before}"
    assert version(copy) == before
    assert copy.stat().st_mode & 0o7777 == 0o600
    connection = sqlite3.connect(folder / "ledger.db")
    assert connection.execute("SELECT name, note FROM realms").fetchall() == [("acme", "from before")]
    connection.close()
    use(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["ledger.db", copy.name]


def test_a_copy_can_be_put_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT))
        use(folder)
    with pytest.raises(LedgerTooNew):
        use(folder)
    (folder / f"ledger.db.v{NEXT.version - 1}").rename(folder / "ledger.db")
    use(folder)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT))
        (folder / f"ledger.db.v{NEXT.version - 1}").write_text("an earlier copy")
        use(folder)
    assert (folder / f"ledger.db.v{NEXT.version - 1}").read_text() == "an earlier copy"
    assert version(folder / f"ledger.db.v{NEXT.version - 1}.1") == NEXT.version - 1


def test_an_upgrade_that_fails_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = NEXT._replace(statements=(*NEXT.statements, "INSERT INTO no_such_table VALUES (1)"))
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        with pytest.raises(LedgerError, match="no_such_table"):
            use(folder)
    assert version(folder / "ledger.db") == NEXT.version - 1
    use(folder)


@pytest.mark.usefixtures("later")
def test_reading_does_not_upgrade(folder: Path) -> None:
    with pytest.raises(LedgerError, match="older version"):
        SqliteLedger(str(folder), read_only=True)
    assert version(folder / "ledger.db") == NEXT.version - 1


def test_a_process_that_had_it_open_stops_at_an_upgrade(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = SqliteLedger(str(folder))
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT))
    use(folder)
    with pytest.raises(LedgerTooNew, match="upgraded while"):
        old.advance("x")
    with pytest.raises(LedgerTooNew):
        old.guests()
    old.close()


@pytest.mark.parametrize("ahead", [False, True])
def test_a_ledger_of_the_first_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: bool) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir(mode=0o700)
    connection = sqlite3.connect(folder / "ledger.db")
    connection.executescript(OLD.read_text())
    connection.close()
    (folder / "ledger.db").chmod(0o600)
    assert version(folder / "ledger.db") == 1
    if ahead:
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT))
    ledger = SqliteLedger(str(folder))
    assert ledger.identity() == "9c0f8c5f6ad7b5f4fe6cb8bd0a5e4a11"
    assert ledger.realms() == [ACME, Realm("bolt", (4,), 70004)]
    one, two = ledger.guests()
    assert (one.name, one.state, one.details) == ("g1", "running", {"deep": {"list": [1, 2.5, None, True, "ü"]}})
    assert (two.name, two.state) == ("g2", "stuck")
    assert ledger.holds(one.uuid) == [Hold("f:1", "/vm/a.img", True, "rw"), Hold("f:2", "/vm/base.img", False, "ro")]
    assert [step.op for step in ledger.journal(one.uuid)] == ["own"]
    assert ledger.audit_verify() == 9
    ledger.forget(two.uuid)
    assert ledger.audit_verify() == 10
    ledger.check()
    ledger.close()


# Cost


def test_opening_loads_little() -> None:
    code = "import sys, septum.ledger.sqlite; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"sqlite3", "datetime", "dataclasses", "hashlib", "pathlib", "subprocess"} & set(loaded.split())
    assert "_sqlite3" in loaded.split()
