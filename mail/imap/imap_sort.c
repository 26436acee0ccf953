/* imap_sort.c - SORT (RFC 5256) with RETURN options (RFC 5267, 3). */
#include "mail/imap/imap_context.h"
#include "mail/imap/imap_search.h"
#include "mail/imap/imap_search_options.h"
#include "mail/imap/imap_sort_order.h"

/* Only COUNT does not ask for an order. */
static bool needs_order(const struct search_request *r)
{
    return !r->is_extended || r->wants_min || r->wants_max || r->wants_all ||
           imap_partial_is_set(&r->partial) || r->wants_relevancy || r->wants_update;
}

static PARKS int order_found(struct imap_session *s, const struct sort_program *program,
                             struct search_found *found, struct error *err)
{
    uint32_t *seqs = arena_copy(s->arena, found->seqs, (found->n + 1) * sizeof *seqs);

    if (imap_sort_order(s->view, s->selected, program, found->scores, seqs, &found->n, err) < 0)
        return -1;
    found->seqs = seqs;
    return 0;
}

int imap_cmd_sort(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct search_request *r = ARENA_NEW(s->arena, struct search_request);
    struct sort_program program;
    struct search_found found;

    if (imap_parse_sort(&c->args, s->arena, &program, r, err) < 0)
        return imap_search_refused(s, c, r, err);
    if (imap_search_check(s, c, r, err) < 0 || imap_search_selected(s, c, r, true, &found, err) < 0)
        return -1;
    if (needs_order(r) && order_found(s, &program, &found, err) < 0) {
        if (r->wants_save)
            imap_forget_saved(s);
        return -1;
    }
    imap_answer_search(s, c, r, &found, "SORT");
    imap_context_add(s, c, r, &program, &found);
    return 0;
}
