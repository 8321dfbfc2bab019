-- Machine clients: who they are, what they may, and how they prove it.
CREATE TABLE clients (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    public_jwks TEXT,
    not_before BIGINT NOT NULL DEFAULT 0,
    newest_iat BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT
);

CREATE TABLE client_roles (
    client_id TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    PRIMARY KEY (client_id, role)
);

-- At most two are live for a client: the newest, and the one before it while it is replaced.
CREATE TABLE client_secrets (
    hash TEXT PRIMARY KEY,
    client_id TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL
);

CREATE INDEX client_secrets_by_client ON client_secrets (client_id);

-- Assertions that were used (RFC 7523 section 3, `jti`), until they have expired.
CREATE TABLE client_assertions (
    hash TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

CREATE INDEX client_assertions_by_expiry ON client_assertions (expires_at);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    client_id TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    roles TEXT,
    scopes TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    ended_at BIGINT,
    last_used_at BIGINT
);

CREATE INDEX api_keys_by_client ON api_keys (client_id);
