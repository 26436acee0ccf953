/* imap_progress.c - INPROGRESS. A client that hears it knows that the server is alive, and NATs
 * keep the connection open. */
#include "mail/imap/imap_progress.h"

#include "mail/imap/imap_reply.h"
#include "server/base/list.h"
#include "server/run/config.h"
#include "server/run/loop.h"

void imap_tell_progress(struct imap_session *s, struct imap_command *c, uint64_t done,
                        uint64_t total)
{
    struct buf out;
    int64_t now_ms = loop_now_ms();

    if (c == NULL || total == 0)
        return;
    if (c->progress_due_ms == 0)
        c->progress_due_ms = now_ms + config.imap_progress_interval;
    if (now_ms < c->progress_due_ms)
        return;
    c->progress_due_ms = now_ms + config.imap_progress_interval;
    buf_init(&out, SIZE_MAX);
    buf_adds(&out, "* OK [INPROGRESS (");
    imap_add_quoted(&out, c->tag);
    buf_addc(&out, ' ');
    buf_add_u64(&out, done < total ? done : total - 1);
    buf_addc(&out, ' ');
    buf_add_u64(&out, total);
    buf_adds(&out, ")] Still working\r\n");
    imap_write_buf(s, &out);
    buf_fini(&out);
    (void)conn_flush(s->conn, NULL);
}

/* --- without numbers -------------------------------------------------------------------------- */

static PARKS void tell(void *arg)
{
    struct imap_progress *p = arg;
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_adds(&out, "* OK [INPROGRESS (");
    imap_add_quoted(&out, p->c->tag);
    buf_adds(&out, " NIL NIL)] Still working\r\n");
    imap_write_buf(p->s, &out);
    buf_fini(&out);
    (void)conn_flush(p->s->conn, NULL);
    p->teller = NULL;
    wait_queue_wake_all(&p->told);
    timer_set(&p->timer, loop_now_ms() + config.imap_progress_interval);
}

/* On the loop, where nothing may park. */
static void time_passed(struct timer *timer)
{
    struct imap_progress *p = CONTAINER_OF(timer, struct imap_progress, timer);

    p->teller = fiber_start("imap_progress", tell, p);
}

void imap_progress_begin(struct imap_progress *p, struct imap_session *s, struct imap_command *c)
{
    *p = (struct imap_progress){.timer.fire = time_passed, .s = s, .c = c};
    wait_queue_init(&p->told);
    timer_set(&p->timer, loop_now_ms() + config.imap_progress_interval);
}

/* A client that does not read is not waited for longer than the connection allows: conn_flush ends
 * then. */
void imap_progress_end(struct imap_progress *p)
{
    while (p->teller != NULL)
        if (wait_queue_wait(&p->told, NO_DEADLINE) != WAKE_READY) {
            fiber_cancel(p->teller); /* as we are; but it still holds p */
            fiber_yield();
        }
    timer_clear(&p->timer);
}
