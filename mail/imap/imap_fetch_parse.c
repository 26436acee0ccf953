/* imap_fetch_parse.c - items, sections, partials and modifiers of FETCH.
 *
 * Macros are spelled out, and each item carries the label that the answer repeats, so that
 * printing a message takes no decision that could be taken once. */
#include "mail/imap/imap_fetch_parse.h"

#include <string.h>

struct fetch_parser {
    struct imap_parser *p;
    struct arena *a;
    struct fetch_request *request;
    struct fetch_item items[FETCH_ITEMS_MAX];
};

bool imap_fetch_has(const struct fetch_request *r, enum fetch_kind kind)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->items[i].kind == kind)
            return true;
    return false;
}

static int add_item(struct fetch_parser *f, struct fetch_item item, struct error *err)
{
    if (f->request->count == FETCH_ITEMS_MAX)
        return fail(err, ERR_LIMIT, "more than %d items", FETCH_ITEMS_MAX);
    f->items[f->request->count++] = item;
    return 0;
}

/* Letters, digits and dots: "BODY.PEEK", "RFC822.SIZE", "HEADER.FIELDS"; a '[' ends it. */
static struct str take_name(struct imap_parser *p)
{
    const char *from = p->at;

    while (p->at < p->end && (imap_is_atom_char(*p->at) && *p->at != '[' && *p->at != '<'))
        p->at++;
    return str_of(from, (size_t)(p->at - from));
}

/* --- sections --------------------------------------------------------------------------------- */

static int parse_numbers(struct fetch_parser *f, struct fetch_item *item, struct error *err)
{
    uint32_t numbers[FETCH_SECTION_DEPTH_MAX];
    unsigned count = 0;

    while (f->p->at < f->p->end && *f->p->at >= '0' && *f->p->at <= '9') {
        if (count == FETCH_SECTION_DEPTH_MAX)
            return fail(err, ERR_LIMIT, "the section is deeper than %d", FETCH_SECTION_DEPTH_MAX);
        if (imap_parse_nonzero(f->p, &numbers[count], "a part number", err) < 0)
            return -1;
        count++;
        if (!imap_parse_skip(f->p, '.'))
            break;
        if (imap_parse_peek(f->p, ']'))
            return imap_parse_expected(f->p, "a part number, HEADER, TEXT or MIME", err);
    }
    item->numbers = count > 0 ? arena_copy(f->a, numbers, count * sizeof *numbers) : NULL;
    item->number_count = count;
    return 0;
}

static int parse_fields(struct fetch_parser *f, struct fetch_item *item, struct error *err)
{
    struct str names[FETCH_FIELDS_MAX];
    size_t count = 0;

    if (imap_parse_space(f->p, err) < 0 || imap_parse_char(f->p, '(', err) < 0)
        return -1;
    do {
        if (count == FETCH_FIELDS_MAX)
            return fail(err, ERR_LIMIT, "more than %d header fields", FETCH_FIELDS_MAX);
        if (imap_parse_astring(f->p, f->a, &names[count++], "a header field name", err) < 0)
            return -1;
    } while (imap_parse_skip(f->p, ' '));
    item->fields = arena_copy(f->a, names, count * sizeof *names);
    item->field_count = count;
    return imap_parse_char(f->p, ')', err);
}

static int parse_part(struct fetch_parser *f, struct fetch_item *item, struct error *err)
{
    struct imap_parser start = *f->p;
    struct str name = take_name(f->p);

    if (str_ieq(name, STR("HEADER")))
        item->part = PART_HEADER;
    else if (str_ieq(name, STR("TEXT")))
        item->part = PART_TEXT;
    else if (str_ieq(name, STR("MIME")) && item->number_count > 0)
        item->part = PART_MIME;
    else if (str_ieq(name, STR("HEADER.FIELDS")))
        item->part = PART_HEADER_FIELDS;
    else if (str_ieq(name, STR("HEADER.FIELDS.NOT")))
        item->part = PART_HEADER_FIELDS_NOT;
    else
        return imap_parse_expected(
            &start, "HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or a part number", err);
    if (item->part == PART_HEADER_FIELDS || item->part == PART_HEADER_FIELDS_NOT)
        return parse_fields(f, item, err);
    return 0;
}

/* "[1.2.HEADER]"; a BINARY section has numbers only. */
static int parse_section(struct fetch_parser *f, struct fetch_item *item, struct error *err)
{
    if (imap_parse_char(f->p, '[', err) < 0 || parse_numbers(f, item, err) < 0)
        return -1;
    if (!imap_parse_peek(f->p, ']') && item->kind != FETCH_SECTION)
        return imap_parse_expected(f->p, "']' behind the part number", err);
    if (!imap_parse_peek(f->p, ']') && parse_part(f, item, err) < 0)
        return -1;
    return imap_parse_char(f->p, ']', err);
}

static int parse_partial(struct fetch_parser *f, struct fetch_item *item, struct error *err)
{
    if (!imap_parse_skip(f->p, '<'))
        return 0;
    item->is_partial = true;
    if (imap_parse_number64(f->p, &item->offset, "an offset", err) < 0 ||
        imap_parse_char(f->p, '.', err) < 0 ||
        imap_parse_number64(f->p, &item->size_max, "a size", err) < 0)
        return -1;
    if (item->size_max == 0)
        return fail(err, ERR_SYNTAX, "the size of a partial fetch must not be 0");
    return imap_parse_char(f->p, '>', err);
}

static void add_label_fields(struct buf *out, const struct fetch_item *item)
{
    buf_adds(out, item->part == PART_HEADER_FIELDS ? "HEADER.FIELDS (" : "HEADER.FIELDS.NOT (");
    for (size_t i = 0; i < item->field_count; i++) {
        struct str name = item->fields[i];
        bool is_atom = name.n > 0;
        for (size_t j = 0; j < name.n; j++)
            is_atom = is_atom && imap_is_atom_char(name.p[j]);
        if (i > 0)
            buf_addc(out, ' ');
        if (is_atom)
            buf_add(out, name);
        else
            buf_addf(out, "{%zu}\r\n%.*s", name.n, STR_ARG(name));
    }
    buf_addc(out, ')');
}

static void add_label_part(struct buf *out, const struct fetch_item *item)
{
    for (unsigned i = 0; i < item->number_count; i++)
        buf_addf(out, i > 0 ? ".%u" : "%u", item->numbers[i]);
    if (item->part != PART_WHOLE && item->number_count > 0)
        buf_addc(out, '.');
    switch (item->part) {
    case PART_WHOLE:
        break;
    case PART_HEADER:
        buf_adds(out, "HEADER");
        break;
    case PART_TEXT:
        buf_adds(out, "TEXT");
        break;
    case PART_MIME:
        buf_adds(out, "MIME");
        break;
    case PART_HEADER_FIELDS:
    case PART_HEADER_FIELDS_NOT:
        add_label_fields(out, item);
        break;
    }
}

static struct str make_label(struct arena *a, const char *name, const struct fetch_item *item)
{
    struct buf out;
    struct str label;

    buf_init(&out, SIZE_MAX);
    buf_adds(&out, name);
    buf_addc(&out, '[');
    add_label_part(&out, item);
    buf_addc(&out, ']');
    if (item->is_partial)
        buf_addf(&out, "<%llu>", (unsigned long long)item->offset);
    label = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return label;
}

/* --- items ------------------------------------------------------------------------------------ */

static const struct {
    struct str name;
    struct fetch_item item;
} plain_items[] = {
    {{"UID", 3}, {.kind = FETCH_UID}},
    {{"FLAGS", 5}, {.kind = FETCH_FLAGS}},
    {{"MODSEQ", 6}, {.kind = FETCH_MODSEQ}},
    {{"INTERNALDATE", 12}, {.kind = FETCH_INTERNALDATE}},
    {{"RFC822.SIZE", 11}, {.kind = FETCH_SIZE}},
    {{"SAVEDATE", 8}, {.kind = FETCH_SAVEDATE}},
    {{"PREVIEW", 7}, {.kind = FETCH_PREVIEW}},
    {{"EMAILID", 7}, {.kind = FETCH_EMAILID}},
    {{"THREADID", 8}, {.kind = FETCH_THREADID}},
    {{"ENVELOPE", 8}, {.kind = FETCH_ENVELOPE}},
    {{"BODYSTRUCTURE", 13}, {.kind = FETCH_BODYSTRUCTURE}},
    {{"RFC822", 6},
     {.kind = FETCH_SECTION, .part = PART_WHOLE, .sets_seen = true, .label = {"RFC822", 6}}},
    {{"RFC822.HEADER", 13},
     {.kind = FETCH_SECTION, .part = PART_HEADER, .label = {"RFC822.HEADER", 13}}},
    {{"RFC822.TEXT", 11},
     {.kind = FETCH_SECTION, .part = PART_TEXT, .sets_seen = true, .label = {"RFC822.TEXT", 11}}},
};

static int parse_section_item(struct fetch_parser *f, struct fetch_item item, const char *name,
                              bool may_be_partial, struct error *err)
{
    if (parse_section(f, &item, err) < 0 || (may_be_partial && parse_partial(f, &item, err) < 0))
        return -1;
    item.label = make_label(f->a, name, &item);
    return add_item(f, item, err);
}

/* " (LAZY)", RFC 8970, 4: an answer without it would be no slower. The space may belong to the next
 * item. */
static int skip_preview_modifiers(struct imap_parser *p, struct error *err)
{
    struct imap_parser ahead = *p;

    if (!imap_parse_skip(&ahead, ' ') || !imap_parse_skip(&ahead, '('))
        return 0;
    do {
        if (!imap_parse_word(&ahead, STR("LAZY"))) {
            /* Behind a lone item these are the modifiers of the whole command. */
            return imap_parse_word(&ahead, STR("CHANGEDSINCE")) ||
                           imap_parse_word(&ahead, STR("VANISHED")) ||
                           imap_parse_word(&ahead, STR("PARTIAL"))
                       ? 0
                       : imap_parse_expected(&ahead, "LAZY", err);
        }
    } while (imap_parse_skip(&ahead, ' '));
    *p = ahead;
    return imap_parse_char(p, ')', err);
}

static int parse_plain_item(struct fetch_parser *f, struct fetch_item item, struct error *err)
{
    if (item.kind == FETCH_PREVIEW && skip_preview_modifiers(f->p, err) < 0)
        return -1;
    return add_item(f, item, err);
}

static int parse_item(struct fetch_parser *f, struct error *err)
{
    struct imap_parser start = *f->p;
    struct str name = take_name(f->p);

    if (str_ieq(name, STR("BODY")) && !imap_parse_peek(f->p, '['))
        return add_item(f, (struct fetch_item){.kind = FETCH_BODY}, err);
    if (str_ieq(name, STR("BODY")))
        return parse_section_item(f, (struct fetch_item){.kind = FETCH_SECTION, .sets_seen = true},
                                  "BODY", true, err);
    if (str_ieq(name, STR("BODY.PEEK")))
        return parse_section_item(f, (struct fetch_item){.kind = FETCH_SECTION}, "BODY", true, err);
    if (str_ieq(name, STR("BINARY")))
        return parse_section_item(f, (struct fetch_item){.kind = FETCH_BINARY, .sets_seen = true},
                                  "BINARY", true, err);
    if (str_ieq(name, STR("BINARY.PEEK")))
        return parse_section_item(f, (struct fetch_item){.kind = FETCH_BINARY}, "BINARY", true,
                                  err);
    if (str_ieq(name, STR("BINARY.SIZE")))
        return parse_section_item(f, (struct fetch_item){.kind = FETCH_BINARY_SIZE}, "BINARY.SIZE",
                                  false, err);
    for (size_t i = 0; i < sizeof plain_items / sizeof *plain_items; i++)
        if (str_ieq(name, plain_items[i].name))
            return parse_plain_item(f, plain_items[i].item, err);
    return imap_parse_expected(&start, "a message item such as FLAGS, ENVELOPE or BODY[]", err);
}

/* ALL, FAST and FULL stand alone (RFC 9051, 6.4.5). */
static bool take_macro(struct fetch_parser *f)
{
    static const enum fetch_kind kinds[] = {FETCH_FLAGS, FETCH_INTERNALDATE, FETCH_SIZE,
                                            FETCH_ENVELOPE, FETCH_BODY};
    size_t count;

    if (imap_parse_word(f->p, STR("ALL")))
        count = 4;
    else if (imap_parse_word(f->p, STR("FAST")))
        count = 3;
    else if (imap_parse_word(f->p, STR("FULL")))
        count = 5;
    else
        return false;
    for (size_t i = 0; i < count; i++)
        f->items[f->request->count++] = (struct fetch_item){.kind = kinds[i]};
    return true;
}

static int parse_items(struct fetch_parser *f, struct error *err)
{
    if (take_macro(f))
        return 0;
    if (!imap_parse_skip(f->p, '('))
        return parse_item(f, err);
    do {
        if (parse_item(f, err) < 0)
            return -1;
    } while (imap_parse_skip(f->p, ' '));
    return imap_parse_char(f->p, ')', err);
}

/* --- the whole -------------------------------------------------------------------------------- */

static int parse_modifier(struct fetch_parser *f, struct error *err)
{
    if (imap_parse_word(f->p, STR("VANISHED"))) {
        f->request->wants_vanished = true;
        return 0;
    }
    if (imap_parse_word(f->p, STR("PARTIAL")))
        return imap_parse_space(f->p, err) < 0
                   ? -1
                   : imap_parse_partial(f->p, &f->request->partial, err);
    if (!imap_parse_word(f->p, STR("CHANGEDSINCE")))
        return imap_parse_expected(f->p, "CHANGEDSINCE, VANISHED or PARTIAL", err);
    f->request->has_changed_since = true;
    return imap_parse_space(f->p, err) < 0
               ? -1
               : imap_parse_number64(f->p, &f->request->changed_since, "a modseq", err);
}

static int parse_modifiers(struct fetch_parser *f, struct error *err)
{
    if (!imap_parse_skip(f->p, ' '))
        return 0;
    if (imap_parse_char(f->p, '(', err) < 0)
        return -1;
    do {
        if (parse_modifier(f, err) < 0)
            return -1;
    } while (imap_parse_skip(f->p, ' '));
    if (f->request->wants_vanished && !f->request->has_changed_since)
        return fail(err, ERR_SYNTAX, "VANISHED needs CHANGEDSINCE beside it");
    return imap_parse_char(f->p, ')', err);
}

/* Many a script looks for the UID in front of the first literal. */
static int add_uid_first(struct fetch_parser *f, struct error *err)
{
    struct fetch_request *r = f->request;

    if (add_item(f, (struct fetch_item){.kind = FETCH_UID}, err) < 0)
        return -1;
    memmove(f->items + 1, f->items, (r->count - 1) * sizeof f->items[0]);
    f->items[0] = (struct fetch_item){.kind = FETCH_UID};
    return 0;
}

/* UID FETCH always tells the UID, CHANGEDSINCE always the modseq. */
static int add_implied(struct fetch_parser *f, bool by_uid, struct error *err)
{
    f->request->items = f->items;
    if (by_uid && !imap_fetch_has(f->request, FETCH_UID) && add_uid_first(f, err) < 0)
        return -1;
    if (f->request->has_changed_since && !imap_fetch_has(f->request, FETCH_MODSEQ))
        return add_item(f, (struct fetch_item){.kind = FETCH_MODSEQ}, err);
    return 0;
}

int imap_parse_fetch(struct imap_parser *p, struct arena *a, bool by_uid, bool uid_is_told,
                     struct fetch_request *out, struct error *err)
{
    struct fetch_parser *f = ARENA_NEW(a, struct fetch_parser);

    *out = (struct fetch_request){0};
    f->p = p;
    f->a = a;
    f->request = out;
    if (imap_set_parse(p, a, &out->set, err) < 0 || imap_parse_space(p, err) < 0 ||
        parse_items(f, err) < 0 || parse_modifiers(f, err) < 0 || imap_parse_end(p, err) < 0)
        return -1;
    if (out->wants_vanished && !by_uid)
        return fail(err, ERR_SYNTAX, "VANISHED belongs to UID FETCH");
    if (imap_partial_is_set(&out->partial) && !by_uid)
        return fail(err, ERR_SYNTAX, "PARTIAL belongs to UID FETCH");
    return add_implied(f, by_uid && !uid_is_told, err);
}

int imap_parse_section(struct imap_parser *p, struct arena *a, struct fetch_item *item,
                       struct error *err)
{
    struct fetch_parser *f = ARENA_NEW(a, struct fetch_parser);

    f->p = p;
    f->a = a;
    return parse_section(f, item, err);
}

int imap_parse_fetch_items(struct imap_parser *p, struct arena *a, struct fetch_request *out,
                           struct error *err)
{
    struct fetch_parser *f = ARENA_NEW(a, struct fetch_parser);

    *out = (struct fetch_request){0};
    f->p = p;
    f->a = a;
    f->request = out;
    if (!imap_parse_peek(p, '('))
        return imap_parse_expected(p, "items in parentheses", err);
    if (parse_items(f, err) < 0)
        return -1;
    out->items = f->items;
    return 0;
}
