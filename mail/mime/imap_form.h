/* imap_form.h - ENVELOPE and BODYSTRUCTURE of a message as IMAP prints them (RFC 9051, 7.5.2), made once at delivery.
 *
 * Strings are quoted when they are plain ASCII without CR, LF, NUL, and literals {n} otherwise, so that the cached text
 * can be sent as it is. BODY (without extension data) is printed from the same tree. NULs are left out. Parameters are
 * decoded; one that is not ASCII is printed as "name*" "utf-8''%C3%A4" (RFC 2231), however it came. */
#pragma once
#include "server/base/buf.h"
#include "mail/mime/part.h"

void imap_form_string(struct buf *out, struct str s);             /* nstring: NIL when s.p is NULL */
void imap_form_envelope(struct buf *out, struct str header);
void imap_form_structure(struct buf *out, const struct mime_part *root, struct str message, bool extended);
