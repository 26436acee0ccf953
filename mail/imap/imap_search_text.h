/* imap_search_text.h - does a message contain a key's text, as far as its text is at hand?
 *
 * HEADER of the usual fields is answered from the cached header; TEXT, BODY and other fields from
 * the kept text of the message, or else from the message itself. Pure: safe on a helper thread. */
#pragma once
#include "mail/imap/imap_search_match.h"

unsigned search_text_columns(const struct search_key *key); /* of KEY_HEADER, KEY_BODY, KEY_TEXT */
enum search_answer search_text_matches(const struct search_key *key, struct search_subject *subject);
