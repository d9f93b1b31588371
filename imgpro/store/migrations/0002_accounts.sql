-- Accounts and their keys, what belongs to whom, and how it is found again.
--
-- Counters (of an account, a namespace, a tag) are kept by triggers in the transaction that changes the rows, so that
-- no list or limit ever has to count.

CREATE TABLE accounts (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT    NOT NULL UNIQUE,
    email        TEXT    NOT NULL UNIQUE CHECK (length(email) BETWEEN 3 AND 254 AND email NOT GLOB '*[^!-~]*'),
    role         TEXT    NOT NULL CHECK (role IN ('member', 'operator')),
    plan         TEXT    NOT NULL CHECK (plan IN ('free', 'pro', 'scale', 'max')),
    plan_changes INTEGER NOT NULL DEFAULT 0,
    created_ms   INTEGER NOT NULL CHECK (created_ms > 0),
    verified_ms  INTEGER,
    blocked_ms   INTEGER,
    images       INTEGER NOT NULL DEFAULT 0 CHECK (images >= 0),
    stored_bytes INTEGER NOT NULL DEFAULT 0 CHECK (stored_bytes >= 0)
) STRICT;

CREATE INDEX operators ON accounts (role) WHERE role = 'operator';

-- Of a key only the SHA-256 is kept. `confirmed_ms`: the owner of the address said that the key is theirs. `network`
-- is where it was asked for, shown on the page that asks. A revoked key stays as a row, because pictures name the key
-- that brought them.
CREATE TABLE keys (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT    NOT NULL UNIQUE,
    account      INTEGER NOT NULL REFERENCES accounts (seq) ON DELETE CASCADE,
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    name         TEXT    NOT NULL,
    abilities    TEXT    NOT NULL CHECK (abilities IN ('read,write', 'read', 'write', 'upload', 'read,upload')),
    namespace    TEXT,
    network      TEXT    NOT NULL,
    created_ms   INTEGER NOT NULL CHECK (created_ms > 0),
    confirmed_ms INTEGER,
    last_used_ms INTEGER,
    revoked_ms   INTEGER
) STRICT;

CREATE INDEX keys_by_account ON keys (account);

-- Uploads of a calendar month (UTC), e.g. '2026-11', by key (0: by a session). Deleting a picture does not give the
-- upload back; that its key was a stranger's does.
CREATE TABLE monthly_uploads (
    account INTEGER NOT NULL REFERENCES accounts (seq) ON DELETE CASCADE,
    month   TEXT    NOT NULL CHECK (month GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]'),
    key     INTEGER NOT NULL,
    uploads INTEGER NOT NULL CHECK (uploads >= 0),
    PRIMARY KEY (account, month, key)
) STRICT, WITHOUT ROWID;

-- What works once: mailed links, the set-up link, invitations, upload tickets. Only the SHA-256 of the token is kept;
-- using one deletes its row.
CREATE TABLE links (
    hash       BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    purpose    TEXT    NOT NULL CHECK (purpose IN ('verify', 'setup', 'invite', 'ticket')),
    account    INTEGER REFERENCES accounts (seq) ON DELETE CASCADE,
    key        INTEGER REFERENCES keys (seq) ON DELETE CASCADE,
    email      TEXT,
    details    TEXT,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX links_by_expiry ON links (expires_ms);
CREATE INDEX links_by_account ON links (account) WHERE account IS NOT NULL;
CREATE INDEX links_by_key ON links (key) WHERE key IS NOT NULL;

-- `key` is the key that a browser was signed in with: revoking it signs the browser out.
CREATE TABLE sessions (
    hash       BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    account    INTEGER NOT NULL REFERENCES accounts (seq) ON DELETE CASCADE,
    key        INTEGER REFERENCES keys (seq) ON DELETE CASCADE,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_account ON sessions (account);
CREATE INDEX sessions_by_key ON sessions (key) WHERE key IS NOT NULL;
CREATE INDEX sessions_by_expiry ON sessions (expires_ms);

CREATE TABLE upgrade_requests (
    account    INTEGER PRIMARY KEY REFERENCES accounts (seq) ON DELETE CASCADE,
    plan       TEXT    NOT NULL CHECK (plan IN ('pro', 'scale', 'max')),
    created_ms INTEGER NOT NULL
) STRICT;

-- Mail that waits to be sent. `link` is what the mail is for; without a mail server the operator hands it on.
CREATE TABLE mail (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    account    INTEGER REFERENCES accounts (seq) ON DELETE CASCADE,
    recipient  TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    body_text  TEXT    NOT NULL,
    body_html  TEXT    NOT NULL,
    link       TEXT    NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    created_ms INTEGER NOT NULL,
    next_ms    INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX mail_by_next ON mail (next_ms);
CREATE INDEX mail_by_account ON mail (account) WHERE account IS NOT NULL;

-- Answers to requests with an Idempotency-Key, by caller ('k<key>', 'a<account>' for a session, 'n<network>').
CREATE TABLE replays (
    caller      TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    image       TEXT    NOT NULL,
    answer      BLOB    NOT NULL,
    created_ms  INTEGER NOT NULL,
    PRIMARY KEY (caller, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX replays_by_time ON replays (created_ms);
CREATE INDEX replays_by_image ON replays (image);

-- Pictures get an owner. The table is made anew, because SQLite cannot add such constraints to one that is there.
-- `wanted_end_ms` is the end that the uploader asked for; `expires_ms` is the earlier of that and the plan's.
-- `format` and `stored_bytes` repeat the blob's facts, which never change, for indexes and counters.
DROP TRIGGER images_added;
DROP TRIGGER images_removed;
DROP TRIGGER images_keep_their_blob;

CREATE TABLE images_new (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT    NOT NULL UNIQUE CHECK (length(id) = 12 AND id NOT GLOB '*[^0-9A-Za-z]*'),
    blob             INTEGER NOT NULL REFERENCES blobs (seq),
    format           TEXT    NOT NULL,
    stored_bytes     INTEGER NOT NULL CHECK (stored_bytes > 0),
    name             TEXT    NOT NULL,
    description      TEXT    NOT NULL CHECK (length(description) <= 2000),
    public           INTEGER NOT NULL CHECK (public IN (0, 1)),
    created_ms       INTEGER NOT NULL CHECK (created_ms > 0),
    expires_ms       INTEGER CHECK (expires_ms > created_ms),
    wanted_end_ms    INTEGER CHECK (wanted_end_ms > created_ms),
    display_date     TEXT,
    origin           TEXT    NOT NULL CHECK (origin IN ('upload', 'import')),
    metadata_removed TEXT    NOT NULL CHECK (metadata_removed GLOB '[[]*]'),
    network          TEXT,
    account          INTEGER REFERENCES accounts (seq),
    key              INTEGER REFERENCES keys (seq),
    namespace        TEXT    CHECK (length(namespace) BETWEEN 2 AND 64),
    tags             TEXT    NOT NULL CHECK (tags GLOB '[[]*]'),
    CHECK (account IS NULL OR network IS NULL),
    CHECK (account IS NOT NULL OR (namespace IS NULL AND tags = '[]'))
) STRICT;

-- The end of an anonymous picture is kept as one that was wanted: nothing will ever lengthen it.
INSERT INTO images_new (seq, id, blob, format, stored_bytes, name, description, public, created_ms, expires_ms,
                        wanted_end_ms, display_date, origin, metadata_removed, network, tags)
SELECT i.seq, i.id, i.blob, b.format, b.stored_bytes, i.name, i.description, i.public, i.created_ms, i.expires_ms,
       i.expires_ms, i.display_date, i.origin, i.metadata_removed, i.network, '[]'
FROM images i JOIN blobs b ON b.seq = i.blob;

-- Numbers of deleted pictures are not given again.
INSERT INTO sqlite_sequence (name, seq)
SELECT 'images_new', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'images_new');

UPDATE sqlite_sequence
SET seq = coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'images'), 0)
WHERE name = 'images_new';

DROP TABLE images;

ALTER TABLE images_new RENAME TO images;

CREATE INDEX images_by_blob ON images (blob);
CREATE INDEX images_by_expiry ON images (expires_ms) WHERE expires_ms IS NOT NULL;
-- Every list is newest first within an account; seq, which each index ends with, settles equal times.
CREATE INDEX images_by_account ON images (account, created_ms) WHERE account IS NOT NULL;
CREATE INDEX images_by_key ON images (key) WHERE key IS NOT NULL;
CREATE INDEX images_by_namespace ON images (account, namespace, created_ms) WHERE namespace IS NOT NULL;
CREATE INDEX images_by_format ON images (account, format, created_ms) WHERE account IS NOT NULL;

CREATE TABLE image_tags (
    account      INTEGER NOT NULL,
    tag          TEXT    NOT NULL CHECK (length(tag) BETWEEN 1 AND 50),
    created_ms   INTEGER NOT NULL,
    image        INTEGER NOT NULL REFERENCES images (seq) ON DELETE CASCADE,
    stored_bytes INTEGER NOT NULL,
    PRIMARY KEY (account, tag, created_ms, image)
) STRICT, WITHOUT ROWID;

CREATE INDEX image_tags_by_image ON image_tags (image);

CREATE TABLE tag_totals (
    account      INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    images       INTEGER NOT NULL CHECK (images >= 0),
    stored_bytes INTEGER NOT NULL CHECK (stored_bytes >= 0),
    PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE namespace_totals (
    account      INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    images       INTEGER NOT NULL CHECK (images >= 0),
    stored_bytes INTEGER NOT NULL CHECK (stored_bytes >= 0),
    PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;

-- Full text of the pictures that belong to somebody. `owner` is a word such as 'a17', so that a search looks into one
-- account's pictures only. The text itself stays in `images`; the index holds words. It is written by the statements
-- that write pictures, not by triggers: SQLite before 3.44 calls that unsafe in a schema that is not trusted.
CREATE VIRTUAL TABLE images_text USING fts5 (
    owner, name, description, tags,
    content = '', tokenize = "unicode61 remove_diacritics 2", prefix = '2 3 4 5 6 7 8 9 10'
);

CREATE TRIGGER images_added AFTER INSERT ON images BEGIN
    UPDATE totals SET value = value + 1 WHERE name = 'images';
    UPDATE totals SET value = value + new.stored_bytes WHERE name = 'anonymous_bytes' AND new.network IS NOT NULL;
END;

CREATE TRIGGER images_removed AFTER DELETE ON images BEGIN
    UPDATE totals SET value = value - 1 WHERE name = 'images';
    UPDATE totals SET value = value - old.stored_bytes WHERE name = 'anonymous_bytes' AND old.network IS NOT NULL;
END;

CREATE TRIGGER owned_images_added AFTER INSERT ON images WHEN new.account IS NOT NULL BEGIN
    UPDATE accounts SET images = images + 1, stored_bytes = stored_bytes + new.stored_bytes WHERE seq = new.account;
    INSERT INTO namespace_totals (account, name, images, stored_bytes)
    SELECT new.account, new.namespace, 1, new.stored_bytes WHERE new.namespace IS NOT NULL
    ON CONFLICT (account, name) DO UPDATE
    SET images = images + 1, stored_bytes = stored_bytes + excluded.stored_bytes;
END;

CREATE TRIGGER owned_images_removed AFTER DELETE ON images WHEN old.account IS NOT NULL BEGIN
    UPDATE accounts SET images = images - 1, stored_bytes = stored_bytes - old.stored_bytes WHERE seq = old.account;
    UPDATE namespace_totals SET images = images - 1, stored_bytes = stored_bytes - old.stored_bytes
    WHERE account = old.account AND name = old.namespace;
    DELETE FROM namespace_totals WHERE account = old.account AND name = old.namespace AND images = 0;
END;

CREATE TRIGGER namespaces_changed AFTER UPDATE OF namespace ON images
WHEN new.account IS NOT NULL AND old.namespace IS NOT new.namespace BEGIN
    UPDATE namespace_totals SET images = images - 1, stored_bytes = stored_bytes - old.stored_bytes
    WHERE account = old.account AND name = old.namespace;
    DELETE FROM namespace_totals WHERE account = old.account AND name = old.namespace AND images = 0;
    INSERT INTO namespace_totals (account, name, images, stored_bytes)
    SELECT new.account, new.namespace, 1, new.stored_bytes WHERE new.namespace IS NOT NULL
    ON CONFLICT (account, name) DO UPDATE
    SET images = images + 1, stored_bytes = stored_bytes + excluded.stored_bytes;
END;

CREATE TRIGGER tags_added AFTER INSERT ON image_tags BEGIN
    INSERT INTO tag_totals (account, name, images, stored_bytes)
    VALUES (new.account, new.tag, 1, new.stored_bytes)
    ON CONFLICT (account, name) DO UPDATE
    SET images = images + 1, stored_bytes = stored_bytes + excluded.stored_bytes;
END;

CREATE TRIGGER tags_removed AFTER DELETE ON image_tags BEGIN
    UPDATE tag_totals SET images = images - 1, stored_bytes = stored_bytes - old.stored_bytes
    WHERE account = old.account AND name = old.tag;
    DELETE FROM tag_totals WHERE account = old.account AND name = old.tag AND images = 0;
END;

-- A picture leaves an account when the owner says that it came with a stranger's key. Its tags are gone by then.
CREATE TRIGGER images_disowned AFTER UPDATE OF account ON images
WHEN old.account IS NOT NULL AND new.account IS NULL BEGIN
    UPDATE accounts SET images = images - 1, stored_bytes = stored_bytes - old.stored_bytes WHERE seq = old.account;
    UPDATE namespace_totals SET images = images - 1, stored_bytes = stored_bytes - old.stored_bytes
    WHERE account = old.account AND name = old.namespace;
    DELETE FROM namespace_totals WHERE account = old.account AND name = old.namespace AND images = 0;
END;

-- The facts of a picture that never change.
CREATE TRIGGER images_keep_their_facts
BEFORE UPDATE OF blob, network, created_ms, format, stored_bytes ON images BEGIN
    SELECT RAISE(ABORT, 'a picture keeps its blob, its uploader and its time');
END;

CREATE TRIGGER images_are_not_given_away BEFORE UPDATE OF account, key ON images
WHEN new.account IS NOT NULL BEGIN
    SELECT RAISE(ABORT, 'a picture keeps its owner');
END;
