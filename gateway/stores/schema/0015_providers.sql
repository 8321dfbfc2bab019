-- Whom providers know, by what they call themselves and the person: one account each, and of one
-- provider one person for an account.  `provider` is its name in the configuration then.
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

-- Roles that the last sign-in by a provider gave, apart from those that operators grant.
CREATE TABLE linked_roles (
    identity_id TEXT NOT NULL REFERENCES linked_identities (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    PRIMARY KEY (identity_id, role)
);

-- Sessions that a provider began, by its own names: what it ends, ends them.  The ID token is
-- sealed; it is shown to the provider alone, when somebody signs out there too.
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

-- What an account may be asked for: what operators granted and what providers gave.
CREATE VIEW held_roles AS
SELECT account_id, role FROM account_roles
UNION
SELECT i.account_id, r.role FROM linked_roles r JOIN linked_identities i ON i.id = r.identity_id;
