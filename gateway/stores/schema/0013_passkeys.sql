-- Passkeys of accounts (WebAuthn credentials).  `credential_id`, `public_key` (a COSE key) and the
-- user handle are base64url; `transports` are words with spaces between.  `discoverable` is what
-- the browser said of it, NULL where it said nothing.
CREATE TABLE passkeys (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    credential_id TEXT NOT NULL UNIQUE,
    public_key TEXT NOT NULL,
    name TEXT NOT NULL,
    sign_count BIGINT NOT NULL,
    backup_eligible SMALLINT NOT NULL,
    backed_up SMALLINT NOT NULL,
    discoverable SMALLINT,
    transports TEXT NOT NULL,
    aaguid TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT
);

CREATE INDEX passkeys_by_account ON passkeys (account_id);

-- What authenticators know an account by: random, and the same for all its passkeys.
ALTER TABLE accounts ADD COLUMN passkey_handle TEXT;

CREATE UNIQUE INDEX accounts_by_passkey_handle ON accounts (passkey_handle);
