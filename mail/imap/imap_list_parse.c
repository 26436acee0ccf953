/* imap_list_parse.c - what LIST asks for.
 *
 * Options that are known and change nothing here (REMOTE, CHILDREN: children are always told)
 * are accepted. */
#include "mail/imap/imap_list_parse.h"

#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_metadata_parse.h"
#include "mail/imap/imap_status.h"

static int parse_selection_option(struct imap_parser *p, struct imap_list_request *r,
                                  struct error *err)
{
    if (imap_parse_word(p, STR("SUBSCRIBED")))
        r->select_subscribed = r->return_subscribed = true;
    else if (imap_parse_word(p, STR("SPECIAL-USE")))
        r->select_special_use = true;
    else if (imap_parse_word(p, STR("RECURSIVEMATCH")))
        r->select_recursive = true;
    else if (!imap_parse_word(p, STR("REMOTE")))
        return imap_parse_expected(p, "SUBSCRIBED, REMOTE, RECURSIVEMATCH or SPECIAL-USE", err);
    return 0;
}

/* RFC 9590, 5: the entries stand in parentheses. */
static int parse_metadata(struct imap_parser *p, struct imap_list_request *r, struct error *err)
{
    r->return_metadata = true;
    r->metadata.size_max = UINT64_MAX;
    if (imap_parse_space(p, err) < 0)
        return -1;
    if (!imap_parse_peek(p, '('))
        return imap_parse_expected(p, "entries in parentheses", err);
    return imap_parse_metadata_entries(p, r->arena, &r->metadata, err);
}

static int parse_return_option(struct imap_parser *p, struct imap_list_request *r,
                               struct error *err)
{
    if (imap_parse_word(p, STR("STATUS"))) {
        r->return_status = true;
        return imap_parse_space(p, err) < 0 ? -1
                                            : imap_parse_status_items(p, &r->status_items, err);
    }
    if (imap_parse_word(p, STR("METADATA")))
        return parse_metadata(p, r, err);
    if (imap_parse_word(p, STR("SUBSCRIBED")))
        r->return_subscribed = true;
    else if (imap_parse_word(p, STR("CHILDREN")))
        r->return_children = true;
    else if (imap_parse_word(p, STR("MYRIGHTS")))
        r->return_myrights = true;
    else if (!imap_parse_word(p, STR("SPECIAL-USE")))
        return imap_parse_expected(
            p, "SUBSCRIBED, CHILDREN, SPECIAL-USE, STATUS, MYRIGHTS or METADATA", err);
    return 0;
}

/* "(" option *(SP option) ")", possibly empty; the parenthesis is taken already. */
static int parse_options(struct imap_parser *p, struct imap_list_request *r,
                         int (*option)(struct imap_parser *, struct imap_list_request *,
                                       struct error *),
                         struct error *err)
{
    if (imap_parse_skip(p, ')'))
        return 0;
    do {
        if (option(p, r, err) < 0)
            return -1;
    } while (imap_parse_skip(p, ' '));
    return imap_parse_char(p, ')', err);
}

static int add_pattern(struct imap_list_request *r, struct arena *a, struct str reference,
                       struct str wire, bool is_utf8, struct error *err)
{
    struct str name = arena_printf(a, "%.*s%.*s", STR_ARG(reference), STR_ARG(wire)), decoded;

    if (r->pattern_count == IMAP_PATTERNS_MAX)
        return fail(err, ERR_LIMIT, "more than %d patterns", IMAP_PATTERNS_MAX);
    if (!imap_name_decode(a, name, is_utf8, &decoded))
        return fail(err, ERR_SYNTAX, "the mailbox pattern is not valid %s",
                    is_utf8 ? "UTF-8" : "modified UTF-7");
    if (r->pattern_count == 0)
        r->ends_in_percent = str_ends(name, STR("%"));
    r->patterns[r->pattern_count] = imap_pattern_new(a, decoded, err);
    return r->patterns[r->pattern_count++] == NULL ? -1 : 0;
}

static int parse_patterns(struct imap_parser *p, struct arena *a, struct str reference,
                          bool is_utf8, struct imap_list_request *r, struct error *err)
{
    struct str wire;

    if (!imap_parse_skip(p, '(')) {
        if (imap_parse_pattern(p, a, &wire, err) < 0)
            return -1;
        r->is_root_query = wire.n == 0;
        return add_pattern(r, a, reference, wire, is_utf8, err);
    }
    do {
        if (imap_parse_pattern(p, a, &wire, err) < 0 ||
            add_pattern(r, a, reference, wire, is_utf8, err) < 0)
            return -1;
    } while (imap_parse_skip(p, ' '));
    return imap_parse_char(p, ')', err);
}

static int parse_reference_and_patterns(struct imap_parser *p, struct arena *a, bool is_utf8,
                                        struct imap_list_request *r, struct error *err)
{
    struct str reference;

    if (imap_parse_astring(p, a, &reference, "a reference name", err) < 0 ||
        imap_parse_space(p, err) < 0)
        return -1;
    r->reference = reference;
    return parse_patterns(p, a, reference, is_utf8, r, err);
}

int imap_parse_list(struct imap_parser *p, struct arena *a, bool is_utf8,
                    struct imap_list_request *out, struct error *err)
{
    *out = (struct imap_list_request){.arena = a};
    if (imap_parse_skip(p, '(') &&
        (parse_options(p, out, parse_selection_option, err) < 0 || imap_parse_space(p, err) < 0))
        return -1;
    if (out->select_recursive && !out->select_subscribed && !out->select_special_use)
        return fail(err, ERR_SYNTAX, "RECURSIVEMATCH needs SUBSCRIBED or SPECIAL-USE beside it");
    if (parse_reference_and_patterns(p, a, is_utf8, out, err) < 0)
        return -1;
    if (!imap_parse_skip(p, ' '))
        return imap_parse_end(p, err);
    if (!imap_parse_word(p, STR("RETURN")))
        return imap_parse_expected(p, "RETURN", err);
    if (imap_parse_space(p, err) < 0 || imap_parse_char(p, '(', err) < 0 ||
        parse_options(p, out, parse_return_option, err) < 0)
        return -1;
    return imap_parse_end(p, err);
}

int imap_parse_lsub(struct imap_parser *p, struct arena *a, bool is_utf8,
                    struct imap_list_request *out, struct error *err)
{
    *out = (struct imap_list_request){.select_subscribed = true};
    if (imap_parse_peek(p, '('))
        return imap_parse_expected(p, "a reference name", err);
    return parse_reference_and_patterns(p, a, is_utf8, out, err) < 0 ? -1 : imap_parse_end(p, err);
}
