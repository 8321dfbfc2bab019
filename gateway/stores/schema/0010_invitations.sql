-- Whom an operator has asked to register: one row an address, gone once it is used.  The letter
-- carries another token than the operator is shown, as only the letter proves who reads it.
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
