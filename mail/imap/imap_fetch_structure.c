/* imap_fetch_structure.c - dropping the extension data (RFC 9051, 7.5.2: body-ext-1part, body-
 * ext-mpart).
 *
 * The text is our own, made at delivery, but it comes out of the database and is checked like
 * anything that does. */
#include "mail/imap/imap_fetch_structure.h"

#include "mail/imap/imap_parse.h"
#include "mail/mime/part.h"

#define DEPTH_MAX (MIME_DEPTH_MAX + 10)

/* One token or parenthesised list, copied as it is; false at the end or when it is broken. Lists
 * need no recursion: parentheses outside of strings are counted. */
static bool take_value(struct imap_parser *p, struct str *out)
{
    const char *from = p->at;
    unsigned depth = 0;
    struct str ignored;

    do {
        if (imap_parse_peek(p, '{') || imap_parse_peek(p, '"')) {
            /* Quoted strings here may hold backslashes; skipping needs no copy, so no arena. */
            const char *quote = p->at;
            if (*quote == '"') {
                for (quote++; quote < p->end && *quote != '"'; quote++)
                    quote += *quote == '\\';
                if (quote >= p->end)
                    return false;
                p->at = quote + 1;
            } else if (imap_parse_string(p, NULL, &ignored, "", NULL) < 0) {
                return false;
            }
        } else if (imap_parse_skip(p, '(')) {
            depth++;
        } else if (imap_parse_peek(p, ')') && depth > 0) {
            p->at++;
            depth--;
        } else if (!(depth > 0 && imap_parse_skip(p, ' ')) &&
                   imap_parse_atom(p, &ignored, "", NULL) < 0) {
            return false;
        }
    } while (depth > 0);
    *out = str_of(from, (size_t)(p->at - from));
    return true;
}

static bool copy_values(struct imap_parser *p, struct buf *out, unsigned count)
{
    struct str value;

    for (unsigned i = 0; i < count; i++) {
        if (!imap_parse_skip(p, ' ') || !take_value(p, &value))
            return false;
        buf_addc(out, ' ');
        buf_add(out, value);
    }
    return true;
}

static bool skip_to_close(struct imap_parser *p)
{
    struct str value;

    while (imap_parse_skip(p, ' '))
        if (!take_value(p, &value))
            return false;
    return imap_parse_skip(p, ')');
}

static bool add_body(struct buf *out, struct imap_parser *p, unsigned depth);

static bool add_multipart(struct buf *out, struct imap_parser *p, unsigned depth)
{
    while (imap_parse_peek(p, '('))
        if (!add_body(out, p, depth + 1))
            return false;
    return copy_values(p, out, 1) && skip_to_close(p);
}

/* type subtype params id description encoding size, then lines for text; envelope, body, lines
 * for a message. */
static bool add_single(struct buf *out, struct imap_parser *p, unsigned depth)
{
    struct str type, subtype;

    if (!take_value(p, &type) || !imap_parse_skip(p, ' ') || !take_value(p, &subtype))
        return false;
    buf_add(out, type);
    buf_addc(out, ' ');
    buf_add(out, subtype);
    if (!copy_values(p, out, 5))
        return false;
    if (str_ieq(type, STR("\"TEXT\"")))
        return copy_values(p, out, 1) && skip_to_close(p);
    if (!str_ieq(type, STR("\"MESSAGE\"")) ||
        !(str_ieq(subtype, STR("\"RFC822\"")) || str_ieq(subtype, STR("\"GLOBAL\""))))
        return skip_to_close(p);
    if (!copy_values(p, out, 1) || !imap_parse_skip(p, ' '))
        return false;
    buf_addc(out, ' ');
    return add_body(out, p, depth + 1) && copy_values(p, out, 1) && skip_to_close(p);
}

static bool add_body(struct buf *out, struct imap_parser *p, unsigned depth)
{
    bool ok;

    if (depth > DEPTH_MAX || !imap_parse_skip(p, '('))
        return false;
    buf_addc(out, '(');
    ok = imap_parse_peek(p, '(') ? add_multipart(out, p, depth) : add_single(out, p, depth);
    buf_addc(out, ')');
    return ok;
}

bool imap_add_basic_structure(struct buf *out, struct str bodystructure)
{
    struct imap_parser p;

    imap_parser_init(&p, bodystructure);
    return add_body(out, &p, 0) && imap_parse_at_end(&p);
}
