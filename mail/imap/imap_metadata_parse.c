/* imap_metadata_parse.c - what GETMETADATA asks for and SETMETADATA sets. */
#include "mail/imap/imap_metadata_parse.h"

static int parse_entry(struct imap_parser *p, struct arena *a, bool may_be_prefix, struct str *out,
                       struct error *err)
{
    struct str name;

    if (imap_parse_astring(p, a, &name, "an entry such as /shared/comment", err) < 0)
        return -1;
    if (!metadata_entry_canonical(a, name, may_be_prefix, out))
        return fail(err, ERR_SYNTAX, "\"%.*s\" is not the name of an entry",
                    STR_ARG(str_head(name, 80)));
    return 0;
}

static int too_many(struct error *err)
{
    return fail(err, ERR_LIMIT, "more than %d entries", METADATA_ENTRIES_MAX);
}

/* Entries without parentheses stand in an example of the RFC (4.4.1), so some client may send
 * them. */
int imap_parse_metadata_entries(struct imap_parser *p, struct arena *a, struct metadata_query *out,
                                struct error *err)
{
    struct str *names = ARENA_ARRAY(a, METADATA_ENTRIES_MAX, struct str);
    bool has_parentheses = imap_parse_skip(p, '(');

    out->names = names;
    out->name_count = 0;
    do {
        if (out->name_count == METADATA_ENTRIES_MAX)
            return too_many(err);
        if (parse_entry(p, a, true, &names[out->name_count++], err) < 0)
            return -1;
    } while (imap_parse_skip(p, ' '));
    return has_parentheses ? imap_parse_char(p, ')', err) : 0;
}

bool imap_metadata_at_options(const struct imap_parser *p)
{
    struct imap_parser ahead = *p;

    return imap_parse_skip(&ahead, '(') && !imap_parse_peek(&ahead, '/') &&
           !imap_parse_peek(&ahead, '"') && !imap_parse_peek(&ahead, '{');
}

static int parse_option(struct imap_parser *p, struct metadata_query *out, struct error *err)
{
    uint32_t size;

    if (imap_parse_word(p, STR("MAXSIZE"))) {
        if (imap_parse_space(p, err) < 0 || imap_parse_number(p, &size, "a size", err) < 0)
            return -1;
        out->size_max = size;
        return 0;
    }
    if (!imap_parse_word(p, STR("DEPTH")))
        return imap_parse_expected(p, "MAXSIZE or DEPTH", err);
    if (imap_parse_space(p, err) < 0)
        return -1;
    if (imap_parse_word(p, STR("0")))
        out->depth = 0;
    else if (imap_parse_word(p, STR("1")))
        out->depth = 1;
    else if (imap_parse_word(p, STR("INFINITY")))
        out->depth = METADATA_DEPTH_ANY;
    else
        return imap_parse_expected(p, "0, 1 or infinity", err);
    return 0;
}

int imap_parse_metadata_options(struct imap_parser *p, struct metadata_query *out,
                                struct error *err)
{
    if (imap_parse_char(p, '(', err) < 0)
        return -1;
    do {
        if (parse_option(p, out, err) < 0)
            return -1;
    } while (imap_parse_skip(p, ' '));
    return imap_parse_char(p, ')', err);
}

static int check_once(const struct annotation *v, size_t count, struct error *err)
{
    for (size_t i = 0; i + 1 < count; i++)
        if (str_eq(v[i].entry, v[count - 1].entry))
            return fail(err, ERR_SYNTAX, "the entry %.*s is named twice",
                        STR_ARG(str_head(v[i].entry, 80)));
    return 0;
}

int imap_parse_metadata_values(struct imap_parser *p, struct arena *a, struct annotation **out,
                               size_t *count, struct error *err)
{
    struct annotation *v = ARENA_ARRAY(a, METADATA_ENTRIES_MAX, struct annotation);

    *out = v;
    *count = 0;
    if (imap_parse_char(p, '(', err) < 0)
        return -1;
    do {
        if (*count == METADATA_ENTRIES_MAX)
            return too_many(err);
        if (parse_entry(p, a, false, &v[*count].entry, err) < 0 || imap_parse_space(p, err) < 0 ||
            imap_parse_nstring8(p, a, &v[*count].value, "a value", err) < 0 ||
            check_once(v, ++*count, err) < 0)
            return -1;
    } while (imap_parse_skip(p, ' '));
    return imap_parse_char(p, ')', err);
}
