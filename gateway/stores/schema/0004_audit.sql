-- Written once, never changed: `hash` is SHA-256 over the hash before it, the writer, the
-- position and the line, so that an edit breaks the chain of its writer.  Milliseconds, as
-- the order of two writers' events matters to who reads them.
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
