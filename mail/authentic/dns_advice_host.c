/* dns_advice_host.c - the host itself: its addresses, their names, who may send from them, and lists of the unwanted. */
#include "mail/authentic/dns_advice_internal.h"
#include "mail/authentic/dnsbl.h"
#include "mail/authentic/spf.h"
#include "server/base/net.h"

#define BLOCK_LIST_MS 10000

/* ---- addresses ----------------------------------------------------------------------------- */

static const char *address_type(const struct sockaddr_storage *address)
{
    uint8_t binary[16];
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    return net_address(address, binary) && memcmp(binary, mapped, sizeof mapped) == 0 ? "A"
                                                                                      : "AAAA";
}

static struct str address_lines(struct advice_check *c, const struct sockaddr_storage *v,
                                size_t count)
{
    struct str out = STR("");

    for (size_t i = 0; i < count; i++) {
        struct str line = advice_line(c->a, c->facts->hostname, address_type(&v[i]),
                                      advice_address_text(c->a, &v[i]));

        out = str_empty(out) ? line : arena_printf(c->a, "%.*s\n%.*s", STR_ARG(out), STR_ARG(line));
    }
    return out;
}

/* Those from which mail leaves and of which DNS does not know that they are this host's. */
static struct str unknown_addresses(struct advice_check *c, const struct sockaddr_storage *v,
                                    size_t count)
{
    struct str out = STR("");

    for (size_t i = 0; i < c->facts->address_count; i++)
        if (!advice_has_address(v, count, &c->facts->addresses[i]))
            out = advice_join(c->a, out, advice_address_text(c->a, &c->facts->addresses[i]));
    return out;
}

static void judge_addresses(struct advice_check *c, struct advice *v,
                            const struct sockaddr_storage *found, size_t count)
{
    const struct advice_facts *facts = c->facts;
    struct str unknown = unknown_addresses(c, found, count);

    v->found = advice_addresses_text(c->a, found, count);
    v->wanted = advice_addresses_text(c->a, facts->addresses, facts->address_count);
    v->zone = facts->address_count > 0 ? address_lines(c, facts->addresses, facts->address_count)
                                       : address_lines(c, found, count);
    if (str_index(facts->hostname, '.') < 0)
        advice_different(v, true,
                         STR("this is no full host name: set hostname, as in mail.example.org"));
    else if (count == 0)
        advice_missing(v, true, STR("nobody can reach the host: publish its addresses"));
    else if (!str_empty(unknown))
        advice_different(
            v, true,
            arena_printf(
                c->a,
                "mail leaves from %.*s, which DNS does not know as this host's: publish it, or "
                "send from another (delivery_source_ipv4, delivery_source_ipv6, delivery_ipv6)",
                STR_ARG(unknown)));
}

/* Says whether DNSSEC vouches for the addresses. */
static PARKS bool check_addresses(struct advice_check *c, struct advice_facts *facts)
{
    struct advice *v = advice_add(c, "A/AAAA", facts->hostname);
    struct sockaddr_storage *found;
    struct dns_answer answer;
    struct error err = {0};
    size_t count;

    if (dns_lookup_addresses(c->a, facts->hostname, &found, &count, &answer, &err) < 0) {
        advice_unanswered(c, v, true, &err);
        return false;
    }
    judge_addresses(c, v, found, count);
    if (facts->address_count == 0) {
        facts->addresses = found;
        facts->address_count = count;
    }
    return answer.is_secure;
}

/* ---- their names --------------------------------------------------------------------------- */

static void judge_names(struct advice_check *c, struct advice *v, const struct dns_reverse *reverse)
{
    for (size_t i = 0; i < reverse->count; i++)
        v->found = advice_join(c->a, v->found, reverse->names[i]);
    for (size_t i = 0; i < reverse->count; i++)
        if (str_ieq(reverse->names[i], c->facts->hostname))
            return;
    if (reverse->count > 0)
        v->remark = STR("servers greet each other by hostname: that name would be better");
    else if (reverse->ptr_count == 0)
        advice_missing(v, true,
                       STR("Gmail and many others refuse mail from addresses without a name: ask "
                           "who gave you the "
                           "address to set it (\"reverse DNS\")"));
    else
        advice_different(v, true,
                         STR("the address has a name that does not lead back to it: have it "
                             "changed where you got the "
                             "address (\"reverse DNS\")"));
}

static PARKS void check_names(struct advice_check *c)
{
    for (size_t i = 0; i < c->facts->address_count; i++) {
        struct advice *v = advice_add(c, "PTR", advice_address_text(c->a, &c->facts->addresses[i]));
        struct dns_reverse reverse;
        struct error err = {0};

        v->wanted = c->facts->hostname;
        if (dns_lookup_reverse(c->a, &c->facts->addresses[i], &reverse, &err) < 0 ||
            (reverse.count == 0 && reverse.is_incomplete &&
             fail(&err, ERR_TRY_LATER, "DNS could not say whether its name leads back") < 0))
            advice_unanswered(c, v, true, &err);
        else
            judge_names(c, v, &reverse);
    }
}

/* ---- SPF ----------------------------------------------------------------------------------- */

static struct str spf_wanted(struct advice_check *c, bool is_host)
{
    struct str out = is_host ? STR("v=spf1 a") : STR("v=spf1 mx");

    for (size_t i = 0; i < c->facts->address_count; i++) {
        const struct sockaddr_storage *address = &c->facts->addresses[i];

        out = arena_printf(c->a, "%.*s ip%c:%.*s", STR_ARG(out),
                           address_type(address)[1] == '\0' ? '4' : '6',
                           STR_ARG(advice_address_text(c->a, address)));
    }
    return arena_printf(c->a, "%.*s %s", STR_ARG(out), is_host ? "-all" : "~all");
}

static PARKS void ask_spf(struct advice_check *c, struct str domain, bool is_host,
                          const struct sockaddr_storage *client, struct spf_answer *out)
{
    struct spf_query q = {
        .client = client, .helo = c->facts->hostname, .receiver = c->facts->hostname};

    if (!is_host)
        q.sender = arena_printf(c->a, "postmaster@%.*s", STR_ARG(domain));
    spf_check(c->a, &q, out);
}

static void judge_spf(struct advice_check *c, struct advice *v, const struct spf_answer *answer,
                      const struct sockaddr_storage *client, bool is_host)
{
    struct str address = advice_address_text(c->a, client);

    if (answer->result == SPF_PASS)
        return;
    if (answer->result == SPF_TEMPERROR) {
        v->state = ADVICE_UNANSWERED;
        v->is_urgent = !is_host;
        v->remark = answer->problem;
    } else if (answer->result == SPF_NONE) {
        advice_missing(
            v, !is_host,
            is_host ? STR("bounces have no sender but this name: say who may use it")
                    : STR("others cannot tell your mail from forgeries, and many refuse it"));
    } else {
        advice_different(
            v, true,
            arena_printf(c->a, "mail from %.*s gets \"%s\"%s%.*s: name the address in the record",
                         STR_ARG(address), spf_result_name(answer->result),
                         str_empty(answer->problem) ? "" : ", because ", STR_ARG(answer->problem)));
    }
}

/* An address that is certainly nobody's mail server (RFC 5737) may not send either. */
static PARKS bool lets_everybody_send(struct advice_check *c, struct str domain)
{
    struct sockaddr_storage nobody = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&nobody;
    struct spf_answer answer;

    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(0xcb0071fe); /* 203.0.113.254 */
    ask_spf(c, domain, false, &nobody, &answer);
    return answer.result == SPF_PASS;
}

PARKS void advice_spf(struct advice_check *c, struct str domain, bool is_host)
{
    struct advice *v = advice_add(c, "SPF", domain);
    struct spf_answer answer;
    struct str *texts;
    size_t count;

    v->wanted = spf_wanted(c, is_host);
    v->zone = advice_txt_line(c->a, domain, v->wanted);
    if (!advice_texts(c, v, STR("v=spf1"), !is_host, &texts, &count))
        return;
    for (size_t i = 0; i < c->facts->address_count && v->state == ADVICE_OK; i++) {
        ask_spf(c, domain, is_host, &c->facts->addresses[i], &answer);
        judge_spf(c, v, &answer, &c->facts->addresses[i], is_host);
    }
    if (v->state == ADVICE_OK && count == 0)
        advice_missing(v, !is_host, STR("publish it as soon as the host has its addresses in DNS"));
    if (v->state == ADVICE_OK && !is_host && lets_everybody_send(c, domain))
        advice_different(v, true,
                         STR("it lets everybody send in your name: end it with ~all or -all"));
    if (v->state == ADVICE_OK && count == 1)
        v->zone = advice_txt_line(c->a, domain, texts[0]);
}

/* ---- block lists --------------------------------------------------------------------------- */

static PARKS void check_block_lists(struct advice_check *c)
{
    struct dnsbl_list lists;

    if (str_empty(c->facts->block_lists) ||
        dnsbl_parse(c->a, c->facts->block_lists, &lists, NULL) < 0)
        return;
    for (size_t i = 0; i < c->facts->address_count; i++) {
        struct advice *v =
            advice_add(c, "block lists", advice_address_text(c->a, &c->facts->addresses[i]));
        struct dnsbl_answer answer;

        dnsbl_check(c->a, &lists, &c->facts->addresses[i], BLOCK_LIST_MS, &answer);
        for (size_t k = 0; k < answer.count; k++)
            v->found = advice_join(c->a, v->found, answer.matches[k].zone->name);
        if (answer.count > 0)
            advice_different(
                v, true,
                arena_printf(
                    c->a,
                    "the address is listed; find the reason before you ask to be taken out. %.*s",
                    STR_ARG(answer.matches[0].reason)));
        else if (answer.failed_count > 0)
            v->remark = arena_printf(c->a, "%zu of %zu lists did not answer", answer.failed_count,
                                     lists.count);
    }
}

PARKS void advice_of_host(struct arena *a, struct advice_facts *facts, struct advice_list *out)
{
    struct advice_check c = {.a = a, .facts = facts, .out = out};
    bool is_secure = check_addresses(&c, facts);

    check_names(&c);
    advice_spf(&c, facts->hostname, true);
    advice_certificate(&c);
    advice_tlsa(&c, is_secure);
    check_block_lists(&c);
}
