-- What the store is: format, origin, and the clock's last anchor.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;

CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    sealfs INTEGER NOT NULL,            -- ns since the epoch
    boot_id TEXT NOT NULL,
    boottime INTEGER NOT NULL,          -- ns since boot
    wall INTEGER NOT NULL,              -- ns since the epoch
    believed INTEGER NOT NULL,          -- ns of the budget used
    doubted INTEGER NOT NULL,           -- ns not believed
    signature BLOB                      -- Ed25519, by the log key; without a good one the row is not believed
) STRICT;

-- The end of the log, verbatim. Position is the key; it has no holes. What is exported in full bundles may have
-- left; the last entry never has.
CREATE TABLE entry (idx INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;

-- Hashes of the tree (RFC 6962) at the levels of tiles: level 0 leaves, level n roots of 256^n leaves. Those in
-- full, exported tiles may have left.
CREATE TABLE node (level INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, idx))
    WITHOUT ROWID, STRICT;

-- What statements are made of and the log has only the digest of: who wrote (kind 0), others' envelopes (kind 1).
CREATE TABLE attachment (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    sha256 BLOB NOT NULL UNIQUE,
    body TEXT NOT NULL
) STRICT;

-- Commits that writers claimed to build from, for 'trace'.
CREATE TABLE claim (commit_id TEXT NOT NULL, attachment INTEGER NOT NULL REFERENCES attachment (id),
    PRIMARY KEY (commit_id, attachment)) WITHOUT ROWID, STRICT;

-- The store's keys. Only what the log says; private keys are files.
CREATE TABLE key (
    fingerprint TEXT NOT NULL,
    role INTEGER NOT NULL,              -- 0 seals, 1 the log
    public TEXT NOT NULL,               -- OpenSSH line
    since INTEGER NOT NULL,             -- log position from which it is in use
    until INTEGER,                      -- position at which another took its place
    retired INTEGER,                    -- position at which it was retired
    compromised INTEGER,                -- ns since the epoch: from when others may have had it
    PRIMARY KEY (fingerprint, role)
) WITHOUT ROWID, STRICT;

-- Folders, so that a path is stored once for all the files in it.
CREATE TABLE dir (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE) STRICT;

-- Strings that recur: key fingerprints, namespaces, policy digests.
CREATE TABLE term (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE artifact (
    id INTEGER PRIMARY KEY,
    dir INTEGER NOT NULL REFERENCES dir (id),
    name TEXT NOT NULL,
    live INTEGER NOT NULL,              -- 1: has the name; 0: ended
    kind INTEGER NOT NULL,              -- 0 file, 1 symbolic link
    sha256 BLOB NOT NULL,
    size INTEGER NOT NULL,
    perm INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    mtime_s INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sealed_at INTEGER NOT NULL,
    sealed_wall INTEGER NOT NULL,
    retain_sealed INTEGER NOT NULL,
    retain_until INTEGER NOT NULL,
    mode INTEGER NOT NULL,              -- 0 governance, 1 compliance
    policy INTEGER NOT NULL REFERENCES term (id),
    namespace INTEGER NOT NULL REFERENCES term (id),
    key INTEGER NOT NULL REFERENCES term (id),
    log_index INTEGER NOT NULL,
    signature BLOB,
    statement_signature BLOB NOT NULL,
    provenance INTEGER REFERENCES attachment (id),
    provenance_signature BLOB,
    template INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    ctime_s INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    holds INTEGER NOT NULL DEFAULT 0,   -- how many stand
    torn INTEGER NOT NULL DEFAULT 0     -- 1: kept although torn
) STRICT;
CREATE UNIQUE INDEX artifact_name ON artifact (dir, name) WHERE live = 1;
CREATE INDEX artifact_until ON artifact (retain_until) WHERE live = 1;
CREATE INDEX artifact_ended ON artifact (dir, name) WHERE live = 0;
-- For 'trace'. The first bytes tell nearly all apart; the rest is compared in the row.
CREATE INDEX artifact_sha256 ON artifact (substr(sha256, 1, 6));
CREATE INDEX artifact_provenance ON artifact (provenance) WHERE provenance IS NOT NULL;

CREATE TABLE hold (
    artifact INTEGER NOT NULL REFERENCES artifact (id),
    name TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (artifact, name)
) WITHOUT ROWID, STRICT;

-- Further lines of F.seal.jsonl: the entries (extensions, holds, attestations) that they are rendered from.
CREATE TABLE line (
    artifact INTEGER NOT NULL REFERENCES artifact (id),
    idx INTEGER NOT NULL,
    PRIMARY KEY (artifact, idx)
) WITHOUT ROWID, STRICT;

-- Seals whose backing file was found altered; cleared when its content is proven again.
CREATE TABLE altered (artifact INTEGER PRIMARY KEY REFERENCES artifact (id)) STRICT;

-- Entries about one path, for 'history'; seals are found by their rows.
CREATE TABLE about (dir INTEGER NOT NULL, name TEXT NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (dir, name, idx))
    WITHOUT ROWID, STRICT;

-- Closed, not yet sealed, known to be synced: goes on after a reboot.
CREATE TABLE pending (
    path TEXT PRIMARY KEY,
    ino INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_s INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    torn INTEGER NOT NULL,
    demanded TEXT,
    request INTEGER
) WITHOUT ROWID, STRICT;

-- The last refusals. Counted, bounded, and no part of the log.
CREATE TABLE refusal (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    operation TEXT NOT NULL,
    reason TEXT NOT NULL,
    uid INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    program TEXT NOT NULL,
    at INTEGER NOT NULL,
    wall INTEGER NOT NULL,
    times INTEGER NOT NULL,
    UNIQUE (path, operation, reason, uid)
) STRICT;

-- For people who like SQL. Stable; documented in the README.
CREATE VIEW artifacts AS
SELECT
    CASE dir.path WHEN '' THEN artifact.name ELSE dir.path || '/' || artifact.name END AS path,
    lower(hex(artifact.sha256)) AS sha256,
    artifact.size AS size,
    printf('%04o', artifact.perm) AS mode,
    CASE
        WHEN artifact.holds = 0 AND artifact.retain_until <= (SELECT sealfs FROM clock) THEN 'expired'
        ELSE 'sealed'
    END AS state,
    strftime('%Y-%m-%dT%H:%M:%SZ', artifact.sealed_at / 1000000000, 'unixepoch') AS sealed_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', artifact.retain_until / 1000000000, 'unixepoch') AS retain_until,
    CASE artifact.mode WHEN 1 THEN 'compliance' ELSE 'governance' END AS retention_mode,
    coalesce((SELECT group_concat(hold.name, ',') FROM hold WHERE hold.artifact = artifact.id), '') AS holds,
    artifact.log_index AS log_index,
    term.text AS key
FROM artifact
JOIN dir ON dir.id = artifact.dir
JOIN term ON term.id = artifact.key
WHERE artifact.live = 1;
