/* secret.h - keys that all hosts share: made on their first use, kept in the database, remembered by the process. */
#pragma once
#include <stdint.h>
#include "server/base/error.h"
#include "server/directory/digest.h"
#include "server/run/fiber.h"

enum secret {
    SECRET_LIMITER,      /* digests of wrong passwords                     */
    SECRET_SCRAM,        /* salts shown for names that nobody has          */
    SECRET_SRS,          /* envelope senders of forwarded mail             */
    SECRET_COUNT
};

PARKS int secret_get(enum secret which, uint8_t out[DIGEST_SIZE], struct error *err);
