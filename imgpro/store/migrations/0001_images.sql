-- Pictures, the bytes behind them, and what limits are counted by.
-- Times are Unix milliseconds, sizes bytes. A picture is one upload; a blob is one set of bytes that any number of
-- pictures share.

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The digest is random, so it is an index beside the table, not its order: rows with their placeholders are
-- appended, and only 32 bytes each are scattered.
CREATE TABLE blobs (
    seq          INTEGER PRIMARY KEY,
    digest       BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    format       TEXT    NOT NULL CHECK (format IN ('jpeg', 'png', 'gif', 'webp', 'avif', 'heic', 'svg', 'bmp', 'ico')),
    stored_bytes INTEGER NOT NULL CHECK (stored_bytes > 0),
    width        INTEGER NOT NULL CHECK (width > 0),
    height       INTEGER NOT NULL CHECK (height > 0),
    frames       INTEGER NOT NULL CHECK (frames > 0),
    has_alpha    INTEGER NOT NULL CHECK (has_alpha IN (0, 1)),
    placeholder  TEXT    NOT NULL,
    phash        INTEGER,
    created_ms   INTEGER NOT NULL CHECK (created_ms > 0)
) STRICT;

-- SQLite's JSON functions count as unsafe in a schema that is not trusted, so the check on `metadata_removed` is by
-- its brackets. `network` is who uploaded it without an account (an IPv4 address or an IPv6 /64), NULL for everybody else.
CREATE TABLE images (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT    NOT NULL UNIQUE CHECK (length(id) = 12 AND id NOT GLOB '*[^0-9A-Za-z]*'),
    blob             INTEGER NOT NULL REFERENCES blobs (seq),
    name             TEXT    NOT NULL,
    description      TEXT    NOT NULL CHECK (length(description) <= 2000),
    public           INTEGER NOT NULL CHECK (public IN (0, 1)),
    created_ms       INTEGER NOT NULL CHECK (created_ms > 0),
    expires_ms       INTEGER CHECK (expires_ms > created_ms),
    display_date     TEXT,
    origin           TEXT    NOT NULL CHECK (origin IN ('upload', 'import')),
    metadata_removed TEXT    NOT NULL CHECK (metadata_removed GLOB '[[]*]'),
    network          TEXT
) STRICT;

CREATE INDEX images_by_blob ON images (blob);
CREATE INDEX images_by_expiry ON images (expires_ms) WHERE expires_ms IS NOT NULL;

-- One row per anonymous upload of the last day. Separate from the pictures, because deleting a picture does not
-- give the upload back.
CREATE TABLE upload_log (
    seq     INTEGER PRIMARY KEY,
    network TEXT    NOT NULL,
    at_ms   INTEGER NOT NULL
) STRICT;

CREATE INDEX upload_log_by_network ON upload_log (network, at_ms);
CREATE INDEX upload_log_by_time ON upload_log (at_ms);

-- Sums that would otherwise cost a walk over a million rows. The triggers keep them in the transaction that
-- changes the rows, whoever changes them.
CREATE TABLE totals (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT, WITHOUT ROWID;

INSERT INTO totals (name, value) VALUES ('images', 0), ('blobs', 0), ('blob_bytes', 0), ('anonymous_bytes', 0);

CREATE TRIGGER blobs_added AFTER INSERT ON blobs BEGIN
    UPDATE totals SET value = value + 1 WHERE name = 'blobs';
    UPDATE totals SET value = value + new.stored_bytes WHERE name = 'blob_bytes';
END;

CREATE TRIGGER blobs_removed AFTER DELETE ON blobs BEGIN
    UPDATE totals SET value = value - 1 WHERE name = 'blobs';
    UPDATE totals SET value = value - old.stored_bytes WHERE name = 'blob_bytes';
END;

CREATE TRIGGER images_added AFTER INSERT ON images BEGIN
    UPDATE totals SET value = value + 1 WHERE name = 'images';
    UPDATE totals SET value = value + (SELECT stored_bytes FROM blobs WHERE seq = new.blob)
    WHERE name = 'anonymous_bytes' AND new.network IS NOT NULL;
END;

CREATE TRIGGER images_removed AFTER DELETE ON images BEGIN
    UPDATE totals SET value = value - 1 WHERE name = 'images';
    UPDATE totals SET value = value - (SELECT stored_bytes FROM blobs WHERE seq = old.blob)
    WHERE name = 'anonymous_bytes' AND old.network IS NOT NULL;
END;

-- The facts of a blob never change, and a picture never changes its blob or its uploader.
CREATE TRIGGER blobs_are_immutable BEFORE UPDATE OF digest, stored_bytes ON blobs BEGIN
    SELECT RAISE(ABORT, 'a blob does not change');
END;

CREATE TRIGGER images_keep_their_blob BEFORE UPDATE OF blob, network ON images BEGIN
    SELECT RAISE(ABORT, 'a picture keeps its blob and its uploader');
END;
