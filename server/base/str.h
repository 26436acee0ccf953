/* str.h - text as a slice: a pointer and a length, passed by value.
 *
 * Nothing here owns memory or expects a closing NUL. A slice borrows from whatever it was cut
 * from and lives no longer. ASCII rules everywhere: case folding touches A-Z only, because
 * that is what the protocols mean by "case-insensitive". */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *p;
    size_t n;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_NULL ((struct str){NULL, 0})
#define STR_ARG(s) (int)(s).n, (s).p                    /* for "%.*s" */

static inline struct str str_of(const char *p, size_t n) { return (struct str){p, n}; }
static inline struct str str_c(const char *c) { return (struct str){c, c ? strlen(c) : 0}; }
static inline struct str str_from(struct str s, size_t at)      /* the rest from `at` on */
{
    if (s.n == 0)
        return s;                                       /* p may be NULL, and NULL + 0 is not C */
    return at >= s.n ? (struct str){s.p + s.n, 0} : (struct str){s.p + at, s.n - at};
}
static inline struct str str_head(struct str s, size_t n) { return (struct str){s.p, n < s.n ? n : s.n}; }
static inline bool str_empty(struct str s) { return s.n == 0; }

bool str_eq(struct str a, struct str b);
bool str_ieq(struct str a, struct str b);
int  str_cmp(struct str a, struct str b);               /* memcmp order, the shorter first */
int  str_icmp(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_istarts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
bool str_iends(struct str s, struct str suffix);

/* Removes a prefix (ASCII case ignored) and says whether it was there. */
bool str_skip_prefix(struct str *s, struct str prefix);

/* Position of the first hit, or -1. */
ptrdiff_t str_index(struct str s, char c);
ptrdiff_t str_rindex(struct str s, char c);
ptrdiff_t str_find(struct str s, struct str needle);
ptrdiff_t str_ifind(struct str s, struct str needle);

/* Cuts at the first `c`: "RCPT TO:<a@b>" -> "RCPT", "TO:<a@b>". Without a `c` the whole is the
 * head, the tail is empty, and the answer is false. head or tail may alias s's variable. */
bool str_cut(struct str s, char c, struct str *head, struct str *tail);
bool str_rcut(struct str s, char c, struct str *head, struct str *tail);

/* Takes the next token between runs of `c` off the front; false at the end. */
bool str_next_token(struct str *rest, char c, struct str *token);

struct str str_trim(struct str s);                      /* space, tab, CR and LF on both ends */

/* Whole-string decimal numbers: false on empty, sign, other characters or overflow. */
bool str_to_u64(struct str s, uint64_t *out);
bool str_to_u32(struct str s, uint32_t *out);

char ascii_lower(char c);
char ascii_upper(char c);
bool str_is_ascii(struct str s);                        /* no byte above 127 */
