-- name: report_due_add :exec
-- What is reported of whom. In one order, so that workers do not wait for each other in a ring.
INSERT INTO report_due AS r (kind, day, domain, policy, rua)
SELECT DISTINCT ON (kind, day, domain)
       kind, day, domain, policy, CASE WHEN rua = '' THEN '{}' ELSE string_to_array(rua, E'\n') END
  FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::text[]) AS t (kind, day, domain, policy, rua)
 ORDER BY kind, day, domain
    ON CONFLICT (kind, day, domain) DO UPDATE
   SET policy = excluded.policy, rua = excluded.rua
 WHERE r.sent_at IS NULL AND (r.policy, r.rua) IS DISTINCT FROM (excluded.policy, excluded.rua);

-- name: report_dmarc_rows_add :exec
-- Each row's fields come in one text, separated by U+001F, whose digest is the key.
INSERT INTO report_dmarc_row AS r
       (day, domain, key, source_ip, disposition, dkim, spf, header_from, envelope_from, reason, results, count)
SELECT day, domain, md5(fields)::uuid, f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], count
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::bigint[]) AS t (day, domain, fields, count)
 CROSS JOIN LATERAL string_to_array(fields, E'\x1f') AS f
 ORDER BY 1, 2, 3
    ON CONFLICT (day, domain, key) DO UPDATE SET count = r.count + excluded.count;

-- name: report_tls_rows_add :exec
INSERT INTO report_tls_row AS r
       (day, domain, key, policy_type, policy_domain, policy_strings, mx_hosts, result_type, sending_ip, mx_hostname,
        receiving_ip, reason, count)
SELECT day, domain, md5(fields)::uuid, f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], count
  FROM unnest($1::integer[], $2::text[], $3::text[], $4::bigint[]) AS t (day, domain, fields, count)
 CROSS JOIN LATERAL string_to_array(fields, E'\x1f') AS f
 ORDER BY 1, 2, 3
    ON CONFLICT (day, domain, key) DO UPDATE SET count = r.count + excluded.count;

-- name: report_claim :maybe
-- The oldest report of a day before $1 whose time has come and that nobody works on. A claim is lost after $3 seconds; $4:
-- how often it is tried; $5 and $6: see report_time().
UPDATE report_due SET claim = $2::bigint, claimed_at = now(), attempts = attempts + 1
 WHERE (kind, day, domain) = (
       SELECT kind, day, domain FROM report_due
        WHERE sent_at IS NULL AND day < $1::integer AND claimed_at < now() - $3::integer * interval '1 second'
          AND attempts < $4::integer AND (is_asked OR now() >= report_time(day, domain, $5, $6))
        ORDER BY day, claimed_at LIMIT 1
          FOR UPDATE SKIP LOCKED)
RETURNING kind, day, domain, policy, rua;

-- name: report_end :maybe
SELECT report_end($1, $2, $3, $4, $5);

-- name: report_put_back :exec
-- Nobody has it yet: it is tried again when the claim is over.
UPDATE report_due SET note = $5
 WHERE kind = $1 AND day = $2 AND domain = $3 AND claim = $4 AND sent_at IS NULL;

-- name: report_ask :exec
-- An empty domain is any. Whoever has a claim loses it, unless the report is ended before the next one claims it.
UPDATE report_due SET is_asked = true, attempts = 0, claimed_at = '-infinity'
 WHERE sent_at IS NULL AND day < $1::integer AND ($2::text = '' OR domain = $2);

-- name: report_due_list :many
SELECT d.kind, d.day, d.domain, d.rua, d.attempts, d.sent_at, d.note, report_time(d.day, d.domain, $1, $2) AS due_at
  FROM report_due d
 WHERE ($3::text = '' OR kind = $3) AND ($4::text = '' OR domain = $4)
 ORDER BY d.sent_at IS NOT NULL, d.day DESC, d.domain, d.kind
 LIMIT $5::integer;

-- name: report_dmarc_rows :many
SELECT source_ip, disposition, dkim, spf, header_from, envelope_from, reason, results, count
  FROM report_dmarc_row
 WHERE day = $1 AND domain = $2
 ORDER BY count DESC, key
 LIMIT $3::integer;

-- name: report_tls_rows :many
SELECT policy_type, policy_domain, policy_strings, mx_hosts, result_type, sending_ip, mx_hostname, receiving_ip, reason,
       count
  FROM report_tls_row
 WHERE day = $1 AND domain = $2
 ORDER BY policy_type, policy_domain, policy_strings, mx_hosts, count DESC, key
 LIMIT $3::integer;

-- name: report_forget_due :exec
DELETE FROM report_due WHERE day < $1::integer;

-- name: report_forget_dmarc :exec
-- Days long gone, and what was sent.
DELETE FROM report_dmarc_row r
 WHERE day < $1::integer
    OR EXISTS (SELECT FROM report_due d
                WHERE d.kind = 'dmarc' AND d.day = r.day AND d.domain = r.domain AND d.sent_at IS NOT NULL);

-- name: report_forget_tls :exec
DELETE FROM report_tls_row r
 WHERE day < $1::integer
    OR EXISTS (SELECT FROM report_due d
                WHERE d.kind = 'tls' AND d.day = r.day AND d.domain = r.domain AND d.sent_at IS NOT NULL);

-- name: report_received_add :maybe
-- Nothing when the same report came before.
INSERT INTO report_received (kind, organization, external_id, domain, begin_at, end_at, policy, passed, failed, row_count)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT DO NOTHING
RETURNING report_id;

-- name: report_received_today :one
-- Lines that came within a day: from $1, and from anybody.
SELECT coalesce(sum(row_count) FILTER (WHERE organization = $1), 0)::bigint AS of_source,
       coalesce(sum(row_count), 0)::bigint AS of_all
  FROM report_received WHERE received_at > now() - interval '1 day';

-- name: report_received_rows_add :exec
INSERT INTO report_received_row (report_id, n, source, subject, outcome, is_pass, count, detail)
SELECT $1::bigint, $2::integer + n, f[1], f[2], f[3], f[4] = 'pass', count, f[5]
  FROM unnest($3::text[], $4::bigint[]) WITH ORDINALITY AS t (fields, count, n)
 CROSS JOIN LATERAL string_to_array(fields, E'\x1f') AS f;

-- name: report_received_list :many
-- The newest first; an empty kind or domain is any.
SELECT report_id, kind, received_at, organization, external_id, domain, begin_at, end_at, policy, passed, failed
  FROM report_received
 WHERE ($1::text = '' OR kind = $1) AND ($2::text = '' OR domain = $2)
 ORDER BY received_at DESC, report_id DESC
 LIMIT $3::integer;

-- name: report_received_show :one
SELECT report_id, kind, received_at, organization, external_id, domain, begin_at, end_at, policy, passed, failed
  FROM report_received WHERE report_id = $1;

-- name: report_received_rows :many
SELECT n, source, subject, outcome, is_pass, count, detail
  FROM report_received_row WHERE report_id = $1
 ORDER BY is_pass, count DESC, n
 LIMIT $2::integer;

-- name: report_sources :many
-- What all reports since $3 together say of each source; the one with most failures first. Outcome and detail are those of its
-- largest failing line, or else of its largest.
SELECT r.kind, r.domain, w.source,
       least(coalesce(sum(w.count) FILTER (WHERE w.is_pass), 0), 9223372036854775807)::bigint AS passed,
       least(coalesce(sum(w.count) FILTER (WHERE NOT w.is_pass), 0), 9223372036854775807)::bigint AS failed,
       count(DISTINCT r.organization) AS reporters, max(r.end_at) AS last_at,
       (array_agg(w.subject ORDER BY w.is_pass, w.count DESC, w.n))[1] AS subject,
       (array_agg(w.outcome ORDER BY w.is_pass, w.count DESC, w.n))[1] AS outcome,
       (array_agg(w.detail ORDER BY w.is_pass, w.count DESC, w.n))[1] AS detail
  FROM report_received r JOIN report_received_row w USING (report_id)
 WHERE ($1::text = '' OR r.kind = $1) AND ($2::text = '' OR r.domain = $2) AND r.received_at >= $3::timestamptz
   AND w.source <> ''
 GROUP BY r.kind, r.domain, w.source
 ORDER BY failed DESC, passed DESC, r.kind, r.domain, w.source
 LIMIT $4::integer;

-- name: report_received_forget :exec
DELETE FROM report_received
 WHERE report_id IN (SELECT report_id FROM report_received WHERE received_at < $1 LIMIT 1000);

-- name: report_received_trim :exec
-- The newest reports stay, of $1 lines together.
DELETE FROM report_received
 WHERE report_id IN (SELECT report_id
                       FROM (SELECT report_id, sum(row_count) OVER (ORDER BY received_at DESC, report_id DESC) AS rows
                               FROM report_received) AS t
                      WHERE rows > $1::bigint);
