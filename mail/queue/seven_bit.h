/* seven_bit.h - a message with 8-bit bodies made fit for a server that takes 7 bits only (RFC 6152, 3). */
#pragma once
#include <stdbool.h>
#include "server/base/buf.h"
#include "server/base/str.h"

bool seven_bit_is(struct str message);                  /* no byte above 127, no NUL */
/* The message with each body that needs it in quoted-printable (text) or base64, its header saying so. Signatures
 * over it break, for which RFC 6152 has no cure. False when that cannot be done: bytes above 127 between
 * the parts or in a body of unknown encoding. Header fields are left as they are. */
bool seven_bit_encode(struct buf *out, struct str message);
