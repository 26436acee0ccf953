/* error.c - setting an error, and the names of its kinds.
 *
 * The text may end up in a protocol line, so it is kept to one line of whole UTF-8 characters
 * whatever the caller printed into it. */
#include "server/base/error.h"
#include <stdio.h>
#include <string.h>

static const char *const kind_names[ERR_KIND_COUNT] = {
    [ERR_NONE] = "none",         [ERR_SYNTAX] = "syntax",           [ERR_DENIED] = "denied",
    [ERR_AUTH] = "auth",         [ERR_NOT_FOUND] = "not_found",     [ERR_EXISTS] = "exists",
    [ERR_TOO_BIG] = "too_big",   [ERR_OVER_QUOTA] = "over_quota",   [ERR_CONFLICT] = "conflict",
    [ERR_LIMIT] = "limit",       [ERR_UNSUPPORTED] = "unsupported", [ERR_TRY_LATER] = "try_later",
    [ERR_CLOSED] = "closed",     [ERR_TIMED_OUT] = "timed_out",     [ERR_CANCELLED] = "cancelled",
    [ERR_INTERNAL] = "internal",
};

/* A CR or LF that a client put into a name must not begin a line of our answer. */
static void blank_controls(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
}

/* vsnprintf cuts at a byte; drop what is left of the character that was cut. */
static void drop_partial_character(char *text, size_t n)
{
    size_t start = n;
    unsigned char lead;
    size_t length;

    while (start > 0 && n - start < 3 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
        start--;
    if (start == 0)
        return;
    lead = (unsigned char)text[--start];
    length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (n - start < length)
        text[start] = '\0';
}

int fail(struct error *err, enum error_kind kind, const char *format, ...)
{
    va_list ap;
    int n;

    if (err == NULL || err->kind != ERR_NONE)
        return -1;
    err->kind = kind;
    va_start(ap, format);
    n = vsnprintf(err->text, sizeof err->text, format, ap);
    va_end(ap);
    if (n >= (int)sizeof err->text)
        drop_partial_character(err->text, sizeof err->text - 1);
    blank_controls(err->text);
    return -1;
}

void error_clear(struct error *err)
{
    err->kind = ERR_NONE;
    err->text[0] = '\0';
}

const char *error_kind_name(enum error_kind kind)
{
    return (unsigned)kind < ERR_KIND_COUNT ? kind_names[kind] : "unknown";
}
