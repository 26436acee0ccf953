-- name: health_check :one
SELECT 1 AS ok;
