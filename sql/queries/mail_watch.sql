-- Read together, the counters first: what is committed between the statements is seen again next time.

-- name: watch_account :maybe
SELECT s.modseq,
       (SELECT coalesce(max(n.modseq), 0) FROM annotation n WHERE n.account_id = $1) AS annotation_modseq
  FROM account_state s
 WHERE s.account_id = $1;

-- name: watch_changed :many
-- has_message_change: more than the mailbox's own properties changed after $2.
SELECT mailbox_id, path, role, uid_validity, uid_next, modseq, changed_modseq, message_count, unseen_count,
       deleted_count, bytes,
       EXISTS (SELECT FROM mailbox_subscription n WHERE n.account_id = b.account_id AND n.name = b.path) AS is_subscribed,
       (modseq > changed_modseq
        OR EXISTS (SELECT FROM mailbox_change c
                    WHERE c.account_id = $1 AND c.mailbox_id = b.mailbox_id AND c.modseq > $2)
        OR coalesce((SELECT m.created_modseq FROM message m
                      WHERE m.account_id = $1 AND m.mailbox_id = b.mailbox_id
                      ORDER BY m.uid DESC LIMIT 1), 0) > $2) AS has_message_change
  FROM mailbox b
 WHERE account_id = $1 AND modseq > $2
 ORDER BY modseq, mailbox_id
 LIMIT $3;

-- name: watch_removed :many
SELECT mailbox_id FROM mailbox_removed WHERE account_id = $1 AND modseq > $2 ORDER BY modseq;
