/* smtp_answer.h - what an SMTP server answers, line by line, with limits (RFC 5321, 4.2; RFC 2034).
 *
 * Pure: it is fed lines and keeps copies in the arena. Text for people is one line of printable UTF-8, whatever
 * the server sent. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define SMTP_ANSWER_LINE_MAX  4096                      /* RFC 5321 has 512; some servers explain themselves */
#define SMTP_ANSWER_LINES_MAX 128                       /* of one answer */
#define SMTP_ANSWER_TEXT_MAX  1000                      /* of .text */

struct smtp_answer {
    int code;                                           /* 200..599; 0: nothing came yet */
    struct str enhanced;                                /* "5.1.1" as sent, or made from the code ("5.0.0") */
    bool has_enhanced;                                  /* it was sent */
    struct str text;                                    /* all lines joined, without codes; of limited length */
    struct str *lines;                                  /* behind code and separator, as sent (EHLO) */
    size_t line_count;
};

/* 1: that was the last line; 0: more will come; -1: ERR_SYNTAX (no code, another code than before),
 * ERR_LIMIT (too many lines). Begin with a zeroed answer. */
int smtp_answer_add(struct arena *a, struct smtp_answer *answer, struct str line, struct error *err);

static inline bool smtp_answer_is(const struct smtp_answer *answer, int hundreds) { return answer->code / 100 == hundreds; }

/* "2.1.5" and the like at the front of a text; *size: with the space behind. False: there is none. */
bool smtp_enhanced_code(struct str text, size_t *size, struct str *code);
/* One line, printable, valid UTF-8, at most size_max bytes. */
struct str smtp_clean_text(struct arena *a, struct str text, size_t size_max);
