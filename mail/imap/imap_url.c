/* imap_url.c - cutting an IMAP URL at its ";NAME=" marks and undoing the percent signs.
 *
 * The marks are cut before decoding, so that an encoded ';' or '/' stays part of its value. */
#include "mail/imap/imap_url.h"

#include "server/base/utf8.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int decode(struct arena *a, struct str encoded, struct str *out, struct error *err)
{
    char *to = arena_alloc(a, encoded.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < encoded.n; i++) {
        int high = i + 2 < encoded.n ? hex_digit(encoded.p[i + 1]) : -1;
        int low = i + 2 < encoded.n ? hex_digit(encoded.p[i + 2]) : -1;

        if (encoded.p[i] != '%') {
            to[n++] = encoded.p[i];
            continue;
        }
        if (high < 0 || low < 0)
            return fail(err, ERR_SYNTAX, "a percent sign in the URL is not followed by two digits");
        to[n++] = (char)(high << 4 | low);
        i += 2;
    }
    *out = str_of(to, n);
    if (memchr(to, '\0', n) != NULL || !utf8_valid(*out))
        return fail(err, ERR_SYNTAX, "the URL is not UTF-8");
    return 0;
}

/* Takes "mark value" off the front of rest, up to the next ';' or "/;"; p NULL when it is not
 * there. */
static struct str take_value(struct str *rest, struct str mark)
{
    struct str value = *rest;
    ptrdiff_t end;

    if (!str_skip_prefix(&value, mark))
        return STR_NULL;
    end = str_find(value, STR("/;"));
    *rest = end < 0 ? STR("") : str_from(value, (size_t)end);
    return end < 0 ? value : str_head(value, (size_t)end);
}

static int parse_number(struct str value, const char *what, uint32_t *out, struct error *err)
{
    return str_to_u32(value, out) && *out > 0
               ? 0
               : fail(err, ERR_SYNTAX, "%s in the URL is no number", what);
}

static int parse_section(struct str value, struct arena *a, struct fetch_item *out,
                         struct error *err)
{
    struct imap_parser p;
    struct str section;

    if (decode(a, value, &section, err) < 0)
        return -1;
    imap_parser_init(&p, arena_printf(a, "[%.*s]", STR_ARG(section)));
    if (imap_parse_section(&p, a, out, err) < 0 || !imap_parse_at_end(&p))
        return fail(err, ERR_SYNTAX, "there is no such section as the URL names");
    return 0;
}

/* "0.1024", or "512" for all from there on. */
static int parse_partial(struct str value, struct fetch_item *out, struct error *err)
{
    struct str offset, size;
    bool has_size = str_cut(value, '.', &offset, &size);

    out->is_partial = true;
    out->size_max = UINT64_MAX;
    if (!str_to_u64(offset, &out->offset) || (has_size && !str_to_u64(size, &out->size_max)))
        return fail(err, ERR_SYNTAX, "PARTIAL in the URL is no range");
    return 0;
}

/* "/Work;UIDVALIDITY=1" or "/Work"; what follows begins with "/;". */
static int parse_path(struct str *rest, struct arena *a, struct imap_url *out, struct error *err)
{
    ptrdiff_t end = str_find(*rest, STR("/;"));
    struct str path, validity;

    if (!str_starts(*rest, STR("/")) || str_starts(*rest, STR("//")) || end <= 0)
        return fail(err, ERR_SYNTAX, "the URL does not name a message by its path");
    path = str_from(str_head(*rest, (size_t)end), 1);
    *rest = str_from(*rest, (size_t)end);
    if (!str_cut(path, ';', &path, &validity))
        return decode(a, path, &out->mailbox, err);
    if (!str_skip_prefix(&validity, STR("UIDVALIDITY=")))
        return fail(err, ERR_SYNTAX, "expected UIDVALIDITY= in the URL");
    if (parse_number(validity, "UIDVALIDITY", &out->uid_validity, err) < 0)
        return -1;
    return decode(a, path, &out->mailbox, err);
}

int imap_url_parse(struct str url, struct arena *a, struct imap_url *out, struct error *err)
{
    struct str uid, section, partial;

    *out = (struct imap_url){.item = {.kind = FETCH_SECTION, .part = PART_WHOLE}};
    if (url.n > IMAP_URL_SIZE_MAX)
        return fail(err, ERR_SYNTAX, "the URL is longer than %d bytes", IMAP_URL_SIZE_MAX);
    if (parse_path(&url, a, out, err) < 0)
        return -1;
    uid = take_value(&url, STR("/;UID="));
    section = take_value(&url, STR("/;SECTION="));
    partial = take_value(&url, STR("/;PARTIAL="));
    if (uid.p == NULL || parse_number(uid, "UID", &out->uid, err) < 0)
        return fail(err, ERR_SYNTAX, "the URL names no message");
    if ((section.p != NULL && parse_section(section, a, &out->item, err) < 0) ||
        (partial.p != NULL && parse_partial(partial, &out->item, err) < 0))
        return -1;
    return url.n == 0 ? 0 : fail(err, ERR_SYNTAX, "the URL has something at its end");
}
