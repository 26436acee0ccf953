/* authentic.c - the checks in the order in which they need each other, and what is said of them.
 *
 * What asks DNS about the client (iprev, SPF) runs in a fiber of its own beside the signatures. DMARC
 * judges both. Results here decide nothing: what is refused is the business of who called. */
#include "mail/authentic/authentic.h"

#include <arpa/inet.h>
#include <string.h>

#include "mail/authentic/auth_results.h"
#include "mail/mime/address.h"
#include "mail/mime/header.h"
#include "server/base/net.h"
#include "server/run/companion.h"

/* ---- the author ------------------------------------------------------------------------------ */

struct from_domains {
    struct str v[AUTHENTIC_FROM_DOMAINS_MAX];
    size_t n, field_count;
    bool is_too_many;
};

static void add_domain(struct from_domains *d, struct str domain)
{
    if (domain.n == 0)
        return;
    for (size_t i = 0; i < d->n; i++)
        if (str_ieq(d->v[i], domain))
            return;
    if (d->n < AUTHENTIC_FROM_DOMAINS_MAX)
        d->v[d->n++] = domain;
    else
        d->is_too_many = true;
}

/* Every address of every From field, since nobody knows which one a reader will be shown. */
static void find_from_domains(struct arena *a, struct str message, struct from_domains *out)
{
    struct str rest = message;
    struct header_field field;

    *out = (struct from_domains){.n = 0};
    while (header_next(&rest, &field)) {
        struct addresses list;

        if (!str_ieq(field.name, STR("From")))
            continue;
        out->field_count++;
        address_parse_list(a, field.value, &list);
        for (size_t i = 0; i < list.n; i++)
            add_domain(out, list.v[i].domain);
        fiber_pause();
    }
}

/* ---- the checks ------------------------------------------------------------------------------ */

struct client_check {
    struct arena *arena;
    const struct authentic_query *query;
    struct authentic *out;
};

static void check_client(void *arg)
{
    struct client_check *c = arg;
    struct spf_query q = {.client = c->query->client,
                          .helo = c->query->helo,
                          .sender = c->query->sender,
                          .receiver = c->query->receiver};

    iprev_check(c->arena, q.client, &c->out->iprev);
    spf_check(c->arena, &q, &c->out->spf);
    c->out->spf_helo = c->out->spf;
    if (q.sender.n == 0)
        return;
    q.sender = STR_NULL;
    spf_check(c->arena, &q, &c->out->spf_helo);
}

/* Of outcomes for one message the strictest counts. */
static int strictness(const struct dmarc_verdict *v)
{
    static const int of_result[] = {
        [DMARC_PASS] = 0,      [DMARC_NONE] = 1, [DMARC_PERMERROR] = 2,
        [DMARC_TEMPERROR] = 3, [DMARC_FAIL] = 4,
    };

    if (v->disposition != DMARC_POLICY_NONE)
        return v->disposition == DMARC_POLICY_REJECT ? 7 : 6;
    if (v->result == DMARC_TEMPERROR && v->at_stake != DMARC_POLICY_NONE)
        return 5;
    return of_result[v->result];
}

/* RFC 7489, 6.6.1: no From, or one from which no domain can be taken. Groups and bare names are no domain's business. */
static bool is_unknowable(const struct from_domains *from, const struct dmarc_verdict *v)
{
    return from->field_count == 0 || (from->n > 0 && str_empty(v->from_domain));
}

static void check_dmarc(struct arena *a, struct str message, struct authentic *out)
{
    struct from_domains from;
    struct dmarc_verdict v;

    find_from_domains(a, message, &from);
    out->from_domain = from.n > 0 ? from.v[0] : STR_NULL;
    dmarc_check(a, out->from_domain, &out->spf, &out->dkim, &out->dmarc);
    out->has_unknowable_author = is_unknowable(&from, &out->dmarc);
    for (size_t i = 1; i < from.n; i++) {
        dmarc_check(a, from.v[i], &out->spf, &out->dkim, &v);
        out->has_unknowable_author |= is_unknowable(&from, &v);
        if (strictness(&v) > strictness(&out->dmarc))
            out->dmarc = v;
    }
    out->has_too_many_authors = from.is_too_many;
    if (from.is_too_many && out->dmarc.result != DMARC_FAIL) {
        out->dmarc.result = DMARC_PERMERROR;
        out->dmarc.problem = STR("the message has authors of too many domains");
    }
}

/* Empty for a unix socket. An IPv4 client of an IPv6 socket is an IPv4 client. */
static struct str address_text(struct arena *a, const struct sockaddr_storage *client)
{
    char text[INET6_ADDRSTRLEN] = "";
    uint8_t address[16];
    bool is_v4;

    if (!net_address(client, address))
        return STR_NULL;
    is_v4 = memcmp(address, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0;
    inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? address + 12 : address, text, sizeof text);
    return arena_str(a, str_c(text));
}

PARKS void authentic_check(struct arena *a, const struct authentic_query *q, struct authentic *out)
{
    struct client_check client = {.arena = a, .query = q, .out = out};
    struct companion checker;

    *out = (struct authentic){
        .client = address_text(a, q->client), .sender = q->sender, .helo = q->helo};
    companion_start(&checker, "authentic", check_client, &client);
    dkim_verify(a, q->message, &out->dkim);
    arc_verify(a, q->message, &out->arc);
    companion_await(&checker);
    check_dmarc(a, q->message, out);
}

/* ---- the field ------------------------------------------------------------------------------- */

static void say_iprev(struct auth_builder *b, const struct authentic *v)
{
    auth_builder_result(b, "iprev", iprev_result_name(v->iprev.result), v->iprev.name);
    auth_builder_property(b, "policy", "iprev", v->client);
}

static void say_spf(struct auth_builder *b, const struct authentic *v)
{
    auth_builder_result(b, "spf", spf_result_name(v->spf.result), v->spf.problem);
    if (v->sender.n > 0)
        auth_builder_property(b, "smtp", "mailfrom", v->sender);
    else
        auth_builder_property(b, "smtp", "helo", v->helo);
    if (v->sender.n == 0 || v->spf_helo.result == SPF_NONE)
        return;
    auth_builder_result(b, "spf", spf_result_name(v->spf_helo.result), v->spf_helo.problem);
    auth_builder_property(b, "smtp", "helo", v->helo);
}

static void say_signature(struct auth_builder *b, const struct dkim_signature *s)
{
    auth_builder_result(b, "dkim", dkim_result_name(s->result), s->problem);
    if (s->domain.n > 0)
        auth_builder_property(b, "header", "d", s->domain);
    if (s->identity.n > 0)
        auth_builder_property(b, "header", "i", s->identity);
    if (s->selector.n > 0)
        auth_builder_property(b, "header", "s", s->selector);
    if (s->algorithm.n > 0)
        auth_builder_property(b, "header", "a", s->algorithm);
    if (s->b_start.n > 0)
        auth_builder_property(b, "header", "b", s->b_start);
}

static void say_dkim(struct auth_builder *b, const struct dkim_verdict *dkim)
{
    if (dkim->n == 0)
        auth_builder_result(b, "dkim", "none", STR("not signed"));
    for (size_t i = 0; i < dkim->n; i++)
        say_signature(b, &dkim->v[i]);
}

static void say_arc(struct arena *a, struct auth_builder *b, const struct arc_verdict *arc)
{
    if (arc->result == ARC_NONE)
        return;
    if (arc->result == ARC_PASS)
        auth_builder_result(b, "arc", "pass", arena_printf(a, "i=%u", arc->count));
    else
        auth_builder_result(b, "arc", arc_result_name(arc->result), arc->problem);
    if (arc->result == ARC_PASS)
        auth_builder_property(b, "header", "oldest-pass", arena_printf(a, "%u", arc->oldest_pass));
}

/* What is published, and what it comes to: "p=reject t=y dis=quarantine". */
static struct str dmarc_comment(struct arena *a, const struct dmarc_verdict *d)
{
    if (d->problem.n > 0 || d->record_domain.n == 0)
        return d->problem;
    return arena_printf(a, "p=%s%s dis=%s", dmarc_policy_name(d->policy),
                        d->record.is_test ? " t=y" : "", dmarc_policy_name(d->disposition));
}

static void say_dmarc(struct arena *a, struct auth_builder *b, const struct authentic *v)
{
    auth_builder_result(b, "dmarc", dmarc_result_name(v->dmarc.result),
                        dmarc_comment(a, &v->dmarc));
    if (v->dmarc.from_domain.n > 0)
        auth_builder_property(b, "header", "from", v->dmarc.from_domain);
}

struct str authentic_payload(struct arena *a, const struct authentic *v, struct str account)
{
    struct auth_builder *b = auth_builder_new(a);

    if (account.n > 0) {
        auth_builder_result(b, "auth", "pass", STR_NULL);
        auth_builder_property(b, "smtp", "auth", account);
    }
    if (v != NULL) {
        say_iprev(b, v);
        say_spf(b, v);
        say_dkim(b, &v->dkim);
        say_arc(a, b, &v->arc);
        say_dmarc(a, b, v);
    }
    return auth_builder_payload(b);
}

struct str authentic_field(struct arena *a, struct str authserv_id, const struct authentic *v,
                           struct str account)
{
    return auth_results_field(a, authserv_id, authentic_payload(a, v, account));
}
