-- Agents are told again and again which certificates are void before their time: few among many.
CREATE INDEX host_certificate_revoked ON host_certificate (revoked_at) WHERE revoked_at IS NOT NULL;

-- What the hub said of the host when it made the token; what the host says of itself gives no right.
ALTER TABLE host_certificate ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
UPDATE host_certificate SET labels = COALESCE(
    (SELECT labels FROM host_token WHERE spent_by = host_certificate.host ORDER BY spent_at DESC, id LIMIT 1), '{}');
