/* imap_notify.c - what a session asked to hear of mailboxes, and telling it.
 *
 * Events of mailboxes other than the selected one come from the accounts' watches and are spelled
 * here; those of the selected one come from its view (imap_updates.c) and are only chosen here. */
#include "mail/imap/imap_notify.h"

#include <stdlib.h>

#include "mail/imap/imap_capability.h"
#include "mail/imap/imap_fetch.h"
#include "mail/imap/imap_mailbox.h"
#include "mail/imap/imap_metadata.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_status.h"
#include "mail/imap/imap_updates.h"
#include "mail/store/access.h"
#include "server/base/memory.h"
#include "server/pg/notify.h"

#define OWN_ADDITIONS_MAX 4
#define WRITE_SIZE        32768

struct watched_account {
    int64_t account_id;
    struct mailbox_watch *watch;
    /* Of another's account: how its names begin for this user, and the mailboxes that were told of
     * as there, because the user may look them up and read them; ascending. */
    struct str prefix;
    int64_t *visible;
    size_t visible_count;
    struct mailbox_event *
        *renamings; /* that the client knows of, while events are told; in the arena */
    size_t renaming_count;
};

struct own_addition {
    uint32_t from, to; /* UIDs in the selected mailbox */
};

/* Of the command that runs. */
struct own_doing {
    enum mailbox_event_kind kind; /* 0: nothing */
    struct imap_place place;
    uint64_t annotation_modseqs[2], server_modseq;
    int64_t annotated_account_id;
};

struct imap_notify {
    bool is_used;   /* NOTIFY was: it rules what is told of the selected mailbox, too */
    bool is_active; /* SET, not NONE */
    bool is_delayed;
    bool has_server_news;
    unsigned selected_events;
    struct str items;
    struct notify_group *groups; /* one block with all they point to; items lie in it, too */
    size_t group_count;
    struct watched_account *accounts;
    size_t account_count;
    struct bus_subscription server; /* shared annotations of the server */
    uint64_t server_modseq;
    struct imap_session *session;
    struct own_addition additions[OWN_ADDITIONS_MAX];
    unsigned addition_count;
    struct own_doing doing;
};

/* --- life ------------------------------------------------------------------------------------- */

static void notify_free(struct imap_notify **notify)
{
    struct imap_notify *n = *notify;

    *notify = NULL;
    if (n == NULL)
        return;
    bus_unsubscribe(&n->server);
    for (size_t i = 0; i < n->account_count; i++) {
        mailbox_watch_close(&n->accounts[i].watch);
        free((char *)n->accounts[i].prefix.p);
        free(n->accounts[i].visible);
    }
    free(n->accounts);
    free(n->groups);
    free(n);
}

static struct imap_notify *notify_new(struct imap_session *s)
{
    struct imap_notify *n = memory_alloc(sizeof *n);

    n->session = s;
    n->selected_events = NOTIFY_MESSAGES | NOTIFY_FLAGS;
    return n;
}

void imap_notify_stop(struct imap_session *s)
{
    notify_free(&s->notify);
}

bool imap_notify_at_rest(const struct imap_session *s)
{
    return s->notify != NULL && s->notify->is_active;
}

bool imap_notify_delays_expunges(const struct imap_session *s)
{
    return s->notify != NULL && s->notify->is_delayed;
}

unsigned imap_notify_selected_events(const struct imap_session *s)
{
    return s->notify != NULL ? s->notify->selected_events : NOTIFY_MESSAGES | NOTIFY_FLAGS;
}

/* --- hearing ---------------------------------------------------------------------------------- */

static void heard(void *arg)
{
    struct imap_session *s = arg;

    if (s->idle_tag != NULL || imap_notify_at_rest(s))
        conn_wake(s->conn);
}

static void heard_of_server(struct bus_subscription *subscription)
{
    struct imap_notify *n = CONTAINER_OF(subscription, struct imap_notify, server);

    n->has_server_news = true;
    heard(n->session);
}

void imap_notify_watch_view(struct imap_session *s)
{
    if (s->view == NULL)
        return;
    if (imap_notify_selected_events(s) != 0 && (s->idle_tag != NULL || imap_notify_at_rest(s)))
        view_watch(s->view, heard, s);
    else
        view_unwatch(s->view);
}

/* `place` is in the account; NULL: one's own. */
static PARKS int watch_account(struct imap_notify *n, int64_t account_id,
                               const struct imap_place *place, struct error *err)
{
    struct mailbox_watch *watch;

    for (size_t i = 0; i < n->account_count; i++)
        if (n->accounts[i].account_id == account_id)
            return 0;
    watch = mailbox_watch_open(account_id, heard, n->session, err);
    if (watch == NULL)
        return -1;
    n->accounts = memory_resize(n->accounts, (n->account_count + 1) * sizeof *n->accounts);
    n->accounts[n->account_count] =
        (struct watched_account){.account_id = account_id, .watch = watch};
    if (account_id != n->session->account_id) /* "Other Users/bob@example.test/" */
        n->accounts[n->account_count].prefix =
            str_of(memory_copy_str(str_head(place->name, place->name.n - place->path.n)),
                   place->name.n - place->path.n);
    n->account_count++;
    return 0;
}

static PARKS int watch_server(struct imap_notify *n, struct error *err)
{
    if (list_is_linked(&n->server.link))
        return 0;
    bus_subscribe(&n->server, METADATA_SERVER_ACCOUNT, heard_of_server);
    return metadata_modseq(METADATA_SERVER_ACCOUNT, &n->server_modseq, err);
}

static PARKS int watch_group(struct imap_notify *n, const struct notify_group *g, struct error *err)
{
    int64_t user_id = n->session->account_id;

    if ((g->events & NOTIFY_SERVER_METADATA) &&
        (watch_account(n, user_id, NULL, err) < 0 || watch_server(n, err) < 0))
        return -1;
    if (g->events == 0)
        return 0;
    if (g->filter == FILTER_PERSONAL || g->filter == FILTER_SUBSCRIBED)
        return watch_account(n, user_id, NULL, err);
    for (size_t i = 0; i < g->place_count; i++)
        if (watch_account(n, g->places[i].account_id, &g->places[i], err) < 0)
            return -1;
    return 0;
}

bool imap_notify_enable_metadata(struct imap_session *s)
{
    bool is_new = s->notify == NULL;

    if (is_new)
        s->notify = notify_new(s);
    if (watch_account(s->notify, s->account_id, NULL, NULL) == 0 &&
        watch_server(s->notify, NULL) == 0)
        return true;
    if (is_new)
        imap_notify_stop(s);
    return false;
}

/* --- what is wanted --------------------------------------------------------------------------- */

static bool is_at_or_below(struct str path, struct str top)
{
    return str_starts(path, top) && (path.n == top.n || path.p[top.n] == '/');
}

static bool names_path(const struct notify_group *g, int64_t account_id, struct str path)
{
    for (size_t i = 0; i < g->place_count; i++) {
        const struct imap_place *place = &g->places[i];

        if (place->account_id == account_id && path.n > 0 &&
            (g->filter == FILTER_SUBTREE ? is_at_or_below(path, place->path)
                                         : str_eq(path, place->path)))
            return true;
    }
    return false;
}

/* Who unsubscribes from a mailbox takes it out of FILTER_SUBSCRIBED, and is told of that. */
static bool is_in_group(const struct imap_session *s, const struct notify_group *g,
                        int64_t account_id, const struct mailbox_event *event)
{
    switch (g->filter) {
    case FILTER_PERSONAL:
        return account_id == s->account_id;
    case FILTER_SUBSCRIBED:
        return account_id == s->account_id &&
               (event->mailbox.is_subscribed || (event->kinds & EVENT_SUBSCRIPTION));
    case FILTER_SUBTREE:
    case FILTER_MAILBOXES:
        return names_path(g, account_id, event->mailbox.path) ||
               ((event->kinds & (EVENT_RENAMED | EVENT_MOVED)) &&
                names_path(g, account_id, event->old_path));
    case FILTER_SELECTED:
    case FILTER_SELECTED_DELAYED:
        break;
    }
    return false;
}

static unsigned wanted_events(const struct imap_session *s, int64_t account_id,
                              const struct mailbox_event *event)
{
    const struct imap_notify *n = s->notify;
    unsigned wanted = 0;

    if (n->is_used && !n->is_active)
        return 0;
    if ((s->enabled & IMAP_ENABLED_METADATA) && account_id == s->account_id)
        wanted = NOTIFY_METADATA;
    for (size_t i = 0; i < n->group_count; i++)
        if (is_in_group(s, &n->groups[i], account_id, event))
            wanted |= n->groups[i].events;
    if (s->view != NULL && s->selected.account_id == account_id &&
        s->selected.mailbox_id == event->mailbox.mailbox_id)
        wanted &= ~(unsigned)(NOTIFY_MESSAGES | NOTIFY_FLAGS);
    return wanted;
}

static bool wants_server(const struct imap_session *s)
{
    const struct imap_notify *n = s->notify;
    bool wanted = (s->enabled & IMAP_ENABLED_METADATA) != 0;

    for (size_t i = 0; i < n->group_count; i++)
        wanted = wanted || (n->groups[i].events & NOTIFY_SERVER_METADATA);
    return wanted && (n->is_active || !n->is_used);
}

/* --- the session's own doing ------------------------------------------------------------------ */

void imap_notify_did(struct imap_session *s, enum mailbox_event_kind kind,
                     const struct imap_place *place)
{
    if (s->notify == NULL)
        return;
    s->notify->doing.kind = kind;
    s->notify->doing.place = *place;
}

void imap_notify_did_annotate(struct imap_session *s, int64_t account_id,
                              const struct metadata_change *change)
{
    if (s->notify == NULL)
        return;
    s->notify->doing.annotated_account_id = account_id != 0 ? account_id : s->account_id;
    s->notify->doing.annotation_modseqs[0] = change->modseq;
    s->notify->doing.annotation_modseqs[1] = change->role_modseq;
    s->notify->doing.server_modseq = change->server_modseq;
}

void imap_notify_did_add(struct imap_session *s, struct mailbox_key mailbox, uint32_t from,
                         uint32_t to)
{
    struct imap_notify *n = s->notify;

    if (n == NULL || n->items.n == 0 || s->view == NULL ||
        mailbox.account_id != s->selected.account_id ||
        mailbox.mailbox_id != s->selected.mailbox_id)
        return;
    if (n->addition_count == OWN_ADDITIONS_MAX) {
        n->addition_count--;
        for (unsigned i = 0; i < n->addition_count; i++)
            n->additions[i] = n->additions[i + 1];
    }
    n->additions[n->addition_count++] = (struct own_addition){from, to};
}

/* What is left of an event. CREATE and RENAME also make what is missing above, and change what the
 * mailbox above has below it. */
static unsigned without_own_doing(const struct own_doing *doing, int64_t account_id,
                                  const struct mailbox_event *event)
{
    struct str path = event->mailbox.path;

    if (doing->kind == 0 || doing->place.account_id != account_id)
        return event->kinds;
    if (str_eq(path, doing->place.path))
        return event->kinds & ~(unsigned)doing->kind;
    if (doing->kind != EVENT_SUBSCRIPTION && is_at_or_below(doing->place.path, path))
        return event->kinds & ~(unsigned)(EVENT_CREATED | EVENT_CHILDREN);
    return event->kinds;
}

static bool is_own_annotation(const struct own_doing *doing, int64_t account_id, uint64_t modseq)
{
    if (account_id == METADATA_SERVER_ACCOUNT)
        return modseq == doing->server_modseq;
    return account_id == doing->annotated_account_id &&
           (modseq == doing->annotation_modseqs[0] || modseq == doing->annotation_modseqs[1]);
}

/* --- others' mailboxes ------------------------------------------------------------------------ */

static size_t visible_position(const struct watched_account *w, int64_t mailbox_id)
{
    size_t low = 0, high = w->visible_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (w->visible[middle] < mailbox_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_visible(const struct watched_account *w, int64_t mailbox_id)
{
    size_t at = visible_position(w, mailbox_id);

    return w->prefix.n == 0 || (at < w->visible_count && w->visible[at] == mailbox_id);
}

static void set_visible(struct watched_account *w, int64_t mailbox_id, bool visible)
{
    size_t at = visible_position(w, mailbox_id);

    if (visible == is_visible(w, mailbox_id))
        return;
    if (!visible) {
        memmove(w->visible + at, w->visible + at + 1,
                (--w->visible_count - at) * sizeof *w->visible);
        return;
    }
    w->visible = memory_resize(w->visible, (w->visible_count + 1) * sizeof *w->visible);
    memmove(w->visible + at + 1, w->visible + at, (w->visible_count++ - at) * sizeof *w->visible);
    w->visible[at] = mailbox_id;
}

static bool may_watch(unsigned rights)
{
    const unsigned needed = RIGHT_LOOKUP | RIGHT_READ; /* RFC 5465, 5 */

    return (rights & needed) == needed;
}

/* A right that is given makes a mailbox for this user, and one that is taken away removes it (RFC
 * 5465, 5.4). Of what they may not see, they hear nothing. */
static PARKS int take_rights(struct imap_session *s, struct watched_account *w,
                             struct mailbox_event *event, struct error *err)
{
    struct mailbox_key key = {w->account_id, event->mailbox.mailbox_id};
    bool was = is_visible(w, key.mailbox_id);
    unsigned rights = 0;

    if (w->prefix.n == 0)
        return 0;
    if (!was && !(event->kinds & (EVENT_CREATED | EVENT_RENAMED | EVENT_PROPERTIES))) {
        event->kinds = 0;
        return 0;
    }
    if (!(event->kinds & EVENT_REMOVED) && access_rights(s->account_id, key, &rights, NULL) < 0)
        return fail(err, ERR_LIMIT, "rights cannot be asked for"); /* what was taken is lost */
    set_visible(w, key.mailbox_id, may_watch(rights));
    event->kinds &= ~(unsigned)(EVENT_CHILDREN | EVENT_SUBSCRIPTION); /* the owner's */
    if (!may_watch(rights) && was && (event->kinds & (EVENT_RENAMED | EVENT_MOVED)))
        event->mailbox.path = event->old_path;
    if (!may_watch(rights))
        event->kinds = was ? EVENT_REMOVED : 0;
    else if (!was)
        event->kinds = EVENT_CREATED | EVENT_MESSAGES;
    return 0;
}

/* What the user may see in the accounts of others that are watched. */
static PARKS int find_visible(struct imap_session *s, struct imap_notify *n,
                              struct shared_mailbox **foreign, size_t *count, struct error *err)
{
    bool has_foreign = false;

    for (size_t i = 0; i < n->account_count; i++)
        has_foreign = has_foreign || n->accounts[i].prefix.n > 0;
    if (!has_foreign)
        return 0;
    if (access_list(s->arena, s->account_id, foreign, count, err) < 0)
        return -1;
    for (size_t i = 0; i < *count; i++)
        for (size_t j = 0; j < n->account_count; j++)
            if (n->accounts[j].account_id == (*foreign)[i].account_id)
                set_visible(&n->accounts[j], (*foreign)[i].mailbox->mailbox_id,
                            may_watch((*foreign)[i].mailbox->rights));
    return 0;
}

/* Those that were named and may be looked up, but not read (RFC 5465, 3.1). */
static PARKS void tell_no_access(struct imap_session *s, const struct shared_mailbox *v,
                                 size_t count)
{
    struct mailbox_event event = {0};
    struct buf out;

    buf_init(&out, SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        event.mailbox = *v[i].mailbox;
        if (may_watch(v[i].mailbox->rights) || wanted_events(s, v[i].account_id, &event) == 0)
            continue;
        buf_adds(&out, "* LIST (\\NoAccess) \"/\" ");
        imap_add_mailbox(s, &out, v[i].name);
        buf_adds(&out, "\r\n");
    }
    if (out.n > 0)
        imap_write_buf(s, &out);
    buf_fini(&out);
}

/* --- telling of mailboxes --------------------------------------------------------------------- */

static void add_word(struct buf *out, const char **gap, struct str word)
{
    buf_adds(out, *gap);
    buf_add(out, word);
    *gap = " ";
}

/* As this user writes it. */
static void add_name(const struct imap_session *s, struct buf *out, const struct watched_account *w,
                     struct str path)
{
    imap_add_mailbox(s, out, arena_printf(s->arena, "%.*s%.*s", STR_ARG(w->prefix), STR_ARG(path)));
}

/* Subscriptions, special uses and what is below are the owner's in another's account. */
static void add_attributes(struct buf *out, const struct watched_account *w,
                           const struct mailbox_event *event)
{
    const struct mailbox *m = &event->mailbox;
    const char *gap = "";

    if (event->kinds & EVENT_REMOVED) {
        add_word(out, &gap, STR("\\NonExistent"));
        return;
    }
    if (w->prefix.n > 0)
        return;
    add_word(out, &gap, m->has_children ? STR("\\HasChildren") : STR("\\HasNoChildren"));
    if (m->is_subscribed)
        add_word(out, &gap, STR("\\Subscribed"));
    if (imap_special_use(m->role).n > 0)
        add_word(out, &gap, imap_special_use(m->role));
}

static void add_list(const struct imap_session *s, struct buf *out, const struct watched_account *w,
                     const struct mailbox_event *event)
{
    buf_adds(out, "* LIST (");
    add_attributes(out, w, event);
    buf_adds(out, ") \"/\" ");
    add_name(s, out, w, event->mailbox.path);
    if (event->kinds & (EVENT_RENAMED | EVENT_MOVED)) {
        buf_adds(out, " (\"OLDNAME\" (");
        add_name(s, out, w, event->old_path);
        buf_adds(out, "))");
    }
    buf_adds(out, "\r\n");
}

/* The count of unseen messages in a row is the owner's. */
static void add_status(const struct imap_session *s, struct buf *out,
                       const struct watched_account *w, const struct mailbox *mailbox,
                       bool with_modseq)
{
    struct mailbox shown = *mailbox;

    shown.path = arena_printf(s->arena, "%.*s%.*s", STR_ARG(w->prefix), STR_ARG(mailbox->path));
    imap_add_status(s, out, &shown, imap_status_items_of_news(with_modseq, w->prefix.n == 0));
}

/* It went along with a renaming that the client was told of or did. Where only what is below may be
 * seen, or was asked for, it has to be told by itself. */
static bool went_along(const struct watched_account *w, const struct mailbox_event *event)
{
    for (size_t i = 0; i < w->renaming_count; i++)
        if (is_at_or_below(event->old_path, w->renamings[i]->old_path) &&
            is_at_or_below(event->mailbox.path, w->renamings[i]->mailbox.path))
            return true;
    return false;
}

static void leave_out_known_names(const struct imap_session *s, struct watched_account *w,
                                  struct mailbox_event *event, unsigned wanted)
{
    bool is_renamed = (event->kinds & EVENT_RENAMED) != 0;

    event->kinds = without_own_doing(&s->notify->doing, w->account_id, event);
    if (is_renamed && ((wanted & NOTIFY_NAMES) || !(event->kinds & EVENT_RENAMED)))
        w->renamings[w->renaming_count++] = event;
    if ((event->kinds & EVENT_MOVED) && went_along(w, event))
        event->kinds &= ~(unsigned)EVENT_MOVED;
}

static void add_event(const struct imap_session *s, struct buf *out, struct watched_account *w,
                      struct mailbox_event *event)
{
    const unsigned names =
        EVENT_CREATED | EVENT_REMOVED | EVENT_RENAMED | EVENT_MOVED | EVENT_CHILDREN;
    unsigned wanted = wanted_events(s, w->account_id, event);

    leave_out_known_names(s, w, event, wanted);
    if (((event->kinds & names) && (wanted & NOTIFY_NAMES)) ||
        ((event->kinds & EVENT_SUBSCRIPTION) && (wanted & NOTIFY_SUBSCRIPTIONS)))
        add_list(s, out, w, event);
    if (((event->kinds & EVENT_MESSAGES) && (wanted & NOTIFY_MESSAGES)) ||
        ((event->kinds & EVENT_FLAGS) && (wanted & NOTIFY_FLAGS)))
        add_status(s, out, w, &event->mailbox, (s->enabled & IMAP_ENABLED_CONDSTORE) != 0);
}

/* --- telling of annotations ------------------------------------------------------------------- */

static bool wants_annotation(const struct imap_session *s, const struct watched_account *w,
                             int64_t mailbox_id, struct mailbox *mailbox)
{
    struct mailbox_event event = {0};

    if (mailbox_id == 0) {
        mailbox->path = STR("");
        return w->account_id == s->account_id && wants_server(s);
    }
    if (!mailbox_watch_find(w->watch, s->arena, mailbox_id, mailbox) || !is_visible(w, mailbox_id))
        return false;
    event.mailbox = *mailbox;
    return (wanted_events(s, w->account_id, &event) & NOTIFY_METADATA) != 0;
}

/* v[] of one mailbox, or of the server: names only (RFC 5464, 4.4.2). */
static void add_annotations(const struct imap_session *s, struct buf *out, int64_t account_id,
                            struct str path, const struct annotation *v, size_t count)
{
    size_t start = out->n;
    bool has_any = false;

    buf_adds(out, "* METADATA ");
    imap_add_mailbox(s, out, path);
    for (size_t i = 0; i < count; i++) {
        if (is_own_annotation(&s->notify->doing, account_id, v[i].modseq))
            continue;
        buf_addc(out, ' ');
        imap_add_metadata_entry(out, v[i].entry);
        has_any = true;
    }
    buf_adds(out, "\r\n");
    if (!has_any)
        buf_truncate(out, start);
}

static void add_account_annotations(const struct imap_session *s, struct buf *out,
                                    const struct watched_account *w, const struct annotation *v,
                                    size_t count)
{
    struct mailbox mailbox;

    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && v[end].mailbox_id == v[i].mailbox_id;)
            end++;
        if (wants_annotation(s, w, v[i].mailbox_id, &mailbox))
            add_annotations(
                s, out, w->account_id,
                arena_printf(s->arena, "%.*s%.*s", STR_ARG(w->prefix), STR_ARG(mailbox.path)),
                v + i, end - i);
    }
}

/* --- sending ---------------------------------------------------------------------------------- */

/* RFC 5465, 5.8: as if NOTIFY NONE had come. */
static PARKS void overflow(struct imap_session *s)
{
    notify_free(&s->notify);
    s->notify = notify_new(s);
    s->notify->is_used = true;
    s->notify->selected_events = 0;
    imap_notify_watch_view(s);
    conn_write(s->conn, STR("* OK [NOTIFICATIONOVERFLOW] Too much happens to be told of\r\n"));
}

static PARKS int send_account(struct imap_session *s, struct watched_account *w, struct buf *out,
                              struct error *err)
{
    struct mailbox_event *events;
    struct annotation *annotations;
    size_t count;

    if (mailbox_watch_take(w->watch, s->arena, &events, &count, err) < 0)
        return -1;
    w->renamings = ARENA_ARRAY(s->arena, count + 1, struct mailbox_event *);
    w->renaming_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (take_rights(s, w, &events[i], err) < 0)
            return -1;
        add_event(s, out, w, &events[i]);
        if (out->n > WRITE_SIZE)
            imap_write_buf(s, out);
        fiber_pause();
    }
    if (mailbox_watch_take_annotations(w->watch, s->arena, s->account_id, &annotations, &count,
                                       err) < 0)
        return -1;
    add_account_annotations(s, out, w, annotations, count);
    return 0;
}

static PARKS int send_server(struct imap_session *s, struct buf *out, struct error *err)
{
    struct imap_notify *n = s->notify;
    struct annotation *v;
    size_t count;

    if (!n->has_server_news)
        return 0;
    n->has_server_news = false;
    if (metadata_changed(s->arena, METADATA_SERVER_ACCOUNT, 0, n->server_modseq, INT64_MAX, &v,
                         &count, err) < 0) {
        n->has_server_news = true;
        return -1;
    }
    for (size_t i = 0; i < count; i++)
        if (v[i].modseq > n->server_modseq)
            n->server_modseq = v[i].modseq;
    if (count > 0 && wants_server(s))
        add_annotations(s, out, METADATA_SERVER_ACCOUNT, STR(""), v, count);
    return 0;
}

static PARKS int send_all(struct imap_session *s, struct buf *out, struct error *err)
{
    for (size_t i = 0; i < s->notify->account_count; i++)
        if (send_account(s, &s->notify->accounts[i], out, err) < 0)
            return -1;
    return send_server(s, out, err);
}

/* A database that is away delays news; what was taken has been told. */
void imap_notify_send(struct imap_session *s)
{
    struct error err = {0};
    struct buf out;

    if (s->notify == NULL)
        return;
    buf_init(&out, SIZE_MAX);
    (void)send_all(s, &out, &err);
    if (out.n > 0)
        imap_write_buf(s, &out);
    buf_fini(&out);
    s->notify->doing = (struct own_doing){0};
    if (err.kind == ERR_LIMIT || err.kind == ERR_NOT_FOUND)
        overflow(s);
}

/* --- new messages of the selected mailbox ----------------------------------------------------- */

static bool is_own_addition(const struct imap_notify *n, uint32_t uid)
{
    for (unsigned i = 0; i < n->addition_count; i++)
        if (uid >= n->additions[i].from && uid <= n->additions[i].to)
            return true;
    return false;
}

static struct imap_set arrivals(const struct imap_session *s, uint32_t from_seq)
{
    uint32_t count = view_count(s->view);
    struct imap_set set = {.v = ARENA_ARRAY(s->arena, count - from_seq + 2, struct imap_range)};

    for (uint32_t seq = from_seq; seq <= count; seq++) {
        if (is_own_addition(s->notify, view_uid(s->view, seq)))
            continue;
        if (set.n > 0 && set.v[set.n - 1].to + 1 == seq)
            set.v[set.n - 1].to = seq;
        else
            set.v[set.n++] = (struct imap_range){seq, seq};
    }
    return set;
}

void imap_notify_send_arrivals(struct imap_session *s, uint32_t from_seq)
{
    struct imap_notify *n = s->notify;
    struct imap_set set;

    if (n == NULL || n->items.n == 0 || s->view == NULL || from_seq > view_count(s->view))
        return;
    set = arrivals(s, from_seq);
    n->addition_count = 0;
    if (set.n > 0)
        (void)imap_fetch_unasked(s, n->items, set, NULL);
}

/* --- NOTIFY ----------------------------------------------------------------------------------- */

static void *take(char **at, size_t size)
{
    void *p = *at;

    *at += (size + _Alignof(max_align_t) - 1) / _Alignof(max_align_t) * _Alignof(max_align_t);
    return p;
}

static struct str take_text(char **at, struct str text)
{
    char *p = take(at, text.n + 1);

    if (text.n > 0)
        memcpy(p, text.p, text.n);
    p[text.n] = '\0';
    return str_of(p, text.n);
}

static size_t packed_size(const struct notify_request *r)
{
    const size_t slack = _Alignof(max_align_t);
    size_t size = r->group_count * sizeof *r->groups + r->items.n + 2 * slack + 1;

    for (size_t i = 0; i < r->group_count; i++) {
        size += r->groups[i].place_count * sizeof(struct imap_place) + slack;
        for (size_t j = 0; j < r->groups[i].place_count; j++)
            size += r->groups[i].places[j].path.n + r->groups[i].places[j].name.n + 2 + 2 * slack;
    }
    return size;
}

/* A session may rest with this for weeks, so it is one block of just the size it needs. */
static void keep_request(struct imap_notify *n, const struct notify_request *r)
{
    char *at = memory_alloc(packed_size(r));

    n->groups = take(&at, r->group_count * sizeof *r->groups);
    n->group_count = r->group_count;
    for (size_t i = 0; i < r->group_count; i++) {
        const struct notify_group *from = &r->groups[i];
        struct notify_group *to = &n->groups[i];

        *to = *from;
        to->places = take(&at, from->place_count * sizeof *to->places);
        for (size_t j = 0; j < from->place_count; j++) {
            to->places[j] = from->places[j];
            to->places[j].path = take_text(&at, from->places[j].path);
            to->places[j].name = take_text(&at, from->places[j].name);
        }
    }
    n->items = take_text(&at, r->items);
    n->is_used = n->is_active = true;
    n->is_delayed = r->is_delayed;
    n->selected_events = r->selected_events;
}

static PARKS int watch_all(struct imap_notify *n, struct error *err)
{
    bool has_metadata = (n->session->enabled & IMAP_ENABLED_METADATA) != 0;

    if (has_metadata &&
        (watch_account(n, n->session->account_id, NULL, err) < 0 || watch_server(n, err) < 0))
        return -1;
    for (size_t i = 0; i < n->group_count; i++)
        if (watch_group(n, &n->groups[i], err) < 0)
            return -1;
    return 0;
}

/* RFC 5465, 3.1: with STATUS, the numbers of every mailbox whose messages are watched. */
static PARKS void tell_statuses(struct imap_session *s, const struct watched_account *w)
{
    struct mailbox_event event = {0};
    struct mailbox *v;
    struct buf out;
    size_t count;

    buf_init(&out, SIZE_MAX);
    v = mailbox_watch_all(w->watch, s->arena, &count);
    for (size_t i = 0; i < count; i++) {
        unsigned wanted;

        if (!is_visible(w, v[i].mailbox_id))
            continue;
        event.mailbox = v[i];
        wanted = wanted_events(s, w->account_id, &event);
        if (wanted & (NOTIFY_MESSAGES | NOTIFY_FLAGS))
            add_status(s, &out, w, &v[i],
                       (wanted & NOTIFY_FLAGS) || (s->enabled & IMAP_ENABLED_CONDSTORE));
        if (out.n > WRITE_SIZE)
            imap_write_buf(s, &out);
    }
    if (out.n > 0)
        imap_write_buf(s, &out);
    buf_fini(&out);
}

/* The new set takes over only when all of it can be watched, and after the old one has told what
 * it heard. */
static PARKS int notify_set(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct notify_request request;
    struct shared_mailbox *foreign = NULL;
    struct imap_notify *n;
    size_t foreign_count = 0;

    if (imap_parse_notify(s, c, &request, err) < 0)
        return -1;
    n = notify_new(s);
    keep_request(n, &request);
    if (watch_all(n, err) < 0 || find_visible(s, n, &foreign, &foreign_count, err) < 0) {
        if (err->kind == ERR_LIMIT)
            c->refusal = "NOTIFICATIONOVERFLOW";
        notify_free(&n);
        return -1;
    }
    imap_notify_send(s);
    notify_free(&s->notify);
    s->notify = n;
    imap_notify_watch_view(s);
    tell_no_access(s, foreign, foreign_count);
    if (request.wants_modseq)
        imap_enable_condstore(s);
    imap_updates_send_all(s);
    for (size_t i = 0; request.wants_status && i < n->account_count; i++)
        tell_statuses(s, &n->accounts[i]);
    return 0;
}

static PARKS int notify_none(struct imap_session *s, struct imap_command *c, struct error *err)
{
    if (imap_parse_end(&c->args, err) < 0)
        return -1;
    notify_free(&s->notify);
    s->notify = notify_new(s);
    s->notify->is_used = true;
    s->notify->selected_events = 0;
    imap_notify_watch_view(s);
    return 0;
}

int imap_cmd_notify(struct imap_session *s, struct imap_command *c, struct error *err)
{
    if (imap_parse_word(&c->args, STR("NONE")))
        return notify_none(s, c, err);
    if (!imap_parse_word(&c->args, STR("SET")))
        return imap_parse_expected(&c->args, "SET or NONE", err);
    return notify_set(s, c, err);
}
