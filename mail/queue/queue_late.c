/* queue_late.c - messages that are late: a warning once, and the end when their time is over.
 *
 * This goes by the clock alone: a message whose server is not tried for hours because it is known to be down expires when
 * its time has come. */
#include "mail/queue/queue_internal.h"

#include "server/base/log.h"
#include "server/run/config.h"

#define PORTION_COUNT     50
#define ORIGINAL_SIZE_MAX ((size_t)2 << 30)
#define AGAIN_MS          900000 /* later than the next look at what is late */

/* ---- what is to be told ------------------------------------------------------------------------- */

static struct str last_answer(const struct outbound_recipient *r)
{
    return str_empty(r->last_text) ? STR("it could not be reached") : r->last_text;
}

static struct queue_fate expired(struct arena *a, const struct outbound_recipient *r)
{
    if (r->is_refused)
        return (struct queue_fate){.rcpt = r,
                                   .kind = FATE_FAILED,
                                   .code = 550,
                                   .enhanced = STR("5.7.1"),
                                   .text =
                                       STR("an administrator removed the message from the queue")};
    return (struct queue_fate){
        .rcpt = r,
        .kind = FATE_FAILED,
        .code = r->last_code,
        .enhanced = STR("4.4.7"),
        .text =
            arena_printf(a, "delivery time expired; last answer: %.*s", STR_ARG(last_answer(r))),
        .host = r->last_host,
        .hop_host = r->last_host,
    };
}

static struct queue_fate delayed(const struct outbound_recipient *r)
{
    return (struct queue_fate){
        .rcpt = r,
        .kind = FATE_DELAYED,
        .code = r->last_code,
        .enhanced = str_empty(r->last_enhanced) ? STR("4.4.0") : r->last_enhanced,
        .text = last_answer(r),
        .host = r->last_host,
        .hop_host = r->last_host,
    };
}

/* Those whose sender is to be told, to the front; returns how many. */
static size_t sort_wanted(const struct outbound_claim *c, struct queue_fate *v)
{
    size_t wanted = 0;

    for (size_t i = 0; i < c->o.rcpt_count; i++)
        if (report_is_wanted(c, &v[i])) {
            struct queue_fate f = v[i];
            v[i] = v[wanted];
            v[wanted++] = f;
        }
    return wanted;
}

/* ---- expiry and warning --------------------------------------------------------------------------- */

static int remove_quietly(const struct outbound_claim *c, const struct queue_fate *v, size_t count,
                          struct arena *a, struct error *err)
{
    struct outbound_result *results = ARENA_ARRAY(a, count, struct outbound_result);

    for (size_t i = 0; i < count; i++)
        results[i] = (struct outbound_result){
            .queue_id = c->o.queue_id, .no = v[i].rcpt->no, .is_done = true};
    return outbound_finish(queue.worker_id, results, count, NULL, 0, NULL, 0, err);
}

static int tell(struct arena *a, int64_t worker_id, const struct outbound_claim *c,
                const struct queue_fate *v, size_t count, struct error *err)
{
    struct outbound_claim copy = *c; /* reading drops recipients from it */
    struct buf text;
    int rc;

    copy.o.rcpts = arena_copy(a, c->o.rcpts, c->o.rcpt_count * sizeof *c->o.rcpts);
    buf_init(&text, ORIGINAL_SIZE_MAX);
    rc = outbound_read(a, worker_id, &copy, &text, err);
    if (rc == 0 && !report_send(queue.worker_id, c, v, count, buf_str(&text)))
        rc = fail(err, ERR_TRY_LATER, "the report could not be sent");
    buf_fini(&text);
    return rc;
}

static int expire(struct arena *a, const struct outbound_claim *c, struct error *err)
{
    struct queue_fate *v = ARENA_ARRAY(a, c->o.rcpt_count, struct queue_fate);
    size_t wanted;

    for (size_t i = 0; i < c->o.rcpt_count; i++) {
        v[i] = expired(a, &c->o.rcpts[i]);
        event_failed(c, &v[i]);
    }
    wanted = sort_wanted(c, v);
    if (wanted < c->o.rcpt_count &&
        remove_quietly(c, v + wanted, c->o.rcpt_count - wanted, a, err) < 0)
        return -1;
    return wanted == 0 ? 0 : tell(a, queue.worker_id, c, v, wanted, err);
}

static int warn(struct arena *a, const struct outbound_claim *c, struct error *err)
{
    struct queue_fate *v = ARENA_ARRAY(a, c->o.rcpt_count, struct queue_fate);
    size_t wanted;

    for (size_t i = 0; i < c->o.rcpt_count; i++)
        v[i] = delayed(&c->o.rcpts[i]);
    wanted = sort_wanted(c, v);
    return wanted == 0 ? outbound_set_warned(c->o.queue_id, err) : tell(a, 0, c, v, wanted, err);
}

/* What could not end now is looked at again; until then nobody delivers it. */
static void give_back(const struct outbound_claim *c)
{
    struct arena *a = arena_new();
    struct outbound_claim copy = *c;

    copy.o.rcpts = arena_copy(a, c->o.rcpts, c->o.rcpt_count * sizeof *c->o.rcpts);
    commit_back_later(job_new(&copy, a, queue.worker_id), AGAIN_MS);
}

static void end_or_warn(struct arena *a, const struct outbound_claim *c)
{
    struct error err = {0};
    int rc = c->is_over ? expire(a, c, &err) : warn(a, c, &err);

    if (rc == 0 || err.kind == ERR_NOT_FOUND)
        return;
    log_warn(NULL, "queue_late_failed", KV("queue", c->o.queue_id), KV_ERR(&err));
    if (c->is_over)
        give_back(c);
}

static int late_portion(struct arena *a, size_t *count, struct error *err)
{
    struct outbound_claims claims;

    if (outbound_claim_late(a, queue.worker_id, PORTION_COUNT, &claims, err) < 0)
        return -1;
    *count = claims.count;
    for (size_t i = 0; i < claims.count && !queue.is_stopping; i++)
        end_or_warn(a, &claims.v[i]);
    return 0;
}

int late_look(struct error *err)
{
    size_t count = 1;
    int rc = 0;

    while (rc == 0 && count > 0 && !queue.is_stopping) {
        struct arena *a = arena_new();

        rc = late_portion(a, &count, err);
        arena_free(&a);
    }
    return rc;
}
