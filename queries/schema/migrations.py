"""Bring a store to the schema of this version, and tell apart the stores that this version must not touch.

A migration is a file `NNNN_name.cypher` beside this module: statements that end with `;` at the end of a line, comments
that start with `//`. It holds either schema commands, each of which must say `IF [NOT] EXISTS` (they cannot share a
transaction, so they must bear being run twice), or data statements, which run in one transaction together with their
record. What was applied is in the store: `(:Migration {number, name, checksum, applied})`.
"""

from __future__ import annotations

import hashlib
import random
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import resources

from neo4j import Driver, ManagedTransaction, Session
from neo4j.exceptions import ClientError, DatabaseError, TransientError

from gradtrace.tracer.errors import StoreSchemaError

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.cypher")
_SCHEMA = re.compile(r"(CREATE|DROP)\s+(CONSTRAINT|((RANGE|TEXT|POINT|FULLTEXT|LOOKUP)\s+)?INDEX)\b", re.IGNORECASE)
_BOOTSTRAP = "CREATE CONSTRAINT migration_number IF NOT EXISTS FOR (n:Migration) REQUIRE n.number IS UNIQUE"
# Who applies migrations says so in the store, and the others wait: two that create one constraint at the same moment
# can wait for each other's transactions without the server noticing. The claim of one that died runs out.
_CLAIM = """
MERGE (m:Migration {number: 0}) SET m.lock = $token
WITH m, coalesce(m.until < timestamp(), true) AS free
SET m.token = CASE WHEN free THEN $token ELSE m.token END, m.until = CASE WHEN free THEN timestamp() + $ms ELSE m.until END
RETURN m.token = $token AS mine
"""
_RELEASE = "MATCH (m:Migration {number: 0, token: $token}) DELETE m"
_CLAIM_SECONDS = 60
_ATTEMPTS = 12
_AWAIT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema.

    Attributes:
        number: position, from 1 without gaps.
        name: what it is about.
        text: its file.
    """

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Hex digest of the text, whatever its line ends."""
        return hashlib.sha256("\n".join(self.text.splitlines()).strip().encode()).hexdigest()

    @property
    def statements(self) -> tuple[str, ...]:
        """Its statements, without comments."""
        lines = (line for line in self.text.splitlines() if not line.lstrip().startswith("//"))
        parts = re.split(r";[ \t]*(?:\n|$)", "\n".join(lines))
        return tuple(part.strip() for part in parts if part.strip())

    @property
    def is_schema(self) -> bool:
        """Whether it holds schema commands (True) or data statements (False).

        Raises:
            StoreSchemaError: it holds both, or a command that cannot be run twice.
        """
        kinds = {bool(_SCHEMA.match(s)) for s in self.statements}
        unsafe = [s for s in self.statements if _SCHEMA.match(s) and not re.search(r"\bIF\s+(NOT\s+)?EXISTS\b", s)]
        if len(kinds) != 1 or unsafe:
            raise StoreSchemaError(
                f"Migration {self.number} ({self.name}) must hold either schema commands with IF [NOT] EXISTS or data "
                f"statements, and at least one. Split it, or complete: {unsafe or self.statements}."
            )
        return kinds.pop()


@lru_cache(maxsize=1)
def packaged_migrations() -> tuple[Migration, ...]:
    """The migrations of this version of gradtrace, in order.

    Raises:
        StoreSchemaError: their numbers are not 1, 2, 3 and so on: the installation is damaged.
    """
    made = []
    for file in resources.files(__package__).iterdir():
        if match := _FILE.fullmatch(file.name):
            made.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    made.sort(key=lambda m: m.number)
    if [m.number for m in made] != list(range(1, len(made) + 1)) or not made:
        raise StoreSchemaError(
            f"gradtrace's own migrations are numbered {[m.number for m in made]}, not 1, 2, 3 and so on: "
            "the installation is damaged. Install gradtrace again."
        )
    return tuple(made)


def ensure_schema(driver: Driver, database: str | None = "neo4j", migrations: Sequence[Migration] | None = None) -> int:
    """Apply what is missing; return the number of the last migration. Safe with many callers at once.

    Args:
        driver: a connected driver; only its sessions are used.
        database: name of the database; None for the one that the server gives this user.
        migrations: what the store should have; the packaged ones if not given.

    Raises:
        StoreSchemaError: the store is newer than this version, was changed, or has a gap; nothing was written.
    """
    wanted = tuple(migrations or packaged_migrations())
    with driver.session(database=database, notifications_min_severity="OFF") as session:
        done = _verified(session, wanted)
        if done == len(wanted):
            return done
        for migration in wanted:
            assert migration.is_schema in (True, False)  # refuses a malformed one before the first write
        _persist(partial(_run, session, _BOOTSTRAP))
        with _alone(session):
            for migration in wanted[_verified(session, wanted) :]:
                _apply(session, migration)
        return _verified(session, wanted)


def schema_version(driver: Driver, database: str | None = "neo4j") -> int:
    """Number of the last migration that was applied; 0 for an empty store. Writes nothing."""
    with driver.session(database=database, notifications_min_severity="OFF") as session:
        return max((number for number, _, _ in session.execute_read(_applied)), default=0)


def _applied(tx: ManagedTransaction) -> list[tuple[int, str, str]]:
    found = tx.run("MATCH (m:Migration) WHERE m.number <> 0 RETURN m.number, m.name, m.checksum ORDER BY m.number")
    return [(number, name, checksum) for number, name, checksum in found]


def _verified(session: Session, wanted: Sequence[Migration]) -> int:
    """How many migrations the store has, once it is clear that they are the first ones of `wanted`."""
    held = session.execute_read(_applied)
    numbers = [number for number, _, _ in held]
    if numbers and numbers[-1] > len(wanted):
        raise StoreSchemaError(
            f"The store has schema {numbers[-1]}, and this version of gradtrace knows schema {len(wanted)}: a newer "
            "version wrote it. Upgrade gradtrace (pip install -U gradtrace), or use another store."
        )
    if numbers != list(range(1, len(numbers) + 1)):
        missing = sorted(set(range(1, numbers[-1] + 1)) - set(numbers))
        raise StoreSchemaError(
            f"The store's migrations have a gap: {missing} of 1…{numbers[-1]} were never recorded. Someone deleted "
            "(:Migration) nodes, or restored a part of a backup. Restore a whole backup, or use another store."
        )
    for (number, name, checksum), migration in zip(held, wanted, strict=False):
        if checksum != migration.checksum:
            raise StoreSchemaError(
                f"Migration {number} was applied as {name!r} with checksum {str(checksum)[:12]}…, and this version has "
                f"{migration.name!r} with {migration.checksum[:12]}…: one of the two was changed. Use the version of "
                "gradtrace that made this store, or another store."
            )
    return len(numbers)


@contextmanager
def _alone(session: Session) -> Iterator[None]:
    """Wait until no other caller applies migrations, and keep the others waiting meanwhile."""
    token = secrets.token_hex(8)
    while not session.execute_write(_claimed, token):
        time.sleep(random.uniform(0.05, 0.15))
    try:
        yield
    finally:
        session.execute_write(lambda tx: tx.run(_RELEASE, token=token).consume())


def _claimed(tx: ManagedTransaction, token: str) -> bool:
    return bool(tx.run(_CLAIM, token=token, ms=1000 * _CLAIM_SECONDS).single(strict=True)["mine"])


def _apply(session: Session, migration: Migration) -> None:
    if migration.is_schema:
        for statement in migration.statements:
            _persist(partial(_run, session, statement))
        session.run("CALL db.awaitIndexes($seconds)", seconds=_AWAIT_SECONDS).consume()
    session.execute_write(_record, migration)


def _record(tx: ManagedTransaction, migration: Migration) -> None:
    """Record a migration, and run its data statements unless another caller has done so meanwhile."""
    created = tx.run(
        "MERGE (m:Migration {number: $number}) "
        "ON CREATE SET m.name = $name, m.checksum = $checksum, m.applied = datetime()",
        number=migration.number,
        name=migration.name,
        checksum=migration.checksum,
    ).consume()
    if created.counters.nodes_created and not migration.is_schema:
        for statement in migration.statements:
            tx.run(statement).consume()


def _run(session: Session, statement: str) -> None:
    session.run(statement).consume()


def _persist(command: Callable[[], object]) -> None:
    """Run an `IF NOT EXISTS` command again where another caller's equal command got in its way."""
    for attempt in range(_ATTEMPTS):
        try:
            command()
            return
        except (ClientError, DatabaseError, TransientError) as error:
            passing = isinstance(error, TransientError) or ".Schema." in (error.code or "")
            if not passing or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.02, 0.1) * (attempt + 1))
