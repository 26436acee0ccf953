-- name: mailbox_find :one
SELECT account_id, mailbox_id, path, role, uid_validity, uid_next, modseq, message_count, unseen_count, deleted_count,
       bytes,
       EXISTS (SELECT FROM mailbox_subscription n WHERE n.account_id = mailbox.account_id AND n.name = path)
           AS is_subscribed
  FROM mailbox
 WHERE account_id = $1 AND path = $2;

-- name: mailbox_get :one
SELECT account_id, mailbox_id, path, role, uid_validity, uid_next, modseq, message_count, unseen_count, deleted_count,
       bytes,
       EXISTS (SELECT FROM mailbox_subscription n WHERE n.account_id = mailbox.account_id AND n.name = path)
           AS is_subscribed
  FROM mailbox
 WHERE account_id = $1 AND mailbox_id = $2;

-- name: mailbox_find_role :one
SELECT account_id, mailbox_id, path, role, uid_validity, uid_next, modseq, message_count, unseen_count, deleted_count,
       bytes,
       EXISTS (SELECT FROM mailbox_subscription n WHERE n.account_id = mailbox.account_id AND n.name = path)
           AS is_subscribed
  FROM mailbox
 WHERE account_id = $1 AND role = $2;

-- name: mailbox_list :many
-- Levels are compared one by one, so that "a" comes right before "a/b" even when there is an "a b".
SELECT account_id, mailbox_id, path, role, uid_validity, uid_next, modseq, message_count, unseen_count, deleted_count,
       bytes,
       EXISTS (SELECT FROM mailbox_subscription n WHERE n.account_id = mailbox.account_id AND n.name = path)
           AS is_subscribed
  FROM mailbox
 WHERE account_id = $1
 ORDER BY split_part(path, '/', 1) <> 'INBOX', string_to_array(path, '/') COLLATE "C";

-- name: mailbox_create :one
SELECT mail_create_mailbox($1, $2, $3) AS mailbox_id;

-- name: mailbox_remove :maybe
SELECT mailbox_id, is_emptied FROM mail_remove_mailbox($1, $2, $3);

-- name: mailbox_empty_removed :maybe
SELECT mail_empty_removed($1, $2, $3) AS is_emptied;

-- name: mailbox_rename :maybe
SELECT mailbox_id, uid_below FROM mail_rename_mailbox($1, $2, $3, $4, $5);

-- name: mailbox_move_oldest :maybe
SELECT mail_move_oldest($1, $2, $3, $4, $5) AS moved;

-- name: mailbox_subscribe :exec
SELECT mail_subscribe($1, $2, $3, $4);

-- name: mailbox_subscriptions :many
SELECT name FROM mailbox_subscription WHERE account_id = $1 ORDER BY string_to_array(name, '/') COLLATE "C";

-- name: mailbox_unseen_count :one
SELECT CASE WHEN $3::bigint IN (0, b.account_id) THEN b.unseen_count
            ELSE b.message_count - coalesce((SELECT mail_range_count(s.uids) FROM mailbox_seen s
                                              WHERE s.account_id = b.account_id AND s.mailbox_id = b.mailbox_id
                                                AND s.user_id = $3), 0) END::bigint AS unseen_count
  FROM mailbox b
 WHERE b.account_id = $1 AND b.mailbox_id = $2;

-- name: mail_usage :one
SELECT bytes_used, message_count, quota_bytes, quota_messages FROM account_state WHERE account_id = $1;

-- name: mailbox_deleted_bytes :many
-- One row for each id, in their order.
SELECT (SELECT coalesce(sum(size), 0)::bigint FROM message
         WHERE account_id = $1 AND mailbox_id = asked.id AND flags & 8 <> 0) AS bytes
  FROM unnest($2::bigint[]) WITH ORDINALITY AS asked (id, nth)
 ORDER BY asked.nth;
