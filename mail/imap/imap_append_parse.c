/* imap_append_parse.c - a parser that stops at every literal and goes on behind it.
 *
 * A URL may be a literal, too; such are short, and whoever reads the literal knows the limit. */
#include "mail/imap/imap_append_parse.h"

void imap_append_parser_init(struct append_parser *ap, struct arena *a)
{
    *ap = (struct append_parser){.a = a, .state = APPEND_BEFORE};
}

/* "UTF8 (" was read. */
static int take_utf8_literal(struct imap_parser *p, struct append_event *out, struct error *err)
{
    struct imap_parser start = *p;

    out->kind = APPEND_EVENT_BYTES;
    out->is_utf8 = true;
    if (imap_parse_open_literal(p, &out->literal, err) < 0)
        return -1;
    return out->literal.is_binary ? 0 : imap_parse_expected(&start, "a literal8", err);
}

static int take_url(struct append_parser *ap, struct imap_parser *p, struct append_event *out,
                    struct error *err)
{
    if (imap_literal_at_end(imap_parse_rest(p), &out->literal) &&
        imap_parse_open_literal(p, &out->literal, NULL) == 0) {
        out->kind = APPEND_EVENT_URL_LITERAL;
        return 0;
    }
    out->kind = APPEND_EVENT_URL;
    return imap_parse_astring(p, ap->a, &out->url, "a URL", err);
}

static int take_part(struct append_parser *ap, struct imap_parser *p, struct append_event *out,
                     struct error *err)
{
    ap->state = APPEND_BEHIND_PART;
    if (imap_parse_word(p, STR("URL")))
        return imap_parse_space(p, err) < 0 ? -1 : take_url(ap, p, out, err);
    if (imap_parse_word(p, STR("TEXT"))) {
        out->kind = APPEND_EVENT_BYTES;
        return imap_parse_space(p, err) < 0 ? -1 : imap_parse_open_literal(p, &out->literal, err);
    }
    if (!imap_parse_word(p, STR("UTF8")))
        return imap_parse_expected(p, "TEXT or URL", err);
    ap->state = APPEND_PART_UTF8;
    if (imap_parse_space(p, err) < 0 || imap_parse_char(p, '(', err) < 0)
        return -1;
    return take_utf8_literal(p, out, err);
}

static int take_options(struct append_parser *ap, struct imap_parser *p, struct append_event *out,
                        struct error *err)
{
    out->begins_message = true;
    out->received_us = INT64_MIN;
    if (imap_parse_peek(p, '(') &&
        (imap_parse_flags(p, ap->a, false, &out->flags, &out->keywords, err) < 0 ||
         imap_parse_space(p, err) < 0))
        return -1;
    if (imap_parse_peek(p, '"') && (imap_parse_date_time(p, ap->a, &out->received_us, err) < 0 ||
                                    imap_parse_space(p, err) < 0))
        return -1;
    return 0;
}

/* A space was read: a message begins. */
static int take_message(struct append_parser *ap, struct imap_parser *p, struct append_event *out,
                        struct error *err)
{
    if (take_options(ap, p, out, err) < 0)
        return -1;
    if (imap_parse_word(p, STR("CATENATE")))
        return imap_parse_space(p, err) < 0 || imap_parse_char(p, '(', err) < 0
                   ? -1
                   : take_part(ap, p, out, err);
    ap->state = APPEND_BETWEEN;
    out->kind = APPEND_EVENT_BYTES;
    if (!imap_parse_word(p, STR("UTF8")))
        return imap_parse_open_literal(p, &out->literal, err);
    ap->state = APPEND_IN_UTF8;
    if (imap_parse_space(p, err) < 0 || imap_parse_char(p, '(', err) < 0)
        return -1;
    return take_utf8_literal(p, out, err);
}

/* "UTF8 (" must be closed behind its literal. */
static int close_literal(struct append_parser *ap, struct imap_parser *p, struct error *err)
{
    if (ap->state != APPEND_IN_UTF8 && ap->state != APPEND_PART_UTF8)
        return 0;
    ap->state = ap->state == APPEND_IN_UTF8 ? APPEND_BETWEEN : APPEND_BEHIND_PART;
    return imap_parse_char(p, ')', err);
}

int imap_append_next(struct append_parser *ap, struct imap_parser *p, struct append_event *out,
                     struct error *err)
{
    *out = (struct append_event){0};
    if (close_literal(ap, p, err) < 0)
        return -1;
    if (ap->state == APPEND_BEHIND_PART) {
        if (imap_parse_skip(p, ' '))
            return take_part(ap, p, out, err);
        if (imap_parse_char(p, ')', err) < 0)
            return -1;
        ap->state = APPEND_BETWEEN;
    }
    if (ap->state == APPEND_BETWEEN && imap_parse_at_end(p))
        return 0;
    return imap_parse_space(p, err) < 0 ? -1 : take_message(ap, p, out, err);
}

/* "APPEND", "REPLACE 4" or "UID REPLACE 4". */
static bool skip_verb(struct imap_parser *p, bool with_replace)
{
    uint32_t number;

    if (imap_parse_word(p, STR("APPEND")))
        return true;
    if (!with_replace)
        return false;
    if (imap_parse_word(p, STR("UID")) && !imap_parse_skip(p, ' '))
        return false;
    return imap_parse_word(p, STR("REPLACE")) && imap_parse_skip(p, ' ') &&
           (imap_parse_skip(p, '*') || imap_parse_number(p, &number, "", NULL) == 0);
}

bool imap_append_is_at_message(struct arena *a, struct str text, bool with_replace,
                               struct imap_literal *out)
{
    struct append_event event = {.kind = APPEND_EVENT_URL};
    struct append_parser ap;
    struct imap_parser p;
    struct str word;

    imap_parser_init(&p, text);
    if (imap_parse_tag(&p, &word, NULL) < 0 || !imap_parse_skip(&p, ' ') ||
        !skip_verb(&p, with_replace) || !imap_parse_skip(&p, ' ') ||
        imap_parse_astring(&p, a, &word, "", NULL) < 0)
        return false;
    imap_append_parser_init(&ap, a);
    while (event.kind == APPEND_EVENT_URL)
        if (imap_append_next(&ap, &p, &event, NULL) < 0)
            return false;
    *out = event.literal;
    return event.kind != APPEND_EVENT_END;
}
