/* encode.h - base64, hexadecimal, and random text. Whole values, no streaming. */
#pragma once
#include <stdbool.h>
#include "server/base/buf.h"
#include "server/base/str.h"

void base64_encode(struct buf *out, struct str in);             /* RFC 4648, 4; no line breaks   */
bool base64_decode(struct buf *out, struct str in);             /* strict: alphabet and padding  */
void base64url_encode(struct buf *out, struct str in);          /* RFC 4648, 5; no padding       */
bool base64url_decode(struct buf *out, struct str in);
void hex_encode(struct buf *out, struct str in);                /* lower case */
bool hex_decode(struct buf *out, struct str in);

void random_bytes(void *p, size_t n);                           /* getrandom(2); ends the process if that fails */
uint64_t random_u64(void);
/* n characters of a 32-letter alphabet without look-alikes (5 bits each); out holds n + 1. */
void random_text(char *out, size_t n);

bool bytes_equal_constant_time(const void *a, const void *b, size_t n);

uint64_t fnv1a_64(struct str s);                                /* stable for ever: may be stored */
