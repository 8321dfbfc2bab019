-- Keys that people make for their own programs.  `roles`, `scopes` and `routes` are lists in JSON,
-- NULL where nothing limits the key.  `created_at` is a time like the `iat` of a token: it lies
-- behind every change that refused what the account had before.
CREATE TABLE personal_keys (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    roles TEXT,
    scopes TEXT,
    routes TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    last_used_at BIGINT
);

CREATE INDEX personal_keys_by_account ON personal_keys (account_id);

CREATE INDEX personal_keys_by_expiry ON personal_keys (expires_at);

CREATE INDEX personal_keys_ended ON personal_keys (ended_at) WHERE ended_at IS NOT NULL;
