-- What was ended for good, kept where no backup can take it back: a restore adds to this table
-- and never takes from it.  `epoch`: of a password, the first that is not ended.
CREATE TABLE tombstones (
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    ended_at BIGINT NOT NULL,
    PRIMARY KEY (kind, target)
);

-- What ended before there were tombstones.
INSERT INTO tombstones (kind, target, ended_at)
SELECT 'signing_key', kid, COALESCE(gone_at, created_at) FROM signing_keys WHERE state = 'gone';

INSERT INTO tombstones (kind, target, ended_at)
SELECT 'disabled', id, updated_at FROM accounts WHERE disabled = 1;
