/* dns_resolver.c - libunbound with its thread behind us and its pipe on our loop, and whether it can check what it hears.
 *
 * The contexts are made at the first lookup. A query is started and its fiber parks; libunbound's
 * callback runs on the loop and wakes it. A query whose fiber gave up is cancelled, and libunbound
 * then never calls back, so the query may live on the fiber's stack.
 *
 * DNSSEC: what fails its check is no answer. But many resolvers strip signatures, and then nothing that is signed would
 * have an answer. So with the system's key of the root there are two contexts, one that checks and one that takes answers
 * as they are, and the first question is whether the root itself validates. If it does not, nothing is secure, a warning
 * says so, and we ask again from time to time: once that the root has validated, the check is strict and stays so, or a
 * forger could turn it off. Who sets dns_trust_anchor wants it strict from the start.
 *
 * Nobody waits for that first question: until its answer is here, each query goes to both. What passes the check is
 * taken at once. What fails it waits for the verdict on the root, but not for long, and never beyond its own deadline:
 * whoever could make that time pass without an answer could have hidden the root as well. The root's keys are what is
 * asked for, since every check begins with them. */
#include "server/run/dns_resolver.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/run/channel.h"
#include "server/run/config.h"
#include "server/run/dns_cache.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

#define TYPE_DNSKEY    48
#define PROBE_MS       2000 /* then names are taken as they come; the probe goes on */
#define PROBE_AGAIN_MS 600000

static const char *const root_keys[] = {"/usr/share/dns/root.key", "/var/lib/unbound/root.key"};

/* libunbound with one way to trust; it goes when it was retired and its last query is done. */
struct resolver {
    struct ub_ctx *context;
    struct loop_fd io;
    unsigned pending; /* queries */
    bool is_retired;
};

static struct {
    struct resolver *checking, *plain;
    enum { CLOSED, UNDECIDED, STRICT, FORGIVING } mode;
    bool is_opening, is_probing;
    bool is_serving; /* the log hears of what is wrong */
    struct wait_queue opened;
    struct list undecided; /* queries that went to both */
    struct timer patience; /* with the probe */
    int64_t probe_ms;      /* forgiving: when to see whether it needs to be */
} dns;

/* ---- the context --------------------------------------------------------------------------- */

static void set_option(struct ub_ctx *context, const char *name, const char *value)
{
    int status = ub_ctx_set_option(context, name, value);

    if (status != 0)
        log_warn(NULL, "dns_option_refused", KV("option", name), KV("reason", ub_strerror(status)));
}

/* "192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:5353", "2001:db8::1" as libunbound writes them, with @. */
static bool forward_text(struct str server, char *out, size_t size)
{
    struct str host = server, port = STR_NULL;
    char address[INET6_ADDRSTRLEN];
    unsigned char binary[16];
    uint32_t number;

    if (str_starts(server, STR("["))) {
        if (!str_cut(str_from(server, 1), ']', &host, &port) ||
            (port.n > 0 && !str_skip_prefix(&port, STR(":"))))
            return false;
    } else if (str_index(server, ':') == str_rindex(server, ':')) {
        str_cut(server, ':', &host, &port);
    }
    if (host.n == 0 || host.n >= sizeof address)
        return false;
    memcpy(address, host.p, host.n);
    address[host.n] = '\0';
    if (inet_pton(AF_INET, address, binary) != 1 && inet_pton(AF_INET6, address, binary) != 1)
        return false;
    if (port.n == 0)
        port = STR("53");
    if (!str_to_u32(port, &number) || number == 0 || number > 65535)
        return false;
    snprintf(out, size, "%s@%u", address, number);
    return true;
}

static void choose_servers(struct ub_ctx *context)
{
    char forward[INET6_ADDRSTRLEN + 8];

    if (config.dns_server[0] == '\0')
        ub_ctx_resolvconf(context, NULL); /* without nameservers there: from the root */
    else if (forward_text(str_c(config.dns_server), forward, sizeof forward))
        ub_ctx_set_fwd(context, forward);
}

/* NULL: nothing is known of the root's key. */
static const char *root_key(void)
{
    if (config.dns_root_key[0] != '\0')
        return access(config.dns_root_key, R_OK) == 0 ? config.dns_root_key : NULL;
    for (size_t i = 0; i < sizeof root_keys / sizeof root_keys[0]; i++)
        if (access(root_keys[i], R_OK) == 0)
            return root_keys[i];
    return NULL;
}

static const char *trust_file(void)
{
    return config.dns_trust_anchor[0] != '\0' ? config.dns_trust_anchor : root_key();
}

static void choose_trust(struct ub_ctx *context, bool is_forgiving)
{
    if (!is_forgiving && trust_file() != NULL)
        ub_ctx_add_ta_file(context, trust_file());
}

/* The next record of dns_override; false at the end. */
static bool next_override(struct str *rest, struct str *record)
{
    while (rest->n > 0) {
        str_cut(*rest, ';', record, rest);
        *record = str_trim(*record);
        if (record->n > 0)
            return true;
    }
    return false;
}

static int add_override(struct ub_ctx *context, struct str record, struct error *err)
{
    char *text = memory_copy_str(record);
    int status = ub_ctx_data_add(context, text);

    free(text);
    if (status == 0)
        return 0;
    return fail(err, ERR_SYNTAX,
                "dns_override: \"%.*s\" is not a record; write \"mx.test. A 127.0.0.1\"",
                (int)(record.n < 80 ? record.n : 80), record.p);
}

/* libunbound answers for a few names by itself ("localhost", "test", 127.in-addr.arpa). A name that
 * is overridden loses what it had there, and the zone around it gives way to the resolver. */
static void clear_builtin(struct ub_ctx *context, struct str record)
{
    struct str name, ignored;
    char *text;

    str_cut(record, ' ', &name, &ignored);
    text = memory_copy_str(name);
    ub_ctx_data_remove(context, text);
    free(text);
}

static int add_overrides(struct ub_ctx *context, struct error *err)
{
    struct str rest = str_c(config.dns_override), record;

    /* The first call that needs the whole context: it reads the trust anchors. */
    if (ub_ctx_zone_add(context, "test.", "transparent") != 0)
        return fail(err, ERR_SYNTAX,
                    "%s: \"%.120s\" does not hold DS or DNSKEY records; name a file such as "
                    "/usr/share/dns/root.key",
                    config.dns_trust_anchor[0] != '\0' ? "dns_trust_anchor" : "dns_root_key",
                    trust_file() == NULL ? "" : trust_file());
    ub_ctx_zone_add(context, "invalid.", "transparent");
    while (next_override(&rest, &record))
        clear_builtin(context, record);
    rest = str_c(config.dns_override);
    while (next_override(&rest, &record))
        if (add_override(context, record, err) < 0)
            return -1;
    return 0;
}

static struct ub_ctx *context_new(bool is_forgiving)
{
    struct ub_ctx *context = ub_ctx_create();

    if (context == NULL)
        return NULL;
    ub_ctx_debugout(context, NULL); /* what it would say on standard error is no log line of ours */
    ub_ctx_async(context, 1);       /* a thread: our loop waits for nothing but its pipe */
    set_option(context, "do-not-query-localhost:", "no");
    set_option(context, "unblock-lan-zones:", "yes");
    set_option(context, "infra-keep-probing:", "yes");
    if (!config.dns_cache) {
        set_option(context, "cache-max-ttl:", "0");
        set_option(context, "cache-max-negative-ttl:", "0");
    }
    choose_servers(context);
    choose_trust(context, is_forgiving);
    return context;
}

static void answers_came(struct loop_fd *lfd, uint32_t events)
{
    ub_process(CONTAINER_OF(lfd, struct resolver, io)->context);
}

/* libunbound parses records in buffers larger than a fiber's stack, so a helper thread makes the context. */
struct opening {
    bool is_forgiving;
    struct ub_ctx *context;
    struct error err; /* of dns_override */
};

static void opening_run(void *arg)
{
    struct opening *opening = arg;

    opening->context = context_new(opening->is_forgiving);
    if (opening->context != NULL)
        add_overrides(opening->context, &opening->err);
}

static struct resolver *resolver_open(bool is_forgiving, struct error *err)
{
    struct opening opening = {.is_forgiving = is_forgiving};
    struct resolver *r;

    offload(opening_run, &opening);
    if (opening.context == NULL) {
        fail(err, ERR_TRY_LATER, "names cannot be looked up now");
        return NULL;
    }
    if (opening.err.kind != ERR_NONE)
        log_error(NULL, "dns_override_refused", KV_ERR(&opening.err));
    r = memory_alloc(sizeof *r);
    *r = (struct resolver){.context = opening.context,
                           .io = {.fd = ub_fd(opening.context), .ready = answers_came}};
    loop_fd_set(&r->io, EPOLLIN);
    return r;
}

static void resolver_free(struct resolver **r)
{
    if (*r == NULL)
        return;
    loop_fd_set(&(*r)->io, 0);
    ub_ctx_delete((*r)->context);
    free(*r);
    *r = NULL;
}

static void resolver_retire(struct resolver **r)
{
    (*r)->is_retired = true;
    if ((*r)->pending == 0)
        resolver_free(r);
    *r = NULL;
}

/* ---- does the root validate, that is: do signatures come through? ------------------------------- */

/* Who serves is told in the log; a command that asks once has other things to say. */
static void tell_unusable(const char *why)
{
    if (dns.is_serving)
        log_warn(NULL, "dnssec_unusable", KV("reason", why));
}

static void become_strict(void)
{
    if (dns.mode == FORGIVING)
        log_info(NULL, "dnssec_usable");
    dns_cache_clear(); /* nothing that was taken as it came is secure */
    dns.mode = STRICT;
    resolver_retire(&dns.plain);
}

static void become_forgiving(void)
{
    if (dns.mode == UNDECIDED)
        tell_unusable("the resolver does not pass DNSSEC signatures on, or does not answer: DANE "
                      "is off until it does");
    dns.mode = FORGIVING;
    dns.probe_ms = loop_deadline(PROBE_AGAIN_MS);
}

static void conclude(bool is_secure)
{
    timer_clear(&dns.patience);
    if (is_secure)
        become_strict();
    else
        become_forgiving();
    LIST_EACH (at, &dns.undecided)
        fiber_wake(CONTAINER_OF(at, struct resolver_query, link)->waiter);
}

static void probe_answered(void *unused, int status, struct ub_result *result)
{
    bool is_secure = status == 0 && result->secure;

    dns.is_probing = false;
    if (status == 0)
        ub_resolve_free(result);
    conclude(is_secure);
}

static void patience_ended(struct timer *unused)
{
    conclude(false);
}

static void probe_start(void)
{
    int64_t time_ms = config.dns_timeout < PROBE_MS ? config.dns_timeout : PROBE_MS;
    int id;

    dns.patience.fire = patience_ended;
    if (dns.mode == UNDECIDED)
        timer_set(&dns.patience, loop_deadline(time_ms));
    dns.is_probing = ub_resolve_async(dns.checking->context, ".", TYPE_DNSKEY, 1, NULL,
                                      probe_answered, &id) == 0;
    if (!dns.is_probing)
        conclude(false);
}

/* ---- opening ---------------------------------------------------------------------------------- */

static int open_both(struct error *err)
{
    bool is_sure = config.dns_trust_anchor[0] != '\0' || trust_file() == NULL;

    dns.checking = resolver_open(false, err);
    if (dns.checking != NULL && !is_sure)
        dns.plain = resolver_open(true, err);
    if (dns.checking == NULL || (dns.plain == NULL && !is_sure)) {
        resolver_free(&dns.checking);
        return -1;
    }
    if (trust_file() == NULL)
        tell_unusable("the key of DNS's root is not here: DANE is off until the package "
                      "dns-root-data is installed or dns_root_key is set");
    list_init(&dns.undecided);
    dns.mode = is_sure ? STRICT : UNDECIDED;
    if (!is_sure)
        probe_start();
    return 0;
}

/* Who comes while they are being made waits for them. */
PARKS int resolver_need(struct error *err)
{
    int64_t deadline_ms = loop_deadline(config.dns_timeout);
    int status;

    if (dns.opened.waiters.next == NULL)
        wait_queue_init(&dns.opened);
    while (dns.is_opening)
        if (fiber_wake_error(wait_queue_wait(&dns.opened, deadline_ms), err) < 0)
            return -1;
    if (dns.mode == FORGIVING && !dns.is_probing && loop_now_ms() >= dns.probe_ms)
        probe_start();
    if (dns.mode != CLOSED)
        return 0;
    dns.is_opening = true;
    status = open_both(err);
    dns.is_opening = false;
    wait_queue_wake_all(&dns.opened);
    return status;
}

void dns_fini(void)
{
    timer_clear(&dns.patience);
    dns_cache_clear();
    resolver_free(&dns.checking);
    resolver_free(&dns.plain);
    dns.mode = CLOSED;
    dns.is_probing = false;
}

void dns_serve(void)
{
    dns.is_serving = true;
}

/* ---- a query ---------------------------------------------------------------------------------- */

static void leg_answered(void *arg, int status, struct ub_result *result)
{
    struct resolver_leg *leg = arg;

    leg->is_done = true;
    leg->status = status;
    leg->result = result;
    fiber_wake(leg->waiter);
}

static int leg_start(struct resolver_leg *leg, struct resolver *r, const char *name,
                     enum dns_type type)
{
    int status;

    leg->waiter = fiber_self();
    status = ub_resolve_async(r->context, name, (int)type, 1, leg, leg_answered, &leg->id);
    if (status != 0) {
        log_warn(NULL, "dns_failed", KV("reason", ub_strerror(status)));
        return -1;
    }
    leg->resolver = r;
    r->pending++;
    return 0;
}

/* Not while libunbound calls back: whoever waited is a fiber of its own. */
static void leg_end(struct resolver_leg *leg, bool is_taken)
{
    struct resolver *r = leg->resolver;

    if (r == NULL)
        return;
    if (!leg->is_done)
        ub_cancel(r->context, leg->id);
    else if (!is_taken && leg->result != NULL)
        ub_resolve_free(leg->result);
    if (--r->pending == 0 && r->is_retired)
        resolver_free(&r);
}

int resolver_query_start(struct resolver_query *q, const char *name, enum dns_type type,
                         struct error *err)
{
    *q = (struct resolver_query){.waiter = fiber_self()};
    if (dns.mode != FORGIVING)
        leg_start(&q->checking, dns.checking, name, type);
    if (dns.mode != STRICT)
        leg_start(&q->plain, dns.plain, name, type);
    if (q->checking.resolver == NULL && q->plain.resolver == NULL)
        return fail(err, ERR_TRY_LATER, "names cannot be looked up now");
    if (dns.mode == UNDECIDED)
        list_append(&dns.undecided, &q->link);
    return 0;
}

static bool is_good(const struct resolver_leg *leg)
{
    return leg->is_done && leg->status == 0 && !leg->result->bogus &&
           (leg->result->rcode == 0 || leg->result->rcode == RCODE_NXDOMAIN);
}

static struct resolver_leg *when_done(struct resolver_leg *leg)
{
    return leg->is_done ? leg : NULL;
}

/* Whose answer counts; NULL: not known yet. */
static struct resolver_leg *verdict(struct resolver_query *q)
{
    if (is_good(&q->checking))
        return &q->checking;
    if (q->plain.resolver == NULL || (dns.mode == STRICT && q->checking.resolver != NULL))
        return when_done(&q->checking);
    if (q->checking.resolver == NULL || dns.mode == FORGIVING)
        return when_done(&q->plain);
    return q->checking.is_done && !is_good(&q->plain) ? when_done(&q->plain) : NULL;
}

PARKS int resolver_query_wait(struct resolver_query *q, int64_t deadline_ms, struct error *err)
{
    enum wake wake = WAKE_READY;
    struct resolver_leg *leg;

    while ((leg = verdict(q)) == NULL && wake == WAKE_READY)
        wake = fiber_park(deadline_ms);
    if (leg == NULL && wake == WAKE_TIMED_OUT && dns.mode == UNDECIDED && is_good(&q->plain))
        leg = &q->plain;
    list_remove(&q->link);
    leg_end(&q->checking, leg == &q->checking);
    leg_end(&q->plain, leg == &q->plain);
    if (leg == NULL)
        return wake == WAKE_CANCELLED ? fiber_wake_error(wake, err)
                                      : fail(err, ERR_TRY_LATER, "DNS did not answer in time");
    if (leg->status != 0)
        return fail(err, ERR_TRY_LATER, "DNS could not answer");
    q->result = leg->result;
    q->is_provisional = leg == &q->plain && dns.mode != FORGIVING;
    return 0;
}

/* ---- settings --------------------------------------------------------------------------------- */

static bool server_is_bad(void)
{
    char forward[INET6_ADDRSTRLEN + 8];

    return config.dns_server[0] != '\0' &&
           !forward_text(str_c(config.dns_server), forward, sizeof forward);
}

static int check_key_file(const char *option, const char *path, struct error *err)
{
    if (path[0] == '\0' || access(path, R_OK) == 0)
        return 0;
    return fail(err, ERR_NOT_FOUND,
                "%s: \"%.120s\" cannot be read; name a file with DS or DNSKEY records, such as "
                "/usr/share/dns/root.key",
                option, path);
}

int dns_check_settings(struct error *err)
{
    struct opening opening = {0};

    if (server_is_bad())
        return fail(err, ERR_SYNTAX,
                    "dns_server: \"%.80s\" is not an address; write 192.0.2.53 or "
                    "[2001:db8::53]:5353",
                    config.dns_server);
    if (check_key_file("dns_trust_anchor", config.dns_trust_anchor, err) < 0 ||
        check_key_file("dns_root_key", config.dns_root_key, err) < 0)
        return -1;
    if (config.dns_override[0] == '\0' && config.dns_trust_anchor[0] == '\0' &&
        config.dns_root_key[0] == '\0')
        return 0;
    offload(opening_run, &opening);
    if (opening.context == NULL)
        return fail(err, ERR_INTERNAL, "libunbound does not start");
    ub_ctx_delete(opening.context);
    if (opening.err.kind != ERR_NONE)
        return fail(err, opening.err.kind, "%s", opening.err.text);
    return 0;
}
