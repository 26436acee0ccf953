/* imap_language.h - the language of texts that people read (RFC 5255).
 *
 * English, or Indonesian for what mail programs show: refusals, completions and goodbyes. A
 * refusal is told by its response code; details that only programmers need stay English. */
#pragma once
#include "mail/imap/imap_session.h"

enum imap_language { LANGUAGE_DEFAULT, LANGUAGE_EN, LANGUAGE_ID };

/* What a NO with this response code says; the English text where nothing better is known. */
const char *imap_refusal_text(const struct imap_session *s, const char *code, const char *english);
/* A whole sentence of ours. */
const char *imap_text(const struct imap_session *s, const char *english);
