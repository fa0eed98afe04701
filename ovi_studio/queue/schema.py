"""The tables, and the migration of databases from older versions.

A change of `ClipSpec` that makes stored specs invalid needs a migration here, too.
"""

import sqlite3

from ovi_studio.core.errors import JobError

SHOWN_ORDER = (
    "CASE state WHEN 'running' THEN 0 WHEN 'queued' THEN 1 ELSE 2 END, COALESCE(-ended, -priority), position, number"
)
"""Running jobs, then waiting jobs in the order in which they will run, then ended jobs with the latest first.

`ended` is a value of the change counter and not a time, so that setting the clock back does not change the order.
"""

CLAIMABLE = "state = 'queued' AND (parent IS NULL OR parent_clip IS NOT NULL)"
"""The jobs that an engine may claim: those that wait for nothing."""

UNDECIDED = (
    "EXISTS (SELECT 1 FROM takes WHERE takes.job = {job} AND takes.word_errors IS NOT NULL AND takes.scores IS NULL)"
)
"""Whether the job with the id `{job}` makes a take of which it is not known yet whether its words are right."""

_FIRST = (
    "CREATE TABLE batches (id INTEGER PRIMARY KEY, name TEXT NOT NULL, created REAL NOT NULL)",
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        batch INTEGER NOT NULL REFERENCES batches (id),
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
        priority INTEGER NOT NULL,
        position REAL NOT NULL,
        spec TEXT NOT NULL,
        variant TEXT NOT NULL,
        steps INTEGER NOT NULL,
        guided INTEGER NOT NULL,
        attempt INTEGER NOT NULL DEFAULT 0,
        cancel INTEGER NOT NULL DEFAULT 0,
        owner TEXT,
        phase TEXT, step INTEGER, total INTEGER, seconds_per_step REAL, seconds_left REAL, preview TEXT,
        error TEXT,
        clip TEXT,
        created REAL NOT NULL, started REAL, finished REAL, seconds REAL,
        ended INTEGER
    )
    """,
    "CREATE INDEX jobs_waiting ON jobs (priority DESC, position, number) WHERE state = 'queued'",
    "CREATE INDEX jobs_running ON jobs (owner) WHERE state = 'running'",
    "CREATE INDEX jobs_position ON jobs (position)",
    "CREATE INDEX jobs_batch ON jobs (batch, state)",
    f"CREATE INDEX jobs_shown ON jobs ({SHOWN_ORDER})",
    """
    CREATE TABLE engines (
        number INTEGER PRIMARY KEY,
        owner TEXT NOT NULL UNIQUE,
        pid INTEGER NOT NULL,
        supervised INTEGER NOT NULL,
        state TEXT NOT NULL,
        variant TEXT,
        ready INTEGER NOT NULL DEFAULT 0,
        stop INTEGER NOT NULL DEFAULT 0,
        ended INTEGER NOT NULL DEFAULT 0
    )
    """,
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE notices (id INTEGER PRIMARY KEY, text TEXT NOT NULL, created REAL NOT NULL)",
    "CREATE TABLE changes (value INTEGER NOT NULL)",
    "INSERT INTO changes VALUES (0)",
)

_PARTS = ("ALTER TABLE jobs ADD COLUMN part REAL",)

# Covers the queries that count and estimate a long queue, so that they do not read the rows.
_COUNTED = ("CREATE INDEX jobs_counted ON jobs (state, variant, guided, steps)",)

_NOTED = ("ALTER TABLE jobs ADD COLUMN note TEXT",)

# Specs from before the step cache do not have it.
_CACHED = (
    "ALTER TABLE jobs ADD COLUMN step_cache TEXT "
    "GENERATED ALWAYS AS (COALESCE(json_extract(spec, '$.step_cache'), 'off')) VIRTUAL",
    "DROP INDEX jobs_counted",
    "CREATE INDEX jobs_counted ON jobs (state, variant, guided, step_cache, steps)",
)

_DELETED = (
    """
    CREATE TABLE deleted_jobs (
        id TEXT PRIMARY KEY,
        batch INTEGER NOT NULL REFERENCES batches (id),
        picture TEXT,
        row TEXT NOT NULL,
        deleted REAL NOT NULL
    )
    """,
)

# The axes of a batch that is a grid as JSON, and where in it a job is, row by row.
_GRIDS = ("ALTER TABLE batches ADD COLUMN grid TEXT", "ALTER TABLE jobs ADD COLUMN cell INTEGER")

# The job whose last frame a job begins with, and that job's clip, which is known once it is done. The database itself
# notes the clip in the transaction in which the parent becomes done, so that no killed process can leave one without
# the other.
_PARENTS = (
    "ALTER TABLE jobs ADD COLUMN parent TEXT",
    "ALTER TABLE jobs ADD COLUMN parent_clip TEXT",
    "CREATE INDEX jobs_parent ON jobs (parent) WHERE parent IS NOT NULL",
    """
    CREATE TRIGGER jobs_done AFTER UPDATE OF state ON jobs WHEN new.state = 'done' BEGIN
        UPDATE jobs SET parent_clip = new.clip WHERE parent = new.id;
    END
    """,
    "DROP INDEX jobs_waiting",
    "CREATE INDEX jobs_waiting ON jobs (priority DESC, position, number) "
    "WHERE state = 'queued' AND (parent IS NULL OR parent_clip IS NOT NULL)",
)

# Films with their takes: which job made which take of a shot, from what, and which one is in the film. `chosen` is 2 if
# a person chose it.
_FILMS = (
    """
    CREATE TABLE films (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        source TEXT UNIQUE,
        film TEXT NOT NULL,
        created REAL NOT NULL
    )
    """,
    """
    CREATE TABLE takes (
        film INTEGER NOT NULL REFERENCES films (id) ON DELETE CASCADE,
        shot TEXT NOT NULL,
        number INTEGER NOT NULL,
        job TEXT NOT NULL UNIQUE,
        recipe TEXT NOT NULL,
        seed INTEGER NOT NULL,
        parent TEXT,
        chosen INTEGER NOT NULL,
        PRIMARY KEY (film, shot, number)
    ) WITHOUT ROWID
    """,
)

# What a job does to the clip in `parent_clip` instead of making one, as JSON, and for how many pixels.
_IMPROVEMENTS = (
    "ALTER TABLE jobs ADD COLUMN improvement TEXT",
    "ALTER TABLE jobs ADD COLUMN pixels INTEGER",
    "DROP INDEX jobs_counted",
    "CREATE INDEX jobs_counted ON jobs (state, variant, guided, step_cache, improvement, steps, pixels)",
)

# Which engine made a job, since when an engine runs, and the order in which the kinds of waiting jobs come.
_MAKERS = (
    "ALTER TABLE jobs ADD COLUMN made_by TEXT",
    "ALTER TABLE engines ADD COLUMN started REAL",
    "DROP INDEX jobs_counted",
    "CREATE INDEX jobs_counted ON jobs "
    "(state, priority, variant, guided, step_cache, improvement, steps, pixels, position)",
)

# What was measured about a take, as JSON; and while takes are made until the words are right: the word error rate that
# is right, and the seeds of further takes. What continues such a take waits until it was checked.
_SCORED = (
    "ALTER TABLE takes ADD COLUMN scores TEXT",
    "ALTER TABLE takes ADD COLUMN word_errors REAL",
    "ALTER TABLE takes ADD COLUMN more_seeds TEXT",
    "CREATE INDEX takes_unchecked ON takes (job) WHERE scores IS NULL",
    "DROP TRIGGER jobs_done",
    """
    CREATE TRIGGER jobs_done AFTER UPDATE OF state ON jobs WHEN new.state = 'done' BEGIN
        UPDATE jobs SET parent_clip = new.clip WHERE parent = new.id AND NOT EXISTS
            (SELECT 1 FROM takes WHERE takes.job = new.id AND word_errors IS NOT NULL AND scores IS NULL);
    END
    """,
)

# The image model that is still to draw the first frame of a job's clip, and with how many steps.
_DRAWINGS = (
    "ALTER TABLE jobs ADD COLUMN draws TEXT GENERATED ALWAYS AS (CASE WHEN json_extract(spec, '$.drawing.sha256') "
    "IS NULL THEN json_extract(spec, '$.drawing.model') END) VIRTUAL",
    "ALTER TABLE jobs ADD COLUMN draw_steps INTEGER "
    "GENERATED ALWAYS AS (json_extract(spec, '$.drawing.steps')) VIRTUAL",
    "DROP INDEX jobs_counted",
    "CREATE INDEX jobs_counted ON jobs "
    "(state, priority, variant, guided, step_cache, improvement, draws, draw_steps, steps, pixels, position)",
)

# Requests for pictures to choose a first frame from, and the names of those that are drawn as JSON.
_CANDIDATES = (
    """
    CREATE TABLE drawings (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        spec TEXT NOT NULL,
        count INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'queued',
        owner TEXT,
        step INTEGER NOT NULL DEFAULT 0,
        total INTEGER NOT NULL DEFAULT 0,
        pictures TEXT NOT NULL DEFAULT '[]',
        error TEXT,
        created REAL NOT NULL
    )
    """,
)

MIGRATIONS = (
    _FIRST,
    _PARTS,
    _COUNTED,
    _NOTED,
    _CACHED,
    _DELETED,
    _GRIDS,
    _PARENTS,
    _FILMS,
    _IMPROVEMENTS,
    _MAKERS,
    _SCORED,
    _DRAWINGS,
    _CANDIDATES,
)
"""Statements that migrate version n to n + 1, at index n."""


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate a database to this version in one transaction; raises `JobError` if it has a newer version."""
    if _version(connection) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        if version > len(MIGRATIONS):
            raise JobError("The job database was made by a newer version of Ovi Studio; update Ovi Studio.")
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]
