/* smtp_lists.h - DNS block and allow lists: what they say of this session's client.
 *
 * Asked once, when it first matters, and remembered for the session (is_allow_listed, listed). Lists that do not answer
 * count as not listing anybody. */
#pragma once
#include "mail/smtp/smtp_internal.h"

#define SMTP_LISTS_TIMEOUT_MS 5000

PARKS void smtp_lists_ask(struct smtp_session *s);

/* Reads smtp_block_lists and smtp_allow_lists, once per worker. */
int smtp_lists_start(struct error *err);
void smtp_lists_fini(void);
