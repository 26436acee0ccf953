/* imap_multisearch.c - ESEARCH: one search over many mailboxes (MULTISEARCH, RFC 7377).
 *
 * Sources become a list of mailboxes, each once. They are opened, searched and closed one after
 * the other, so that memory is that of one of them, and each answers as soon as it is done.
 * What the user may not read, or what went meanwhile, is passed over without a word. */
#include "mail/imap/imap_multisearch.h"

#include "mail/imap/imap_capability.h"
#include "mail/imap/imap_context.h"
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_search.h"
#include "server/base/map.h"

#define MAILBOXES_MAX 5000 /* of one command */

struct scope {
    struct mailbox_key key;
    struct str name; /* as this user sees it */
    struct scope *next;
};

struct multisearch {
    struct imap_session *s;
    struct imap_command *c;
    struct esearch_request request;
    struct map *seen; /* mailboxes in the list, by key */
    struct scope *first, **last;
    size_t count;
    struct mailbox *own; /* mailboxes that the user can see, when a source needs them */
    struct shared_mailbox *foreign;
    size_t own_count, foreign_count;
    bool is_listed;
    struct arena *a; /* of one mailbox */
};

/* --- which mailboxes -------------------------------------------------------------------------- */

static int add_scope(struct multisearch *ms, struct mailbox_key key, struct str name,
                     struct error *err)
{
    struct scope *scope;

    if (map_put(ms->seen, str_of((const char *)&key, sizeof key), ms) != NULL)
        return 0;
    if (ms->count++ == MAILBOXES_MAX)
        return fail(err, ERR_LIMIT, "more than %d mailboxes", MAILBOXES_MAX);
    scope = ARENA_NEW(ms->s->arena, struct scope);
    *scope = (struct scope){.key = key, .name = name};
    *ms->last = scope;
    ms->last = &scope->next;
    return 0;
}

static PARKS int list_all(struct multisearch *ms, struct error *err)
{
    if (ms->is_listed)
        return 0;
    ms->is_listed = true;
    return access_list_all(ms->s->arena, ms->s->account_id, &ms->own, &ms->own_count, &ms->foreign,
                           &ms->foreign_count, err);
}

/* Is `name` the mailbox itself, or as far below it as the source wants? */
static bool is_below(struct str name, struct str top, enum source_kind kind)
{
    struct str rest;

    if (!str_starts(name, top))
        return false;
    rest = str_from(name, top.n);
    if (rest.n == 0)
        return true;
    return rest.p[0] == '/' && (kind == SOURCE_SUBTREE || str_index(str_from(rest, 1), '/') < 0);
}

static bool is_meant(const struct mailbox *m, bool is_own, struct str name, enum source_kind kind,
                     struct str top)
{
    switch (kind) {
    case SOURCE_PERSONAL:
        return is_own;
    case SOURCE_INBOXES:
        return is_own && str_eq(m->role, STR("inbox"));
    case SOURCE_SUBSCRIBED:
        return m->is_subscribed;
    case SOURCE_SUBTREE:
    case SOURCE_SUBTREE_ONE:
        return is_below(name, top, kind);
    case SOURCE_SELECTED:
    case SOURCE_MAILBOXES:
        break;
    }
    return false;
}

/* The list says it of one's own mailboxes only. */
static PARKS int mark_subscribed(struct multisearch *ms, struct error *err)
{
    struct map *names;
    struct str *v;
    size_t count;

    if (ms->foreign_count == 0)
        return 0;
    if (mailbox_subscriptions(ms->s->arena, ms->s->account_id, &v, &count, err) < 0)
        return -1;
    names = map_new();
    for (size_t i = 0; i < count; i++)
        map_put(names, v[i], ms);
    for (size_t i = 0; i < ms->foreign_count; i++)
        ms->foreign[i].mailbox->is_subscribed = map_get(names, ms->foreign[i].name) != NULL;
    map_free(&names);
    return 0;
}

/* Of those that the user sees in a LIST, and may read. */
static PARKS int add_listed(struct multisearch *ms, enum source_kind kind, struct str top,
                            struct error *err)
{
    if (list_all(ms, err) < 0 || (kind == SOURCE_SUBSCRIBED && mark_subscribed(ms, err) < 0))
        return -1;
    for (size_t i = 0; i < ms->own_count; i++) {
        const struct mailbox *m = &ms->own[i];
        if (is_meant(m, true, m->path, kind, top) &&
            add_scope(ms, (struct mailbox_key){m->account_id, m->mailbox_id}, m->path, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < ms->foreign_count; i++) {
        const struct shared_mailbox *f = &ms->foreign[i];
        if ((f->mailbox->rights & RIGHT_READ) && is_meant(f->mailbox, false, f->name, kind, top) &&
            add_scope(ms, (struct mailbox_key){f->account_id, f->mailbox->mailbox_id}, f->name,
                      err) < 0)
            return -1;
    }
    return 0;
}

/* A name that leads nowhere, or where the user has no right, is passed over. */
static int pass_over(const struct error *refused, struct error *err)
{
    switch (refused->kind) {
    case ERR_SYNTAX:
    case ERR_NOT_FOUND:
    case ERR_DENIED:
        return 0;
    default:
        return fail(err, refused->kind, "%s", refused->text);
    }
}

static PARKS int add_one(struct multisearch *ms, struct imap_command *name, struct error *err)
{
    struct error refused = {0};
    struct imap_place place;
    struct mailbox found;

    if (imap_parse_mailbox(ms->s, name, &place, &refused) < 0 ||
        imap_find_mailbox(ms->s, name, &place, RIGHT_READ, &found, &refused) < 0)
        return pass_over(&refused, err);
    return add_scope(ms, imap_mailbox_key(&place, &found), place.name, err);
}

/* Names are read once more, each as the argument of a command of its own. */
static PARKS int add_named(struct multisearch *ms, const struct search_source *source,
                           struct error *err)
{
    struct imap_command name = {.tag = ms->c->tag, .verb = ms->c->verb};
    struct error refused = {0};
    struct buf quoted;
    struct str top;

    buf_init(&quoted, SIZE_MAX);
    imap_add_string(&quoted, source->name);
    imap_parser_init(&name.args, arena_str(ms->s->arena, buf_str(&quoted)));
    buf_fini(&quoted);
    if (source->kind == SOURCE_MAILBOXES)
        return add_one(ms, &name, err);
    if (imap_parse_mailbox_name(ms->s, &name, &top, &refused) < 0)
        return pass_over(&refused, err);
    return add_listed(ms, source->kind, top, err);
}

static PARKS int add_selected(struct multisearch *ms, struct error *err)
{
    const struct mailbox_key *key = &ms->s->selected;
    struct mailbox found;
    struct str name;

    if (ms->s->view == NULL)
        return fail(err, ERR_SYNTAX, "no mailbox is selected");
    if (key->account_id != ms->s->account_id)
        return access_name_of(ms->s->arena, *key, &name, err) < 0 ? -1
                                                                  : add_scope(ms, *key, name, err);
    if (mailbox_get(ms->s->arena, key->account_id, key->mailbox_id, &found, err) < 0)
        return -1;
    return add_scope(ms, *key, found.path, err);
}

static PARKS int add_source(struct multisearch *ms, const struct search_source *source,
                            struct error *err)
{
    switch (source->kind) {
    case SOURCE_SELECTED:
        return add_selected(ms, err);
    case SOURCE_INBOXES:
    case SOURCE_PERSONAL:
    case SOURCE_SUBSCRIBED:
        return add_listed(ms, source->kind, STR(""), err);
    case SOURCE_SUBTREE:
    case SOURCE_SUBTREE_ONE:
    case SOURCE_MAILBOXES:
        return add_named(ms, source, err);
    }
    return 0;
}

static PARKS int find_scopes(struct multisearch *ms, struct error *err)
{
    if (ms->request.source_count == 0)
        return add_selected(ms, err);
    for (size_t i = 0; i < ms->request.source_count; i++)
        if (add_source(ms, &ms->request.sources[i], err) < 0)
            return -1;
    return 0;
}

/* --- one mailbox ------------------------------------------------------------------------------ */

static bool is_selected(const struct multisearch *ms, const struct scope *scope)
{
    return ms->s->view != NULL && scope->key.account_id == ms->s->selected.account_id &&
           scope->key.mailbox_id == ms->s->selected.mailbox_id;
}

static struct str correlator_of(struct multisearch *ms, const struct scope *scope,
                                const struct mailbox_view *view)
{
    struct buf out;
    struct str text;

    buf_init(&out, SIZE_MAX);
    imap_add_tag_correlator(&out, ms->c->tag);
    buf_adds(&out, " MAILBOX ");
    imap_add_mailbox(ms->s, &out, scope->name);
    buf_adds(&out, " UIDVALIDITY ");
    buf_add_u64(&out, view_uid_validity(view));
    text = arena_str(ms->a, buf_str(&out));
    buf_fini(&out);
    return text;
}

/* SAVE alone is silent, and so is a mailbox without a hit (RFC 7377, 2.1). */
static PARKS void answer(struct multisearch *ms, const struct scope *scope,
                         const struct search_found *found)
{
    const struct search_request *r = &ms->request.search;
    struct buf out;

    if (r->wants_save)
        imap_save_result(ms->s, r, found);
    if (found->n > 0 && imap_search_has_answer(r)) {
        buf_init(&out, SIZE_MAX);
        imap_add_esearch(&out, correlator_of(ms, scope, found->view), true, r, found, ms->a);
        imap_write_buf(ms->s, &out);
        buf_fini(&out);
    }
    if (r->wants_update && is_selected(ms, scope))
        imap_context_add_named(ms->s, ms->c, correlator_of(ms, scope, found->view), true, r, NULL,
                               found);
}

static PARKS int search_view(struct multisearch *ms, const struct scope *scope,
                             struct mailbox_view *view, struct error *err)
{
    const struct search_request *r = &ms->request.search;
    struct search_run run = {
        .s = ms->s, .c = ms->c, .view = view, .mailbox = scope->key, .request = r, .a = ms->a};
    struct search_found found;

    run.ends = search_ends_wanted(r);
    if (imap_search_run(&run, err) < 0)
        return -1;
    found = (struct search_found){.view = view,
                                  .seqs = search_run_seqs(&run, ms->a),
                                  .n = run.hit_count,
                                  .modseq_max = run.modseq_max,
                                  .modseq_before = run.modseq_before,
                                  .scores = run.scores};
    answer(ms, scope, &found);
    return 0;
}

static PARKS int search_scope(struct multisearch *ms, const struct scope *scope, struct error *err)
{
    struct mailbox_view *view;
    struct error gone = {0};
    int rc;

    if (is_selected(ms, scope))
        return search_view(ms, scope, ms->s->view, err);
    view = mailbox_view_open(scope->key, ms->s->account_id, &gone);
    if (view == NULL)
        return gone.kind == ERR_NOT_FOUND ? 0 : fail(err, gone.kind, "%s", gone.text);
    rc = search_view(ms, scope, view, err);
    mailbox_view_close(&view);
    return rc;
}

/* --- the command ------------------------------------------------------------------------------ */

static PARKS int search_all(struct multisearch *ms, struct error *err)
{
    for (const struct scope *scope = ms->first; scope != NULL; scope = scope->next) {
        if (search_scope(ms, scope, err) < 0)
            return -1;
        arena_reset(ms->a);
        fiber_pause();
    }
    return 0;
}

static bool has_selected(const struct multisearch *ms)
{
    for (const struct scope *scope = ms->first; scope != NULL; scope = scope->next)
        if (is_selected(ms, scope))
            return true;
    return false;
}

static PARKS int run(struct multisearch *ms, struct error *err)
{
    const struct search_request *r = &ms->request.search;

    if (find_scopes(ms, err) < 0 || search_all(ms, err) < 0) {
        if (r->wants_save && err->kind != ERR_SYNTAX)
            imap_forget_saved(ms->s);
        return -1;
    }
    if (r->wants_update && !has_selected(ms))
        imap_context_refuse(ms->s, ms->c, "Only the selected mailbox is kept up to date");
    return 0;
}

int imap_cmd_esearch(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct multisearch *ms = ARENA_NEW(s->arena, struct multisearch);
    int rc;

    if (imap_parse_esearch(&c->args, s->arena, &ms->request, err) < 0)
        return imap_search_refused(s, c, &ms->request.search, err);
    if (imap_search_check(s, c, &ms->request.search, err) < 0)
        return -1;
    if (ms->request.search.uses_modseq)
        imap_enable_condstore(s);
    ms->s = s;
    ms->c = c;
    ms->last = &ms->first;
    ms->seen = map_new();
    ms->a = arena_new();
    rc = run(ms, err);
    arena_free(&ms->a);
    map_free(&ms->seen);
    return rc;
}
