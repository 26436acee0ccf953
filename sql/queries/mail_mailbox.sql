-- name: mailbox_find :one
SELECT account_id, mailbox_id, path, role, uid_validity, uid_next, modseq, message_count, unseen_count, deleted_count, bytes,
       is_subscribed
  FROM mailbox
 WHERE account_id = $1 AND path = $2;

-- name: mailbox_get :one
SELECT account_id, mailbox_id, path, role, uid_validity, uid_next, modseq, message_count, unseen_count, deleted_count, bytes,
       is_subscribed
  FROM mailbox
 WHERE account_id = $1 AND mailbox_id = $2;

-- name: mailbox_find_role :one
SELECT account_id, mailbox_id, path, role, uid_validity, uid_next, modseq, message_count, unseen_count, deleted_count, bytes,
       is_subscribed
  FROM mailbox
 WHERE account_id = $1 AND role = $2;

-- name: mailbox_list :many
-- Levels are compared one by one, so that "a" comes right before "a/b" even when there is an "a b".
SELECT account_id, mailbox_id, path, role, uid_validity, uid_next, modseq, message_count, unseen_count, deleted_count, bytes,
       is_subscribed
  FROM mailbox
 WHERE account_id = $1
 ORDER BY split_part(path, '/', 1) <> 'INBOX', string_to_array(path, '/') COLLATE "C";

-- name: mailbox_create :one
SELECT mail_create_mailbox($1, $2, $3) AS mailbox_id;

-- name: mailbox_remove :exec
SELECT mail_remove_mailbox($1, $2);

-- name: mailbox_rename :exec
SELECT mail_rename_mailbox($1, $2, $3, $4, $5);

-- name: mailbox_subscribe :exec
SELECT mail_subscribe_mailbox($1, $2, $3);

-- name: mail_usage :one
SELECT bytes_used, message_count, quota_bytes, quota_messages FROM account_state WHERE account_id = $1;

-- name: mailbox_deleted_bytes :many
-- One row for each id, in their order.
SELECT (SELECT coalesce(sum(size), 0)::bigint FROM message
         WHERE account_id = $1 AND mailbox_id = asked.id AND flags & 8 <> 0) AS bytes
  FROM unnest($2::bigint[]) WITH ORDINALITY AS asked (id, nth)
 ORDER BY asked.nth;
