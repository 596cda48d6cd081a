-- The journal of a run, schema 2: its tables, what proves that they are whole, and every statement that is run on them.
--
-- Times are Unix seconds; states and outcomes are small numbers, named beside their column. Rows are only added. The
-- one exception: outcomes of failed tasks that are to be tried again move to `reopened`, whole.
--
-- COMMITS. The last column of every table is the number of the commit that added the row; numbers count from 0, without
-- a gap. Commit 0 is the creation, each epoch is taken in one of its own, and so are tasks reopened. `commits` has for
-- each of them the number of its rows, and a sum by which anyone can tell that they are what was written: SHA-256 over
--   the sum of the commit before it (of commit 0: nothing),
--   the array [commit, epoch, committed_at, rows] as MessagePack,
--   and for each table that it added rows to, in the order of the tables below: the table's name, and SHA-256 over
--   those rows in the order of the primary key, each the array of all its columns as MessagePack, one after the other.
-- An outcome that has moved to `reopened` counts here as the row of `outcomes` that it was. In MessagePack INTEGER is
-- an integer, REAL a 64-bit float, TEXT a string, BLOB binary and NULL nil, each in its shortest form.
--
-- THE SEAL. When a run comes to rest, the file `seal` beside the journal gets SHA-256 of the whole file run.sqlite, in
-- hex; there is no log beside the journal then (run.sqlite-wal, run.sqlite-journal). Whoever opens the run for work
-- removes the seal before the first write, so a run that was killed has none. While there is no log, the size of the
-- journal is its number of pages times their size.
-- The file `status.json`, an object, says under `commits` how many commits the process that worked on the run last had
-- seen on disk: the journal never has fewer.
--
-- THE DIGEST of a run is SHA-256 over, for every completed task in the order of its id's UTF-8 bytes: the length of
-- the id in bytes (8 bytes, little-endian), the id, and the task's digest. A task's digest is SHA-256 over its result
-- as MessagePack, without the keys of its own (not of what is nested) that its domain calls volatile, and with all
-- mappings, nested ones too, in the order of their keys as Python's repr() writes them. In results, extension type 1 is
-- an integer beyond 64 bits (two's complement, little-endian), lone surrogates are encoded as if they were characters,
-- and a key that is an array stands for a tuple.
--
-- WHAT HOLDS in a sound run, besides:
--   Tasks are numbered from 0 without a gap, and their ids are unique. A task without an outcome is open.
--   A completed task has one completed attempt; any other has none. It has a digest, either a result or a file, and no
--   reason. A failed or cancelled task has a reason and a message, and nothing of the former; a cancelled one has the
--   reason `cancelled`. No more tasks are cancelled than the `cancels` say.
--   Completed attempts have no reason, failed and lost ones have one. Only failed and lost ones are charged. The task
--   of an attempt is in the list of its chunk. What a row refers to is there: batch, kind, domain, task, chunk, epoch
--   (commit 0 alone is of epoch 0).
--   Attempts that were committed before their task was reopened last belong to an outcome that is past. Of the later
--   ones at most max_attempts are charged, and each has a reason to have been followed by another one: it was
--   superseded; or lost, and not charged; or failed or lost, charged, for a reason that the policy of its kind has in
--   retry_on. That need not hold for the completed one, nor for a failed task's last one (by the number of its chunk)
--   that was not superseded.
--   The file of a large result is named by the SHA-256 of its content, in hex.

-- name: schema
CREATE TABLE meta (
    key      TEXT PRIMARY KEY,         -- schema_version, run_id, name, created_at, dfz_ray, slots
    value    TEXT NOT NULL,
    "commit" INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE epochs (                  -- who has opened the run for work; only the latest may commit
    epoch     INTEGER PRIMARY KEY,     -- from 1
    opened_at REAL NOT NULL,
    host      TEXT NOT NULL,
    pid       INTEGER NOT NULL,
    "commit"  INTEGER NOT NULL
);

CREATE TABLE batches (
    batch        INTEGER PRIMARY KEY,
    name         TEXT NOT NULL,
    seed         INTEGER NOT NULL,
    submitted_at REAL NOT NULL,
    "commit"     INTEGER NOT NULL
);

CREATE TABLE domains (
    domain   TEXT PRIMARY KEY,
    volatile TEXT NOT NULL,            -- JSON list: keys of a result that the digest leaves out
    "commit" INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE kinds (
    kind      INTEGER PRIMARY KEY,
    domain    TEXT NOT NULL,
    name      TEXT NOT NULL,
    resources TEXT NOT NULL,           -- JSON: cpus, gpus, memory, custom
    policy    TEXT NOT NULL,           -- JSON: max_attempts, retry_on (reasons), and what proves nothing
    "commit"  INTEGER NOT NULL
);

CREATE TABLE files (                   -- what parameters name by path, as it was when the batch was submitted
    sha256   TEXT PRIMARY KEY,         -- of the content, in hex
    content  BLOB NOT NULL,
    "commit" INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE tasks (
    task        INTEGER PRIMARY KEY,   -- its number: the order of submission, from 0
    id          TEXT NOT NULL UNIQUE,
    batch       INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    seed        INTEGER NOT NULL,
    parameters  BLOB NOT NULL,         -- MessagePack, defaults included
    description TEXT NOT NULL,
    "commit"    INTEGER NOT NULL
);

CREATE TABLE leases (
    epoch    INTEGER NOT NULL,
    lease    INTEGER NOT NULL,
    node     TEXT NOT NULL,            -- host name
    worker   INTEGER NOT NULL,         -- process id
    began_at REAL NOT NULL,
    "commit" INTEGER NOT NULL,
    PRIMARY KEY (epoch, lease)
) WITHOUT ROWID;

CREATE TABLE chunks (                  -- every chunk that was handed out
    chunk         INTEGER PRIMARY KEY,
    epoch         INTEGER NOT NULL,
    lease         INTEGER NOT NULL,
    dispatched_at REAL NOT NULL,
    tasks         BLOB NOT NULL,       -- MessagePack list of task numbers
    "commit"      INTEGER NOT NULL
);

CREATE TABLE attempts (                -- every attempt that ended; what was handed back unexecuted was none
    task     INTEGER NOT NULL,
    chunk    INTEGER NOT NULL,
    outcome  INTEGER NOT NULL,         -- 0 completed, 1 failed, 2 lost (did not end by itself), 3 superseded
    charged  INTEGER NOT NULL,         -- 1 where it counts against max_attempts
    began_at REAL,                     -- on the worker's clock; null where the worker could not tell
    ended_at REAL,
    cpu_s    REAL,
    reason   TEXT,                     -- of a failed one that of its error; of a lost one worker_crashed, node_lost,
                                       -- out_of_memory, timeout (a chunk-mate's), preempted or cancelled
    message  TEXT,                     -- null where the outcome tells it
    "commit" INTEGER NOT NULL,
    PRIMARY KEY (task, chunk)
) WITHOUT ROWID;

CREATE TABLE cancels (                 -- every time that someone asked for tasks to be cancelled
    cancel   INTEGER PRIMARY KEY,      -- from 0
    epoch    INTEGER NOT NULL,
    asked_at REAL NOT NULL,
    scope    TEXT NOT NULL,            -- run, batch demo, 2 tasks
    tasks    INTEGER NOT NULL,         -- how many became cancelled by it
    "commit" INTEGER NOT NULL
);

CREATE TABLE outcomes (                -- one per task: the primary key makes a second commit impossible
    task      INTEGER PRIMARY KEY,
    state     INTEGER NOT NULL,        -- 2 completed, 3 failed, 4 cancelled
    epoch     INTEGER NOT NULL,
    result    BLOB,                    -- MessagePack
    file      TEXT,                    -- or, where it is large, the name of its file under results/
    digest    BLOB,                    -- SHA-256, 32 bytes, of a completed task
    reason    TEXT,                    -- of a failed or cancelled one
    message   TEXT,
    traceback TEXT,
    "commit"  INTEGER NOT NULL
);

CREATE TABLE reopened (                -- outcomes of failed tasks that someone asked to be tried again, as they were
    task            INTEGER NOT NULL,
    outcome_commit  INTEGER NOT NULL,  -- the commit that had added the outcome
    state           INTEGER NOT NULL,
    epoch           INTEGER NOT NULL,
    result          BLOB,
    file            TEXT,
    digest          BLOB,
    reason          TEXT,
    message         TEXT,
    traceback       TEXT,
    reopening_epoch INTEGER NOT NULL,  -- the one that reopened it
    "commit"        INTEGER NOT NULL,  -- the commit that reopened it
    PRIMARY KEY (task, outcome_commit)
) WITHOUT ROWID;

CREATE TABLE commits (
    "commit"     INTEGER PRIMARY KEY,
    epoch        INTEGER NOT NULL,
    committed_at REAL NOT NULL,
    rows         INTEGER NOT NULL,     -- how many it added, to all tables
    sha256       BLOB NOT NULL         -- its sum, 32 bytes
);

-- name: get_meta
SELECT key, value FROM meta;

-- name: latest_epoch
SELECT coalesce(max(epoch), 0) FROM epochs;

-- name: last_commit
SELECT "commit", epoch, committed_at, rows, sha256 FROM commits ORDER BY "commit" DESC LIMIT 1;

-- name: add_meta
INSERT INTO meta VALUES (?, ?, ?);

-- name: add_epoch
INSERT INTO epochs VALUES (?, ?, ?, ?, ?);

-- name: add_batch
INSERT INTO batches VALUES (?, ?, ?, ?, ?);

-- name: add_domain
INSERT INTO domains VALUES (?, ?, ?);

-- name: add_kind
INSERT INTO kinds VALUES (?, ?, ?, ?, ?, ?);

-- name: add_file
INSERT INTO files VALUES (?, ?, ?);

-- name: add_task
INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_lease
INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?);

-- name: add_chunk
INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?);

-- name: add_attempt
INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_cancel
INSERT INTO cancels VALUES (?, ?, ?, ?, ?, ?);

-- name: add_outcome
INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_reopened
INSERT INTO reopened VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_commit
INSERT INTO commits VALUES (?, ?, ?, ?, ?);

-- name: read_failed
SELECT task, "commit", state, epoch, result, file, digest, reason, message, traceback FROM outcomes WHERE state = 3;

-- name: remove_failed
DELETE FROM outcomes WHERE state = 3;

-- name: find_attempt
SELECT count(*) FROM attempts WHERE task = ? AND chunk = ?;

-- name: scan_meta
SELECT * FROM meta ORDER BY key;

-- name: scan_epochs
SELECT * FROM epochs ORDER BY epoch;

-- name: scan_batches
SELECT * FROM batches ORDER BY batch;

-- name: scan_domains
SELECT * FROM domains ORDER BY domain;

-- name: scan_kinds
SELECT * FROM kinds ORDER BY kind;

-- name: scan_files
SELECT * FROM files ORDER BY sha256;

-- name: scan_tasks
SELECT * FROM tasks ORDER BY task;

-- name: scan_leases
SELECT * FROM leases ORDER BY epoch, lease;

-- name: scan_chunks
SELECT * FROM chunks ORDER BY chunk;

-- name: scan_attempts
SELECT * FROM attempts ORDER BY task, chunk;

-- name: scan_cancels
SELECT * FROM cancels ORDER BY cancel;

-- name: scan_outcomes
SELECT task, state, epoch, result, file, digest, reason, message, traceback, "commit" FROM outcomes
UNION ALL
SELECT task, state, epoch, result, file, digest, reason, message, traceback, outcome_commit FROM reopened
ORDER BY 1, 10;

-- name: scan_reopened
SELECT * FROM reopened ORDER BY task, outcome_commit;

-- name: scan_commits
SELECT * FROM commits ORDER BY "commit";

-- name: next_chunk
SELECT coalesce(max(chunk) + 1, 0) FROM chunks;

-- name: next_cancel
SELECT coalesce(max(cancel) + 1, 0) FROM cancels;

-- name: count_batches
SELECT count(*) FROM batches;

-- name: list_files
SELECT sha256 FROM files;

-- name: read_domains
SELECT domain, volatile FROM domains;

-- name: read_kinds
SELECT domain, name, resources, policy FROM kinds ORDER BY kind;

-- name: read_settled
SELECT tasks.kind, outcomes.state FROM tasks LEFT JOIN outcomes USING (task) ORDER BY tasks.task;

-- name: read_open_tasks
SELECT tasks.task, tasks.seed, tasks.parameters FROM tasks LEFT JOIN outcomes USING (task) WHERE outcomes.state IS NULL;

-- name: read_charged
SELECT attempts.task, count(*) FROM attempts LEFT JOIN outcomes USING (task)
WHERE attempts.charged = 1 AND outcomes.task IS NULL AND attempts."commit" >
    coalesce((SELECT max(reopened."commit") FROM reopened WHERE reopened.task = attempts.task), -1)
GROUP BY attempts.task;

-- name: read_free_losses
SELECT attempts.task, count(*) FROM attempts LEFT JOIN outcomes USING (task)
WHERE attempts.outcome = 2 AND attempts.charged = 0 AND attempts.reason = 'node_lost' AND outcomes.task IS NULL
    AND attempts."commit" >
    coalesce((SELECT max(reopened."commit") FROM reopened WHERE reopened.task = attempts.task), -1)
GROUP BY attempts.task;

-- name: read_files
SELECT sha256, content FROM files;

-- name: read_contents
SELECT tasks.id, kinds.domain, kinds.resources, tasks.seed, tasks.parameters, kinds.policy
FROM tasks JOIN kinds USING (kind);

-- name: count_states
SELECT coalesce(outcomes.state, 0), count(*) FROM tasks LEFT JOIN outcomes USING (task) GROUP BY 1;

-- name: read_table_tasks
SELECT tasks.id, tasks.kind, outcomes.state, outcomes.result, outcomes.file, outcomes.digest, outcomes.reason,
       outcomes.message, outcomes.traceback
FROM tasks LEFT JOIN outcomes USING (task)
ORDER BY tasks.task;

-- name: read_table_attempts
SELECT task, chunk, outcome, began_at, ended_at FROM attempts ORDER BY task, chunk;

-- name: read_chunk_nodes
SELECT chunks.chunk, leases.node FROM chunks JOIN leases USING (epoch, lease);

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

-- name: count_commits
SELECT coalesce(max("commit"), -1) + 1 FROM commits;

-- name: find_task_number
SELECT task FROM tasks WHERE id = ?;

-- name: read_batch_tasks
SELECT tasks.task FROM tasks JOIN batches USING (batch) WHERE batches.name = ? ORDER BY tasks.task;

-- name: read_batches
SELECT name FROM batches ORDER BY batch;

-- name: read_task
SELECT tasks.task, kinds.domain, kinds.name, kinds.resources, kinds.policy, tasks.seed, tasks.parameters
FROM tasks JOIN kinds USING (kind) WHERE tasks.id = ?;

-- name: read_digest
SELECT digest FROM outcomes WHERE task = ?;

-- name: read_schema
SELECT type, name, tbl_name, sql FROM sqlite_master;

-- name: count_tasks
SELECT count(*), count(DISTINCT id), coalesce(max(task) + 1, 0) FROM tasks;

-- name: read_strays
SELECT 'task ' || task || ' is of the unknown batch ' || batch
FROM tasks WHERE batch NOT IN (SELECT batch FROM batches)
UNION ALL
SELECT 'task ' || task || ' is of the unknown kind ' || kind
FROM tasks WHERE kind NOT IN (SELECT kind FROM kinds)
UNION ALL
SELECT 'kind ' || kind || ' is of the unknown domain ' || domain
FROM kinds WHERE domain NOT IN (SELECT domain FROM domains)
UNION ALL
SELECT 'an outcome is of the unknown task ' || task
FROM outcomes WHERE task NOT IN (SELECT task FROM tasks)
UNION ALL
SELECT 'a reopened outcome is of the unknown task ' || task
FROM reopened WHERE task NOT IN (SELECT task FROM tasks)
UNION ALL
SELECT 'an attempt is of the unknown task ' || task
FROM attempts WHERE task NOT IN (SELECT task FROM tasks)
UNION ALL
SELECT 'the outcome of task ' || task || ' is of the unknown epoch ' || epoch
FROM outcomes WHERE epoch NOT IN (SELECT epoch FROM epochs)
UNION ALL
SELECT 'chunk ' || chunk || ' is of the unknown epoch ' || epoch
FROM chunks WHERE epoch NOT IN (SELECT epoch FROM epochs)
UNION ALL
SELECT 'commit ' || "commit" || ' is of the unknown epoch ' || epoch
FROM commits WHERE epoch NOT IN (SELECT epoch FROM epochs UNION SELECT 0 WHERE "commit" = 0);

-- name: read_outcome_shapes
SELECT task, state, result IS NOT NULL, file IS NOT NULL, digest, reason, message FROM outcomes;

-- name: count_cancelled
SELECT (SELECT count(*) FROM outcomes WHERE state = 4), (SELECT coalesce(sum(tasks), 0) FROM cancels);

-- name: read_histories
SELECT tasks.task, tasks.id, tasks.kind, outcomes.state,
       coalesce((SELECT max(reopened."commit") FROM reopened WHERE reopened.task = tasks.task), -1)
FROM tasks LEFT JOIN outcomes USING (task)
ORDER BY tasks.task;

-- name: read_audited_attempts
SELECT task, chunk, outcome, charged, reason, "commit" FROM attempts ORDER BY task, chunk;

-- name: list_result_files
SELECT DISTINCT file FROM outcomes WHERE file IS NOT NULL;

-- name: read_results
SELECT tasks.id, domains.volatile, outcomes.result, outcomes.file, outcomes.digest
FROM outcomes JOIN tasks USING (task) JOIN kinds USING (kind) JOIN domains USING (domain)
WHERE outcomes.state = 2
ORDER BY tasks.task;
