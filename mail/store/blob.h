/* blob.h - raw messages, immutable, kept by number.
 *
 * A small interface on purpose: another home for blobs (S3) can stand behind it. */
#pragma once
#include <stdint.h>
#include "server/base/buf.h"
#include "server/base/error.h"
#include "server/run/fiber.h"

/* A number never used before (workers take blocks of 1,000 from a sequence; gaps are harmless). */
PARKS int blob_next_id(int64_t *blob_id, struct error *err);
/* Appends size bytes from offset on (size UINT64_MAX: to the end). ERR_TOO_BIG when out's limit
 * is passed. */
PARKS int blob_read(int64_t blob_id, uint64_t offset, uint64_t size, struct buf *out,
                    struct error *err);
