-- Raised with each change of the password: device cookies of before are strangers.
ALTER TABLE accounts ADD COLUMN password_epoch BIGINT NOT NULL DEFAULT 0;
