/* body_encode.h - text made fit for lines of 7-bit mail. */
#pragma once
#include "server/base/buf.h"
#include "server/base/str.h"

/* Quoted-printable (RFC 2045, 6.7): lines of at most 76 characters. CR LF and LF are line ends, other controls are encoded. */
void mime_encode_quoted_printable(struct buf *out, struct str in);
/* No byte above 127, no NUL, line ends are CR LF, no line beyond 998: may be sent as it is (RFC 5322, 2.1.1). */
bool mime_is_7bit(struct str in);
/* The same, bytes above 127 allowed. */
bool mime_is_8bit(struct str in);
