/* imap_match.c - wildcards by a bit-parallel automaton (Shift-And, Baeza-Yates and Gonnet).
 *
 * Bit i is set while the first i elements of the pattern match what was read of the name. Runs
 * of wildcards are merged first ("*" swallows "%"), so that a wildcard is never followed by
 * another one. */
#include "mail/imap/imap_match.h"

#include <stdint.h>

#include "mail/store/mailbox.h"

#define PATTERN_WORDS (MAILBOX_PATH_SIZE_MAX / 64 + 1)

struct imap_pattern {
    size_t size; /* elements */
    size_t words;
    char text[MAILBOX_PATH_SIZE_MAX];
    uint64_t star[PATTERN_WORDS]; /* elements that are "*" */
    uint64_t percent[PATTERN_WORDS];
    uint64_t letter[256][PATTERN_WORDS];
};

static void set_bit(uint64_t *bits, size_t i)
{
    bits[i / 64] |= UINT64_C(1) << (i % 64);
}

static bool is_wildcard(char c)
{
    return c == '*' || c == '%';
}

static void merge_wildcards(struct imap_pattern *p, struct str pattern)
{
    for (size_t i = 0; i < pattern.n; i++) {
        char *last = p->size > 0 ? &p->text[p->size - 1] : NULL;
        if (is_wildcard(pattern.p[i]) && last != NULL && is_wildcard(*last)) {
            if (pattern.p[i] == '*')
                *last = '*';
        } else {
            p->text[p->size++] = pattern.p[i];
        }
    }
}

struct imap_pattern *imap_pattern_new(struct arena *a, struct str pattern, struct error *err)
{
    struct imap_pattern *p;

    if (pattern.n >= MAILBOX_PATH_SIZE_MAX)
        return fail_null(err, ERR_LIMIT, "the mailbox pattern is too long");
    p = ARENA_NEW(a, struct imap_pattern);
    merge_wildcards(p, pattern);
    p->words = p->size / 64 + 1;
    for (size_t i = 0; i < p->size; i++) {
        char c = p->text[i];
        if (c == '*')
            set_bit(p->star, i);
        else if (c == '%')
            set_bit(p->percent, i);
        else
            set_bit(p->letter[(unsigned char)c], i);
    }
    return p;
}

/* A wildcard may also match nothing: whoever stands before it stands behind it too. */
static void pass_wildcards(const struct imap_pattern *p, uint64_t *state)
{
    uint64_t carry = 0;

    for (size_t w = 0; w < p->words; w++) {
        uint64_t wild = state[w] & (p->star[w] | p->percent[w]);
        state[w] |= wild << 1 | carry;
        carry = wild >> 63;
    }
}

/* INBOX has no case: its letters, in capitals in the path, are met by small ones of the pattern. */
static void read_char(const struct imap_pattern *p, uint64_t *state, char c, bool ignore_case)
{
    const uint64_t *letter = p->letter[(unsigned char)c];
    const uint64_t *other = ignore_case ? p->letter[(unsigned char)ascii_lower(c)] : letter;
    uint64_t carry = 0;

    for (size_t w = 0; w < p->words; w++) {
        uint64_t stay = state[w] & (c == '/' ? p->star[w] : p->star[w] | p->percent[w]);
        uint64_t step = state[w] & (letter[w] | other[w]);
        state[w] = stay | step << 1 | carry;
        carry = step >> 63;
    }
    pass_wildcards(p, state);
}

static bool is_in_inbox(struct str path)
{
    return str_starts(path, STR("INBOX")) && (path.n == 5 || path.p[5] == '/');
}

static void read_name(const struct imap_pattern *p, uint64_t *state, struct str path)
{
    size_t caseless = is_in_inbox(path) ? 5 : 0;

    pass_wildcards(p, state);
    for (size_t i = 0; i < path.n; i++)
        read_char(p, state, path.p[i], i < caseless);
}

bool imap_pattern_may_begin(const struct imap_pattern *p, struct str beginning)
{
    uint64_t state[PATTERN_WORDS] = {1}, left = 0;

    read_name(p, state, beginning);
    for (size_t w = 0; w < p->words; w++)
        left |= state[w];
    return left != 0;
}

bool imap_pattern_matches(const struct imap_pattern *p, struct str path)
{
    uint64_t state[PATTERN_WORDS] = {1};

    read_name(p, state, path);
    return state[p->size / 64] >> (p->size % 64) & 1;
}
