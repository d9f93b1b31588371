-- What keeps pictures: damage that was found, rules that end them, where they came from, and when all was looked after.

-- Originals whose bytes are not what their name says, or that are not there. A row goes when the blob is whole again.
CREATE TABLE damaged_blobs (
    digest   BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    damage   TEXT    NOT NULL CHECK (damage IN ('altered', 'missing', 'unreadable')),
    found_ms INTEGER NOT NULL CHECK (found_ms > 0)
) STRICT, WITHOUT ROWID;

-- Addresses that a picture had where it was before, path and query as the other system wrote them: they lead here, to
-- its page or to the picture in a size.
CREATE TABLE old_links (
    path     TEXT    NOT NULL PRIMARY KEY CHECK (path GLOB '/?*' AND length(path) <= 1000),
    image    INTEGER NOT NULL REFERENCES images (seq) ON DELETE CASCADE,
    leads_to TEXT    NOT NULL CHECK (leads_to IN ('page', 'o', 's', 'm', 'l'))
) STRICT, WITHOUT ROWID;

CREATE INDEX old_links_by_image ON old_links (image);

-- What an import has brought already. `source` names where from, `item` one picture in there.
CREATE TABLE brought_in (
    source TEXT    NOT NULL,
    item   TEXT    NOT NULL,
    image  INTEGER NOT NULL REFERENCES images (seq) ON DELETE CASCADE,
    PRIMARY KEY (source, item)
) STRICT, WITHOUT ROWID;

CREATE INDEX brought_in_by_image ON brought_in (image);

-- Rules by which pictures end. NULL: any. `older_than_s` counts from `created_ms`; `begins_ms` is the earliest time at
-- which a rule deletes anything. `expected` is how many pictures the operator saw it match; `held_ms` is when it matched
-- so many more that it waits for the operator to look again.
CREATE TABLE retention_rules (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    account       INTEGER REFERENCES accounts (seq) ON DELETE CASCADE,
    anonymous     INTEGER NOT NULL DEFAULT 0 CHECK (anonymous IN (0, 1)),
    namespace     TEXT    CHECK (length(namespace) BETWEEN 2 AND 64),
    tag           TEXT    CHECK (length(tag) BETWEEN 1 AND 50),
    except_tag    TEXT    CHECK (length(except_tag) BETWEEN 1 AND 50),
    format        TEXT,
    larger_than   INTEGER CHECK (larger_than >= 0),
    older_than_s  INTEGER NOT NULL CHECK (older_than_s > 0),
    created_ms    INTEGER NOT NULL CHECK (created_ms > 0),
    begins_ms     INTEGER NOT NULL CHECK (begins_ms > 0),
    expected      INTEGER NOT NULL CHECK (expected >= 0),
    held_ms       INTEGER,
    CHECK (anonymous = 0 OR (account IS NULL AND namespace IS NULL AND tag IS NULL))
) STRICT;

CREATE INDEX retention_rules_by_account ON retention_rules (account) WHERE account IS NOT NULL;

-- The last of each kind of work that looks after the data: 'backup', 'verify', 'scrub', 'check', ... `good_ms` is when
-- one ended well; `details` is JSON.
CREATE TABLE last_runs (
    name     TEXT    NOT NULL PRIMARY KEY,
    began_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    good_ms  INTEGER,
    message  TEXT    NOT NULL DEFAULT '',
    details  TEXT    NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID;

-- For rules that look at age, whoever the pictures belong to.
CREATE INDEX images_by_creation ON images (created_ms);

-- An account that is being deleted: nothing of it works any more, its address is free, and its pictures go in steps.
ALTER TABLE accounts ADD COLUMN leaving_ms INTEGER;

CREATE INDEX accounts_leaving ON accounts (seq) WHERE leaving_ms IS NOT NULL;

-- What was deleted since the last time that the database's files were cleared of what was deleted; before this version
-- they never were.
INSERT INTO totals (name, value)
SELECT 'traces', EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'images' AND seq > 0);

CREATE TRIGGER images_leave_traces AFTER DELETE ON images BEGIN
    UPDATE totals SET value = value + 1 WHERE name = 'traces';
END;

CREATE TRIGGER accounts_leave_traces AFTER DELETE ON accounts BEGIN
    UPDATE totals SET value = value + 1 WHERE name = 'traces';
END;
