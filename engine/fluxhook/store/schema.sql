-- One engine's deliveries: those that wait for an attempt, and for a while those that ended.
-- The scheduler is the only writer. Times are nanoseconds since the epoch, UTC: what happened by the
-- wall clock, what is waited for by the engine's (policy/clock.py), which nobody sets.
--
-- A delivery's states (State in rows.py):
--   0 waiting    due at due_ns
--   1 blocked    waits behind another delivery of its order, and then becomes waiting
--   2 delivered  3 dead  4 dropped    ended at ended_ns; the body stays until the purge
--
-- Handing a row to a worker writes nothing: who holds a row is in the scheduler's memory alone, so
-- after a restart every row that has not ended is handed out again.

PRAGMA application_id = 0x466c7868;  -- "Flxh"

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

-- ids are given out ascending from 0 and never again: the rings refer to them
CREATE TABLE endpoints (
    id              INTEGER PRIMARY KEY,
    name            TEXT    NOT NULL UNIQUE,
    disabled_ns     INTEGER,
    disabled_reason TEXT    NOT NULL DEFAULT '',
    paused          INTEGER NOT NULL DEFAULT 0,  -- 1: at run time, whatever its definition says
    -- how many of its deliveries are waiting or blocked, and how many are dead
    pending         INTEGER NOT NULL DEFAULT 0,
    dead            INTEGER NOT NULL DEFAULT 0,
    -- its latest failed attempt
    failed_ns       INTEGER,
    failed_cause    TEXT    NOT NULL DEFAULT '',
    failed_error    TEXT    NOT NULL DEFAULT ''
);

-- Endpoints that were created at run time: what was written, as JSON, to be laid over the defaults
-- of the configuration file.
CREATE TABLE subscriptions (
    name       TEXT    PRIMARY KEY,
    layer      TEXT    NOT NULL,
    created_ns INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL,
    expiring   TEXT    NOT NULL DEFAULT '{}'  -- secrets that still sign, and until which engine time
) WITHOUT ROWID;

-- Open windows of aggregation. Each ends in one delivery.
CREATE TABLE windows (
    endpoint  INTEGER PRIMARY KEY,
    closes_ns INTEGER NOT NULL,               -- engine time
    state     BLOB    NOT NULL                -- policy.aggregate.Window as MessagePack
);

-- The workers choose the ids, ascending with engine time. Rows are kept small and apart from the
-- bodies: a retry rewrites nothing else, and a search reads no bodies.
CREATE TABLE deliveries (
    id               INTEGER PRIMARY KEY,
    endpoint         INTEGER NOT NULL,
    state            INTEGER NOT NULL,
    ordered          INTEGER NOT NULL,  -- 1: waits its turn among those of the same order_key
    due_ns           INTEGER NOT NULL,  -- engine time
    attempts         INTEGER NOT NULL,  -- since it was accepted or replayed
    accepted_ns      INTEGER NOT NULL,
    first_failed_ns  INTEGER,           -- when the first attempt since then ended: engine time
    ended_ns         INTEGER,           -- NULL while waiting or blocked
    last_attempt     INTEGER,           -- attempts.id
    cause            TEXT    NOT NULL,  -- of the latest failure, parking or end
    error            TEXT    NOT NULL,
    event_id         TEXT    NOT NULL,
    type             TEXT    NOT NULL,
    topic            TEXT    NOT NULL,
    order_key        TEXT    NOT NULL
);

CREATE INDEX due   ON deliveries (endpoint, due_ns) WHERE state = 0;
CREATE INDEX line  ON deliveries (endpoint, order_key, state) WHERE ordered AND ended_ns IS NULL;
CREATE INDEX ended ON deliveries (endpoint, state, ended_ns) WHERE ended_ns IS NOT NULL;

CREATE TABLE bodies (
    id   INTEGER PRIMARY KEY,           -- deliveries.id
    body BLOB    NOT NULL
);

-- The W3C Trace Context of those deliveries that have one. Also in database.py, for earlier files.
CREATE TABLE IF NOT EXISTS traces (
    id          INTEGER PRIMARY KEY,    -- deliveries.id
    traceparent TEXT    NOT NULL,
    tracestate  TEXT    NOT NULL
);

-- In the order of commits. A delivery's attempts are a chain from deliveries.last_attempt through
-- `previous`, which costs nothing to write where an index costs a random page per retry.
CREATE TABLE attempts (
    id            INTEGER PRIMARY KEY,
    delivery      INTEGER NOT NULL,
    previous      INTEGER,
    n             INTEGER NOT NULL,     -- 1 for the first since it was accepted or replayed
    -- from here on the fields of transport.records.Attempt, in their order
    started_ns    INTEGER NOT NULL,
    status        INTEGER NOT NULL,
    cause         TEXT    NOT NULL,
    error         TEXT    NOT NULL,
    dns_us        INTEGER NOT NULL,
    connect_us    INTEGER NOT NULL,
    tls_us        INTEGER NOT NULL,
    first_byte_us INTEGER NOT NULL,
    total_us      INTEGER NOT NULL,
    retry_after_s INTEGER,
    answer        BLOB    NOT NULL,
    worker        INTEGER NOT NULL
);

CREATE TABLE counters (
    endpoint INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    value    INTEGER NOT NULL,
    PRIMARY KEY (endpoint, name)
) WITHOUT ROWID;

-- Up to where each ring towards the scheduler has been applied, committed with what was applied.
CREATE TABLE ring_positions (
    ring_uid BLOB    PRIMARY KEY,
    seq      INTEGER NOT NULL
) WITHOUT ROWID;
