-- The journal of a run, and every statement that dfz_ray runs on it.
-- Times are Unix seconds; states and outcomes are small numbers, named beside their column.
-- The digest of a run is SHA-256 over, for every completed task in the order of its id's UTF-8 bytes: the length of
-- the id in bytes (8 bytes, little-endian), the id, and the task's digest. A task's digest is SHA-256 over its result
-- as MessagePack, mappings in the order of their keys, without the keys that its domain calls volatile.

-- name: schema
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,            -- schema_version, run_id, name, created_at, dfz_ray, slots
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE epochs (                  -- who has opened the run for work; only the latest may commit
    epoch     INTEGER PRIMARY KEY,
    opened_at REAL NOT NULL,
    host      TEXT NOT NULL,
    pid       INTEGER NOT NULL
);

CREATE TABLE batches (
    batch        INTEGER PRIMARY KEY,
    name         TEXT NOT NULL,
    seed         INTEGER NOT NULL,
    submitted_at REAL NOT NULL
);

CREATE TABLE domains (
    domain   TEXT PRIMARY KEY,
    volatile TEXT NOT NULL             -- JSON list: keys of a result that the digest leaves out
) WITHOUT ROWID;

CREATE TABLE kinds (
    kind      INTEGER PRIMARY KEY,
    domain    TEXT NOT NULL,
    name      TEXT NOT NULL,
    resources TEXT NOT NULL            -- JSON: cpus, gpus, memory, custom
);

CREATE TABLE files (                   -- what parameters name by path, as it was when the batch was submitted
    sha256  TEXT PRIMARY KEY,
    content BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE tasks (
    task        INTEGER PRIMARY KEY,   -- its number: the order of submission, from 0
    id          TEXT NOT NULL UNIQUE,
    batch       INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    seed        INTEGER NOT NULL,
    parameters  BLOB NOT NULL,         -- MessagePack, defaults included
    description TEXT NOT NULL
);

CREATE TABLE leases (
    epoch    INTEGER NOT NULL,
    lease    INTEGER NOT NULL,
    node     TEXT NOT NULL,            -- host name
    worker   INTEGER NOT NULL,         -- process id
    began_at REAL NOT NULL,
    PRIMARY KEY (epoch, lease)
) WITHOUT ROWID;

CREATE TABLE chunks (                  -- every chunk that was handed out
    chunk         INTEGER PRIMARY KEY,
    epoch         INTEGER NOT NULL,
    lease         INTEGER NOT NULL,
    dispatched_at REAL NOT NULL,
    tasks         BLOB NOT NULL        -- MessagePack list of task numbers
);

CREATE TABLE attempts (                -- every attempt that ended
    task     INTEGER NOT NULL,
    chunk    INTEGER NOT NULL,
    outcome  INTEGER NOT NULL,         -- 0 completed, 1 failed, 2 lost with its worker, 3 superseded
    began_at REAL,                     -- on the worker's clock; null where the worker could not tell
    ended_at REAL,
    cpu_s    REAL,
    note     TEXT,                     -- why a lost one was lost
    PRIMARY KEY (task, chunk)
) WITHOUT ROWID;

CREATE TABLE outcomes (                -- one per task: the primary key makes a second commit impossible
    task      INTEGER PRIMARY KEY,
    state     INTEGER NOT NULL,        -- 2 completed, 3 failed, 4 cancelled
    epoch     INTEGER NOT NULL,
    result    BLOB,                    -- MessagePack
    file      TEXT,                    -- or, where it is large, the name of its file under results/
    digest    BLOB,                    -- SHA-256, 32 bytes, of a completed task
    reason    TEXT,                    -- of a failed one
    message   TEXT,
    traceback TEXT
);

CREATE TABLE reopened (                -- failed tasks that someone asked to be tried again, with the outcome they had
    task    INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,          -- the one that reopened it
    reason  TEXT,
    message TEXT,
    PRIMARY KEY (task, epoch)
) WITHOUT ROWID;

-- name: count_tables
SELECT count(*) FROM sqlite_master WHERE type = 'table';

-- name: set_meta
INSERT OR REPLACE INTO meta VALUES (?, ?);

-- name: get_meta
SELECT key, value FROM meta;

-- name: take_epoch
INSERT INTO epochs SELECT coalesce(max(epoch), 0) + 1, ?, ?, ? FROM epochs RETURNING epoch;

-- name: latest_epoch
SELECT max(epoch) FROM epochs;

-- name: add_batch
INSERT INTO batches VALUES (?, ?, ?, ?);

-- name: add_domain
INSERT OR IGNORE INTO domains VALUES (?, ?);

-- name: add_kind
INSERT INTO kinds VALUES (?, ?, ?, ?);

-- name: add_file
INSERT OR IGNORE INTO files VALUES (?, ?);

-- name: add_task
INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: add_lease
INSERT OR IGNORE INTO leases VALUES (?, ?, ?, ?, ?);

-- name: add_chunk
INSERT INTO chunks VALUES (?, ?, ?, ?, ?);

-- name: add_attempt
INSERT OR IGNORE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: add_outcome
INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: note_reopened
INSERT INTO reopened SELECT task, ?, reason, message FROM outcomes WHERE state = 3;

-- name: reopen_failed
DELETE FROM outcomes WHERE state = 3;

-- name: next_chunk
SELECT coalesce(max(chunk) + 1, 0) FROM chunks;

-- name: count_batches
SELECT count(*) FROM batches;

-- name: read_domains
SELECT domain FROM domains;

-- name: read_kinds
SELECT domain, name, resources FROM kinds ORDER BY kind;

-- name: read_settled
SELECT tasks.kind, outcomes.state FROM tasks LEFT JOIN outcomes USING (task) ORDER BY tasks.task;

-- name: read_open_tasks
SELECT tasks.task, tasks.seed, tasks.parameters FROM tasks LEFT JOIN outcomes USING (task) WHERE outcomes.state IS NULL;

-- name: read_files
SELECT sha256, content FROM files;

-- name: read_contents
SELECT tasks.id, kinds.domain, kinds.resources, tasks.seed, tasks.parameters FROM tasks JOIN kinds USING (kind);

-- name: count_states
SELECT coalesce(outcomes.state, 0), count(*) FROM tasks LEFT JOIN outcomes USING (task) GROUP BY 1;

-- name: read_records
SELECT tasks.task, tasks.id, kinds.domain, kinds.name, outcomes.state, outcomes.result, outcomes.file,
       outcomes.reason, outcomes.message, outcomes.traceback
FROM tasks JOIN kinds USING (kind) LEFT JOIN outcomes USING (task)
ORDER BY tasks.task;

-- name: read_attempts
SELECT attempts.task, attempts.outcome, attempts.began_at, attempts.ended_at, leases.node
FROM attempts LEFT JOIN chunks USING (chunk) LEFT JOIN leases USING (epoch, lease)
ORDER BY attempts.task, attempts.chunk;

-- name: read_digests
SELECT tasks.id, outcomes.digest FROM outcomes JOIN tasks USING (task) WHERE outcomes.state = 2;

-- name: read_spans
SELECT began_at, ended_at FROM attempts WHERE outcome IN (0, 1) AND began_at IS NOT NULL ORDER BY began_at;
