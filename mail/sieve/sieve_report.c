/* sieve_report.c - faults of a script. Texts that a fault shows come from anybody, so they are cut and cleaned: a
 * fault is one line on every terminal and in every log. */
#include "mail/sieve/sieve_report.h"

#define SHOWN_MAX 60

int sieve_fail(struct sieve_report *r, unsigned line, unsigned column, const char *format, ...)
{
    va_list ap;

    if (r->fault->line != 0)
        return -1;
    r->fault->line = line;
    r->fault->column = column;
    va_start(ap, format);
    r->fault->text = arena_vprintf(r->a, format, ap);
    va_end(ap);
    return -1;
}

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

const char *sieve_shown(struct sieve_report *r, struct str text)
{
    size_t n = text.n;
    char *copy;

    if (n > SHOWN_MAX)
        for (n = SHOWN_MAX; n > 0 && is_continuation(text.p[n]);)
            n--;
    copy = arena_alloc(r->a, n + sizeof "...");
    for (size_t i = 0; i < n; i++)
        copy[i] = (unsigned char)text.p[i] < ' ' || text.p[i] == 127 ? '?' : text.p[i];
    if (n < text.n)
        memcpy(copy + n, "...", 3);
    return copy;
}
