/* imap_search_options.c - return options, sort criteria, thread algorithms. */
#include "mail/imap/imap_search_options.h"

/* --- RETURN (...) ----------------------------------------------------------------------------- */

static int parse_partial_option(struct imap_parser *p, struct search_request *r, struct error *err)
{
    if (imap_partial_is_set(&r->partial))
        return fail(err, ERR_SYNTAX, "PARTIAL stands twice");
    return imap_parse_space(p, err) < 0 ? -1 : imap_parse_partial(p, &r->partial, err);
}

static int parse_return_option(struct imap_parser *p, struct search_request *r, struct error *err)
{
    if (imap_parse_word(p, STR("MIN")))
        r->wants_min = true;
    else if (imap_parse_word(p, STR("MAX")))
        r->wants_max = true;
    else if (imap_parse_word(p, STR("ALL")))
        r->wants_all = true;
    else if (imap_parse_word(p, STR("COUNT")))
        r->wants_count = true;
    else if (imap_parse_word(p, STR("SAVE")))
        r->wants_save = true;
    else if (imap_parse_word(p, STR("UPDATE")))
        r->wants_update = true;
    else if (imap_parse_word(p, STR("RELEVANCY")))
        r->wants_relevancy = true;
    else if (imap_parse_word(p, STR("PARTIAL")))
        return parse_partial_option(p, r, err);
    else if (!imap_parse_word(p, STR("CONTEXT"))) /* a hint only */
        return imap_parse_expected(
            p, "MIN, MAX, ALL, COUNT, SAVE, UPDATE, CONTEXT, RELEVANCY or PARTIAL", err);
    return 0;
}

int imap_parse_search_return(struct imap_parser *p, struct search_request *r, struct error *err)
{
    if (!imap_parse_word(p, STR("RETURN")))
        return 0;
    r->is_extended = true;
    if (imap_parse_space(p, err) < 0 || imap_parse_char(p, '(', err) < 0)
        return -1;
    if (imap_parse_skip(p, ')')) {
        r->wants_all = true;
        return imap_parse_space(p, err);
    }
    do {
        if (parse_return_option(p, r, err) < 0)
            return -1;
    } while (imap_parse_skip(p, ' '));
    if (imap_partial_is_set(&r->partial) && r->wants_all)
        return fail(err, ERR_SYNTAX, "PARTIAL and ALL exclude each other");
    return imap_parse_char(p, ')', err) < 0 ? -1 : imap_parse_space(p, err);
}

/* --- SORT (...) ------------------------------------------------------------------------------- */

static const struct str sort_words[SORT_KEY_COUNT] = {
    [SORT_KEY_ARRIVAL] = STR("ARRIVAL"),
    [SORT_KEY_CC] = STR("CC"),
    [SORT_KEY_DATE] = STR("DATE"),
    [SORT_KEY_DISPLAY_FROM] = STR("DISPLAYFROM"),
    [SORT_KEY_DISPLAY_TO] = STR("DISPLAYTO"),
    [SORT_KEY_FROM] = STR("FROM"),
    [SORT_KEY_RELEVANCY] = STR("RELEVANCY"),
    [SORT_KEY_SIZE] = STR("SIZE"),
    [SORT_KEY_SUBJECT] = STR("SUBJECT"),
    [SORT_KEY_TO] = STR("TO"),
};

static int parse_sort_key(struct imap_parser *p, enum sort_key *out, struct error *err)
{
    for (unsigned i = 0; i < SORT_KEY_COUNT; i++)
        if (imap_parse_word(p, sort_words[i])) {
            *out = (enum sort_key)i;
            return 0;
        }
    return imap_parse_expected(p, "a sort key such as DATE or SUBJECT", err);
}

bool sort_program_has(const struct sort_program *program, enum sort_key key)
{
    for (unsigned i = 0; i < program->n; i++)
        if (program->v[i].key == key)
            return true;
    return false;
}

static void add_criterion(struct sort_program *program, struct sort_criterion criterion)
{
    if (!sort_program_has(program, criterion.key))
        program->v[program->n++] = criterion;
}

int imap_parse_sort_program(struct imap_parser *p, struct sort_program *out, struct error *err)
{
    unsigned count = 0;

    *out = (struct sort_program){.n = 0};
    if (imap_parse_char(p, '(', err) < 0)
        return -1;
    do {
        struct sort_criterion criterion = {.is_reversed = imap_parse_word(p, STR("REVERSE"))};
        if (++count > SORT_CRITERIA_MAX)
            return fail(err, ERR_LIMIT, "more than %d sort criteria", SORT_CRITERIA_MAX);
        if ((criterion.is_reversed && imap_parse_space(p, err) < 0) ||
            parse_sort_key(p, &criterion.key, err) < 0)
            return -1;
        add_criterion(out, criterion);
    } while (imap_parse_skip(p, ' '));
    return imap_parse_char(p, ')', err);
}

/* --- THREAD ----------------------------------------------------------------------------------- */

int imap_parse_thread_algorithm(struct imap_parser *p, enum thread_algorithm *out,
                                struct error *err)
{
    struct str name;

    if (imap_parse_atom(p, &name, "ORDEREDSUBJECT or REFERENCES", err) < 0)
        return -1;
    if (str_ieq(name, STR("ORDEREDSUBJECT")))
        *out = THREAD_ORDEREDSUBJECT;
    else if (str_ieq(name, STR("REFERENCES")))
        *out = THREAD_REFERENCES;
    else
        return fail(err, ERR_SYNTAX, "expected ORDEREDSUBJECT or REFERENCES");
    return 0;
}

/* --- the whole -------------------------------------------------------------------------------- */

int imap_parse_sort(struct imap_parser *p, struct arena *a, struct sort_program *program,
                    struct search_request *out, struct error *err)
{
    *out = (struct search_request){0};
    if (imap_parse_search_return(p, out, err) < 0 || imap_parse_sort_program(p, program, err) < 0 ||
        imap_parse_space(p, err) < 0)
        return -1;
    out->wants_scores = sort_program_has(program, SORT_KEY_RELEVANCY);
    return imap_parse_search_program(p, a, SEARCH_CHARSET_FIRST, out, err);
}

int imap_parse_thread(struct imap_parser *p, struct arena *a, enum thread_algorithm *algorithm,
                      struct search_request *out, struct error *err)
{
    *out = (struct search_request){0};
    if (imap_parse_thread_algorithm(p, algorithm, err) < 0 || imap_parse_space(p, err) < 0)
        return -1;
    return imap_parse_search_program(p, a, SEARCH_CHARSET_FIRST, out, err);
}
