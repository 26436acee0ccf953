/* imap_multisearch_parse.c - "IN (selected subtree ("a" "b")) RETURN (...)" and the keys. */
#include "mail/imap/imap_multisearch.h"

struct source_word {
    struct str word;
    enum source_kind kind;
    bool has_names;
};

static const struct source_word source_words[] = {
    {STR("selected"), SOURCE_SELECTED, false},  {STR("inboxes"), SOURCE_INBOXES, false},
    {STR("personal"), SOURCE_PERSONAL, false},  {STR("subscribed"), SOURCE_SUBSCRIBED, false},
    {STR("subtree"), SOURCE_SUBTREE, true},     {STR("subtree-one"), SOURCE_SUBTREE_ONE, true},
    {STR("mailboxes"), SOURCE_MAILBOXES, true},
};

static int add_source(struct esearch_request *r, struct search_source source, struct error *err)
{
    if (r->source_count == SOURCES_MAX)
        return fail(err, ERR_LIMIT, "more than %d sources", SOURCES_MAX);
    r->sources[r->source_count++] = source;
    return 0;
}

static int parse_name(struct imap_parser *p, struct arena *a, struct esearch_request *r,
                      enum source_kind kind, struct error *err)
{
    struct search_source source = {.kind = kind};

    if (imap_parse_astring(p, a, &source.name, "a mailbox name", err) < 0)
        return -1;
    return add_source(r, source, err);
}

/* One mailbox, or several in parentheses. */
static int parse_names(struct imap_parser *p, struct arena *a, struct esearch_request *r,
                       enum source_kind kind, struct error *err)
{
    if (imap_parse_space(p, err) < 0)
        return -1;
    if (!imap_parse_skip(p, '('))
        return parse_name(p, a, r, kind, err);
    do {
        if (parse_name(p, a, r, kind, err) < 0)
            return -1;
    } while (imap_parse_skip(p, ' '));
    return imap_parse_char(p, ')', err);
}

static int parse_source(struct imap_parser *p, struct arena *a, struct esearch_request *r,
                        struct error *err)
{
    for (size_t i = 0; i < sizeof source_words / sizeof *source_words; i++)
        if (imap_parse_word(p, source_words[i].word))
            return source_words[i].has_names
                       ? parse_names(p, a, r, source_words[i].kind, err)
                       : add_source(r, (struct search_source){.kind = source_words[i].kind}, err);
    return imap_parse_expected(
        p, "selected, inboxes, personal, subscribed, subtree, subtree-one or mailboxes", err);
}

/* Scope options, in parentheses behind the sources, are left for extensions: none is known. */
static int parse_sources(struct imap_parser *p, struct arena *a, struct esearch_request *r,
                         struct error *err)
{
    if (!imap_parse_word(p, STR("IN")))
        return 0;
    r->sources = ARENA_ARRAY(a, SOURCES_MAX, struct search_source);
    if (imap_parse_space(p, err) < 0 || imap_parse_char(p, '(', err) < 0)
        return -1;
    do {
        if (parse_source(p, a, r, err) < 0)
            return -1;
    } while (imap_parse_skip(p, ' '));
    return imap_parse_char(p, ')', err) < 0 ? -1 : imap_parse_space(p, err);
}

static bool is_selected_only(const struct esearch_request *r)
{
    for (size_t i = 0; i < r->source_count; i++)
        if (r->sources[i].kind != SOURCE_SELECTED)
            return false;
    return true;
}

int imap_parse_esearch(struct imap_parser *p, struct arena *a, struct esearch_request *out,
                       struct error *err)
{
    *out = (struct esearch_request){.source_count = 0};
    if (parse_sources(p, a, out, err) < 0 || imap_parse_search_return(p, &out->search, err) < 0)
        return -1;
    if (out->search.wants_save && !is_selected_only(out))
        return fail(err, ERR_SYNTAX, "SAVE is for the selected mailbox alone");
    if (!out->search.is_extended)
        out->search.is_extended = out->search.wants_all = true;
    return imap_parse_search_program(p, a, SEARCH_CHARSET_WORD, &out->search, err);
}
