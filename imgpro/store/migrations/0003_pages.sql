-- What the pages need: links that sign in, sessions that can be told apart, and how the data grows from day to day.

-- The table is made anew, because SQLite cannot change the check on `purpose`.
CREATE TABLE links_new (
    hash       BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    purpose    TEXT    NOT NULL CHECK (purpose IN ('verify', 'setup', 'invite', 'ticket', 'signin')),
    account    INTEGER REFERENCES accounts (seq) ON DELETE CASCADE,
    key        INTEGER REFERENCES keys (seq) ON DELETE CASCADE,
    email      TEXT,
    details    TEXT,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO links_new (hash, purpose, account, key, email, details, created_ms, expires_ms)
SELECT hash, purpose, account, key, email, details, created_ms, expires_ms FROM links;

DROP TABLE links;

ALTER TABLE links_new RENAME TO links;

CREATE INDEX links_by_expiry ON links (expires_ms);
CREATE INDEX links_by_account ON links (account) WHERE account IS NOT NULL;
CREATE INDEX links_by_key ON links (key) WHERE key IS NOT NULL;

-- `seen_ms` is when the session was used last (0: not since it began); `browser` is one of our own phrases, such as
-- 'Firefox on Linux', never what the browser said.
ALTER TABLE sessions ADD COLUMN seen_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN browser TEXT NOT NULL DEFAULT '';

-- Few among many: they wait for somebody to vouch for them.
CREATE INDEX accounts_unverified ON accounts (seq) WHERE verified_ms IS NULL;

-- Originals that came and went, by day (UTC, counted from 1970), kept by triggers: a chart of a month is thirty rows,
-- whatever is stored.
CREATE TABLE daily_growth (
    day           INTEGER PRIMARY KEY,
    added         INTEGER NOT NULL DEFAULT 0 CHECK (added >= 0),
    added_bytes   INTEGER NOT NULL DEFAULT 0 CHECK (added_bytes >= 0),
    removed_bytes INTEGER NOT NULL DEFAULT 0 CHECK (removed_bytes >= 0)
) STRICT;

INSERT INTO daily_growth (day, added, added_bytes)
SELECT created_ms / 86400000, count(*), sum(stored_bytes) FROM blobs GROUP BY created_ms / 86400000;

CREATE TRIGGER growth_added AFTER INSERT ON blobs BEGIN
    INSERT INTO daily_growth (day, added, added_bytes)
    VALUES (new.created_ms / 86400000, 1, new.stored_bytes)
    ON CONFLICT (day) DO UPDATE SET added = added + 1, added_bytes = added_bytes + excluded.added_bytes;
END;

CREATE TRIGGER growth_removed AFTER DELETE ON blobs BEGIN
    INSERT INTO daily_growth (day, removed_bytes)
    VALUES (CAST(strftime('%s', 'now') AS INTEGER) / 86400, old.stored_bytes)
    ON CONFLICT (day) DO UPDATE SET removed_bytes = removed_bytes + excluded.removed_bytes;
END;
