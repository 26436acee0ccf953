/* imap_session.c - the life of a session: greeting, one command per round, goodbye.
 *
 * The step owns control flow. Which command is legal when is in imap_verbs.c, what it does in
 * its own file, and what a client is told before the tagged OK in imap_updates.c. */
#include "mail/imap/imap_session.h"

#include <stdlib.h>

#include "mail/imap/imap.h"
#include "mail/imap/imap_capability.h"
#include "mail/imap/imap_command.h"
#include "mail/imap/imap_idle.h"
#include "mail/imap/imap_notify.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_rights.h"
#include "mail/imap/imap_select.h"
#include "mail/imap/imap_updates.h"
#include "server/base/log.h"
#include "server/base/object.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"

#define IMAP_SESSION_MAGIC 0x1a9f60e3u

/* --- one command ------------------------------------------------------------------------------ */

/* RFC 9586, 3: what has a UID form takes sequence numbers without it. */
static int check_uidonly(const struct imap_session *s, struct imap_command *c, struct error *err)
{
    if (!imap_is_uidonly(s) || c->by_uid || !(c->verb->flags & VERB_HAS_UID_FORM))
        return 0;
    c->complaint = "UIDREQUIRED";
    return fail(err, ERR_SYNTAX, "UIDONLY is enabled: use UID %s", c->verb->name);
}

static int check_verb(const struct imap_session *s, struct imap_command *c, struct error *err)
{
    const struct imap_verb *verb = c->verb;

    if (verb == NULL)
        return fail(err, ERR_SYNTAX, "unknown command");
    if (verb->phases & 1u << s->phase)
        return check_uidonly(s, c, err);
    if (s->phase == IMAP_NEW)
        return fail(err, ERR_SYNTAX, "%s needs a log-in first", verb->name);
    if (s->phase == IMAP_AUTHENTICATED)
        return fail(err, ERR_SYNTAX,
                    verb->phases & 1u << IMAP_SELECTED ? "%s needs a selected mailbox"
                                                       : "%s: already logged in",
                    verb->name);
    return fail(err, ERR_SYNTAX, "%s is not possible now", verb->name);
}

/* Every verb but the bare ones is followed by a space and its arguments. */
static void skip_space_behind_verb(struct imap_command *c)
{
    (void)imap_parse_skip(&c->args, ' ');
}

static PARKS void send_updates(struct imap_session *s, const struct imap_command *c)
{
    unsigned flags = c->verb != NULL ? c->verb->flags : 0;

    if (flags & VERB_NO_UPDATES)
        return;
    imap_notify_send(s);
    if (c->tells_modseq)
        imap_updates_send_all(s);
    else
        imap_updates_send(s, c->by_uid || !(flags & VERB_BY_NUMBER));
}

/* To a QRESYNC client every modseq it hears is a promise that it was told everything before. So
 * while removals are held back it is told up to where that is true, and later that it caught up
 * (RFC 7162, 3.2 and 6). */
static PARKS void tell_modseq(struct imap_session *s, struct imap_command *c)
{
    unsigned long long modseq;

    if (s->view == NULL || !(s->enabled & IMAP_ENABLED_QRESYNC))
        return;
    modseq = (unsigned long long)view_highest_modseq(s->view);
    if (view_is_behind(s->view)) {
        conn_printf(s->conn, "* OK [HIGHESTMODSEQ %llu] Removals are told later\r\n", modseq);
        s->is_modseq_held = true;
    } else if ((c->tells_modseq || s->is_modseq_held) && c->code.n == 0) {
        c->code = arena_printf(s->arena, "HIGHESTMODSEQ %llu", modseq);
        s->is_modseq_held = false;
    }
}

/* The message of a command that will not run is on its way, and no byte of it is a command. */
static PARKS int drop_message(struct imap_session *s, struct imap_command *c)
{
    struct error lost = {0};

    if (!c->has_message || c->message.is_sync || imap_discard_command(s, c->message, &lost) == 0)
        return 0;
    return imap_connection_lost(s, c);
}

/* Rights that were taken away count from the next command on; those that need no mailbox go on
 * without it. */
static PARKS int check_rights(struct imap_session *s, struct imap_command *c, struct error *err)
{
    if (c->verb == NULL || c->verb->flags & VERB_NO_UPDATES || imap_rights_refresh(s, err) == 0)
        return 0;
    if (c->verb->phases == 1u << IMAP_SELECTED) {
        c->refusal = err->kind == ERR_NOT_FOUND ? "NONEXISTENT" : NULL;
        return -1;
    }
    error_clear(err);
    return 0;
}

static PARKS void run_command(struct imap_session *s, struct imap_command *c)
{
    struct error err = {0};

    metric_inc(METRIC_imap_commands);
    skip_space_behind_verb(c);
    if (check_rights(s, c, &err) < 0 || check_verb(s, c, &err) < 0) {
        if (drop_message(s, c) == 0)
            imap_reply_error(s, c, &err);
        return;
    }
    if (c->verb->run(s, c, &err) < 0) {
        if (!c->is_answered)
            imap_reply_error(s, c, &err);
        return;
    }
    if (c->is_answered)
        return;
    send_updates(s, c);
    tell_modseq(s, c);
    imap_reply_done(s, c);
}

static void end_of_connection(struct imap_session *s, const struct error *err)
{
    if (err->kind == ERR_CANCELLED)
        imap_bye(s, "Server is shutting down, please reconnect");
    else if (err->kind == ERR_TIMED_OUT)
        imap_bye(s,
                 s->phase == IMAP_NEW ? "Time to log in is over" : "Autologout; idle for too long");
    s->phase = IMAP_LOGOUT;
}

static PARKS void read_and_run(struct imap_session *s)
{
    struct imap_command c = {0};
    struct error err = {0};

    switch (imap_command_read(s, &c, &err)) {
    case IMAP_READ_DONE:
        run_command(s, &c);
        break;
    case IMAP_READ_REFUSED:
        break;
    case IMAP_READ_ENDED:
        end_of_connection(s, &err);
        break;
    }
    buf_fini(&c.text);
}

/* --- steps ------------------------------------------------------------------------------------ */

static int64_t login_time_left(const struct imap_session *s)
{
    int64_t left = s->opened_ms + config.imap_login_timeout - loop_now_ms();

    return left > 1 ? left : 1;
}

static void rest(struct imap_session *s)
{
    conn_set_rest_timeout(s->conn,
                          s->phase == IMAP_NEW ? login_time_left(s) : config.imap_autologout);
}

/* Suspended, removed, or the password is another now: told once, in place of whatever comes next. */
static PARKS bool end_if_revoked(struct imap_session *s)
{
    if (s->phase == IMAP_NEW || !s->login.is_over)
        return false;
    imap_bye(s, "The account or its password has changed, please log in again");
    return true;
}

static PARKS void take_turn(struct imap_session *s)
{
    if (end_if_revoked(s))
        return;
    if (s->idle_tag == NULL) {
        read_and_run(s);
    } else {
        struct error err = {0};
        if (imap_idle_end(s, &err) < 0)
            end_of_connection(s, &err);
    }
    if (s->phase == IMAP_NEW && s->opened_ms + config.imap_login_timeout < loop_now_ms())
        imap_bye(s, "Time to log in is over");
}

/* Nothing of the last command is looked at any more. */
static void let_go(struct imap_session *s)
{
    arena_reset(s->arena);
    if (s->view != NULL)
        view_rest(s->view);
}

static PARKS void tell_news(struct imap_session *s)
{
    if (s->view != NULL)
        view_hold(s->view);
    imap_notify_send(s);
    imap_updates_send(s, s->idle_tag != NULL || !imap_notify_delays_expunges(s));
    let_go(s);
}

static PARKS void take_turns(struct imap_session *s)
{
    do {
        if (s->view != NULL)
            view_hold(s->view);
        take_turn(s);
        let_go(s);
        fiber_pause();
    } while (s->phase != IMAP_LOGOUT && conn_has_input(s->conn) && !conn_failed(s->conn));
}

/* A wake tells a session that idles, or asked for it by NOTIFY, its news; it is no sign of input,
 * so nothing may be read for it. */
static PARKS enum step imap_step(void *arg)
{
    struct imap_session *s = arg;
    bool was_woken;

    CHECK_OBJ(s, IMAP_SESSION_MAGIC);
    s->arena = arena_new();
    was_woken = conn_take_wake(s->conn);
    if (!end_if_revoked(s) && was_woken && (s->idle_tag != NULL || imap_notify_at_rest(s)))
        tell_news(s);
    if (s->phase != IMAP_LOGOUT &&
        (!was_woken || conn_has_input(s->conn) || conn_is_draining(s->conn)))
        take_turns(s);
    arena_free(&s->arena);
    if (s->phase == IMAP_LOGOUT || conn_failed(s->conn))
        return STEP_END;
    rest(s);
    return STEP_REST;
}

/* --- life ------------------------------------------------------------------------------------- */

static PARKS void *imap_open(struct conn *conn, int tag)
{
    struct imap_session *s = calloc(1, sizeof *s);
    struct buf out;

    if (s == NULL)
        abort();
    s->magic = IMAP_SESSION_MAGIC;
    s->conn = conn;
    s->listener = (uint8_t)tag;
    s->opened_ms = loop_now_ms();
    conn_set_output_max(conn, IMAP_NEW_OUTPUT_MAX);
    buf_init(&out, SIZE_MAX);
    buf_add(&out, STR("* OK ["));
    imap_add_capabilities(s, &out);
    buf_add(&out, STR("] Merpati ready\r\n"));
    imap_write_buf(s, &out);
    buf_fini(&out);
    rest(s);
    return s;
}

static PARKS void imap_close(void *arg)
{
    struct imap_session *s = arg;

    CHECK_OBJ(s, IMAP_SESSION_MAGIC);
    if (s->idle_tag != NULL)
        imap_idle_stop(s);
    login_watch_stop(&s->login);
    imap_deselect(s);
    imap_notify_stop(s);
    s->magic = 0;
    free(s);
}

const struct service imap_service = {
    .name = "imap",
    .open = imap_open,
    .step = imap_step,
    .close = imap_close,
    .busy = "* BYE [UNAVAILABLE] Too many connections, please try again later",
};
