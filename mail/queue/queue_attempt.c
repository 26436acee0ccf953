/* queue_attempt.c - one job: its message is read unless it is in memory, sent, and the answers are judged.
 *
 * What goes wrong on our side (the database is away, memory is short) is no attempt. Recipients whose sender is to be told
 * end together with the report; the others' results are committed behind our back, and the fiber takes the next job. */
#include "mail/mime/header.h"
#include "mail/queue/guard.h"
#include "mail/queue/queue_internal.h"
#include "mail/queue/queue_retry.h"
#include "mail/queue/submit.h"

#include <stdlib.h>
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/metrics.h"

#define MESSAGE_SIZE_MAX   ((size_t)2 << 30)
#define OUR_FAULT_DELAY_MS 10000
#define SLOW_MS            2000

/* ---- messages and jobs ------------------------------------------------------------------------ */

static void charge(struct queue_message *m, size_t size)
{
    m->charged = size;
    queue.bytes += size;
}

struct queue_message *queue_message_new(struct str text)
{
    struct queue_message *m = memory_alloc(sizeof *m);

    *m = (struct queue_message){.refs = 1, .text = {memory_copy_str(text), text.n}};
    charge(m, text.n);
    return m;
}

struct queue_message *queue_message_take(struct buf *text)
{
    struct queue_message *m = memory_alloc(sizeof *m);

    *m = (struct queue_message){.refs = 1};
    m->text.p = buf_take(text, &m->text.n);
    charge(m, m->text.n);
    return m;
}

void queue_message_unref(struct queue_message **message)
{
    struct queue_message *m = *message;

    *message = NULL;
    if (m == NULL || --m->refs > 0)
        return;
    if (m->is_slow)
        queue.slow_bytes -= m->charged;
    else
        queue.bytes -= m->charged;
    wait_queue_wake_all(&queue.room);
    free((char *)m->text.p);
    free(m);
}

struct job *job_new(struct outbound_claim *c, struct arena *a, int64_t worker_id)
{
    struct job *j = ARENA_NEW(a, struct job);

    *j = (struct job){.arena = a, .worker_id = worker_id, .claim = *c};
    j->results = ARENA_ARRAY(a, c->o.rcpt_count, struct outbound_result);
    queue.job_count++;
    metric_inc(METRIC_queue_in_hand);
    return j;
}

void job_free(struct job *j)
{
    struct arena *a = j->arena;

    queue_message_unref(&j->message);
    queue.job_count--;
    metric_add(METRIC_queue_in_hand, -1);
    if (queue.has_more)
        queue_wake_scheduler();
    arena_free(&a);
}

/* ---- the message ------------------------------------------------------------------------------ */

/* One message always has room, however large it is. */
static int await_room(size_t size, struct error *err)
{
    while (queue.bytes > 0 && queue.bytes + size > (size_t)config.queue_memory_max)
        if (fiber_wake_error(wait_queue_wait(&queue.room, NO_DEADLINE), err) < 0)
            return -1;
    return 0;
}

static int read_message(struct job *j, struct error *err)
{
    struct buf text;

    if (guard_is_held(j->claim.o.account_id))
        queue_message_unref(&j->message); /* it may be held since: reading tells */
    if (j->message != NULL)
        return 0;
    if (await_room(j->claim.size, err) < 0)
        return -1;
    queue.bytes += j->claim.size; /* while it is read */
    buf_init(&text, MESSAGE_SIZE_MAX);
    if (outbound_read(j->arena, j->worker_id, &j->claim, &text, err) == 0)
        j->message = queue_message_take(&text);
    queue.bytes -= j->claim.size;
    buf_fini(&text);
    return j->message != NULL ? 0 : -1;
}

/* ---- sending ---------------------------------------------------------------------------------- */

static void describe_rcpts(const struct outbound_claim *c, struct remote_recipient *v)
{
    for (size_t i = 0; i < c->o.rcpt_count; i++)
        v[i] = (struct remote_recipient){.address = c->o.rcpts[i].address,
                                         .orcpt = c->o.rcpts[i].orcpt,
                                         .notify = c->o.rcpts[i].notify};
}

/* RFC 8689, 5: its sender prefers arrival to secrecy. */
static bool says_tls_is_optional(struct arena *a, struct str message)
{
    struct header_field field;

    return header_find(message, STR("TLS-Required"), &field) &&
           str_ieq(header_unfold(a, field.value), STR("No"));
}

static struct remote_job *describe(struct job *j)
{
    const struct outbound *o = &j->claim.o;
    struct remote_job *r = ARENA_NEW(j->arena, struct remote_job);

    *r = (struct remote_job){
        .destination = o->rcpts[0].destination,
        .route = o->rcpts[0].route,
        .sender = o->sender,
        .envid = o->envid,
        .trace_id = event_trace_id(j->arena, o->trace_id),
        .ret = o->ret,
        .body = o->body,
        .is_utf8 = o->is_utf8,
        .requires_tls = o->requires_tls,
        .tls_optional = !o->requires_tls && says_tls_is_optional(j->arena, j->message->text),
        .priority = o->priority,
        .deliver_by_us = o->deliver_by_us,
        .deliver_by_notify = o->deliver_by_notify,
        .message = j->message->text,
        .rcpts = ARENA_ARRAY(j->arena, o->rcpt_count, struct remote_recipient),
        .rcpt_count = o->rcpt_count,
    };
    describe_rcpts(&j->claim, r->rcpts);
    return r;
}

/* ---- those that take long ------------------------------------------------------------------------ */

/* As much memory again is for messages of attempts that were set aside. */
static void set_message_aside(struct queue_message *m)
{
    if (m->is_slow || queue.slow_bytes + m->charged > (size_t)config.queue_memory_max)
        return;
    m->is_slow = true;
    queue.bytes -= m->charged;
    queue.slow_bytes += m->charged;
    wait_queue_wake_all(&queue.room);
}

static void became_slow(struct timer *t)
{
    struct job *j = CONTAINER_OF(t, struct job, timer);

    if (hop_set_aside(j->hop, j->began_ms, j->attempt->has_session)) {
        j->is_slow = true;
        set_message_aside(j->message);
    } else
        timer_set(t, loop_deadline(SLOW_MS));
}

static void send_job(struct job *j, struct remote_job *answer)
{
    j->attempt = answer;
    j->began_ms = loop_now_ms();
    j->timer.fire = became_slow;
    timer_set(&j->timer, loop_deadline(SLOW_MS));
    queue.options.deliver(j->arena, answer);
    timer_clear(&j->timer);
    if (j->is_slow)
        hop_slow_ended(j->hop);
    j->is_slow = false;
    j->attempt = NULL;
}

/* ---- judging ---------------------------------------------------------------------------------- */

struct judged {
    struct queue_fate *fates; /* whose senders are to be told */
    size_t fate_count;
};

static struct queue_fate fate_of(const struct outbound_recipient *o,
                                 const struct remote_recipient *r, const struct remote_job *answer)
{
    return (struct queue_fate){
        .rcpt = o,
        .kind = r->status == REMOTE_FAILED      ? FATE_FAILED
                : r->status == REMOTE_DELIVERED ? FATE_RELAYED
                                                : FATE_DELAYED,
        .code = r->code,
        .enhanced = r->enhanced,
        .text = r->text,
        .host = r->is_remote_answer ? answer->host : STR(""),
        .hop_host = answer->host,
    };
}

static void add_result(struct job *j, const struct queue_fate *f, int64_t delay_ms)
{
    j->results[j->result_count++] = (struct outbound_result){
        .queue_id = j->claim.o.queue_id,
        .no = f->rcpt->no,
        .is_done = f->kind != FATE_DELAYED,
        .delay_ms = delay_ms,
        .code = f->code,
        .enhanced = f->enhanced,
        .text = f->text,
        .host = f->hop_host,
    };
}

static void judge_deferred(struct job *j, const struct queue_fate *f,
                           const struct remote_job *answer)
{
    int64_t delay_ms =
        answer->is_destination_down ? 0 : queue_retry_delay_ms(f->rcpt->attempts + 1);

    event_deferred(&j->claim, f, delay_ms);
    add_result(j, f, delay_ms);
}

static void judge(struct job *j, const struct remote_job *answer, struct judged *out)
{
    out->fates = ARENA_ARRAY(j->arena, answer->rcpt_count, struct queue_fate);
    for (size_t i = 0; i < answer->rcpt_count; i++) {
        const struct remote_recipient *r = &answer->rcpts[i];
        struct queue_fate f = fate_of(&j->claim.o.rcpts[i], r, answer);

        if (f.kind == FATE_DELAYED) {
            judge_deferred(j, &f, answer);
            continue;
        }
        if (f.kind == FATE_FAILED) {
            event_failed(&j->claim, &f);
            guard_note_bounce(j->claim.o.account_id);
        } else
            event_delivered(&j->claim, &f, answer->tls);
        if (!r->was_dsn_relayed && report_is_wanted(&j->claim, &f))
            out->fates[out->fate_count++] = f;
        else
            add_result(j, &f, 0);
    }
}

/* News of the hop go out in one turn with the results, so that they are committed together. */
static void tell_hop(struct hop *h, const struct remote_job *answer)
{
    if (answer->is_destination_down)
        hop_failed(h, answer->rcpt_count > 0 ? answer->rcpts[0].text : STR(""));
    else
        hop_succeeded(h);
}

static void give_back(struct job *j, int64_t delay_ms)
{
    for (size_t i = 0; i < j->claim.o.rcpt_count; i++)
        j->results[i] = (struct outbound_result){.queue_id = j->claim.o.queue_id,
                                                 .no = j->claim.o.rcpts[i].no,
                                                 .delay_ms = delay_ms,
                                                 .code = -1};
    j->result_count = j->claim.o.rcpt_count;
    commit_job(j);
}

/* The report cannot be sent for now: refused recipients come again. One that was delivered to must not, so it ends untold. */
static void settle_untold(struct job *j, const struct judged *judged)
{
    for (size_t i = 0; i < judged->fate_count; i++) {
        struct queue_fate f = judged->fates[i];

        if (f.kind == FATE_FAILED)
            f.kind = FATE_DELAYED;
        else
            event_untold(&j->claim, 1, "the report could not be sent");
        add_result(j, &f, queue_retry_delay_ms(f.rcpt->attempts + 1));
    }
}

static void attempt(struct job *j, struct hop *h)
{
    struct remote_job *answer;
    struct judged judged = {NULL, 0};
    struct error err = {0};

    if (j->worker_id != queue.worker_id) {
        job_free(j); /* somebody else has it by now */
        return;
    }
    if (!queue_lease_is_good()) { /* somebody may */
        give_back(j, 0);
        return;
    }
    if (read_message(j, &err) < 0) {
        if (err.kind == ERR_NOT_FOUND) {
            commit_note_due(
                h->name); /* it may have been the one by which a hop that was down is tried */
            job_free(j);
        } else
            give_back(j, err.kind == ERR_CANCELLED ? 0 : OUR_FAULT_DELAY_MS);
        return;
    }
    answer = describe(j);
    if (str_eq(j->claim.o.rcpts[0].route, STR(OUTBOUND_ROUTE_HERE)))
        submit_released(j->arena, &j->claim, j->worker_id, answer);
    else
        send_job(j, answer);
    judge(j, answer, &judged);
    tell_hop(h, answer);
    if (judged.fate_count > 0 &&
        !report_send(j->worker_id, &j->claim, judged.fates, judged.fate_count, j->message->text))
        settle_untold(j, &judged);
    if (j->result_count > 0)
        commit_job(j);
    else
        job_free(j);
}

void attempt_run(void *arg)
{
    struct hop *h = arg;
    struct job *j;

    while ((j = hop_take(h)) != NULL)
        attempt(j, h);
    hop_slot_free(h);
}

void commit_back(struct job *j)
{
    give_back(j, 0);
}

void commit_back_later(struct job *j, int64_t delay_ms)
{
    give_back(j, delay_ms);
}
