/* smtp_milter_submit.c - a submission as the milters want it: what they said about a message, done.
 *
 * Addresses that a milter names are read as strictly as a client's, for they go into commands and fields. One that cannot be
 * used is the filter's mistake: the sender is asked to try again, so that nothing is lost until somebody mends it. */
#include "mail/smtp/smtp_milter.h"

#include "mail/mime/address_path.h"
#include "server/directory/routing.h"

static int bad_address(struct smtp_session *s, struct str address, const struct error *why,
                       struct error *err)
{
    log_error(&s->log, "milter_address_unusable", KV("address", str_head(address, 300)),
              KV_ERR(why));
    return fail(
        err, ERR_TRY_LATER,
        "a filter of this server names an address that cannot be used; tell its postmaster");
}

/* prefix: "FROM:" or "TO:". */
static int read_address(struct smtp_session *s, const char *prefix, struct str address,
                        struct smtp_path *path, struct error *err)
{
    struct str line = arena_printf(s->tx_arena, "%s<%.*s>", prefix, STR_ARG(address));
    struct smtp_params params;
    struct error why = {0};

    if (smtp_parse_path(s->tx_arena, line, str_c(prefix), path, &params, &why) < 0)
        return bad_address(s, address, &why, err);
    return 0;
}

static int change_sender(struct smtp_session *s, struct str sender, struct submit *m,
                         struct error *err)
{
    struct smtp_path path;

    if (read_address(s, "FROM:", sender, &path, err) < 0)
        return -1;
    m->sender = address_path_of(s->tx_arena, path.local, path.domain);
    m->return_path = arena_printf(s->tx_arena, "Return-Path: <%.*s>\r\n", STR_ARG(m->sender));
    return 0;
}

/* ---- recipients -------------------------------------------------------------------------------------- */

/* A filter is the administrator's: it may send anywhere, and post to any group. */
static int find_routes(struct smtp_session *s, const struct submit *m, const struct smtp_path *path,
                       struct routes *found, struct error *err)
{
    struct routing_sender from = {m->sender, m->account_id, true};
    struct error why = {0};

    if (path->domain.n > 0 && path->domain.p[0] != '[' &&
        directory_route(s->tx_arena, path->local, path->domain, &from, found, &why) == 0)
        return 0;
    if (why.kind == ERR_TRY_LATER || why.kind == ERR_CANCELLED || why.kind == ERR_TIMED_OUT)
        return fail(err, why.kind, "%s", why.text);
    if (path->domain.n == 0 || (why.kind != ERR_NONE && why.kind != ERR_UNSUPPORTED))
        return bad_address(s, path->local, &why, err);
    found->n = 1;
    found->v =
        submit_route_away(s->tx_arena, arena_printf(s->tx_arena, "%.*s@%.*s", STR_ARG(path->local),
                                                    STR_ARG(path->domain)));
    return 0;
}

static int add_recipient(struct smtp_session *s, struct submit *m, struct str address,
                         struct error *err)
{
    struct routes found = {0};
    struct smtp_path path;

    if (read_address(s, "TO:", address, &path, err) < 0 ||
        find_routes(s, m, &path, &found, err) < 0)
        return -1;
    m->rcpts[m->rcpt_count++] = (struct submit_recipient){
        .address = address_path_of(s->tx_arena, path.local, path.domain),
        .routes = found.v,
        .route_count = found.n,
        .is_group = found.is_group,
    };
    trace_event(s->tx.trace_id, TRACE_VERDICT, m->rcpts[m->rcpt_count - 1].address,
                STR("a filter added the recipient"));
    return 0;
}

static bool is_removed(const struct smtp_milter_result *r, struct str address)
{
    for (size_t i = 0; i < r->removed_count; i++)
        if (str_eq(r->removed[i], address))
            return true;
    return false;
}

static int change_recipients(struct smtp_session *s, const struct smtp_milter_result *r,
                             struct submit *m, struct error *err)
{
    struct submit_recipient *old = m->rcpts;
    size_t old_count = m->rcpt_count;

    if (r->added_count == 0 && r->removed_count == 0)
        return 0;
    m->rcpts = ARENA_ARRAY(s->tx_arena, old_count + r->added_count, struct submit_recipient);
    m->rcpt_count = 0;
    for (size_t i = 0; i < old_count; i++) {
        if (is_removed(r, old[i].address))
            trace_event(s->tx.trace_id, TRACE_VERDICT, old[i].address,
                        STR("a filter removed the recipient"));
        else
            m->rcpts[m->rcpt_count++] = old[i];
    }
    for (size_t i = 0; i < r->added_count; i++)
        if (add_recipient(s, m, r->added[i], err) < 0)
            return -1;
    return 0;
}

/* ---- the whole ---------------------------------------------------------------------------------------- */

/* The client hears that it was taken, and the trace tells the truth. */
static int discard(struct smtp_session *s, const struct submit *m)
{
    smtp_trace_refused(s, m->message, STR("a filter threw it away"));
    log_info(&s->log, "message_discarded", KV("id", s->tx.trace_text), KV("from", s->tx.sender));
    smtp_reply(s, 250, "2.0.0", "%s accepted", s->tx.trace_text);
    return 1;
}

static int refuse(struct smtp_session *s, const struct submit *m,
                  const struct smtp_milter_result *r)
{
    smtp_trace_refused(s, m->message, r->text);
    smtp_reply(s, r->code, r->enhanced.p, "%.*s", STR_ARG(r->text));
    return 1;
}

static int change(struct smtp_session *s, const struct smtp_milter_result *r, struct submit *m,
                  struct error *err)
{
    m->message = r->message;
    m->room_size = r->room_size;
    if (r->is_sender_changed && change_sender(s, r->sender, m, err) < 0)
        return -1;
    if (change_recipients(s, r, m, err) < 0)
        return -1;
    if (r->quarantine.n > 0)
        m->held = r->quarantine;
    return 0;
}

PARKS int smtp_milter_submit(struct smtp_session *s, struct submit *m, struct error *err)
{
    struct smtp_milter_result r = {.message = m->message, .room_size = m->room_size};

    if (smtp_milter_message(s, &r, err) < 0)
        return -1;
    if (r.code != 0)
        return refuse(s, m, &r);
    if (r.is_discarded)
        return discard(s, m);
    if (change(s, &r, m, err) < 0)
        return -1;
    return m->rcpt_count == 0 ? discard(s, m) : 0;
}
