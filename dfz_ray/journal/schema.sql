-- The journal of a run, schema 4: its tables, the rules that a sound journal obeys, and every statement run on it.
--
-- Times are Unix seconds; states and outcomes are small numbers, named beside their column. Rows are only added. The
-- one exception: when failed tasks are reopened, to be tried again, their outcomes move to `reopened`, whole.
--
-- COLUMNS. Most data is in blobs that the manager passes on without looking inside: the tasks as the driver packed
-- them, and the completed tasks as the workers packed them. Such a blob holds one value for each task of its row, in
-- the row's order: as a MessagePack array or, where the table says so, as values of one size, one after the other.
--
-- NOTES are rows of `meta` whose key names a batch or an epoch, and whose value is a JSON object.
--   meant/<batch>/<epoch>: the driver of that epoch (0: the creation) meant the batch, called `name`, to have so many
--     `tasks`; `command` has the words of the command that sends it, without the run folder, and none if a program sent
--     it. The note with the largest epoch counts. A batch without a note was sent whole.
--   opening/<epoch>: the id of the `driver` that opened the run, its `imports`, the modules that define domains: each a
--     pair of name (`NAME.py` for a file) and absolute folder, and its `slots`, the number of tasks that might execute at
--     once from then on. A driver whose manager was lost has several epochs.
-- A run is INCOMPLETE if a batch has fewer tasks than were meant, and no process works on the run: the driver ended while
-- it sent them. That is no violation, since nothing of what was committed is lost.
--
-- THE MAKESPAN of a run lasts from the first start of an execution to the last end, less the pauses. A pause lasts from the
-- last commit of an epoch to the opening of the next one, unless the notes of both name the same driver.
--
-- COMMITS. The last column of every table is the number of the commit that added the row; numbers count from 0, without
-- a gap. Commit 0 is the creation. Taking an epoch, with its note, is a commit of its own, and so is reopening tasks. For each commit
-- `commits` has the number of its rows, and a sum that proves that they are what was written: SHA-256 over
--   the sum of the commit before it (of commit 0: nothing),
--   the array [commit, epoch, committed_at, rows] as MessagePack,
--   and for each table that it added rows to, in the order of the tables below: the table's name, and SHA-256 over
--   those rows in the order of the primary key, each the array of all its columns as MessagePack, one after the other.
-- An outcome that has moved to `reopened` counts here as the row of `outcomes` that it was. No sum covers the outcomes of
-- completed tasks: they follow from `completions`. In MessagePack INTEGER is an integer, REAL a 64-bit float, TEXT a
-- string, BLOB binary and NULL nil, each in its shortest form.
--
-- THE SEAL. When a run comes to rest, the file `seal` beside the journal gets SHA-256 of the whole file run.sqlite, in
-- hex; there is no log beside the journal then (run.sqlite-wal, run.sqlite-journal). A process that opens the run for
-- work removes the seal before the first write, so a run that was killed has none. While there is no log, the size of
-- the journal is its number of pages times their size.
-- The file `status.json`, an object, has under `commits` the number of commits that the process that worked on the run
-- last had seen on disk: the journal never has fewer. It has under `counts` the number of tasks in each state. If the run
-- is sealed, and `commits` is the number of all commits, the counts are those of the journal, where `pending` and `running`
-- together are the open tasks, provided that `working` is false. Else the file lags: then no more tasks are completed or cancelled than in the journal, and
-- no more failed than have failed or were reopened.
--
-- THE DIGEST of a run is SHA-256 over, for every completed task in the order of its id's UTF-8 bytes: the length of
-- the id in bytes (8 bytes, little-endian), the id, and the task's digest. A task's digest is SHA-256 over its result
-- as MessagePack, without the keys of its own (not of what is nested) that its domain calls volatile, and with all
-- mappings, nested ones too, in the order of their keys as Python's repr() writes them. In results, extension type 1 is
-- an integer beyond 64 bits (two's complement, little-endian), lone surrogates are encoded as if they were characters,
-- and a key that is an array stands for a tuple.
-- VERSIONS. A row of `meta` with the key version/<epoch>/<domain> is a JSON object: from that epoch on, tasks were executed
-- under that `version` of the domain, whose digests leave out the keys `volatile`. Without such a row it is version 1, with
-- the keys in `domains`. Where a domain has several versions in a run, its digests leave out the keys of all of them.
--
-- INPUTS. A file of a batch that is larger than a mebibyte, and each array that tasks share, is a file in the folder
-- `inputs`, named by its SHA-256 in hex. A row of `meta` with the key input/<SHA-256> has its size in bytes. A row with the
-- key shared/<name> has the SHA-256 of the array of that name, a .npy file without objects. Files named call-<task> have the
-- arguments of calls that have not ended; no row names them.
--
-- THE RULES of a sound run, besides:
--   No batch has more tasks than were meant. An opening's note is of an epoch that exists.
--   Blocks follow each other without a gap, from task 0 on, and the ids of tasks are unique. A task without an outcome is
--   open. A blob that holds a value for each task holds as many values as there are tasks.
--   A completed task is in one row of `completions`, and any other in none; its outcome names that row's chunk, is of
--   that row's commit, and has neither reason nor message nor traceback. A failed or cancelled task has a reason and a
--   message, and no chunk; a cancelled one has the reason `cancelled`. No more tasks are cancelled than `cancels` counts.
--   Attempts have an outcome of 1 to 3; failed and lost ones have a reason, and only these are charged. The task of an
--   attempt is in the list of its chunk, and so are those of a row of `completions`; no task has both in one chunk. Every
--   batch, kind, domain, task, chunk and epoch that a row refers to exists (commit 0 alone is of epoch 0).
--   Each of `pool_changes` is to one slot at least, and has a reason.
--   No task completed before it was reopened. Attempts that were committed before their task was reopened last belong to
--   a former outcome. Of the later ones at most max_attempts are charged, and each must have a reason why another attempt
--   may follow: it was superseded; or lost and not charged; or failed or lost, charged, for a reason that the policy of
--   its kind has in retry_on. Only the last attempt of a failed task (by the number of its chunk, superseded ones aside)
--   needs no such reason.
--   The file of a large result is named by the SHA-256 of its content, in hex; that of an input, too. Each input that a
--   row names is there, and each shared array is one of them.

-- name: schema
CREATE TABLE meta (
    key      TEXT PRIMARY KEY,         -- schema_version, run_id, name, created_at, dfz_ray, slots; and notes
    value    TEXT NOT NULL,
    "commit" INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE epochs (                  -- one for each time that a process opened the run; only the latest commits
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
    policy    TEXT NOT NULL,           -- JSON: max_attempts, retry_on (reasons); the rest is not audited
    "commit"  INTEGER NOT NULL
);

CREATE TABLE files (                   -- the files that parameters name, as they were at submission
    sha256   TEXT PRIMARY KEY,         -- of the content, in hex
    content  BLOB NOT NULL,
    "commit" INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE blocks (                  -- tasks, many to a row; they are numbered from 0 in the order of submission
    first        INTEGER PRIMARY KEY,  -- the number of its first task
    tasks        INTEGER NOT NULL,     -- how many it has
    batch        INTEGER NOT NULL,
    ids          BLOB NOT NULL,        -- strings
    kinds        BLOB NOT NULL,        -- integers
    works        BLOB NOT NULL,        -- arrays of two: the seed, and the parameters as MessagePack, defaults included
    descriptions BLOB NOT NULL,        -- strings
    "commit"     INTEGER NOT NULL
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

CREATE TABLE completions (             -- the tasks of a chunk that completed; a chunk ends once
    chunk    INTEGER PRIMARY KEY,
    tasks    BLOB NOT NULL,            -- integers: their numbers
    times    BLOB NOT NULL,            -- 3 float64 each, little-endian: began_at, ended_at (on the worker's clock), cpu_s
    results  BLOB NOT NULL,            -- each one as MessagePack, in binary; or, if it is large, a string: the name of its
                                       -- file under results/
    digests  BLOB NOT NULL,            -- 32 bytes each
    "commit" INTEGER NOT NULL
);

CREATE TABLE attempts (                -- every other attempt that ended; a task handed back unexecuted had none
    task     INTEGER NOT NULL,
    chunk    INTEGER NOT NULL,
    outcome  INTEGER NOT NULL,         -- 1 failed, 2 lost (did not end by itself), 3 superseded
    charged  INTEGER NOT NULL,         -- 1 if it counts against max_attempts
    began_at REAL,                     -- on the worker's clock; null if the worker could not report it
    ended_at REAL,
    cpu_s    REAL,
    reason   TEXT,                     -- of a failed one the reason of its error; of a lost one worker_crashed,
                                       -- node_lost, out_of_memory, timeout (of a task in the same chunk), preempted,
                                       -- cancelled or state_changed
    message  TEXT,                     -- null if the outcome has it
    "commit" INTEGER NOT NULL,
    PRIMARY KEY (task, chunk)
) WITHOUT ROWID;

CREATE TABLE cancels (                 -- every request to cancel tasks
    cancel   INTEGER PRIMARY KEY,      -- from 0
    epoch    INTEGER NOT NULL,
    asked_at REAL NOT NULL,
    scope    TEXT NOT NULL,            -- e.g. run; batch demo; 2 tasks
    tasks    INTEGER NOT NULL,         -- how many it cancelled
    "commit" INTEGER NOT NULL
);

CREATE TABLE pool_changes (            -- with max_workers="auto": every change of the number of slots
    change     INTEGER PRIMARY KEY,    -- from 0
    epoch      INTEGER NOT NULL,
    changed_at REAL NOT NULL,
    slots      INTEGER NOT NULL,       -- how many tasks might execute at once from then on
    reason     TEXT NOT NULL,          -- a sentence
    "commit"   INTEGER NOT NULL
);

CREATE TABLE outcomes (                -- one per task: the primary key makes a second one impossible
    task      INTEGER PRIMARY KEY,
    state     INTEGER NOT NULL,        -- 2 completed, 3 failed, 4 cancelled
    chunk     INTEGER,                 -- of a completed task: the chunk in which it completed
    reason    TEXT,                    -- of a failed or cancelled one
    message   TEXT,
    traceback TEXT,
    "commit"  INTEGER NOT NULL
);

CREATE TABLE reopened (                -- former outcomes of failed tasks that were reopened
    task            INTEGER NOT NULL,
    outcome_commit  INTEGER NOT NULL,  -- the commit that had added the outcome
    state           INTEGER NOT NULL,
    reason          TEXT,
    message         TEXT,
    traceback       TEXT,
    reopening_epoch INTEGER NOT NULL,  -- the epoch that reopened it
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

-- name: add_block
INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_lease
INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?);

-- name: add_chunk
INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?);

-- name: add_completion
INSERT INTO completions VALUES (?, ?, ?, ?, ?, ?);

-- name: add_attempt
INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_cancel
INSERT INTO cancels VALUES (?, ?, ?, ?, ?, ?);

-- name: add_pool_change
INSERT INTO pool_changes VALUES (?, ?, ?, ?, ?, ?);

-- name: add_outcome
INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: add_completed_outcomes
INSERT INTO outcomes SELECT value, 2, :chunk, NULL, NULL, NULL, :commit FROM json_each(:tasks);

-- name: add_reopened
INSERT INTO reopened VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_commit
INSERT INTO commits VALUES (?, ?, ?, ?, ?);

-- name: read_failed
SELECT task, "commit", state, reason, message, traceback FROM outcomes WHERE state = 3;

-- name: remove_failed
DELETE FROM outcomes WHERE state = 3;

-- name: find_attempt
SELECT (SELECT count(*) FROM attempts WHERE task = :task AND chunk = :chunk)
     + (SELECT count(*) FROM outcomes WHERE task = :task AND chunk = :chunk);

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

-- name: scan_blocks
SELECT * FROM blocks ORDER BY first;

-- name: scan_leases
SELECT * FROM leases ORDER BY epoch, lease;

-- name: scan_chunks
SELECT * FROM chunks ORDER BY chunk;

-- name: scan_completions
SELECT * FROM completions ORDER BY chunk;

-- name: scan_attempts
SELECT * FROM attempts ORDER BY task, chunk;

-- name: scan_cancels
SELECT * FROM cancels ORDER BY cancel;

-- name: scan_pool_changes
SELECT * FROM pool_changes ORDER BY change;

-- name: scan_outcomes
SELECT task, state, chunk, reason, message, traceback, "commit" FROM outcomes WHERE state <> 2
UNION ALL
SELECT task, state, NULL, reason, message, traceback, outcome_commit FROM reopened
ORDER BY 1, 7;

-- name: scan_reopened
SELECT * FROM reopened ORDER BY task, outcome_commit;

-- name: scan_commits
SELECT * FROM commits ORDER BY "commit";

-- name: next_chunk
SELECT coalesce(max(chunk) + 1, 0) FROM chunks;

-- name: next_cancel
SELECT coalesce(max(cancel) + 1, 0) FROM cancels;

-- name: next_pool_change
SELECT coalesce(max(change) + 1, 0) FROM pool_changes;

-- name: last_batch
SELECT coalesce(max(batch), -1) FROM batches;

-- name: read_meant
SELECT key, value FROM meta WHERE key GLOB 'meant/*';

-- name: count_sent
SELECT batch, sum(tasks) FROM blocks GROUP BY batch;

-- name: read_batch_ids
SELECT ids FROM blocks WHERE batch = ? ORDER BY first;

-- name: read_openings
SELECT key, value FROM meta WHERE key GLOB 'opening/*';

-- name: read_epoch_times
SELECT epochs.epoch, epochs.opened_at, max(commits.committed_at)
FROM epochs JOIN commits USING (epoch) GROUP BY epochs.epoch ORDER BY epochs.epoch;

-- name: list_files
SELECT sha256 FROM files;

-- name: read_domains
SELECT domain, volatile FROM domains;

-- name: read_kinds
SELECT domain, name, resources, policy FROM kinds ORDER BY kind;

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

-- name: read_chunk_nodes
SELECT chunks.chunk, leases.node FROM chunks JOIN leases USING (epoch, lease);

-- name: count_commits
SELECT coalesce(max("commit"), -1) + 1 FROM commits;

-- name: read_pool_changes
SELECT changed_at, slots, reason FROM pool_changes ORDER BY change;

-- name: read_batches
SELECT name FROM batches ORDER BY batch;

-- name: read_schema
SELECT type, name, tbl_name, sql FROM sqlite_master;

-- name: count_tasks
SELECT coalesce(sum(tasks), 0) FROM blocks;

-- name: read_names
SELECT ids, kinds FROM blocks ORDER BY first;

-- name: read_tasks
SELECT first, ids, kinds, works FROM blocks ORDER BY first;

-- name: read_batch_blocks
SELECT blocks.first, blocks.tasks FROM blocks JOIN batches USING (batch) WHERE batches.name = ? ORDER BY blocks.first;

-- name: read_settled
SELECT task, state FROM outcomes;

-- name: read_other_outcomes
SELECT task, state, reason, message, traceback FROM outcomes WHERE state <> 2 ORDER BY task;

-- name: list_completed_chunks
SELECT chunk FROM completions ORDER BY chunk;

-- name: read_completion
SELECT tasks, times, results, digests FROM completions WHERE chunk = ?;

-- name: read_completed_tasks
SELECT tasks FROM completions ORDER BY chunk;

-- name: read_retried
-- Attempts after which another one followed: the message of a task's last one is in its outcome.
SELECT task, reason, message FROM attempts WHERE outcome != 3 AND message IS NOT NULL ORDER BY task, chunk;

-- name: read_block_sizes
SELECT first, tasks FROM blocks ORDER BY first;

-- name: read_names_between
SELECT ids, kinds FROM blocks WHERE first BETWEEN ? AND ? ORDER BY first;

-- name: read_chunks_of
-- The chunks in which tasks of a range completed, as of a commit.
SELECT completions.chunk, completions.tasks, completions.times, leases.node
FROM completions LEFT JOIN chunks USING (chunk) LEFT JOIN leases USING (epoch, lease)
WHERE completions.chunk IN (SELECT DISTINCT chunk FROM outcomes WHERE task BETWEEN ? AND ? AND state = 2)
    AND completions."commit" <= ? ORDER BY completions.chunk;

-- name: read_node_of_chunk
SELECT leases.node FROM chunks JOIN leases USING (epoch, lease) WHERE chunks.chunk = ?;

-- name: read_times_until
SELECT times FROM completions WHERE "commit" <= ? ORDER BY chunk;

-- name: read_digests_until
SELECT tasks, digests FROM completions WHERE "commit" <= ? ORDER BY chunk;

-- name: read_results_until
SELECT tasks, results FROM completions WHERE "commit" <= ? ORDER BY chunk;

-- name: read_results
SELECT chunk, results FROM completions ORDER BY chunk;

-- name: read_chunk_results
SELECT results FROM completions WHERE chunk = ?;

-- name: find_completion
SELECT completions.tasks, completions.digests FROM outcomes JOIN completions USING (chunk) WHERE outcomes.task = ?;

-- name: read_attempts
SELECT task, chunk, outcome, began_at, ended_at FROM attempts ORDER BY task, chunk;

-- name: read_completed_outcomes
SELECT chunk, min("commit"), max("commit"), count(reason) + count(message) + count(traceback), json_group_array(task)
FROM outcomes WHERE state = 2 GROUP BY chunk;

-- name: count_states
SELECT state, count(*) FROM outcomes GROUP BY state;

-- name: count_reopened
SELECT count(*) FROM reopened;

-- name: count_cancelled
SELECT count(*), coalesce(sum(state = 4), 0), (SELECT coalesce(sum(tasks), 0) FROM cancels) FROM outcomes;

-- name: read_outcome_shapes
SELECT task, state, chunk, reason, message FROM outcomes WHERE state <> 2 ORDER BY task;

-- name: read_completed_before_reopened
SELECT DISTINCT outcomes.task FROM reopened JOIN outcomes USING (task)
WHERE outcomes.state = 2 AND outcomes."commit" <= reopened."commit";

-- name: read_histories
SELECT attempts.task, outcomes.state,
       coalesce((SELECT max(reopened."commit") FROM reopened WHERE reopened.task = attempts.task), -1),
       attempts.chunk, attempts.outcome, attempts.charged, attempts.reason, attempts."commit"
FROM attempts LEFT JOIN outcomes USING (task)
ORDER BY attempts.task, attempts.chunk;

-- name: read_attempted_chunks
SELECT chunk, json_group_array(task) FROM attempts GROUP BY chunk;

-- name: read_chunk_lists
SELECT chunks.chunk, chunks.tasks, completions.tasks FROM chunks LEFT JOIN completions USING (chunk)
ORDER BY chunks.chunk;

-- name: read_strays
SELECT 'the block that begins with task ' || first || ' is of the unknown batch ' || batch
FROM blocks WHERE batch NOT IN (SELECT batch FROM batches)
UNION ALL
SELECT 'kind ' || kind || ' is of the unknown domain ' || domain
FROM kinds WHERE domain NOT IN (SELECT domain FROM domains)
UNION ALL
SELECT 'an outcome is of the unknown task ' || task
FROM outcomes WHERE task NOT BETWEEN 0 AND (SELECT coalesce(sum(tasks), 0) FROM blocks) - 1
UNION ALL
SELECT 'a reopened outcome is of the unknown task ' || task
FROM reopened WHERE task NOT BETWEEN 0 AND (SELECT coalesce(sum(tasks), 0) FROM blocks) - 1
UNION ALL
SELECT 'an attempt is of the unknown task ' || task
FROM attempts WHERE task NOT BETWEEN 0 AND (SELECT coalesce(sum(tasks), 0) FROM blocks) - 1
UNION ALL
SELECT 'chunk ' || chunk || ' has completed tasks, and was not handed out'
FROM completions WHERE chunk NOT IN (SELECT chunk FROM chunks)
UNION ALL
SELECT 'lease ' || lease || ' is of the unknown epoch ' || epoch
FROM leases WHERE epoch NOT IN (SELECT epoch FROM epochs)
UNION ALL
SELECT 'chunk ' || chunk || ' is of the unknown epoch ' || epoch
FROM chunks WHERE epoch NOT IN (SELECT epoch FROM epochs)
UNION ALL
SELECT 'cancel ' || cancel || ' is of the unknown epoch ' || epoch
FROM cancels WHERE epoch NOT IN (SELECT epoch FROM epochs)
UNION ALL
SELECT 'pool change ' || change || ' is of the unknown epoch ' || epoch
FROM pool_changes WHERE epoch NOT IN (SELECT epoch FROM epochs)
UNION ALL
SELECT 'pool change ' || change || ' names no number of slots, or no reason'
FROM pool_changes WHERE typeof(slots) <> 'integer' OR slots < 1 OR reason = ''
UNION ALL
SELECT 'task ' || task || ' was reopened in the unknown epoch ' || reopening_epoch
FROM reopened WHERE reopening_epoch NOT IN (SELECT epoch FROM epochs)
UNION ALL
SELECT 'the note ' || key || ' is of an unknown epoch'
FROM meta WHERE key GLOB 'opening/*' AND substr(key, 9) NOT IN (SELECT CAST(epoch AS TEXT) FROM epochs)
UNION ALL
SELECT 'commit ' || "commit" || ' is of the unknown epoch ' || epoch
FROM commits WHERE epoch NOT IN (SELECT epoch FROM epochs UNION SELECT 0 WHERE "commit" = 0);

-- name: executions
-- The completed tasks of each chunk, with their times.
SELECT chunks.epoch, chunks.lease, completions.tasks, times, chunk FROM completions JOIN chunks USING (chunk);

-- name: timed_attempts
-- Those that did not complete and whose times are known, of each task in the order of the attempts.
SELECT task, chunk, outcome, began_at, ended_at, coalesce(cpu_s, 0.0), chunks.epoch, chunks.lease
FROM attempts JOIN chunks USING (chunk) WHERE began_at IS NOT NULL AND ended_at IS NOT NULL ORDER BY task, chunk;

-- name: read_chunk_ends
-- The completed chunks, with what tells how long their way was.
SELECT chunks.epoch, chunks.lease, dispatched_at, completions.tasks, times FROM completions JOIN chunks USING (chunk);

-- name: read_block_commits
SELECT kinds, committed_at FROM blocks JOIN commits USING ("commit") ORDER BY blocks.first;

-- name: read_batch_times
SELECT min(submitted_at), (SELECT max(committed_at) FROM commits), (SELECT count(*) FROM leases),
    (SELECT count(*) FROM batches), (SELECT count(*) FROM epochs), (SELECT count(*) FROM attempts) FROM batches;

-- name: count_lost_workers
-- A worker that dies in the middle of a chunk reports no beginning of its tasks. When a manager is lost its workers die, too.
SELECT count(*) FROM (
    SELECT epoch, lease FROM attempts JOIN chunks USING (chunk) WHERE began_at IS NULL
    AND (outcome != 3 OR reason IN ('worker_crashed', 'out_of_memory', 'node_lost', 'timeout'))
    UNION SELECT epoch, lease FROM chunks WHERE epoch < (SELECT max(epoch) FROM epochs)
    AND chunk NOT IN (SELECT chunk FROM completions) AND chunk NOT IN (SELECT chunk FROM attempts)
);

-- name: unsuccessful_attempts
-- All of them, also those without times: these ended before the time of their commit.
SELECT task, outcome, began_at, ended_at, cpu_s, reason, chunks.epoch, chunks.lease, chunk, committed_at
FROM attempts JOIN chunks USING (chunk) JOIN commits ON commits."commit" = attempts."commit"
ORDER BY committed_at, task;

-- name: read_leases
SELECT epoch, lease, node, worker FROM leases ORDER BY epoch, lease;

-- name: read_cancels
SELECT asked_at, scope, tasks FROM cancels ORDER BY cancel;
