/* dnsbl.c - asks DNS block and allow lists about one client. What a match means is for the caller to decide. */
#include "mail/authentic/dnsbl.h"

#include <arpa/inet.h>

#include "server/base/net.h"
#include "server/run/dns.h"
#include "server/run/loop.h"

#define WEIGHT_MAX      1000
#define REASON_SIZE_MAX 200
#define ANSWERS_MAX     32 /* of one zone that are looked at */

#define ADDRESS(a, b, c, d) ((uint32_t)(a) << 24 | (b) << 16 | (c) << 8 | (d))

/* ---- the list as settings write it ----------------------------------------------------------- */

static bool read_address(struct str s, uint32_t *out)
{
    char text[INET_ADDRSTRLEN];
    struct in_addr in;

    if (s.n == 0 || s.n >= sizeof text || memchr(s.p, '\0', s.n) != NULL)
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    if (inet_pton(AF_INET, text, &in) != 1)
        return false;
    *out = ntohl(in.s_addr);
    return true;
}

/* "127.0.0.2", "127.0.0.2-11" or "127.0.0.2-127.0.1.255". */
static bool read_range(struct str s, struct dnsbl_zone *zone)
{
    struct str first, last;
    uint32_t byte;

    if (!str_cut(s, '-', &first, &last)) {
        if (!read_address(first, &zone->first))
            return false;
        zone->last = zone->first;
        return zone->first >> 24 == 127;
    }
    if (!read_address(first, &zone->first))
        return false;
    if (str_to_u32(last, &byte) && byte <= 255)
        zone->last = (zone->first & ~255u) | byte;
    else if (!read_address(last, &zone->last))
        return false;
    return zone->first >> 24 == 127 && zone->last >> 24 == 127 && zone->first <= zone->last;
}

static bool read_weight(struct str s, struct dnsbl_zone *zone)
{
    bool is_negative = str_skip_prefix(&s, STR("-"));
    uint32_t number;

    if (!str_to_u32(s, &number) || number > WEIGHT_MAX)
        return false;
    zone->weight = is_negative ? -(int)number : (int)number;
    return true;
}

static bool is_zone_name(struct str s)
{
    if (s.n == 0 || s.n > 180) /* the address comes before it */
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = ascii_lower(s.p[i]);

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_' && c != '.')
            return false;
    }
    return s.p[0] != '.' && str_find(s, STR("..")) < 0;
}

static bool read_entry(struct str entry, struct dnsbl_zone *zone)
{
    struct str range, weight;

    *zone = (struct dnsbl_zone){
        .first = ADDRESS(127, 0, 0, 0), .last = ADDRESS(127, 255, 255, 255), .weight = 1};
    if (str_cut(entry, '*', &entry, &weight) && !read_weight(weight, zone))
        return false;
    if (str_cut(entry, '=', &zone->name, &range) && !read_range(range, zone))
        return false;
    return is_zone_name(zone->name);
}

static bool next_entry(struct str *rest, struct str *entry)
{
    size_t n = 0;

    while (rest->n > 0 && (rest->p[0] == ',' || rest->p[0] == ' ' || rest->p[0] == '\t'))
        *rest = str_from(*rest, 1);
    while (n < rest->n && rest->p[n] != ',' && rest->p[n] != ' ' && rest->p[n] != '\t')
        n++;
    *entry = str_head(*rest, n);
    *rest = str_from(*rest, n);
    return n > 0;
}

int dnsbl_parse(struct arena *a, struct str text, struct dnsbl_list *out, struct error *err)
{
    struct str rest = arena_str(a, text), entry;

    *out = (struct dnsbl_list){.zones = ARENA_ARRAY(a, DNSBL_ZONES_MAX, struct dnsbl_zone)};
    while (next_entry(&rest, &entry)) {
        if (out->count == DNSBL_ZONES_MAX)
            return fail(err, ERR_SYNTAX, "more than %d DNS lists: name fewer", DNSBL_ZONES_MAX);
        if (!read_entry(entry, &out->zones[out->count]))
            return fail(
                err, ERR_SYNTAX,
                "\"%.*s\" is no DNS list: write zone, zone=127.0.0.2-11 or zone=127.0.0.2*3",
                STR_ARG(str_head(entry, 80)));
        out->count++;
    }
    return 0;
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* This machine's and private networks' addresses are listed nowhere (RFC 5782, 5). */
static bool is_askable(const struct sockaddr_storage *client)
{
    static const struct str private =
        STR("0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, "
            "192.168.0.0/16, ::1, ::, fc00::/7, fe80::/10");
    uint8_t address[16];

    return net_address(client, address) && !net_list_contains(private, client);
}

/* The first answer within the zone's range, or 0. */
static uint32_t matching_code(const struct dnsbl_zone *zone, const struct dns_answer *answer)
{
    for (size_t i = 0; i < answer->count && i < ANSWERS_MAX; i++) {
        const unsigned char *p = (const unsigned char *)answer->rdata[i].p;
        uint32_t code;

        if (answer->rdata[i].n != 4)
            continue;
        code = ADDRESS(p[0], p[1], p[2], p[3]);
        if (code >= zone->first && code <= zone->last &&
            code >> 8 != ADDRESS(127, 255, 255, 0) >> 8)
            return code;
    }
    return 0;
}

/* The first string of a TXT record, fit for a reply. */
static struct str reason_of(struct arena *a, const struct dns_answer *answer)
{
    struct str rdata, text;
    char *out;

    if (answer->count == 0 || answer->rdata[0].n < 2)
        return STR_NULL;
    rdata = answer->rdata[0];
    text = str_head(str_from(rdata, 1), (unsigned char)rdata.p[0]);
    text = str_head(text, REASON_SIZE_MAX);
    out = arena_alloc(a, text.n + 1);
    for (size_t i = 0; i < text.n; i++)
        out[i] = text.p[i] >= ' ' && text.p[i] <= '~' ? text.p[i] : '?';
    return str_of(out, text.n);
}

/* Questions of one type for `count` zones, all at once. */
static struct dns_question *ask_zones(struct arena *a, struct str reversed,
                                      const struct dnsbl_zone *const *zones, size_t count,
                                      enum dns_type type, int64_t timeout_ms)
{
    struct dns_question *q = ARENA_ARRAY(a, count, struct dns_question);

    for (size_t i = 0; i < count; i++) {
        q[i].name = arena_printf(a, "%.*s.%.*s", STR_ARG(reversed), STR_ARG(zones[i]->name));
        q[i].type = type;
    }
    dns_lookup_all(a, q, count, timeout_ms);
    return q;
}

/* A list without a reason, or one too slow to tell it, has still said that the client is in it. */
static void add_reasons(struct arena *a, struct str reversed, int64_t timeout_ms,
                        struct dnsbl_answer *out)
{
    const struct dnsbl_zone **zones = ARENA_ARRAY(a, out->count + 1, const struct dnsbl_zone *);
    struct dns_question *q;

    for (size_t i = 0; i < out->count; i++)
        zones[i] = out->matches[i].zone;
    q = ask_zones(a, reversed, zones, out->count, DNS_TXT, timeout_ms);
    for (size_t i = 0; i < out->count; i++)
        if (q[i].err.kind == ERR_NONE)
            out->matches[i].reason = reason_of(a, &q[i].answer);
}

static void add_match(const struct dnsbl_zone *zone, uint32_t code, struct dnsbl_answer *out)
{
    out->matches[out->count++] = (struct dnsbl_match){.zone = zone, .code = code};
    out->weight += zone->weight;
}

PARKS void dnsbl_check(struct arena *a, const struct dnsbl_list *list,
                       const struct sockaddr_storage *client, int64_t timeout_ms,
                       struct dnsbl_answer *out)
{
    const struct dnsbl_zone **zones = ARENA_ARRAY(a, list->count + 1, const struct dnsbl_zone *);
    int64_t deadline_ms = loop_deadline(timeout_ms);
    struct str reversed = dns_reversed(a, client);
    struct dns_question *q;

    *out = (struct dnsbl_answer){.matches = ARENA_ARRAY(a, list->count + 1, struct dnsbl_match)};
    if (list->count == 0 || !is_askable(client))
        return;
    for (size_t i = 0; i < list->count; i++)
        zones[i] = &list->zones[i];
    q = ask_zones(a, reversed, zones, list->count, DNS_A, timeout_ms);
    for (size_t i = 0; i < list->count; i++) {
        uint32_t code = matching_code(zones[i], &q[i].answer);

        out->failed_count += q[i].err.kind != ERR_NONE;
        if (code != 0)
            add_match(zones[i], code, out);
    }
    if (out->count > 0 && loop_now_ms() < deadline_ms)
        add_reasons(a, reversed, deadline_ms - loop_now_ms(), out);
}
