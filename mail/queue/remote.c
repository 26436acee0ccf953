/* remote.c - the hosts of a destination one after the other, until each recipient has its answer.
 *
 * Delivered and refused are final. Put off is final only when no other host is left to ask; so a
 * greylisting first MX costs a try at the second, and a dead one costs its timeout. What concerns
 * the whole session (no connection, no TLS, a closed door) befalls all recipients that nobody has
 * answered for. */
#include "mail/queue/remote.h"

#include <string.h>

#include "mail/queue/remote_internal.h"
#include "server/base/log.h"
#include "server/run/config.h"
#include "server/run/metrics.h"

struct delivery {
    struct arena *arena;
    struct remote_job *job;
    struct route_hosts hosts;
    struct tls_domain domain;
    bool *is_settled;  /* by recipient: no other host is asked */
    bool *is_tried;    /* at this address */
    bool *is_answered; /* something is known of it, from here or there */
    struct remote_recipient **chunk;
    size_t *chunk_of;   /* index of each of the chunk */
    size_t attempts;    /* at addresses */
    bool was_reached;   /* a host went into a transaction with us */
    bool is_closing;    /* the last one broke off with 421 */
    bool has_temporary; /* a refusal that may pass */
    struct route_refusal temporary, permanent;
    bool has_permanent;
};

/* ---- recipients ---------------------------------------------------------------------------- */

static bool has_unsettled(const struct delivery *d)
{
    for (size_t i = 0; i < d->job->rcpt_count; i++)
        if (!d->is_settled[i])
            return true;
    return false;
}

/* REQUIRETLS and the like, where the next host may offer what this one lacks, are asked again. */
static bool may_go_elsewhere(const struct remote_recipient *r)
{
    return r->status == REMOTE_DEFERRED ||
           (r->status == REMOTE_FAILED && !r->is_remote_answer &&
            (str_eq(r->enhanced, STR("5.7.30")) || str_eq(r->enhanced, STR("5.6.7")) ||
             str_eq(r->enhanced, STR("5.6.3")) || str_eq(r->enhanced, STR("5.3.4"))));
}

static size_t gather(struct delivery *d, size_t count_max)
{
    size_t n = 0;

    for (size_t i = 0; i < d->job->rcpt_count && n < count_max; i++) {
        if (d->is_settled[i] || d->is_tried[i])
            continue;
        d->chunk[n] = &d->job->rcpts[i];
        d->chunk_of[n++] = i;
    }
    return n;
}

/* RFC 5321, 4.5.3.1.10: too many at once; those left over go in the next transaction. */
static bool was_one_too_many(const struct remote_recipient *r)
{
    return r->status == REMOTE_DEFERRED && r->code == 452 && r->is_remote_answer &&
           (str_eq(r->enhanced, STR("4.5.3")) || str_eq(r->enhanced, STR("4.0.0")));
}

static size_t count_delivered(const struct delivery *d, size_t n)
{
    size_t delivered = 0;

    for (size_t i = 0; i < n; i++)
        delivered += d->chunk[i]->status == REMOTE_DELIVERED;
    return delivered;
}

static void settle(struct delivery *d, size_t n)
{
    size_t delivered = count_delivered(d, n);

    for (size_t i = 0; i < n; i++) {
        size_t at = d->chunk_of[i];

        d->is_answered[at] = true;
        d->is_tried[at] = delivered == 0 || !was_one_too_many(d->chunk[i]);
        d->is_settled[at] = !may_go_elsewhere(d->chunk[i]);
    }
}

/* ---- one address --------------------------------------------------------------------------- */

static void remember(struct delivery *d, const struct route_refusal *why)
{
    if (why->is_permanent) {
        d->has_permanent = true;
        d->permanent = *why;
    } else {
        d->has_temporary = true;
        d->temporary = *why;
    }
}

/* True when nothing was heard but a goodbye: an old connection that the other side had already left, or has had enough
 * of. That says nothing about a new one. */
static bool was_stale(const struct remote_session *s, const struct delivery *d, size_t n)
{
    if (!s->was_reused)
        return false;
    for (size_t i = 0; i < n; i++)
        if (d->chunk[i]->code != 0 && d->chunk[i]->code != 421)
            return false;
    return true;
}

static void note_session(struct delivery *d, const struct remote_target *t,
                         const struct remote_session *s)
{
    d->job->host = t->text;
    d->job->tls = arena_str(d->arena, s->tls);
    d->was_reached = true;
}

enum progress { PROGRESS_DONE, PROGRESS_AGAIN, PROGRESS_STALE };

/* Sends to as many as the session takes. AGAIN: some are left for another session of this address. */
static enum progress use_session(struct delivery *d, const struct remote_target *t,
                                 struct remote_session *s)
{
    bool has_sent = false;
    size_t n;

    while ((n = gather(d, smtp_client_rcpt_max(s->client))) > 0) {
        struct error err = {0};
        enum smtp_outcome outcome;

        if (has_sent && !smtp_client_is_reusable(s->client))
            return PROGRESS_AGAIN;
        outcome = smtp_client_send(s->client, d->arena, d->job, d->chunk, n, &err);
        if (outcome == SMTP_BROKEN && !has_sent && was_stale(s, d, n))
            return PROGRESS_STALE;
        note_session(d, t, s);
        settle(d, n);
        d->is_closing = smtp_client_answer(s->client)->code == 421 && !s->was_reused;
        if (outcome == SMTP_BROKEN)
            return PROGRESS_DONE;
        s->was_reused = false;
        has_sent = true;
    }
    return PROGRESS_DONE;
}

static void try_address(struct delivery *d, const struct remote_target *t)
{
    enum progress progress = PROGRESS_AGAIN;
    bool may_reuse = true;

    memset(d->is_tried, 0, d->job->rcpt_count * sizeof *d->is_tried);
    d->attempts++;
    while (progress != PROGRESS_DONE) {
        struct route_refusal why = {0};
        struct remote_session *s = remote_session_open(t, may_reuse, &why);

        if (s == NULL) {
            d->job->host = t->text;
            remember(d, &why);
            return;
        }
        d->job->has_session = true;
        progress = use_session(d, t, s);
        may_reuse = false;
        remote_pool_put(&s);
    }
}

/* ---- hosts --------------------------------------------------------------------------------- */

static bool is_over(const struct delivery *d)
{
    return !has_unsettled(d) || fiber_cancelled() ||
           d->attempts >= (size_t)config.delivery_hosts_max;
}

static void try_addresses(struct delivery *d, const struct route_host *host,
                          const struct route_addresses *addresses)
{
    struct remote_target t = {
        .arena = d->arena, .job = d->job, .hosts = &d->hosts, .host = host, .domain = &d->domain};
    struct route_refusal why = {0};
    struct tls_host tls;
    const char *result;

    remote_credentials(d->arena, &d->hosts, &t.user, &t.password);
    if (tls_host_find(d->arena, &d->domain, &d->hosts, host, addresses, d->job, t.user.n > 0, &tls,
                      &why, &result) < 0) {
        remember(d, &why);
        if (result != NULL)
            remote_report(d->arena, &d->domain, &d->hosts, host, &tls, NULL, result, why.text);
        return;
    }
    t.tls = &tls;
    for (size_t i = 0; i < addresses->n && !is_over(d); i++) {
        t.address = &addresses->v[i];
        t.text = route_address_text(d->arena, host->name, t.address);
        try_address(d, &t);
    }
}

static void refuse_loop(struct delivery *d)
{
    struct route_refusal why = {
        true, 554, "5.4.6",
        arena_printf(d->arena,
                     "mail for %.*s loops back to this server, which does not serve that domain",
                     STR_ARG(d->hosts.domain))};

    if (!d->has_temporary && d->attempts == 0)
        remember(d, &why);
}

static void try_hosts(struct delivery *d)
{
    for (size_t i = 0; i < d->hosts.n && !is_over(d); i++) {
        struct route_addresses addresses;
        struct route_refusal why = {0};

        if (route_host_addresses(d->arena, &d->hosts, &d->hosts.v[i], &addresses, &why) < 0) {
            remember(d, &why);
            continue;
        }
        if (addresses.is_loop) {
            refuse_loop(d);
            return;
        }
        try_addresses(d, &d->hosts.v[i], &addresses);
    }
}

/* ---- the end ------------------------------------------------------------------------------- */

static const struct route_refusal *worst(const struct delivery *d)
{
    static const struct route_refusal stopped = {
        false, 0, "4.3.2", {"delivery was stopped before it began", 36}};

    if (d->has_temporary)
        return &d->temporary;
    return d->has_permanent ? &d->permanent : &stopped;
}

static void answer_for_the_rest(struct delivery *d)
{
    const struct route_refusal *why = worst(d);

    for (size_t i = 0; i < d->job->rcpt_count; i++) {
        struct remote_recipient *r = &d->job->rcpts[i];

        if (d->is_answered[i])
            continue;
        *r = (struct remote_recipient){
            .address = r->address,
            .orcpt = r->orcpt,
            .notify = r->notify,
            .status = why->is_permanent ? REMOTE_FAILED : REMOTE_DEFERRED,
            .code = why->code,
            .enhanced = str_c(why->enhanced),
            .text = why->text,
        };
    }
}

static void count_recipients(const struct remote_job *job)
{
    for (size_t i = 0; i < job->rcpt_count; i++)
        metric_inc(job->rcpts[i].status == REMOTE_DELIVERED  ? METRIC_delivery_rcpts_delivered
                   : job->rcpts[i].status == REMOTE_DEFERRED ? METRIC_delivery_rcpts_deferred
                                                             : METRIC_delivery_rcpts_failed);
}

static void report_sts_problem(struct delivery *d)
{
    if (d->domain.sts.problem != NULL)
        remote_report(d->arena, &d->domain, &d->hosts, NULL, NULL, NULL, d->domain.sts.problem,
                      d->domain.sts.reason);
}

/* More than other mail that goes over the same relay, so that its failure says nothing of the relay. */
static bool asks_more_of_relay(const struct delivery *d)
{
    return d->hosts.way.host.n > 0 && (d->domain.is_forced || d->job->requires_tls);
}

PARKS void remote_deliver(struct arena *a, struct remote_job *job)
{
    struct delivery d = {
        .arena = a,
        .job = job,
        .is_settled = ARENA_ARRAY(a, job->rcpt_count, bool),
        .is_tried = ARENA_ARRAY(a, job->rcpt_count, bool),
        .is_answered = ARENA_ARRAY(a, job->rcpt_count, bool),
        .chunk = ARENA_ARRAY(a, job->rcpt_count, struct remote_recipient *),
        .chunk_of = ARENA_ARRAY(a, job->rcpt_count, size_t),
    };
    struct route_refusal why = {0};

    job->host = job->tls = STR_NULL;
    job->has_session = false;
    if (route_hosts_find(a, job->destination, job->route, &d.hosts, &why) < 0) {
        remember(&d, &why);
    } else {
        tls_domain_find(a, &d.hosts, &d.domain);
        report_sts_problem(&d);
        try_hosts(&d);
    }
    answer_for_the_rest(&d);
    job->is_destination_down = has_unsettled(&d) && !worst(&d)->is_permanent &&
                               (!d.was_reached || d.is_closing) && !asks_more_of_relay(&d);
    count_recipients(job);
}

void remote_start(void)
{
    struct error err = {0};

    if (route_check_settings(&err) < 0)
        log_error(NULL, "delivery_routes_refused", KV_ERR(&err));
}

void remote_stop(void)
{
    remote_pool_close();
    sts_fini();
    dial_fini();
}
