-- What the operator's console lists and searches (docs/operations/console.md).  `-- only:` stands
-- before an index whose expression the two dialects spell differently.

-- Addresses by their beginning, whatever the collation of the database is; SQLite compares bytes.
-- only: postgresql
CREATE INDEX accounts_by_address ON accounts (email_key COLLATE "C");

-- only: postgresql
CREATE INDEX accounts_disabled ON accounts (email_key COLLATE "C") WHERE disabled = 1;

-- only: sqlite
CREATE INDEX accounts_disabled ON accounts (email_key) WHERE disabled = 1;

CREATE INDEX account_roles_by_role ON account_roles (role);

CREATE INDEX linked_roles_by_role ON linked_roles (role);

CREATE INDEX families_live ON families (created_at, id) WHERE ended_at IS NULL;

CREATE INDEX outbox_by_state ON outbox (state, created_at, id);

-- Events by what their line says: no column could tell something else than the line, which the
-- chain holds.  A row that somebody has spoilt is in none of them, and stops nothing.
-- only: postgresql
CREATE INDEX audit_events_by_kind ON audit_events
    ((substring(line from '^."at":"(?:[^"\\]|\\.)*","event":"((?:[^"\\]|\\.)*)"')), at_ms, writer, position);

-- only: postgresql
CREATE INDEX audit_events_by_subject ON audit_events
    ((substring(line from '^."at":"(?:[^"\\]|\\.)*","event":"(?:[^"\\]|\\.)*","result":"(?:[^"\\]|\\.)*","subject":"((?:[^"\\]|\\.)*)"')), at_ms, writer, position);

-- only: postgresql
CREATE INDEX audit_events_by_actor ON audit_events
    ((substring(line from '^."at":"(?:[^"\\]|\\.)*","event":"(?:[^"\\]|\\.)*","result":"(?:[^"\\]|\\.)*"(?:,"subject":"(?:[^"\\]|\\.)*")?,"actor":"((?:[^"\\]|\\.)*)"')), at_ms, writer, position);

-- only: sqlite
CREATE INDEX audit_events_by_kind ON audit_events
    ((CASE WHEN json_valid(line) THEN json_extract(line, '$.event') END), at_ms, writer, position);

-- only: sqlite
CREATE INDEX audit_events_by_subject ON audit_events
    ((CASE WHEN json_valid(line) THEN json_extract(line, '$.subject') END), at_ms, writer, position);

-- only: sqlite
CREATE INDEX audit_events_by_actor ON audit_events
    ((CASE WHEN json_valid(line) THEN json_extract(line, '$.actor') END), at_ms, writer, position);
