-- Whom a mail told that the world knows their password, and of which of their passwords: once of each.
CREATE TABLE known_password_notices (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    password_epoch BIGINT NOT NULL,
    told_at BIGINT NOT NULL
);
