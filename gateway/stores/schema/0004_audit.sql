-- Written once, never changed: `hash` is SHA-256 over the hash before it, the writer, the
-- position and the line, so that an edit breaks the chain of its writer.
CREATE TABLE audit_events (
    writer TEXT NOT NULL,
    position BIGINT NOT NULL,
    at BIGINT NOT NULL,
    line TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (writer, position)
);

CREATE INDEX audit_events_by_time ON audit_events (at);

CREATE INDEX audit_events_first ON audit_events (at) WHERE position = 1;
