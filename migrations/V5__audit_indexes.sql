-- Indexes of the audit log that ascend: a list reads them backwards. Descending ones grew at the left end, of the log or of a grant,
-- where every page splits in half, each insert moves what is in the page, and half of the room stays empty. Months that have moved to
-- the colder table grow no more and keep what they have. Who writes events waits until the indexes of the last months are made.
DROP INDEX federation_audit_log_by_time, federation_audit_log_by_grant;
CREATE INDEX federation_audit_log_by_time ON federation_audit_log (at, seq);
CREATE INDEX federation_audit_log_by_grant ON federation_audit_log (grant_id, at, seq);
