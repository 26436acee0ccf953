/* imap_list.c - LIST and LSUB.
 *
 * Every level of the store's hierarchy exists, so LIST never has to invent a parent; LSUB does,
 * for parents that are not subscribed themselves. The account's mailboxes are read once, in one
 * set. */
#include "mail/imap/imap_capability.h"
#include "mail/imap/imap_list_parse.h"
#include "mail/imap/imap_mailbox.h"
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_metadata.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_session.h"
#include "mail/imap/imap_status.h"
#include "mail/store/mailbox.h"
#include "server/base/map.h"

struct list_run {
    struct imap_session *s;
    const struct imap_list_request *request;
    struct map *ancestors; /* paths above a selected mailbox; NULL: not asked for */
    struct imap_metadata metadata;
    struct buf out;
};

static bool is_selected(const struct imap_list_request *r, const struct mailbox *m)
{
    if (r->select_subscribed && !m->is_subscribed)
        return false;
    return !r->select_special_use || imap_special_use(m->role).n > 0;
}

static bool matches(const struct imap_list_request *r, const struct mailbox *m)
{
    for (size_t i = 0; i < r->pattern_count; i++)
        if (imap_pattern_matches(r->patterns[i], m->path))
            return true;
    return false;
}

static void find_ancestors(struct list_run *run, const struct mailbox *v, size_t count)
{
    run->ancestors = map_new();
    for (size_t i = 0; i < count; i++)
        for (size_t at = 0; is_selected(run->request, &v[i]) && at < v[i].path.n; at++)
            if (v[i].path.p[at] == '/')
                map_put(run->ancestors, str_head(v[i].path, at), run);
}

static bool is_ancestor(const struct list_run *run, const struct mailbox *m)
{
    return run->ancestors != NULL && map_get(run->ancestors, m->path) != NULL;
}

static void add_attributes(struct list_run *run, const struct mailbox *m)
{
    struct str use = imap_special_use(m->role);

    buf_adds(&run->out, m->has_children ? "\\HasChildren" : "\\HasNoChildren");
    if (run->request->return_subscribed && m->is_subscribed)
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

static void add_list_line(struct list_run *run, const struct mailbox *m)
{
    uint64_t longest = 0;

    buf_adds(&run->out, "* LIST (");
    add_attributes(run, m);
    buf_adds(&run->out, ") \"/\" ");
    imap_add_mailbox(run->s, &run->out, m->path);
    if (is_ancestor(run, m))
        add_child_info(run);
    buf_adds(&run->out, "\r\n");
    if (run->request->return_status)
        imap_add_status(run->s, &run->out, m, run->request->status_items);
    if (run->request->return_metadata)
        imap_add_metadata(run->s, &run->out, m->path, m, &run->metadata, &longest);
}

static void add_lsub_line(struct list_run *run, const struct mailbox *m)
{
    buf_adds(&run->out, m->is_subscribed ? "* LSUB () \"/\" " : "* LSUB (\\Noselect) \"/\" ");
    imap_add_mailbox(run->s, &run->out, m->path);
    buf_adds(&run->out, "\r\n");
}

static PARKS int list_all(struct list_run *run, bool want_ancestors,
                          void (*add)(struct list_run *, const struct mailbox *), struct error *err)
{
    struct mailbox *v;
    size_t count;

    if (mailbox_list(run->s->arena, run->s->account_id, &v, &count, err) < 0)
        return -1;
    if (run->request->return_status &&
        imap_status_wants_deleted_bytes(run->request->status_items) &&
        mailbox_count_deleted(run->s->account_id, v, count, err) < 0)
        return -1;
    run->metadata.query = run->request->metadata;
    if (run->request->return_metadata &&
        imap_metadata_read(run->s, run->s->account_id, v, count, &run->metadata, err) < 0)
        return -1;
    buf_init(&run->out, SIZE_MAX);
    if (want_ancestors)
        find_ancestors(run, v, count);
    for (size_t i = 0; i < count; i++) {
        if (matches(run->request, &v[i]) &&
            (is_selected(run->request, &v[i]) || is_ancestor(run, &v[i])))
            add(run, &v[i]);
        if (run->out.n > 32768)
            imap_write_buf(run->s, &run->out);
        fiber_pause();
    }
    imap_write_buf(run->s, &run->out);
    buf_fini(&run->out);
    if (run->ancestors != NULL)
        map_free(&run->ancestors);
    return 0;
}

int imap_cmd_list(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_list_request *request = ARENA_NEW(s->arena, struct imap_list_request);
    struct list_run run = {.s = s, .request = request};

    if (imap_parse_list(&c->args, s->arena, imap_has_utf8(s), request, err) < 0)
        return -1;
    if (request->is_root_query) {
        conn_write(s->conn, STR("* LIST (\\Noselect) \"/\" \"\"\r\n"));
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
