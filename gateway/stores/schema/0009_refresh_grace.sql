-- The grace of a second use is exact: milliseconds since the epoch.
ALTER TABLE refresh_tokens ADD COLUMN used_ms BIGINT;
