/* imap_parse.h - the tokens of an IMAP command (RFC 9051, 9), taken off the front one by one.
 *
 * The text is a whole command as it came over the wire, literals included ("{5}CRLF" and the
 * bytes), without the last line end. Slices point into it; only quoted strings with a backslash
 * are copied to the arena. What can fail says in words what was expected and what stands there
 * instead; `what` is a noun for that sentence. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/store/message.h"
#include "server/base/arena.h"
#include "server/base/error.h"
#include "server/base/str.h"

#define IMAP_FLAGS_MAX 200 /* flags named in one command */

struct imap_parser {
    const char *at, *end;
    bool is_utf8; /* quoted strings must be UTF-8 (RFC 6855, 3; RFC 9051, 4.3) */
};

/* How a line announces a literal: "{12}", "{12+}", "~{12}". */
struct imap_literal {
    uint64_t size;
    bool is_sync;       /* the client waits for "+" */
    bool is_binary;     /* literal8 (RFC 3516) */
    size_t marker_size; /* bytes of the announcement */
};

void imap_parser_init(struct imap_parser *p, struct str text);
struct str imap_parse_rest(const struct imap_parser *p);

/* Does the line end by announcing a literal? A size beyond 64 bits reads as UINT64_MAX. */
bool imap_literal_at_end(struct str line, struct imap_literal *out);

/* --- looking and skipping: true when it was there --------------------------------------------- */
bool imap_parse_at_end(const struct imap_parser *p);
bool imap_parse_peek(const struct imap_parser *p, char c);
bool imap_parse_skip(struct imap_parser *p, char c);
bool imap_parse_word(struct imap_parser *p, struct str word); /* a whole atom, case ignored */

/* --- tokens ----------------------------------------------------------------------------------- */
int imap_parse_char(struct imap_parser *p, char c, struct error *err);
int imap_parse_space(struct imap_parser *p, struct error *err);
int imap_parse_end(struct imap_parser *p, struct error *err);
int imap_parse_tag(struct imap_parser *p, struct str *out, struct error *err);
int imap_parse_atom(struct imap_parser *p, struct str *out, const char *what, struct error *err);
int imap_parse_string(struct imap_parser *p, struct arena *a, struct str *out, const char *what,
                      struct error *err);
int imap_parse_astring(struct imap_parser *p, struct arena *a, struct str *out, const char *what,
                       struct error *err);
int imap_parse_nstring(struct imap_parser *p, struct arena *a, struct str *out, const char *what,
                       struct error *err); /* NIL: p is NULL */
/* The same or a literal8, which may hold NULs (RFC 3516). */
int imap_parse_nstring8(struct imap_parser *p, struct arena *a, struct str *out, const char *what,
                        struct error *err);
int imap_parse_pattern(struct imap_parser *p, struct arena *a, struct str *out,
                       struct error *err); /* list-mailbox */
int imap_parse_number(struct imap_parser *p, uint32_t *out, const char *what, struct error *err);
int imap_parse_nonzero(struct imap_parser *p, uint32_t *out, const char *what, struct error *err);
int imap_parse_number64(struct imap_parser *p, uint64_t *out, const char *what, struct error *err);
/* A literal's announcement at the very end of the text, its bytes not read yet. */
int imap_parse_open_literal(struct imap_parser *p, struct imap_literal *out, struct error *err);

/* "(\Seen $Work)", or without parentheses to the end when `bare` is allowed. Keywords come
 * sorted, each once. */
int imap_parse_flags(struct imap_parser *p, struct arena *a, bool bare, uint32_t *flags,
                     struct keywords *keywords, struct error *err);
/* "\"23-Nov-2026 10:00:00 +0700\"" as Unix time in microseconds. */
int imap_parse_date_time(struct imap_parser *p, struct arena *a, int64_t *unix_us,
                         struct error *err);
/* "23-Nov-2026", quoted or not, as days since 1970. */
int imap_parse_day(struct imap_parser *p, struct arena *a, int64_t *day, struct error *err);

/* Fails with "expected WHAT" and what stands there. */
int imap_parse_expected(const struct imap_parser *p, const char *what, struct error *err);
bool imap_is_atom_char(char c);
