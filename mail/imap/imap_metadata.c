/* imap_metadata.c - GETMETADATA and SETMETADATA (RFC 5464).
 *
 * Two entries are computed: /private/specialuse is the mailbox's role (RFC 6154, 4), which
 * SETMETADATA changes, and /shared/admin of the server is where administrators are reached. An
 * entry that was named and has no value is told as NIL, unless DEPTH asks for what is below it. */
#include "mail/imap/imap_metadata.h"

#include "mail/imap/imap_mailbox.h"
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_metadata_parse.h"
#include "mail/imap/imap_notify.h"
#include "mail/imap/imap_reply.h"
#include "server/base/log.h"
#include "server/directory/directory.h"
#include "server/run/config.h"

#define SPECIAL_USE STR("/private/specialuse")
#define ADMIN       STR("/shared/admin")

/* --- answers ---------------------------------------------------------------------------------- */

void imap_add_metadata_entry(struct buf *out, struct str entry)
{
    bool is_atom = true;

    for (size_t i = 0; i < entry.n; i++)
        is_atom = is_atom && imap_is_atom_char(entry.p[i]);
    if (is_atom)
        buf_add(out, entry);
    else
        imap_add_quoted(out, entry);
}

static void add_value(struct buf *out, struct str value)
{
    if (value.p == NULL) {
        buf_adds(out, "NIL");
    } else if (value.n > 0 && memchr(value.p, '\0', value.n) != NULL) {
        buf_addf(out, "~{%zu}\r\n", value.n);
        buf_add(out, value);
    } else {
        imap_add_string(out, value);
    }
}

/* A METADATA line that may turn out empty. */
struct line {
    struct buf *out;
    const struct metadata_query *query;
    size_t start;
    bool has_any;
    uint64_t longest;
};

static void line_begin(struct line *l, const struct imap_session *s, struct str name)
{
    l->start = l->out->n;
    buf_adds(l->out, "* METADATA ");
    imap_add_mailbox(s, l->out, name);
    buf_adds(l->out, " (");
}

static void line_add(struct line *l, struct str entry, struct str value)
{
    if (l->has_any)
        buf_addc(l->out, ' ');
    l->has_any = true;
    imap_add_metadata_entry(l->out, entry);
    buf_addc(l->out, ' ');
    add_value(l->out, value);
}

static void line_add_found(struct line *l, const struct annotation *v)
{
    if (v->size <= l->query->size_max)
        line_add(l, v->entry, v->value);
    else if (v->size > l->longest)
        l->longest = v->size;
}

static void line_end(struct line *l)
{
    if (l->has_any)
        buf_adds(l->out, ")\r\n");
    else
        buf_truncate(l->out, l->start);
}

static const struct annotation *find_entry(const struct annotation *v, size_t count,
                                           struct str entry)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(v[i].entry, entry))
            return &v[i];
    return NULL;
}

static bool is_asked(const struct metadata_query *query, struct str entry)
{
    for (size_t i = 0; i < query->name_count; i++)
        if (metadata_entry_matches(entry, query->names[i], query->depth))
            return true;
    return false;
}

/* v[] holds everything found of one mailbox or of the server, computed entries too. */
static void line_add_all(struct line *l, const struct annotation *v, size_t count)
{
    if (l->query->depth != 0) {
        for (size_t i = 0; i < count; i++)
            line_add_found(l, &v[i]);
        return;
    }
    for (size_t i = 0; i < l->query->name_count; i++) {
        const struct annotation *found = find_entry(v, count, l->query->names[i]);

        if (found != NULL)
            line_add_found(l, found);
        else
            line_add(l, l->query->names[i], STR_NULL);
    }
}

static struct annotation computed(struct str entry, struct str value)
{
    return (struct annotation){.entry = entry, .value = value, .size = value.n};
}

/* --- mailboxes -------------------------------------------------------------------------------- */

int imap_metadata_read(struct imap_session *s, int64_t account_id, const struct mailbox *v,
                       size_t count, struct imap_metadata *out, struct error *err)
{
    int64_t *ids = ARENA_ARRAY(s->arena, count + 1, int64_t);

    out->account_id = account_id;
    for (size_t i = 0; i < count; i++)
        ids[i] = v[i].mailbox_id;
    return metadata_find(s->arena, account_id, ids, count, s->account_id, &out->query, &out->v,
                         &out->count, err);
}

static const struct annotation *first_of(const struct imap_metadata *found, int64_t mailbox_id)
{
    size_t low = 0, high = found->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (found->v[middle].mailbox_id < mailbox_id)
            low = middle + 1;
        else
            high = middle;
    }
    return found->v + low;
}

void imap_add_metadata(const struct imap_session *s, struct buf *out, struct str name,
                       const struct mailbox *mailbox, const struct imap_metadata *found,
                       uint64_t *longest)
{
    const struct annotation *first = first_of(found, mailbox->mailbox_id), *v = first;
    struct line l = {.out = out, .query = &found->query};
    struct str use = imap_special_use(mailbox->role);
    struct annotation *all;
    size_t count;

    while (v < found->v + found->count && v->mailbox_id == mailbox->mailbox_id)
        v++;
    count = (size_t)(v - first);
    all = ARENA_ARRAY(s->arena, count + 1, struct annotation);
    for (size_t i = 0; i < count; i++)
        all[i] = first[i];
    if (use.n > 0 && found->account_id == s->account_id && is_asked(&found->query, SPECIAL_USE))
        all[count++] = computed(SPECIAL_USE, use);
    line_begin(&l, s, name);
    line_add_all(&l, all, count);
    line_end(&l);
    *longest = l.longest > *longest ? l.longest : *longest;
}

static PARKS int get_mailbox(struct imap_session *s, const struct imap_place *place,
                             const struct mailbox *mailbox, const struct metadata_query *query,
                             struct buf *out, uint64_t *longest, struct error *err)
{
    struct imap_metadata found = {.query = *query};

    if (imap_metadata_read(s, place->account_id, mailbox, 1, &found, err) < 0)
        return -1;
    imap_add_metadata(s, out, place->name, mailbox, &found, longest);
    return 0;
}

/* --- the server ------------------------------------------------------------------------------- */

/* Mail to postmaster of any of our domains reaches somebody. */
static PARKS int admin_uri(struct imap_session *s, struct str *out, struct error *err)
{
    struct account account;
    struct str local, domain;

    *out = str_c(config.imap_admin_uri);
    if (out->n > 0)
        return 0;
    if (directory_get_account(s->arena, s->account_id, &account, err) < 0)
        return -1;
    str_rcut(account.address, '@', &local, &domain);
    *out = arena_printf(s->arena, "mailto:postmaster@%.*s", STR_ARG(domain));
    return 0;
}

static PARKS int get_server(struct imap_session *s, const struct metadata_query *query,
                            struct buf *out, uint64_t *longest, struct error *err)
{
    struct line l = {.out = out, .query = query};
    struct annotation *v;
    struct str uri;
    size_t count;

    if (metadata_find_server(s->arena, s->account_id, query, &v, &count, err) < 0)
        return -1;
    if (is_asked(query, ADMIN)) {
        if (admin_uri(s, &uri, err) < 0)
            return -1;
        v[count++] = computed(ADMIN, uri);
    }
    line_begin(&l, s, STR(""));
    line_add_all(&l, v, count);
    line_end(&l);
    *longest = l.longest;
    return 0;
}

/* --- GETMETADATA ------------------------------------------------------------------------------ */

/* The empty name is the server: *is_server, and nothing else is set. */
static PARKS int parse_target(struct imap_session *s, struct imap_command *c, bool *is_server,
                              struct imap_place *place, struct error *err)
{
    struct imap_parser ahead = c->args;
    struct str name;

    *is_server =
        imap_parse_astring(&ahead, s->arena, &name, "a mailbox name", NULL) == 0 && name.n == 0;
    if (!*is_server)
        return imap_parse_mailbox(s, c, place, err);
    c->args = ahead;
    return 0;
}

/* The syntax of the RFC has options before the mailbox, its examples behind it; both are sent. */
static PARKS int parse_get(struct imap_session *s, struct imap_command *c, bool *is_server,
                           struct imap_place *place, struct metadata_query *query,
                           struct error *err)
{
    struct imap_parser *p = &c->args;

    *query = (struct metadata_query){.size_max = UINT64_MAX};
    if (imap_metadata_at_options(p) &&
        (imap_parse_metadata_options(p, query, err) < 0 || imap_parse_space(p, err) < 0))
        return -1;
    if (parse_target(s, c, is_server, place, err) < 0 || imap_parse_space(p, err) < 0)
        return -1;
    if (imap_metadata_at_options(p) &&
        (imap_parse_metadata_options(p, query, err) < 0 || imap_parse_space(p, err) < 0))
        return -1;
    return imap_parse_metadata_entries(p, s->arena, query, err) < 0 ? -1 : imap_parse_end(p, err);
}

int imap_cmd_getmetadata(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct metadata_query query;
    struct imap_place place;
    struct mailbox mailbox;
    uint64_t longest = 0;
    struct buf out;
    bool is_server;
    int status;

    if (parse_get(s, c, &is_server, &place, &query, err) < 0)
        return -1;
    if (!is_server && imap_find_mailbox(s, c, &place, RIGHT_READ, &mailbox, err) < 0)
        return -1;
    buf_init(&out, SIZE_MAX);
    status = is_server ? get_server(s, &query, &out, &longest, err)
                       : get_mailbox(s, &place, &mailbox, &query, &out, &longest, err);
    if (status == 0 && out.n > 0)
        imap_write_buf(s, &out);
    buf_fini(&out);
    if (longest > 0)
        c->code = arena_printf(s->arena, "METADATA LONGENTRIES %llu", (unsigned long long)longest);
    return status;
}

/* --- SETMETADATA ------------------------------------------------------------------------------ */

static bool sets_shared(const struct annotation *v, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (str_starts(v[i].entry, STR("/shared/")))
            return true;
    return false;
}

static PARKS int check_server_rights(struct imap_session *s, const struct metadata_change *change,
                                     struct error *err)
{
    struct account user;

    if (find_entry(change->v, change->count, ADMIN) != NULL)
        return fail(err, ERR_DENIED, "/shared/admin cannot be changed");
    if (!sets_shared(change->v, change->count))
        return 0;
    if (directory_get_account(s->arena, s->account_id, &user, err) < 0)
        return -1;
    return user.is_administrator
               ? 0
               : fail(err, ERR_DENIED, "only administrators change shared entries of the server");
}

/* "\Sent", as SETMETADATA has it. */
static int parse_use(struct imap_session *s, struct imap_command *c, struct str value,
                     struct str *role, struct error *err)
{
    *role = STR("");
    if (str_trim(value).n == 0)
        return 0;
    if (imap_special_role(str_trim(value), role))
        return 0;
    c->refusal = "USEATTR";
    return fail(err, ERR_UNSUPPORTED, "no mailbox can have this special use");
}

/* Takes /private/specialuse out of the entries: it is a role. */
static int take_special_use(struct imap_session *s, struct imap_command *c,
                            const struct imap_place *place, struct annotation *v,
                            struct metadata_change *change, struct error *err)
{
    for (size_t i = 0; i < change->count; i++) {
        struct str value = v[i].value;

        if (!str_eq(v[i].entry, SPECIAL_USE))
            continue;
        if (!imap_place_is_own(s, place))
            return fail(err, ERR_DENIED, "this mailbox is another's, and so are its special uses");
        change->sets_role = true;
        v[i] = v[--change->count];
        return parse_use(s, c, value, &change->role, err);
    }
    return 0;
}

static int refuse(struct imap_session *s, struct imap_command *c, const struct error *err)
{
    if (err->kind == ERR_TOO_BIG)
        c->refusal = arena_c(
            s->arena, arena_printf(s->arena, "METADATA MAXSIZE %d", METADATA_VALUE_SIZE_MAX));
    else if (err->kind == ERR_LIMIT)
        c->refusal = "METADATA TOOMANY";
    return -1;
}

/* RFC 6154, 5.4: who lost the special use is told at once. */
static void tell_loser(struct imap_session *s, struct str path)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_adds(&out, "* METADATA ");
    imap_add_mailbox(s, &out, path);
    buf_adds(&out, " (/private/specialuse NIL)\r\n");
    imap_write_buf(s, &out);
    buf_fini(&out);
}

static PARKS int find_target(struct imap_session *s, struct imap_command *c,
                             const struct imap_place *place, const struct metadata_change *change,
                             struct mailbox_key *key, struct error *err)
{
    unsigned rights =
        RIGHT_READ | (sets_shared(change->v, change->count) ? (unsigned)RIGHT_WRITE : 0);
    struct mailbox mailbox;

    if (imap_find_mailbox(s, c, place, rights, &mailbox, err) < 0)
        return -1;
    *key = imap_mailbox_key(place, &mailbox);
    return 0;
}

int imap_cmd_setmetadata(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct metadata_change change = {0};
    struct mailbox_key key = {0};
    struct imap_place place;
    struct annotation *v;
    bool is_server;

    if (parse_target(s, c, &is_server, &place, err) < 0 || imap_parse_space(&c->args, err) < 0 ||
        imap_parse_metadata_values(&c->args, s->arena, &v, &change.count, err) < 0 ||
        imap_parse_end(&c->args, err) < 0)
        return -1;
    change.v = v;
    if (is_server && check_server_rights(s, &change, err) < 0)
        return -1;
    if (!is_server && (find_target(s, c, &place, &change, &key, err) < 0 ||
                       take_special_use(s, c, &place, v, &change, err) < 0))
        return -1;
    if (metadata_set(s->arena, key, s->account_id, &change, err) < 0)
        return refuse(s, c, err);
    if (change.loser.n > 0)
        tell_loser(s, change.loser);
    if (change.server_modseq > 0)
        log_info(conn_log(s->conn), "server_metadata_set", KV("entries", change.count));
    imap_notify_did_annotate(s, key.account_id, &change);
    return 0;
}
