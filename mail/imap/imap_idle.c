/* imap_idle.c - waiting for news.
 *
 * A change in the account calls back on the loop (imap_notify.c), which only asks for a step; the
 * step looks what is new. So ten thousand idling clients cost no fiber and no query until something
 * happens to them. */
#include "mail/imap/imap_idle.h"

#include <stdlib.h>
#include <string.h>

#include "mail/imap/imap_command.h"
#include "mail/imap/imap_notify.h"
#include "mail/imap/imap_reply.h"
#include "mail/imap/imap_updates.h"
#include "server/run/metrics.h"

static char *tag_copy(struct str tag)
{
    char *copy = strndup(tag.p, tag.n);

    if (copy == NULL)
        abort();
    return copy;
}

/* Watching begins before the look, so that nothing falls between. */
int imap_cmd_idle(struct imap_session *s, struct imap_command *c, struct error *err)
{
    if (imap_parse_end(&c->args, err) < 0)
        return -1;
    conn_write(s->conn, STR("+ idling\r\n"));
    s->idle_tag = tag_copy(c->tag);
    c->is_answered = true;
    metric_inc(METRIC_imap_sessions_idle);
    imap_notify_watch_view(s);
    imap_notify_send(s);
    imap_updates_send(s, true);
    return 0;
}

void imap_idle_stop(struct imap_session *s)
{
    free(s->idle_tag);
    s->idle_tag = NULL;
    imap_notify_watch_view(s);
    metric_add(METRIC_imap_sessions_idle, -1);
}

static void answer(struct imap_session *s, struct str line)
{
    struct imap_command c = {.tag = arena_str(s->arena, str_c(s->idle_tag)),
                             .done = "IDLE completed"};
    struct error refused = {0};

    imap_idle_stop(s);
    if (!str_ieq(line, STR("DONE"))) {
        fail(&refused, ERR_SYNTAX, "expected DONE to end IDLE");
        imap_reply_error(s, &c, &refused);
        return;
    }
    imap_notify_send(s);
    imap_updates_send(s, true);
    imap_reply_done(s, &c);
}

int imap_idle_end(struct imap_session *s, struct error *err)
{
    struct imap_literal literal;
    struct str line;

    imap_renew_deadline(s);
    if (conn_read_line(s->conn, 1024, &line, err) < 0) {
        if (err->kind != ERR_TOO_BIG)
            return -1;
        line = STR("");
    }
    if (imap_literal_at_end(line, &literal)) {
        if (!literal.is_sync && imap_discard_command(s, literal, err) < 0)
            return -1;
        line = STR("");
    }
    answer(s, line);
    return 0;
}
