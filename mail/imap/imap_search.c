/* imap_search.c - SEARCH (RFC 9051, 6.4.4), and what its kin share with it. */
#include "mail/imap/imap_search.h"

#include "mail/imap/imap_capability.h"
#include "mail/imap/imap_context.h"
#include "mail/imap/imap_search_options.h"

int imap_search_refused(struct imap_session *s, struct imap_command *c,
                        const struct search_request *r, const struct error *err)
{
    if (r->has_bad_charset)
        c->refusal = "BADCHARSET (UTF-8 US-ASCII ISO-8859-1)";
    if (r->wants_save && err->kind != ERR_SYNTAX)
        imap_forget_saved(s); /* NO empties "$", BAD leaves it (RFC 5182, 2.1) */
    return -1;
}

static bool names_numbers(const struct search_key *key)
{
    if (key->kind == KEY_SEQUENCE && !key->set.is_saved)
        return true;
    for (const struct search_key *child = key->first_child; child != NULL; child = child->next)
        if (names_numbers(child))
            return true;
    return false;
}

int imap_search_check(struct imap_session *s, struct imap_command *c,
                      const struct search_request *r, struct error *err)
{
    if (r->has_charset && (s->enabled & IMAP_ENABLED_UTF8))
        return fail(err, ERR_SYNTAX, "CHARSET is not for who enabled UTF8=ACCEPT");
    if (imap_is_uidonly(s) && names_numbers(r->root)) { /* RFC 9586, 3.5 */
        c->complaint = "UIDREQUIRED";
        return fail(err, ERR_SYNTAX,
                    "UIDONLY is enabled: search for UIDs, not for sequence numbers");
    }
    return imap_context_check(s, c, r, err);
}

int imap_search_selected(struct imap_session *s, struct imap_command *c,
                         const struct search_request *r, bool is_ordered,
                         struct search_found *found, struct error *err)
{
    struct search_run run = {
        .s = s, .c = c, .view = s->view, .mailbox = s->selected, .request = r, .a = s->arena};

    run.is_limited = !is_ordered;

    if (r->uses_modseq)
        imap_enable_condstore(s);
    if (!is_ordered)
        run.ends = search_ends_wanted(r);
    if (imap_search_run(&run, err) < 0) {
        if (r->wants_save)
            imap_forget_saved(s);
        return -1;
    }
    *found = (struct search_found){.view = s->view,
                                   .seqs = search_run_seqs(&run, s->arena),
                                   .n = run.hit_count,
                                   .modseq_max = run.modseq_max,
                                   .modseq_before = run.modseq_before,
                                   .scores = run.scores};
    return 0;
}

int imap_cmd_search(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct search_request *r = ARENA_NEW(s->arena, struct search_request);
    struct search_found found;

    if (imap_parse_search(&c->args, s->arena, r, err) < 0)
        return imap_search_refused(s, c, r, err);
    if (!r->is_extended && (s->enabled & IMAP_ENABLED_REV2))
        r->is_extended = r->wants_all = true;
    if (imap_search_check(s, c, r, err) < 0 ||
        imap_search_selected(s, c, r, false, &found, err) < 0)
        return -1;
    imap_answer_search(s, c, r, &found, "SEARCH");
    imap_context_add(s, c, r, NULL, &found);
    return 0;
}
