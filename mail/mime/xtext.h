/* xtext.h - text in parameters of SMTP commands: what they cannot hold is "+" and two hexadecimal digits (RFC 3461, 4). */
#pragma once
#include <stdbool.h>
#include "server/base/arena.h"
#include "server/base/str.h"

/* A character that stands for itself. */
static inline bool xtext_is_plain(char c) { return c > 32 && c < 127 && c != '+' && c != '='; }
/* The value of a digit, -1 when it is none; capital letters only. */
static inline int xtext_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Gives printable ASCII, or fails. */
bool xtext_decode(struct arena *a, struct str xtext, struct str *out);
/* For people: what is no xtext, as UTF-8 in an ORCPT (RFC 6533, 3), stays as it is. */
struct str xtext_shown(struct arena *a, struct str xtext);
struct str xtext_encode(struct arena *a, struct str text);
