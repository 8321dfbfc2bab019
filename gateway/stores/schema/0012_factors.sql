-- Second factors (docs/factors.md).  A secret rests sealed under the key secret of the installation,
-- as the account's and this row's.  A row without `confirmed_at` is an enrolment under way, which
-- `begun_by` (a session, or a sign-in that waits for it) may confirm.  `last_step` is the time step
-- of the last code that was taken: none of it or before counts again.
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

-- Codes for who has lost a factor: hashes, deleted with their use.
CREATE TABLE recovery_codes (
    hash TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL
);

CREATE INDEX recovery_codes_by_account ON recovery_codes (account_id);

-- From when the term counts in which an account that needs a factor enrols one.
CREATE TABLE factor_terms (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    began_at BIGINT NOT NULL
);
