/* sieve_key.c - preparing keys: folding, taking wildcards apart, compiling regular expressions.
 *
 * PCRE2 gets its memory from the arena, so that a key needs no end of its own. Patterns are limited in size, in
 * nesting and in what they compile to; how long one may look at a value is the run's limit. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "mail/sieve/sieve_key.h"
#include <pcre2.h>
#include "mail/mime/text_fold.h"
#include "mail/sieve/sieve.h"

/* Recursion of PCRE2's compiler is on our stack. */
#define REGEX_NESTING_MAX   30
#define REGEX_CODE_SIZE_MAX 32768

struct str sieve_fold(struct arena *a, enum sieve_comparator comparator, struct str text)
{
    switch (comparator) {
    case SIEVE_ASCII_CASEMAP:
        return arena_lower(a, text);
    case SIEVE_UNICODE_CASEMAP:
        return text_fold_arena(a, text);
    default:
        return text;
    }
}

bool sieve_number(struct str text, uint64_t *number)
{
    size_t i = 0;

    for (*number = 0; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++) {
        unsigned digit = (unsigned)(text.p[i] - '0');

        *number = *number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *number * 10 + digit;
    }
    return i > 0;
}

/* --- wildcards ------------------------------------------------------------------------------------ */

static void add_glob(struct sieve_key *key, struct sieve_glob *globs, enum sieve_glob_kind kind,
                     struct str text)
{
    struct sieve_glob *last = key->globs_count > 0 ? &globs[key->globs_count - 1] : NULL;

    if (kind == SIEVE_GLOB_TEXT && last != NULL && last->kind == SIEVE_GLOB_TEXT &&
        last->text.p + last->text.n == text.p)
        last->text.n += text.n;
    else
        globs[key->globs_count++] = (struct sieve_glob){kind, text};
}

static unsigned count_wildcards(struct str text)
{
    unsigned n = 0;

    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == '*' || text.p[i] == '?' || text.p[i] == '\\';
    return n;
}

/* "\" takes the meaning of the next character away (RFC 5228, 2.7.1). Two stars at once are kept: each sets a match
 * variable. */
static int prepare_globs(struct arena *a, enum sieve_comparator comparator, struct str text,
                         struct sieve_key *key, struct str *why)
{
    struct str folded = sieve_fold(a, comparator, text);
    unsigned wildcards = count_wildcards(folded);
    struct sieve_glob *globs;

    if (wildcards > SIEVE_WILDCARDS_MAX) {
        *why = arena_printf(a, "the pattern has more than %d wildcards: use fewer",
                            SIEVE_WILDCARDS_MAX);
        return -1;
    }
    key->globs = globs = ARENA_ARRAY(a, 2 * wildcards + 1, struct sieve_glob);
    for (size_t i = 0; i < folded.n; i++) {
        if (folded.p[i] == '*' || folded.p[i] == '?') {
            add_glob(key, globs, folded.p[i] == '*' ? SIEVE_GLOB_ANY : SIEVE_GLOB_ONE, STR_NULL);
            continue;
        }
        if (folded.p[i] == '\\' && i + 1 < folded.n)
            i++;
        add_glob(key, globs, SIEVE_GLOB_TEXT, str_of(folded.p + i, 1));
    }
    return 0;
}

/* --- regular expressions -------------------------------------------------------------------------- */

static void *take_memory(size_t size, void *a)
{
    return arena_alloc(a, size);
}

static void give_memory_back(void *p, void *a) {}

static uint32_t regex_options(enum sieve_comparator comparator)
{
    uint32_t options = PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C |
                       PCRE2_NEVER_UCP | PCRE2_DOLLAR_ENDONLY;

    return comparator == SIEVE_OCTET ? options : options | PCRE2_CASELESS;
}

static int fail_regex(struct arena *a, int code, size_t at, struct str *why)
{
    unsigned char message[120] = "";

    pcre2_get_error_message(code, message, sizeof message);
    *why = arena_printf(a, "the regular expression is wrong at its character %zu: %s", at + 1,
                        (char *)message);
    return -1;
}

static int check_regex_code(const pcre2_code *code, struct str *why)
{
    size_t size = 0;

    pcre2_pattern_info(code, PCRE2_INFO_SIZE, &size);
    if (size <= REGEX_CODE_SIZE_MAX)
        return 0;
    *why = STR("the regular expression repeats too much: use smaller numbers in its braces");
    return -1;
}

static int prepare_regex(struct arena *a, enum sieve_comparator comparator, struct str text,
                         struct sieve_key *key, struct str *why)
{
    pcre2_general_context *memory;
    pcre2_compile_context *context;
    pcre2_code *code;
    int error;
    size_t at;

    if (text.n > SIEVE_REGEX_SIZE_MAX) {
        *why = arena_printf(a, "the regular expression is longer than %d bytes: make it shorter",
                            SIEVE_REGEX_SIZE_MAX);
        return -1;
    }
    memory = pcre2_general_context_create(take_memory, give_memory_back, a);
    context = pcre2_compile_context_create(memory);
    pcre2_set_parens_nest_limit(context, REGEX_NESTING_MAX);
    code = pcre2_compile((PCRE2_SPTR)(text.n > 0 ? text.p : ""), text.n, regex_options(comparator),
                         &error, &at, context);
    if (code == NULL)
        return fail_regex(a, error, at, why);
    key->regex = (const struct sieve_regex *)code;
    return check_regex_code(code, why);
}

int sieve_key_prepare(struct arena *a, struct sieve_match_how how, struct str text,
                      struct sieve_key *out, struct str *why)
{
    *out = (struct sieve_key){.text = text};
    out->is_number = sieve_number(text, &out->number);
    switch (how.type) {
    case SIEVE_REGEX:
        return prepare_regex(a, how.comparator, text, out, why);
    case SIEVE_MATCHES:
        return prepare_globs(a, how.comparator, text, out, why);
    case SIEVE_LIST:
        return 0;
    default:
        out->folded = sieve_fold(a, how.comparator, text);
        return 0;
    }
}
