-- Letters that are asked for in the transaction that makes them true, and sent by whichever
-- worker drains them.  No link rests here: its token is derived from the row's id and the
-- installation's secret when the letter is written.
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
);

CREATE INDEX outbox_waiting ON outbox (due_at) WHERE state = 'waiting';

CREATE INDEX outbox_by_address ON outbox (email_key, template, created_at);

CREATE INDEX outbox_finished ON outbox (finished_at) WHERE state <> 'waiting';

-- The letter that carried the token; the password of the registration that it confirms; the
-- address that it moves the account to.
ALTER TABLE mail_tokens ADD COLUMN mail_id TEXT;

ALTER TABLE mail_tokens ADD COLUMN password_hash TEXT;

ALTER TABLE mail_tokens ADD COLUMN new_email TEXT;

CREATE INDEX mail_tokens_by_expiry ON mail_tokens (expires_at);
