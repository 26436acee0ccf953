/* message_language.h - in which of our languages a message is written, for reports to its sender. */
#pragma once
#include "server/base/str.h"

/* "en", "id", or NULL when nothing tells: by Content-Language, else by the commonest words of the subject and of the first
 * few KB. Cheap, and never sure. */
const char *message_language(struct str message);
