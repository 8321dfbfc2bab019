-- Made of gateway/stores/schema by `python -m gateway.stores.schema_dump`: do not edit.
-- SQLite's spelling; PostgreSQL's differs in the indexes of 0017_console.sql alone.

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
, password_epoch BIGINT NOT NULL DEFAULT 0, passkey_handle TEXT);

CREATE TABLE account_roles (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    granted_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, role)
);

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
, tenant TEXT);

CREATE INDEX families_by_account ON families (account_id);

CREATE INDEX families_by_expiry ON families (expires_at);

CREATE TABLE refresh_tokens (
    hash TEXT PRIMARY KEY,
    family_id TEXT NOT NULL REFERENCES families (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    used_at BIGINT,
    used_by TEXT,
    successor_sealed TEXT
, used_ms BIGINT);

CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family_id);

CREATE INDEX refresh_tokens_sealed ON refresh_tokens (used_at) WHERE successor_sealed IS NOT NULL;

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
, mail_id TEXT, password_hash TEXT, new_email TEXT);

CREATE INDEX mail_tokens_by_account ON mail_tokens (account_id);

CREATE TABLE installation (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    template TEXT NOT NULL,
    purpose TEXT,
    email_key TEXT NOT NULL,
    recipient TEXT,
    fields TEXT NOT NULL,
    password_hash TEXT,
    state TEXT NOT NULL DEFAULT 'waiting',
    attempts BIGINT NOT NULL DEFAULT 0,
    due_at BIGINT NOT NULL,
    claimed_until BIGINT NOT NULL DEFAULT 0,
    prepared_at BIGINT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    failure TEXT
, recipient_key TEXT NOT NULL DEFAULT '', requester TEXT NOT NULL DEFAULT '', asked_ms BIGINT NOT NULL DEFAULT 0);

CREATE INDEX outbox_waiting ON outbox (due_at) WHERE state = 'waiting';

CREATE INDEX outbox_by_address ON outbox (email_key, template, created_at);

CREATE INDEX outbox_finished ON outbox (finished_at) WHERE state <> 'waiting';

CREATE INDEX mail_tokens_by_expiry ON mail_tokens (expires_at);

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

CREATE TABLE client_secrets (
    hash TEXT PRIMARY KEY,
    client_id TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL
);

CREATE INDEX client_secrets_by_client ON client_secrets (client_id);

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

CREATE TABLE audit_events (
    writer TEXT NOT NULL,
    position BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    line TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (writer, position)
);

CREATE INDEX audit_events_by_time ON audit_events (at_ms);

CREATE INDEX audit_events_first ON audit_events (at_ms) WHERE position = 1;

CREATE INDEX changes_by_target ON changes (target);

CREATE TABLE tombstones (
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    ended_at BIGINT NOT NULL,
    PRIMARY KEY (kind, target)
);

CREATE TABLE registrations (
    hash TEXT PRIMARY KEY,
    mail_id TEXT NOT NULL,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    requester TEXT NOT NULL,
    asked_ms BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX registrations_by_address ON registrations (email_key);

CREATE INDEX registrations_by_expiry ON registrations (expires_at);

CREATE INDEX outbox_by_recipient ON outbox (recipient_key, created_at);

CREATE TABLE invitations (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    mailed_hash TEXT UNIQUE,
    mail_id TEXT,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL UNIQUE,
    roles TEXT NOT NULL,
    verified SMALLINT NOT NULL,
    invited_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX invitations_by_expiry ON invitations (expires_at);

CREATE INDEX invitations_by_mail ON invitations (mail_id);

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

CREATE TABLE totp_factors (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    sealed_secret TEXT NOT NULL,
    begun_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    confirmed_at BIGINT,
    last_step BIGINT NOT NULL
);

CREATE UNIQUE INDEX totp_factors_confirmed ON totp_factors (account_id)
    WHERE confirmed_at IS NOT NULL;

CREATE UNIQUE INDEX totp_factors_pending ON totp_factors (account_id) WHERE confirmed_at IS NULL;

CREATE TABLE recovery_codes (
    hash TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL
);

CREATE INDEX recovery_codes_by_account ON recovery_codes (account_id);

CREATE TABLE factor_terms (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    began_at BIGINT NOT NULL
);

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

CREATE UNIQUE INDEX accounts_by_passkey_handle ON accounts (passkey_handle);

CREATE TABLE account_attributes (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    set_by TEXT NOT NULL,
    set_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, name)
);

CREATE TABLE account_tenants (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    tenant TEXT NOT NULL,
    role TEXT NOT NULL,
    granted_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, tenant)
);

CREATE INDEX account_tenants_by_tenant ON account_tenants (tenant);

CREATE TABLE linked_identities (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    provider TEXT NOT NULL,
    email TEXT,
    linked_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL
);

CREATE UNIQUE INDEX linked_identities_by_subject ON linked_identities (issuer, subject);

CREATE UNIQUE INDEX linked_identities_by_account ON linked_identities (account_id, issuer);

CREATE TABLE linked_roles (
    identity_id TEXT NOT NULL REFERENCES linked_identities (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    PRIMARY KEY (identity_id, role)
);

CREATE TABLE provider_sessions (
    session_id TEXT PRIMARY KEY REFERENCES families (id) ON DELETE CASCADE,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    provider TEXT NOT NULL,
    provider_session TEXT,
    id_token_sealed TEXT
);

CREATE INDEX provider_sessions_by_subject ON provider_sessions (issuer, subject);

CREATE INDEX provider_sessions_by_session ON provider_sessions (issuer, provider_session);

CREATE VIEW held_roles AS
SELECT account_id, role FROM account_roles
UNION
SELECT i.account_id, r.role FROM linked_roles r JOIN linked_identities i ON i.id = r.identity_id;

CREATE TABLE known_password_notices (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    password_epoch BIGINT NOT NULL,
    told_at BIGINT NOT NULL
);

CREATE INDEX accounts_disabled ON accounts (email_key) WHERE disabled = 1;

CREATE INDEX account_roles_by_role ON account_roles (role);

CREATE INDEX linked_roles_by_role ON linked_roles (role);

CREATE INDEX families_live ON families (created_at, id) WHERE ended_at IS NULL;

CREATE INDEX outbox_by_state ON outbox (state, created_at, id);

CREATE INDEX audit_events_by_kind ON audit_events
    ((CASE WHEN json_valid(line) THEN json_extract(line, '$.event') END), at_ms, writer, position);

CREATE INDEX audit_events_by_subject ON audit_events
    ((CASE WHEN json_valid(line) THEN json_extract(line, '$.subject') END), at_ms, writer, position);

CREATE INDEX audit_events_by_actor ON audit_events
    ((CASE WHEN json_valid(line) THEN json_extract(line, '$.actor') END), at_ms, writer, position);
