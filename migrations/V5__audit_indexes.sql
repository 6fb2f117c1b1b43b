-- Indexes of the audit log that grow at their right end: a list reads them backwards. Descending ones grew at their left end, where
-- every page splits in half, each insert moves what is in the page, and half of the room stays empty.
DROP INDEX federation_audit_log_by_time, federation_audit_log_by_grant, federation_audit_cold_by_time;
CREATE INDEX federation_audit_log_by_time ON federation_audit_log (at, seq);
CREATE INDEX federation_audit_log_by_grant ON federation_audit_log (grant_id, at, seq);
-- The same as the log's, so that a month that moves brings its own.
CREATE INDEX federation_audit_cold_by_time ON federation_audit_cold (at, seq);
