"""The tables of an SQLite ledger, and how an older file becomes a current one.

A released migration never changes: a new need is a new migration with the next number. A file's version is the number
of the last one applied to it (``PRAGMA user_version``).

Columns with several values (categories, argv, details…) are canonical JSON. `shared` marks a journal entry that belongs
to a shared object and not to one guest. STRICT tables and RETURNING are avoided: SQLite 3.34 is still in use.
"""

from __future__ import annotations

from septum.lean import NamedTuple

__all__ = ["APPLICATION_ID", "MIGRATIONS", "Migration"]

APPLICATION_ID = 0x73657074
"""``sept`` in ASCII: ``file`` and we tell a ledger from any other SQLite file by it."""


class Migration(NamedTuple):
    """One step from the version before to `version`.

    Attributes:
        version: without gaps, from 1.
        statements: SQL, one statement each; all migrations that a file lacks run in one transaction.
    """

    version: int
    statements: tuple[str, ...]


_FIRST = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE audit (
        seq INTEGER PRIMARY KEY, time REAL NOT NULL, event TEXT NOT NULL, fields TEXT NOT NULL,
        previous TEXT NOT NULL, digest TEXT NOT NULL)""",
    # The newest record once more: without it, a chain that lost its end would still be a whole chain.
    """CREATE TABLE audit_head (
        one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, digest TEXT NOT NULL)""",
    """CREATE TABLE realms (
        name TEXT PRIMARY KEY, categories TEXT NOT NULL, gid INTEGER NOT NULL) WITHOUT ROWID""",
    # Outlives the guest, as a pair of uuid and incarnation is never used again.
    "CREATE TABLE incarnations (uuid TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE guests (
        uuid TEXT PRIMARY KEY, incarnation INTEGER NOT NULL, name TEXT NOT NULL,
        realm TEXT NOT NULL REFERENCES realms (name),
        state TEXT NOT NULL CHECK (state IN ('admitted', 'starting', 'running', 'ending', 'stuck')),
        categories TEXT NOT NULL, level TEXT NOT NULL, uid INTEGER NOT NULL, drivers TEXT NOT NULL,
        boot_id TEXT NOT NULL, pid INTEGER NOT NULL, started INTEGER NOT NULL, since REAL NOT NULL,
        argv TEXT NOT NULL, details TEXT NOT NULL,
        UNIQUE (name, realm))""",
    "CREATE INDEX guests_state ON guests (state)",
    """CREATE TABLE claims (
        kind TEXT NOT NULL, key TEXT NOT NULL,
        guest TEXT REFERENCES guests (uuid), realm TEXT REFERENCES realms (name),
        PRIMARY KEY (kind, key), CHECK ((guest IS NULL) <> (realm IS NULL))) WITHOUT ROWID""",
    "CREATE INDEX claims_guest ON claims (guest)",
    """CREATE TABLE holds (
        key TEXT NOT NULL, guest TEXT NOT NULL REFERENCES guests (uuid), path TEXT NOT NULL,
        exclusive INTEGER NOT NULL CHECK (exclusive IN (0, 1)), access TEXT NOT NULL CHECK (access IN ('ro', 'rw')),
        PRIMARY KEY (key, guest)) WITHOUT ROWID""",
    "CREATE INDEX holds_guest ON holds (guest)",
    "CREATE UNIQUE INDEX holds_exclusive ON holds (key) WHERE exclusive = 1",
    # Outlives the guest: whose an image is.
    """CREATE TABLE belongings (
        key TEXT PRIMARY KEY, realm TEXT NOT NULL REFERENCES realms (name), guest TEXT NOT NULL,
        path TEXT NOT NULL) WITHOUT ROWID""",
    # AUTOINCREMENT: an id that was given once names that entry for ever, so closing it late can't hit another.
    """CREATE TABLE journal (
        id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, shared INTEGER NOT NULL CHECK (shared IN (0, 1)),
        op TEXT NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL, args TEXT NOT NULL, original TEXT NOT NULL,
        outcome TEXT NOT NULL CHECK (outcome IN ('', 'restored', 'untouched', 'foreign', 'gone')))""",
    "CREATE INDEX journal_owner ON journal (owner)",
    "CREATE INDEX journal_shared ON journal (owner) WHERE shared = 1",
)

# `population` counts a realm's guests, of which there may be hundreds of thousands.
_POPULATION = ("CREATE INDEX guests_realm ON guests (realm)",)

# What outlives a run. `realm` is "" for the platform's, so it refers to no row.
_DOCUMENTS = (
    """CREATE TABLE documents (
        kind TEXT NOT NULL, realm TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (kind, realm, id)) WITHOUT ROWID""",
    "CREATE INDEX documents_realm ON documents (realm)",
    """CREATE TABLE document_claims (
        kind TEXT NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, realm TEXT NOT NULL, id TEXT NOT NULL,
        PRIMARY KEY (kind, key),
        FOREIGN KEY (owner, realm, id) REFERENCES documents (kind, realm, id)) WITHOUT ROWID""",
    "CREATE INDEX document_claims_owner ON document_claims (owner, realm, id)",
    """CREATE TABLE spent (
        realm TEXT NOT NULL, what TEXT NOT NULL, amount INTEGER NOT NULL, PRIMARY KEY (realm, what)) WITHOUT ROWID""",
    """CREATE TABLE events (
        realm TEXT NOT NULL, seq INTEGER NOT NULL, time REAL NOT NULL, kind TEXT NOT NULL, fields TEXT NOT NULL,
        PRIMARY KEY (realm, seq)) WITHOUT ROWID""",
)

# No reference to guests: a channel is taken out by who made it, and must not keep a guest from being released.
_CHANNELS = (
    """CREATE TABLE channels (
        id INTEGER PRIMARY KEY, link TEXT NOT NULL, service TEXT NOT NULL,
        way TEXT NOT NULL CHECK (way IN ('to-service', 'from-service')),
        source TEXT NOT NULL, source_incarnation INTEGER NOT NULL, source_realm TEXT NOT NULL,
        target TEXT NOT NULL, target_incarnation INTEGER NOT NULL, target_realm TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('messages', 'bytes')), size INTEGER NOT NULL, label TEXT NOT NULL,
        seqno INTEGER NOT NULL, carrier TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('granted', 'active', 'draining')))""",
    "CREATE INDEX channels_source ON channels (source_realm)",
    "CREATE INDEX channels_target ON channels (target_realm)",
)

MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, _FIRST),
    Migration(2, _POPULATION),
    Migration(3, _DOCUMENTS),
    Migration(4, _CHANNELS),
)
