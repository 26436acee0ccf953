/* imap_progress.c - INPROGRESS. A client that hears it knows that the server is alive, and NATs
 * keep the connection open. */
#include "mail/imap/imap_progress.h"

#include "mail/imap/imap_reply.h"
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
