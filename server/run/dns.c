/* dns.c - libunbound with its thread behind us and its pipe on our loop.
 *
 * The context is made at the first lookup. A query is started and its fiber parks; libunbound's
 * callback runs on the loop and wakes it. A query whose fiber gave up is cancelled, and libunbound
 * then never calls back, so the query may live on the fiber's stack.
 *
 * DNSSEC: what fails its check is no answer. But many resolvers strip signatures, and then nothing that is signed would
 * have an answer. So with the system's key of the root the first question is whether the root itself validates. If it does
 * not, answers are taken as they are, nothing is secure, a warning says so, and we ask again from time to time: once that
 * the root has validated, the check is strict and stays so, or a forger could turn it off. Who sets dns_trust_anchor wants
 * it strict from the start. */
#include "server/run/dns.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unbound.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/base/net.h"
#include "server/run/channel.h"
#include "server/run/config.h"
#include "server/run/dns_cache.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

#define NAME_MAX_SIZE  253
#define LABEL_MAX_SIZE 63
#define PTR_NAMES_MAX  10 /* RFC 8601, 2.7.3: a limit is wise */
#define RCODE_NXDOMAIN 3

static const char *const root_keys[] = {"/usr/share/dns/root.key", "/var/lib/unbound/root.key"};

#define PROBE_MS       5000
#define PROBE_AGAIN_MS 600000

/* libunbound with one way to trust; it goes when it was replaced and its last query is done. */
struct resolver {
    struct ub_ctx *context;
    struct loop_fd io;
    unsigned pending; /* queries */
    bool is_retired;
};

static struct {
    struct resolver *resolver;
    bool is_opening, is_forgiving;
    bool is_serving;  /* the log hears of what is wrong */
    int64_t probe_ms; /* forgiving: when to see whether it needs to be */
    struct wait_queue opened;
} dns;

struct query {
    struct fiber *waiter;
    struct resolver *resolver;
    int id;
    bool is_known; /* nobody needs to be asked */
    bool is_done;
    int status; /* libunbound's; 0: there is a result */
    struct ub_result *result;
};

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

static void resolver_free(struct resolver *r)
{
    loop_fd_set(&r->io, 0);
    ub_ctx_delete(r->context);
    free(r);
}

static void query_answered(void *arg, int status, struct ub_result *result)
{
    struct query *q = arg;

    q->is_done = true;
    q->status = status;
    q->result = result;
    fiber_wake(q->waiter);
}

/* Every one that was asked is waited for. */
static int ask(struct query *q, struct resolver *r, const char *name, enum dns_type type,
               struct error *err)
{
    int status = ub_resolve_async(r->context, name, (int)type, 1, q, query_answered, &q->id);

    if (status != 0) {
        log_warn(NULL, "dns_failed", KV("reason", ub_strerror(status)));
        return fail(err, ERR_TRY_LATER, "names cannot be looked up now");
    }
    q->resolver = r;
    r->pending++;
    return 0;
}

/* Not while libunbound calls back: whoever waited is a fiber of its own. */
static void query_leave(struct query *q)
{
    struct resolver *r = q->resolver;

    if (!q->is_done)
        ub_cancel(r->context, q->id);
    if (--r->pending == 0 && r->is_retired)
        resolver_free(r);
}

static int query_wait(struct query *q, int64_t deadline_ms, struct error *err)
{
    enum wake wake = WAKE_READY;

    while (!q->is_done && wake == WAKE_READY)
        wake = fiber_park(deadline_ms);
    query_leave(q);
    if (!q->is_done)
        return wake == WAKE_CANCELLED ? fiber_wake_error(wake, err)
                                      : fail(err, ERR_TRY_LATER, "DNS did not answer in time");
    if (q->status != 0)
        return fail(err, ERR_TRY_LATER, "DNS could not answer");
    return 0;
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

/* Does the root validate, that is: do signatures come through? */
static bool probe(struct resolver *r)
{
    int64_t time_ms = config.dns_timeout < PROBE_MS ? config.dns_timeout : PROBE_MS;
    struct query q = {.waiter = fiber_self()};
    bool is_secure;

    if (ask(&q, r, ".", DNS_SOA, NULL) < 0 || query_wait(&q, loop_deadline(time_ms), NULL) < 0)
        return false;
    is_secure = q.result->secure;
    ub_resolve_free(q.result);
    return is_secure;
}

/* Who serves is told in the log; a command that asks once has other things to say. */
static void tell_unusable(const char *why)
{
    if (dns.is_serving)
        log_warn(NULL, "dnssec_unusable", KV("reason", why));
}

/* A resolver that checks and can; else one that does not check. */
static struct resolver *choose_resolver(struct error *err)
{
    struct resolver *strict = resolver_open(false, err);

    dns.probe_ms = loop_deadline(PROBE_AGAIN_MS);
    if (strict == NULL)
        return dns.resolver;
    if (trust_file() == NULL)
        tell_unusable("the key of DNS's root is not here: DANE is off until the package "
                      "dns-root-data is installed or dns_root_key is set");
    if (config.dns_trust_anchor[0] != '\0' || trust_file() == NULL || probe(strict)) {
        dns.is_forgiving = false;
        return strict;
    }
    resolver_free(strict);
    if (!dns.is_forgiving)
        tell_unusable("the resolver does not pass DNSSEC signatures on, or does not answer: DANE "
                      "is off until it does");
    dns.is_forgiving = true;
    return dns.resolver != NULL ? dns.resolver : resolver_open(true, err);
}

static int resolver_start(struct error *err)
{
    struct resolver *old = dns.resolver, *chosen;

    dns.is_opening = true;
    chosen = choose_resolver(err);
    dns.is_opening = false;
    wait_queue_wake_all(&dns.opened);
    if (chosen == NULL)
        return -1;
    dns.resolver = chosen;
    if (old == NULL || old == chosen)
        return 0;
    log_info(NULL, "dnssec_usable");
    dns_cache_clear(); /* nothing in it is secure */
    old->is_retired = true;
    if (old->pending == 0)
        resolver_free(old);
    return 0;
}

/* Who comes while the first one is being made waits for it. */
static int resolver_need(int64_t deadline_ms, struct error *err)
{
    bool is_time;

    if (dns.opened.waiters.next == NULL)
        wait_queue_init(&dns.opened);
    while (dns.resolver == NULL && dns.is_opening)
        if (fiber_wake_error(wait_queue_wait(&dns.opened, deadline_ms), err) < 0)
            return -1;
    is_time = dns.is_forgiving && !dns.is_opening && loop_now_ms() >= dns.probe_ms;
    return dns.resolver != NULL && !is_time ? 0 : resolver_start(err);
}

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

void dns_fini(void)
{
    dns_cache_clear();
    if (dns.resolver == NULL)
        return;
    resolver_free(dns.resolver);
    dns.resolver = NULL;
    dns.is_forgiving = false;
}

/* ---- a query ------------------------------------------------------------------------------- */

/* The size of the first byte as names are written here: itself, or \DDD; 0: impossible. */
static size_t name_byte_size(struct str s)
{
    unsigned value = 0;

    if (s.p[0] != '\\')
        return s.p[0] > ' ' && s.p[0] <= '~' && s.p[0] != '"';
    for (size_t i = 1; i <= 3; i++) {
        if (i >= s.n || s.p[i] < '0' || s.p[i] > '9')
            return 0;
        value = 10 * value + (unsigned)(s.p[i] - '0');
    }
    return value <= 255 ? 4 : 0;
}

/* Labels of 1 to 63 bytes: letters, digits, what else printable ASCII has, and any byte as \DDD. */
static bool name_is_possible(struct str name)
{
    size_t size = 0, label_size = 0;

    if (name.n > 0 && name.p[name.n - 1] == '.')
        name.n--;
    for (size_t step; name.n > 0; name = str_from(name, step)) {
        step = name_byte_size(name);
        if (step == 0 || (name.p[0] == '.' && label_size == 0))
            return false;
        label_size = name.p[0] == '.' ? 0 : label_size + 1;
        if (label_size > LABEL_MAX_SIZE || ++size > NAME_MAX_SIZE)
            return false;
    }
    return label_size > 0;
}

static int query_start(struct query *q, struct str name, enum dns_type type, int64_t deadline_ms,
                       struct error *err)
{
    char text[4 * NAME_MAX_SIZE + 2]; /* every byte as \DDD */

    *q = (struct query){.waiter = fiber_self()};
    if (!name_is_possible(name))
        return fail(err, ERR_SYNTAX, "this is no domain name");
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    if (resolver_need(deadline_ms, err) < 0)
        return -1;
    return ask(q, dns.resolver, text, type, err);
}

static void copy_rdata(struct arena *a, const struct ub_result *result, struct dns_answer *out)
{
    out->status = DNS_FOUND;
    while (result->data[out->count] != NULL)
        out->count++;
    out->rdata = ARENA_ARRAY(a, out->count, struct str);
    for (size_t i = 0; i < out->count; i++)
        out->rdata[i] = arena_str(a, str_of(result->data[i], (size_t)result->len[i]));
}

/* Takes the result; the answer lives in the arena. */
static int query_finish(struct arena *a, struct query *q, struct dns_answer *out, struct error *err)
{
    struct ub_result *result = q->result;
    int status = 0;

    out->is_secure = result->secure;
    out->is_bogus = result->bogus;
    out->ttl_s = (uint32_t)result->ttl;
    if (result->canonname != NULL)
        out->canonical_name = arena_str(a, str_c(result->canonname));
    if (result->bogus)
        status = fail(err, ERR_TRY_LATER, "the DNS answer failed its DNSSEC check");
    else if (result->havedata)
        copy_rdata(a, result, out);
    else if (result->nxdomain || result->rcode == RCODE_NXDOMAIN)
        out->status = DNS_NO_NAME;
    else if (result->rcode != 0)
        status = fail(err, ERR_TRY_LATER, "DNS could not answer");
    else
        out->status = DNS_NO_DATA;
    ub_resolve_free(result);
    q->result = NULL;
    return status;
}

static bool find_known(struct arena *a, struct str name, enum dns_type type, struct dns_answer *out)
{
    return config.dns_cache && dns_cache_find(a, name, type, out);
}

/* The answer, which is remembered. */
static int query_take(struct arena *a, struct query *q, struct str name, enum dns_type type,
                      struct dns_answer *out, struct error *err)
{
    if (query_finish(a, q, out, err) < 0)
        return -1;
    if (config.dns_cache)
        dns_cache_add(name, type, out);
    return 0;
}

PARKS int dns_lookup(struct arena *a, struct str name, enum dns_type type, struct dns_answer *out,
                     struct error *err)
{
    int64_t deadline_ms = loop_deadline(config.dns_timeout);
    struct query q;

    if (find_known(a, name, type, out))
        return 0;
    *out = (struct dns_answer){.status = DNS_NO_DATA};
    if (query_start(&q, name, type, deadline_ms, err) < 0 || query_wait(&q, deadline_ms, err) < 0)
        return -1;
    return query_take(a, &q, name, type, out, err);
}

PARKS void dns_lookup_all(struct arena *a, struct dns_question *v, size_t count, int64_t timeout_ms)
{
    int64_t deadline_ms = loop_deadline(timeout_ms);
    struct query *queries = ARENA_ARRAY(a, count, struct query);

    for (size_t i = 0; i < count; i++) {
        v[i].err.kind = ERR_NONE;
        queries[i].is_known = find_known(a, v[i].name, v[i].type, &v[i].answer);
        if (queries[i].is_known)
            continue;
        v[i].answer = (struct dns_answer){.status = DNS_NO_DATA};
        query_start(&queries[i], v[i].name, v[i].type, deadline_ms, &v[i].err);
    }
    /* Each is waited for or cancelled, whatever became of the others: libunbound knows where they are. */
    for (size_t i = 0; i < count; i++)
        if (v[i].err.kind == ERR_NONE && !queries[i].is_known)
            query_wait(&queries[i], deadline_ms, &v[i].err);
    for (size_t i = 0; i < count; i++)
        if (v[i].err.kind == ERR_NONE && !queries[i].is_known)
            query_take(a, &queries[i], v[i].name, v[i].type, &v[i].answer, &v[i].err);
}

struct str dns_escape_name(struct arena *a, struct str raw)
{
    char *text = arena_alloc(a, 4 * raw.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < raw.n; i++) {
        unsigned char c = (unsigned char)raw.p[i];

        if (c > ' ' && c <= '~' && c != '\\' && c != '"')
            text[n++] = (char)c;
        else
            n += (size_t)sprintf(text + n, "\\%03u", c);
    }
    return str_of(text, n);
}

/* ---- what rdata holds ---------------------------------------------------------------------- */

static void add_label(struct buf *out, struct str label)
{
    if (out->n > 0)
        buf_addc(out, '.');
    for (size_t i = 0; i < label.n; i++) {
        unsigned char c = (unsigned char)label.p[i];

        if (c <= ' ' || c > '~')
            buf_addf(out, "\\%03u", c);
        else if (c == '.' || c == '\\')
            buf_addf(out, "\\%c", c);
        else
            buf_addc(out, (char)c);
    }
}

struct str dns_rdata_name(struct arena *a, struct str rdata, size_t at)
{
    struct str name = STR_NULL;
    struct buf text;

    buf_init(&text, 4 * (NAME_MAX_SIZE + 2));
    while (at < rdata.n) {
        size_t size = (unsigned char)rdata.p[at++];

        if (size == 0) {
            name = arena_str(a, buf_str(&text));
            break;
        }
        if (size > LABEL_MAX_SIZE || size > rdata.n - at)
            break;
        add_label(&text, str_of(rdata.p + at, size));
        at += size;
    }
    buf_fini(&text);
    return name;
}

static int compare_mx(const void *left, const void *right)
{
    const struct dns_mx *a = left, *b = right;

    return (a->preference > b->preference) - (a->preference < b->preference);
}

PARKS int dns_lookup_mx(struct arena *a, struct str name, struct dns_mx **out, size_t *count,
                        struct dns_answer *answer, struct error *err)
{
    *count = 0;
    *out = NULL;
    if (dns_lookup(a, name, DNS_MX, answer, err) < 0)
        return -1;
    *out = ARENA_ARRAY(a, answer->count + 1, struct dns_mx);
    for (size_t i = 0; i < answer->count; i++) {
        struct str rdata = answer->rdata[i];

        if (rdata.n < 3)
            continue;
        (*out)[(*count)++] = (struct dns_mx){
            .preference = (uint16_t)((unsigned char)rdata.p[0] << 8 | (unsigned char)rdata.p[1]),
            .host = dns_rdata_name(a, rdata, 2),
        };
    }
    qsort(*out, *count, sizeof **out, compare_mx);
    return 0;
}

/* The character strings of one record, joined (RFC 7208, 3.3; RFC 6376, 3.6.2.2). */
static struct str join_txt(struct arena *a, struct str rdata)
{
    char *text = arena_alloc(a, rdata.n + 1);
    size_t n = 0;

    while (rdata.n > 0) {
        struct str part = str_head(str_from(rdata, 1), (unsigned char)rdata.p[0]);

        memcpy(text + n, part.p, part.n);
        n += part.n;
        rdata = str_from(rdata, 1 + part.n);
    }
    return str_of(text, n);
}

PARKS int dns_lookup_txt(struct arena *a, struct str name, struct str **out, size_t *count,
                         struct dns_answer *answer, struct error *err)
{
    *count = 0;
    *out = NULL;
    if (dns_lookup(a, name, DNS_TXT, answer, err) < 0)
        return -1;
    *out = ARENA_ARRAY(a, answer->count + 1, struct str);
    for (size_t i = 0; i < answer->count; i++)
        (*out)[(*count)++] = join_txt(a, answer->rdata[i]);
    return 0;
}

/* ---- addresses ----------------------------------------------------------------------------- */

static bool address_of(struct str rdata, struct sockaddr_storage *out)
{
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

    memset(out, 0, sizeof *out);
    if (rdata.n == 4) {
        in->sin_family = AF_INET;
        memcpy(&in->sin_addr, rdata.p, 4);
    } else if (rdata.n == 16) {
        in6->sin6_family = AF_INET6;
        memcpy(&in6->sin6_addr, rdata.p, 16);
    }
    return out->ss_family != 0;
}

static void add_addresses(const struct dns_answer *from, struct sockaddr_storage *to, size_t *count)
{
    for (size_t i = 0; i < from->count; i++)
        if (address_of(from->rdata[i], &to[*count]))
            (*count)++;
}

/* One answer for both: there is the name when one says so, and secure is what both are. */
static void merge_answers(struct dns_answer *v4, const struct dns_answer *v6)
{
    if (v4->status != DNS_FOUND && v6->status != DNS_NO_NAME)
        v4->status = v6->status;
    v4->is_secure = v4->is_secure && v6->is_secure;
    v4->is_bogus = v4->is_bogus || v6->is_bogus;
    if (v6->count > 0 && (v4->count == 0 || v6->ttl_s < v4->ttl_s))
        v4->ttl_s = v6->ttl_s;
    if (v4->canonical_name.n == 0)
        v4->canonical_name = v6->canonical_name;
}

/* One half of the answer is enough, if there is an address in it. What the half that is missing would have said takes
 * nothing away from it: or whoever drops one answer could turn DNSSEC off. */
static int lookup_both(struct arena *a, struct str host, struct dns_answer *v4,
                       struct dns_answer *v6, struct error *err)
{
    struct dns_question q[2] = {{.name = host, .type = DNS_A}, {.name = host, .type = DNS_AAAA}};

    dns_lookup_all(a, q, 2, config.dns_timeout);
    *v4 = q[0].answer;
    *v6 = q[1].answer;
    if (q[0].err.kind != ERR_NONE)
        v4->is_secure = v6->is_secure;
    if (q[1].err.kind != ERR_NONE)
        v6->is_secure = v4->is_secure;
    if (v4->count > 0 || v6->count > 0)
        return 0;
    for (size_t i = 0; i < 2; i++)
        if (q[i].err.kind != ERR_NONE)
            return fail(err, q[i].err.kind, "%s", q[i].err.text);
    return 0;
}

PARKS int dns_lookup_addresses(struct arena *a, struct str host, struct sockaddr_storage **out,
                               size_t *count, struct dns_answer *answer, struct error *err)
{
    struct dns_answer v4 = {.status = DNS_NO_DATA}, v6 = {.status = DNS_NO_DATA};

    *count = 0;
    *out = NULL;
    *answer = (struct dns_answer){.status = DNS_NO_DATA};
    if (lookup_both(a, host, &v4, &v6, err) < 0)
        return -1;
    *out = ARENA_ARRAY(a, v4.count + v6.count + 1, struct sockaddr_storage);
    add_addresses(&v4, *out, count);
    add_addresses(&v6, *out, count);
    merge_answers(&v4, &v6);
    *answer = v4;
    return 0;
}

static bool is_ipv4(const uint8_t address[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    return memcmp(address, mapped, sizeof mapped) == 0;
}

struct str dns_reversed(struct arena *a, const struct sockaddr_storage *address)
{
    uint8_t p[16];
    char text[64];
    size_t n = 0;

    if (!net_address(address, p))
        return STR_NULL;
    if (is_ipv4(p))
        return arena_printf(a, "%u.%u.%u.%u", p[15], p[14], p[13], p[12]);
    for (int i = 15; i >= 0; i--) {
        text[n++] = "0123456789abcdef"[p[i] & 15];
        text[n++] = '.';
        text[n++] = "0123456789abcdef"[p[i] >> 4];
        text[n++] = '.';
    }
    return arena_str(a, str_of(text, n - 1));
}

/* Is the client among the addresses of an answer? */
static bool answer_has(const struct dns_answer *answer, const uint8_t address[16])
{
    size_t size = is_ipv4(address) ? 4 : 16;

    for (size_t i = 0; i < answer->count; i++)
        if (answer->rdata[i].n == size &&
            memcmp(answer->rdata[i].p, address + 16 - size, size) == 0)
            return true;
    return false;
}

/* The names of the PTR records, as questions for their addresses. */
static size_t ask_names(struct arena *a, const struct dns_answer *ptr, enum dns_type type,
                        struct dns_question *q)
{
    size_t count = 0;

    for (size_t i = 0; i < ptr->count && count < PTR_NAMES_MAX; i++) {
        struct str name = dns_rdata_name(a, ptr->rdata[i], 0);

        if (name_is_possible(name))
            q[count++] = (struct dns_question){.name = name, .type = type};
    }
    dns_lookup_all(a, q, count, config.dns_timeout);
    return count;
}

PARKS int dns_lookup_reverse(struct arena *a, const struct sockaddr_storage *address,
                             struct dns_reverse *out, struct error *err)
{
    struct dns_question *q = ARENA_ARRAY(a, PTR_NAMES_MAX, struct dns_question);
    struct str reversed = dns_reversed(a, address);
    struct dns_answer ptr;
    uint8_t binary[16];
    size_t count;

    *out = (struct dns_reverse){.names = ARENA_ARRAY(a, PTR_NAMES_MAX, struct str)};
    if (!net_address(address, binary))
        return 0; /* a unix socket has no name */
    reversed =
        arena_printf(a, "%.*s.%s.arpa.", STR_ARG(reversed), is_ipv4(binary) ? "in-addr" : "ip6");
    if (dns_lookup(a, reversed, DNS_PTR, &ptr, err) < 0)
        return -1;
    out->ptr_count = ptr.count;
    count = ask_names(a, &ptr, is_ipv4(binary) ? DNS_A : DNS_AAAA, q);
    for (size_t i = 0; i < count; i++) {
        if (q[i].err.kind != ERR_NONE)
            out->is_incomplete = true;
        else if (answer_has(&q[i].answer, binary))
            out->names[out->count++] = q[i].name;
    }
    return 0;
}

PARKS int dns_confirmed_name(struct arena *a, const struct sockaddr_storage *address,
                             struct str *out, struct error *err)
{
    struct dns_reverse reverse;

    *out = STR_NULL;
    if (dns_lookup_reverse(a, address, &reverse, err) < 0)
        return -1;
    if (reverse.count == 0 && reverse.is_incomplete)
        return fail(err, ERR_TRY_LATER, "DNS could not answer");
    if (reverse.count > 0)
        *out = reverse.names[0];
    return 0;
}

void dns_serve(void)
{
    dns.is_serving = true;
}
