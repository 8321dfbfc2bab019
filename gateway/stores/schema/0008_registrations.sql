-- A registration waits here, and is no account, until its address is confirmed with its own
-- password.  The newest letter of one requester replaces the older ones.
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

-- Whose mailbox a letter fills, who asked for it, and when: letters are counted by both.
ALTER TABLE outbox ADD COLUMN recipient_key TEXT NOT NULL DEFAULT '';

ALTER TABLE outbox ADD COLUMN requester TEXT NOT NULL DEFAULT '';

ALTER TABLE outbox ADD COLUMN asked_ms BIGINT NOT NULL DEFAULT 0;

CREATE INDEX outbox_by_recipient ON outbox (recipient_key, created_at);

-- Links of before confirmed whatever password their letter carried.
DELETE FROM mail_tokens WHERE purpose = 'verify';

UPDATE outbox SET state = 'dropped', finished_at = created_at, fields = '{}', password_hash = NULL
WHERE state = 'waiting' AND purpose = 'verify';
