-- A sign-out that is repeated finds the change that it made the first time.
CREATE INDEX changes_by_target ON changes (target);
