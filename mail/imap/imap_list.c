/* imap_list.c - LIST and LSUB, over one's own mailboxes and those of others.
 *
 * The account's mailboxes are read in one set, and in a second one all that is granted to the user
 * elsewhere. Every level of one's own hierarchy exists; of others', a user sees what was granted,
 * and levels above it that were not are shown as if no mailbox was there. */
#include "mail/imap/imap_acl.h"
#include "mail/imap/imap_capability.h"
#include "mail/imap/imap_list_parse.h"
#include "mail/imap/imap_mailbox.h"
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_metadata.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_session.h"
#include "mail/imap/imap_status.h"
#include "mail/store/access.h"
#include "server/base/map.h"

/* Mailboxes of one account, one behind the other. */
struct list_home {
    int64_t account_id;
    struct mailbox *v;
    size_t count;
    struct imap_metadata metadata;
};

/* A name of the answer. */
struct list_entry {
    struct str name;               /* as this user writes it */
    const struct mailbox *mailbox; /* NULL: there is none, or none that the user may know */
    struct list_home *home;        /* of the mailbox */
    bool is_own, is_subscribed, has_children;
};

struct list_run {
    struct imap_session *s;
    const struct imap_list_request *request;
    struct list_entry *entries; /* what is below a name comes right behind it */
    size_t count;
    struct map *ancestors; /* names above a selected one; NULL: not asked for */
    struct buf out;
};

/* --- the names ---------------------------------------------------------------------------------- */

static bool may_match_foreign(const struct imap_list_request *r)
{
    for (size_t i = 0; i < r->pattern_count; i++)
        if (imap_pattern_may_begin(r->patterns[i], STR(ACCESS_OTHERS_PREFIX)) ||
            imap_pattern_may_begin(r->patterns[i], STR(ACCESS_SHARED_PREFIX)))
            return true;
    return false;
}

static bool is_below(struct str name, struct str parent)
{
    return name.n > parent.n && name.p[parent.n] == '/' && str_starts(name, parent);
}

static bool is_at_or_below(struct str name, struct str parent)
{
    return str_eq(name, parent) || is_below(name, parent);
}

static unsigned level_count(struct str name)
{
    unsigned count = 1;

    for (size_t i = 0; i < name.n; i++)
        count += name.p[i] == '/';
    return count;
}

/* Levels of the name that neither stand in the list nor are mailboxes for this user. */
static void add_missing_parents(struct list_run *run, struct str name)
{
    struct str last = run->count > 0 ? run->entries[run->count - 1].name : STR("");

    for (size_t at = 0; at < name.n; at++)
        if (name.p[at] == '/' && !is_at_or_below(last, str_head(name, at)))
            run->entries[run->count++] =
                (struct list_entry){.name = str_head(name, at), .has_children = true};
}

static struct list_home *home_new(struct list_run *run, int64_t account_id, struct mailbox *v)
{
    struct list_home *home = ARENA_NEW(run->s->arena, struct list_home);

    home->account_id = account_id;
    home->v = v;
    return home;
}

/* What a mailbox's row does not tell, in one query each. */
static PARKS int complete_home(struct list_run *run, struct list_home *home, struct error *err)
{
    const struct imap_list_request *r = run->request;

    if (r->return_status && imap_status_wants_unseen(r->status_items) &&
        access_count_unseen(run->s->account_id, home->account_id, home->v, home->count, err) < 0)
        return -1;
    if (r->return_status && imap_status_wants_deleted_bytes(r->status_items) &&
        mailbox_count_deleted(home->account_id, home->v, home->count, err) < 0)
        return -1;
    home->metadata.query = r->metadata;
    return r->return_metadata ? imap_metadata_read(run->s, home->account_id, home->v, home->count,
                                                   &home->metadata, err)
                              : 0;
}

static PARKS int add_own(struct list_run *run, struct mailbox *v, size_t count, struct error *err)
{
    struct list_home *home = home_new(run, run->s->account_id, v);

    home->count = count;
    for (size_t i = 0; i < count; i++)
        run->entries[run->count++] = (struct list_entry){.name = v[i].path,
                                                         .mailbox = &v[i],
                                                         .home = home,
                                                         .is_own = true,
                                                         .is_subscribed = v[i].is_subscribed,
                                                         .has_children = v[i].has_children};
    return complete_home(run, home, err);
}

/* Those of the first account; returns how many. */
static PARKS size_t add_home(struct list_run *run, const struct shared_mailbox *v, size_t count,
                             struct list_home *home)
{
    size_t i = 0;

    for (; i < count && v[i].account_id == home->account_id; i++) {
        add_missing_parents(run, v[i].name);
        run->entries[run->count++] = (struct list_entry){
            .name = v[i].name,
            .mailbox = v[i].mailbox,
            .home = home,
            .is_subscribed = v[i].mailbox->is_subscribed,
            .has_children = i + 1 < count && is_below(v[i + 1].name, v[i].name)};
        fiber_pause();
    }
    return i;
}

static PARKS int add_foreign(struct list_run *run, const struct shared_mailbox *v, size_t count,
                             struct error *err)
{
    for (size_t i = 0; i < count;) {
        struct list_home *home = home_new(run, v[i].account_id, v[i].mailbox);
        home->count = add_home(run, v + i, count - i, home);
        if (complete_home(run, home, err) < 0)
            return -1;
        i += home->count;
    }
    return 0;
}

/* Own mailboxes say themselves whether they are subscribed. A name that leads nowhere, or nowhere any
 * more, stays subscribed, and is listed among the subscribed (RFC 9051, 6.3.9.4). */
static PARKS void add_subscriptions(struct list_run *run, const struct str *names, size_t count)
{
    struct map *places = map_new();

    for (size_t i = 0; i < run->count; i++)
        map_put(places, run->entries[i].name, &run->entries[i]);
    for (size_t i = 0; i < count; i++) {
        struct list_entry *e = map_get(places, names[i]);
        if (e != NULL)
            e->is_subscribed = true;
        else if (run->request->select_subscribed)
            run->entries[run->count++] =
                (struct list_entry){.name = names[i],
                                    .is_subscribed = true,
                                    .is_own = !access_is_foreign_name(names[i])};
        fiber_pause();
    }
    map_free(&places);
}

static PARKS int read_subscriptions(struct list_run *run, struct str **names, size_t *count,
                                    struct error *err)
{
    *count = 0;
    if (!run->request->select_subscribed && !run->request->return_subscribed)
        return 0;
    return mailbox_subscriptions(run->s->arena, run->s->account_id, names, count, err);
}

/* Others' mailboxes are asked for only when a pattern could name one. */
static PARKS int collect(struct list_run *run, struct error *err)
{
    struct imap_session *s = run->s;
    struct shared_mailbox *foreign = NULL;
    size_t own_count, foreign_count = 0, name_count, count;
    struct mailbox *own;
    struct str *names;

    if (read_subscriptions(run, &names, &name_count, err) < 0)
        return -1;
    if ((may_match_foreign(run->request)
             ? access_list_all(s->arena, s->account_id, &own, &own_count, &foreign, &foreign_count,
                               err)
             : mailbox_list(s->arena, s->account_id, &own, &own_count, err)) < 0)
        return -1;
    count = own_count + name_count;
    for (size_t i = 0; i < foreign_count; i++)
        count += level_count(foreign[i].name);
    run->entries = ARENA_ARRAY(s->arena, count, struct list_entry);
    if (add_own(run, own, own_count, err) < 0 || add_foreign(run, foreign, foreign_count, err) < 0)
        return -1;
    add_subscriptions(run, names, name_count);
    return 0;
}

/* --- choosing ----------------------------------------------------------------------------------- */

/* The special uses of others' mailboxes are theirs. */
static struct str special_use(const struct list_entry *e)
{
    return e->is_own && e->mailbox != NULL ? imap_special_use(e->mailbox->role) : STR("");
}

static bool is_selected(const struct imap_list_request *r, const struct list_entry *e)
{
    if (r->select_subscribed && !e->is_subscribed)
        return false;
    return !r->select_special_use || special_use(e).n > 0;
}

static bool matches(const struct imap_list_request *r, const struct list_entry *e)
{
    for (size_t i = 0; i < r->pattern_count; i++)
        if (imap_pattern_matches(r->patterns[i], e->name))
            return true;
    return false;
}

static PARKS void find_ancestors(struct list_run *run)
{
    run->ancestors = map_new();
    for (size_t i = 0; i < run->count; i++) {
        const struct list_entry *e = &run->entries[i];
        for (size_t at = 0; is_selected(run->request, e) && at < e->name.n; at++)
            if (e->name.p[at] == '/')
                map_put(run->ancestors, str_head(e->name, at), run);
        fiber_pause();
    }
}

static bool is_ancestor(const struct list_run *run, const struct list_entry *e)
{
    return run->ancestors != NULL && map_get(run->ancestors, e->name) != NULL;
}

/* --- the answer --------------------------------------------------------------------------------- */

static bool is_selectable(const struct list_entry *e)
{
    return e->mailbox != NULL && (e->mailbox->rights & RIGHT_READ);
}

/* \NonExistent implies \Noselect, but not to clients of RFC 3501. */
static void add_attributes(struct list_run *run, const struct list_entry *e)
{
    struct str use = special_use(e);

    if (e->mailbox == NULL)
        buf_adds(&run->out, "\\NonExistent ");
    if (!is_selectable(e))
        buf_adds(&run->out, "\\Noselect ");
    buf_adds(&run->out, e->has_children ? "\\HasChildren" : "\\HasNoChildren");
    if (run->request->return_subscribed && e->is_subscribed)
        buf_adds(&run->out, " \\Subscribed");
    if (use.n > 0) {
        buf_addc(&run->out, ' ');
        buf_add(&run->out, use);
    }
}

/* CHILDINFO names the selection that brought a parent here (RFC 5258, 3.5). */
static void add_child_info(struct list_run *run)
{
    if (run->request->select_subscribed)
        buf_adds(&run->out, " (\"CHILDINFO\" (\"SUBSCRIBED\"))");
    else
        buf_adds(&run->out, " (\"CHILDINFO\" (\"SPECIAL-USE\"))");
}

static void add_status_line(struct list_run *run, const struct list_entry *e)
{
    struct mailbox shown = *e->mailbox;

    shown.path = e->name;
    imap_add_status(run->s, &run->out, &shown, run->request->status_items);
}

/* What else is asked for is told of names that are selected themselves (RFC 5819, 3; RFC 8440,
 * 4). */
static void add_more(struct list_run *run, const struct list_entry *e)
{
    uint64_t longest = 0;

    if (run->request->return_status && is_selectable(e))
        add_status_line(run, e);
    if (run->request->return_metadata && is_selectable(e))
        imap_add_metadata(run->s, &run->out, e->name, e->mailbox, &e->home->metadata, &longest);
    if (run->request->return_myrights && e->mailbox != NULL)
        imap_add_myrights(run->s, &run->out, e->name, e->mailbox->rights);
}

static void add_list_line(struct list_run *run, const struct list_entry *e)
{
    buf_adds(&run->out, "* LIST (");
    add_attributes(run, e);
    buf_adds(&run->out, ") \"/\" ");
    imap_add_mailbox(run->s, &run->out, e->name);
    if (is_ancestor(run, e))
        add_child_info(run);
    buf_adds(&run->out, "\r\n");
    if (is_selected(run->request, e))
        add_more(run, e);
}

static void add_lsub_line(struct list_run *run, const struct list_entry *e)
{
    buf_adds(&run->out, e->is_subscribed ? "* LSUB () \"/\" " : "* LSUB (\\Noselect) \"/\" ");
    imap_add_mailbox(run->s, &run->out, e->name);
    buf_adds(&run->out, "\r\n");
}

static PARKS void add_all(struct list_run *run,
                          void (*add)(struct list_run *, const struct list_entry *))
{
    for (size_t i = 0; i < run->count; i++) {
        const struct list_entry *e = &run->entries[i];
        if (matches(run->request, e) && (is_selected(run->request, e) || is_ancestor(run, e)))
            add(run, e);
        if (run->out.n > 32768)
            imap_write_buf(run->s, &run->out);
        fiber_pause();
    }
}

static PARKS int list_all(struct list_run *run, bool want_ancestors,
                          void (*add)(struct list_run *, const struct list_entry *),
                          struct error *err)
{
    if (collect(run, err) < 0)
        return -1;
    buf_init(&run->out, SIZE_MAX);
    if (want_ancestors)
        find_ancestors(run);
    add_all(run, add);
    imap_write_buf(run->s, &run->out);
    buf_fini(&run->out);
    if (run->ancestors != NULL)
        map_free(&run->ancestors);
    return 0;
}

/* The delimiter, and the root of the reference. */
static PARKS void answer_root_query(struct imap_session *s, struct str reference)
{
    const char *root = "";

    if (str_starts(reference, STR(ACCESS_OTHERS_PREFIX "/")))
        root = ACCESS_OTHERS_PREFIX "/";
    else if (str_starts(reference, STR(ACCESS_SHARED_PREFIX "/")))
        root = ACCESS_SHARED_PREFIX "/";
    conn_printf(s->conn, "* LIST (\\Noselect) \"/\" \"%s\"\r\n", root);
}

int imap_cmd_list(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_list_request *request = ARENA_NEW(s->arena, struct imap_list_request);
    struct list_run run = {.s = s, .request = request};

    if (imap_parse_list(&c->args, s->arena, imap_has_utf8(s), request, err) < 0)
        return -1;
    if (request->is_root_query) {
        answer_root_query(s, request->reference);
        return 0;
    }
    if (request->return_status && imap_status_wants_modseq(request->status_items))
        imap_enable_condstore(s);
    return list_all(&run, request->select_recursive, add_list_line, err);
}

int imap_cmd_lsub(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_list_request *request = ARENA_NEW(s->arena, struct imap_list_request);
    struct list_run run = {.s = s, .request = request};

    if (imap_parse_lsub(&c->args, s->arena, imap_has_utf8(s), request, err) < 0)
        return -1;
    return list_all(&run, request->ends_in_percent, add_lsub_line, err);
}
