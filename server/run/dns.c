/* dns.c - lookups: names as libunbound takes them, the cache, and what records hold. dns_resolver.c asks. */
#include "server/run/dns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/net.h"
#include "server/run/config.h"
#include "server/run/dns_cache.h"
#include "server/run/dns_resolver.h"
#include "server/run/loop.h"

#define NAME_MAX_SIZE  253
#define LABEL_MAX_SIZE 63
#define PTR_NAMES_MAX  10 /* RFC 8601, 2.7.3: a limit is wise */

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

static int query_start(struct resolver_query *q, struct str name, enum dns_type type,
                       struct error *err)
{
    char text[4 * NAME_MAX_SIZE + 2]; /* every byte as \DDD */

    if (!name_is_possible(name))
        return fail(err, ERR_SYNTAX, "this is no domain name");
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    return resolver_query_start(q, text, type, err);
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
static int query_finish(struct arena *a, struct resolver_query *q, struct dns_answer *out,
                        struct error *err)
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

/* The answer, which is remembered unless a checked one may follow. */
static int query_take(struct arena *a, struct resolver_query *q, struct str name,
                      enum dns_type type, struct dns_answer *out, struct error *err)
{
    if (query_finish(a, q, out, err) < 0)
        return -1;
    if (config.dns_cache && !q->is_provisional)
        dns_cache_add(name, type, out);
    return 0;
}

PARKS int dns_lookup(struct arena *a, struct str name, enum dns_type type, struct dns_answer *out,
                     struct error *err)
{
    struct resolver_query q;

    if (find_known(a, name, type, out))
        return 0;
    *out = (struct dns_answer){.status = DNS_NO_DATA};
    if (resolver_need(err) < 0 || query_start(&q, name, type, err) < 0 ||
        resolver_query_wait(&q, loop_deadline(config.dns_timeout), err) < 0)
        return -1;
    return query_take(a, &q, name, type, out, err);
}

/* Answers that are known are taken, the other questions started. */
static void start_all(struct arena *a, struct dns_question *v, size_t count,
                      struct resolver_query *queries)
{
    for (size_t i = 0; i < count; i++) {
        v[i].err.kind = ERR_NONE;
        queries[i].waiter = NULL;
        if (find_known(a, v[i].name, v[i].type, &v[i].answer))
            continue;
        v[i].answer = (struct dns_answer){.status = DNS_NO_DATA};
        if (resolver_need(&v[i].err) == 0)
            query_start(&queries[i], v[i].name, v[i].type, &v[i].err);
    }
}

static bool is_asked(const struct dns_question *v, const struct resolver_query *q)
{
    return v->err.kind == ERR_NONE && q->waiter != NULL;
}

PARKS void dns_lookup_all(struct arena *a, struct dns_question *v, size_t count, int64_t timeout_ms)
{
    struct resolver_query *queries = ARENA_ARRAY(a, count, struct resolver_query);
    int64_t deadline_ms;

    start_all(a, v, count, queries);
    deadline_ms = loop_deadline(timeout_ms);
    /* Each is waited for or cancelled, whatever became of the others: libunbound knows where they are. */
    for (size_t i = 0; i < count; i++)
        if (is_asked(&v[i], &queries[i]))
            resolver_query_wait(&queries[i], deadline_ms, &v[i].err);
    for (size_t i = 0; i < count; i++)
        if (is_asked(&v[i], &queries[i]))
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
