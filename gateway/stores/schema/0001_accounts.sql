-- One text for PostgreSQL and SQLite: ids TEXT, times BIGINT seconds since the epoch,
-- booleans SMALLINT, bytes base64url TEXT.  Statements end with a semicolon at a line's end.

CREATE TABLE accounts (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL UNIQUE,
    email_verified SMALLINT NOT NULL DEFAULT 0,
    password_hash TEXT,
    disabled SMALLINT NOT NULL DEFAULT 0,
    not_before BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE account_roles (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    granted_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, role)
);

-- A family is one sign-in: its id is the `sid` of every token that comes of it.
CREATE TABLE families (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    transport TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    address TEXT NOT NULL,
    amr TEXT NOT NULL,
    auth_time BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT
);

CREATE INDEX families_by_account ON families (account_id);

CREATE INDEX families_by_expiry ON families (expires_at);

-- Only hashes rest here.  The successor of a used token is sealed under a key that only
-- the holder of the used token can derive, and erased when the grace is over.
CREATE TABLE refresh_tokens (
    hash TEXT PRIMARY KEY,
    family_id TEXT NOT NULL REFERENCES families (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    used_at BIGINT,
    used_by TEXT,
    successor_sealed TEXT
);

CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family_id);

CREATE INDEX refresh_tokens_sealed ON refresh_tokens (used_at) WHERE successor_sealed IS NOT NULL;

-- What every worker must know.  Written in the transaction that makes it true, marked
-- published once the stream has it.
CREATE TABLE changes (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    cause TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    published SMALLINT NOT NULL DEFAULT 0
);

CREATE INDEX changes_by_time ON changes (created_at);

CREATE INDEX changes_unpublished ON changes (created_at) WHERE published = 0;

-- next (in the JWKS, signs nothing) -> active -> retiring (verifies) -> gone; an imported
-- public key is `verifying`.  usable_at: from when a next key may sign, NULL until every
-- live worker has confirmed it; gone_at: when a key went, or a retiring one will go.
CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    alg TEXT NOT NULL,
    state TEXT NOT NULL,
    public_jwk TEXT NOT NULL,
    sealed_private TEXT,
    imported SMALLINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    usable_at BIGINT,
    activated_at BIGINT,
    retired_at BIGINT,
    gone_at BIGINT
);

CREATE UNIQUE INDEX one_active_key ON signing_keys (state) WHERE state = 'active';

CREATE UNIQUE INDEX one_next_key ON signing_keys (state) WHERE state = 'next';

CREATE TABLE mail_tokens (
    hash TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    purpose TEXT NOT NULL,
    email_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX mail_tokens_by_account ON mail_tokens (account_id);

-- What was measured or made once for the installation (the bcrypt cost, for one).
CREATE TABLE installation (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
