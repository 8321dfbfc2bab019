-- What is known of an account besides its roles.  `value` is JSON; `set_by` is who gave it:
-- `operator`, `person`, or `provider NAME`.
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

-- The tenant for which a session acts; NULL where none was chosen.
ALTER TABLE families ADD COLUMN tenant TEXT;
