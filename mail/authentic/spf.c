/* spf.c - check_host() of RFC 7208: fetches records, evaluates their terms in order, follows includes and
 * redirects. Syntax is spf_record.c's, macros are spf_macro.c's.
 *
 * Includes and redirects recurse; each of them is one of the ten terms that may ask DNS, which bounds the depth. */
#include "mail/authentic/spf.h"

#include <time.h>

#include "mail/authentic/spf_internal.h"
#include "server/base/net.h"
#include "server/directory/directory.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/loop.h"

#define TERMS_MAX     10 /* RFC 7208, 4.6.4: terms that ask DNS, of all records together */
#define VOIDS_MAX     2  /* of these, answers without records */
#define MX_HOSTS_MAX  10
#define TIME_MAX_MS   20000
#define NAME_SIZE_MAX 253

#define EXPLANATION_SIZE_MAX 400 /* it becomes part of one SMTP reply */

struct check {
    struct arena *a;
    struct spf_macros macros; /* the domain changes with includes and redirects */
    struct str mechanism;     /* that matched last */
    struct str exp, exp_domain;
    unsigned terms, voids;
    int64_t deadline_ms;
    bool is_reverse_known;
    struct dns_reverse reverse;
    struct str problem;
};

/* What became of one term. */
enum match { NO_MATCH, MATCH, TEMPERROR, PERMERROR };

static void __attribute__((format(printf, 2, 3)))
set_problem(struct check *c, const char *format, ...)
{
    va_list ap;

    if (c->problem.n > 0)
        return; /* the first cause */
    va_start(ap, format);
    c->problem = arena_vprintf(c->a, format, ap);
    va_end(ap);
}

/* As it may stand in a log or a header field. */
static struct str shown(struct check *c, struct str name)
{
    return dns_escape_name(c->a, str_head(name, 100));
}

/* ---- asking DNS within the limits ----------------------------------------------------------- */

static enum match count_term(struct check *c)
{
    if (c->terms++ < TERMS_MAX)
        return NO_MATCH;
    set_problem(c, "more than %d terms of SPF records ask DNS", TERMS_MAX);
    return PERMERROR;
}

static enum match count_void(struct check *c)
{
    if (c->voids++ < VOIDS_MAX)
        return NO_MATCH;
    set_problem(c, "more than %d terms of SPF records lead nowhere", VOIDS_MAX);
    return PERMERROR;
}

static enum match dns_failed(struct check *c, struct str name)
{
    set_problem(c, "%.*s cannot be looked up now", STR_ARG(shown(c, name)));
    return TEMPERROR;
}

static enum match check_time(struct check *c)
{
    if (loop_now_ms() < c->deadline_ms)
        return NO_MATCH;
    set_problem(c, "looking up what the SPF records name takes too long");
    return TEMPERROR;
}

/* An impossible name has no records (RFC 7208, 4.8), and DNS need not be asked to know that. */
static enum match ask(struct check *c, struct str name, enum dns_type type, struct dns_answer *out)
{
    struct error err = {0};
    enum match trouble = check_time(c);

    if (trouble != NO_MATCH)
        return trouble;
    if (dns_lookup(c->a, dns_escape_name(c->a, name), type, out, &err) < 0 &&
        err.kind != ERR_SYNTAX)
        return dns_failed(c, name);
    return out->count == 0 && err.kind == ERR_NONE ? count_void(c) : NO_MATCH;
}

/* The names of the client that lead back to it, asked for once. */
static const struct dns_reverse *reverse_names(struct check *c)
{
    struct sockaddr_storage client = {.ss_family = c->macros.is_ipv4 ? AF_INET : AF_INET6};

    if (c->is_reverse_known)
        return &c->reverse;
    if (c->macros.is_ipv4)
        memcpy(&((struct sockaddr_in *)&client)->sin_addr, c->macros.address, 4);
    else
        memcpy(&((struct sockaddr_in6 *)&client)->sin6_addr, c->macros.address, 16);
    c->is_reverse_known = true;
    /* An error in asking means no names (RFC 7208, 5.5). */
    if (check_time(c) != NO_MATCH || dns_lookup_reverse(c->a, &client, &c->reverse, NULL) < 0)
        c->reverse = (struct dns_reverse){.is_incomplete = true};
    return &c->reverse;
}

/* ---- macros --------------------------------------------------------------------------------- */

static bool is_below(struct str name, struct str domain)
{
    return name.n > domain.n && str_iends(name, domain) && name.p[name.n - domain.n - 1] == '.';
}

/* %{p}: the domain itself, else a name below it, else any (RFC 7208, 7.3). */
static struct str validated_name(struct check *c)
{
    const struct dns_reverse *reverse = reverse_names(c);
    struct str domain = c->macros.domain;

    for (size_t i = 0; i < reverse->count; i++)
        if (str_ieq(reverse->names[i], domain))
            return reverse->names[i];
    for (size_t i = 0; i < reverse->count; i++)
        if (is_below(reverse->names[i], domain))
            return reverse->names[i];
    return reverse->count > 0 ? reverse->names[0] : STR("unknown");
}

static struct str without_final_dot(struct str name)
{
    return str_head(name, str_ends(name, STR(".")) ? name.n - 1 : name.n);
}

/* Left-hand labels give way until it fits (RFC 7208, 7.3). */
static struct str fit_name(struct str name)
{
    struct str label;

    name = without_final_dot(name);
    while (name.n > NAME_SIZE_MAX && str_cut(name, '.', &label, &name))
        continue;
    return name;
}

static int expand_name(struct check *c, struct str spec, struct str *out, struct error *err)
{
    if (spf_macro_uses(spec, 'p'))
        c->macros.validated_name = validated_name(c);
    if (spf_macro_expand(c->a, spec, &c->macros, out, err) < 0)
        return -1;
    *out = fit_name(*out);
    return 0;
}

/* The domain a term is about: the expanded one, or the current one. */
static enum match target_name(struct check *c, struct str spec, struct str *out)
{
    struct error err = {0};

    *out = c->macros.domain;
    if (spec.n == 0)
        return NO_MATCH;
    if (spf_macro_uses(spec, 'p') && !c->is_reverse_known && count_term(c) != NO_MATCH)
        return PERMERROR;
    if (expand_name(c, spec, out, &err) == 0)
        return NO_MATCH;
    set_problem(c, "%s", err.text);
    return PERMERROR;
}

/* ---- mechanisms ------------------------------------------------------------------------------ */

static bool in_network(const struct check *c, const uint8_t *network, const struct spf_directive *d)
{
    unsigned bits = c->macros.is_ipv4 ? d->bits4 : d->bits6, bytes = bits / 8, rest = bits % 8;

    if (memcmp(c->macros.address, network, bytes) != 0)
        return false;
    return rest == 0 || (c->macros.address[bytes] ^ network[bytes]) >> (8 - rest) == 0;
}

static enum dns_type address_type(const struct check *c)
{
    return c->macros.is_ipv4 ? DNS_A : DNS_AAAA;
}

static bool has_client(const struct check *c, const struct dns_answer *answer,
                       const struct spf_directive *d)
{
    for (size_t i = 0; i < answer->count; i++)
        if (answer->rdata[i].n == (c->macros.is_ipv4 ? 4 : 16) &&
            in_network(c, (const uint8_t *)answer->rdata[i].p, d))
            return true;
    return false;
}

static enum match match_a(struct check *c, const struct spf_directive *d, struct str name)
{
    struct dns_answer answer;
    enum match trouble = ask(c, name, address_type(c), &answer);

    if (trouble != NO_MATCH)
        return trouble;
    return has_client(c, &answer, d) ? MATCH : NO_MATCH;
}

static enum match match_exists(struct check *c, const struct spf_directive *d, struct str name)
{
    struct dns_answer answer;
    enum match trouble = ask(c, name, DNS_A, &answer);

    if (trouble != NO_MATCH)
        return trouble;
    return answer.count > 0 ? MATCH : NO_MATCH;
}

/* A host that matches is enough, whatever became of the others. */
static enum match match_hosts(struct check *c, const struct spf_directive *d,
                              const struct dns_mx *mx, size_t count)
{
    struct dns_question *q = ARENA_ARRAY(c->a, MX_HOSTS_MAX, struct dns_question);
    size_t asked = 0;

    for (size_t i = 0; i < count && asked < MX_HOSTS_MAX; i++)
        if (mx[i].host.n > 0) /* RFC 7505: a null MX is no host */
            q[asked++] = (struct dns_question){.name = mx[i].host, .type = address_type(c)};
    dns_lookup_all(c->a, q, asked, config.dns_timeout);
    for (size_t i = 0; i < asked; i++)
        if (q[i].err.kind == ERR_NONE && has_client(c, &q[i].answer, d))
            return MATCH;
    for (size_t i = 0; i < asked; i++)
        if (q[i].err.kind != ERR_NONE && q[i].err.kind != ERR_SYNTAX)
            return dns_failed(c, q[i].name);
    return NO_MATCH;
}

static enum match match_mx(struct check *c, const struct spf_directive *d, struct str name)
{
    struct dns_answer answer;
    struct error err = {0};
    struct dns_mx *mx;
    size_t count;
    enum match found = check_time(c);

    if (found != NO_MATCH)
        return found;
    if (dns_lookup_mx(c->a, dns_escape_name(c->a, name), &mx, &count, &answer, &err) < 0)
        return err.kind == ERR_SYNTAX ? NO_MATCH : dns_failed(c, name);
    if (count == 0)
        return count_void(c);
    found = match_hosts(c, d, mx, count);
    if (found != NO_MATCH || count <= MX_HOSTS_MAX)
        return found;
    set_problem(c, "%.*s has more than %d MX hosts", STR_ARG(shown(c, name)), MX_HOSTS_MAX);
    return PERMERROR;
}

static enum match match_ptr(struct check *c, const struct spf_directive *d, struct str name)
{
    const struct dns_reverse *reverse = reverse_names(c);

    for (size_t i = 0; i < reverse->count; i++)
        if (str_ieq(reverse->names[i], name) || is_below(reverse->names[i], name))
            return MATCH;
    return reverse->ptr_count == 0 && !reverse->is_incomplete ? count_void(c) : NO_MATCH;
}

static enum spf_result check_host(struct check *c, struct str domain);

/* RFC 7208, 5.2: only a pass matches, and the other record's explanation is not used. */
static enum match match_include(struct check *c, const struct spf_directive *d, struct str name)
{
    struct str exp = c->exp, exp_domain = c->exp_domain;
    enum spf_result result = check_host(c, name);

    c->exp = exp;
    c->exp_domain = exp_domain;
    switch (result) {
    case SPF_PASS:
        return MATCH;
    case SPF_TEMPERROR:
        return TEMPERROR;
    case SPF_PERMERROR:
    case SPF_NONE:
        set_problem(c, "\"%.*s\" leads to no SPF record", STR_ARG(d->text));
        return PERMERROR;
    default:
        return NO_MATCH;
    }
}

static enum match match_by_dns(struct check *c, const struct spf_directive *d)
{
    static enum match (*const run[])(struct check *, const struct spf_directive *, struct str) = {
        [SPF_INCLUDE] = match_include, [SPF_A] = match_a,           [SPF_MX] = match_mx,
        [SPF_PTR] = match_ptr,         [SPF_EXISTS] = match_exists,
    };
    enum match trouble = count_term(c);
    struct str name;

    if (trouble == NO_MATCH)
        trouble = target_name(c, d->domain_spec, &name);
    return trouble != NO_MATCH ? trouble : run[d->mechanism](c, d, name);
}

static enum match match_directive(struct check *c, const struct spf_directive *d)
{
    switch (d->mechanism) {
    case SPF_ALL:
        return MATCH;
    case SPF_IP4:
        return c->macros.is_ipv4 && in_network(c, d->network, d) ? MATCH : NO_MATCH;
    case SPF_IP6:
        return !c->macros.is_ipv4 && in_network(c, d->network, d) ? MATCH : NO_MATCH;
    default:
        return match_by_dns(c, d);
    }
}

/* ---- records --------------------------------------------------------------------------------- */

/* Fully qualified, of labels of 1 to 63 bytes, more than one (RFC 7208, 4.3). */
static bool is_checkable(struct str domain)
{
    struct str label;
    size_t count = 0;
    bool more;

    if (domain.n == 0 || domain.n > NAME_SIZE_MAX || domain.p[0] == '[')
        return false;
    do {
        more = str_cut(domain, '.', &label, &domain);
        if (label.n == 0 || label.n > 63)
            return false;
        count++;
    } while (more);
    return count > 1;
}

/* The one SPF record among the texts of a domain. */
static enum spf_result select_record(struct check *c, struct str domain, const struct str *texts,
                                     size_t count, struct str *out)
{
    size_t found = 0;

    for (size_t i = 0; i < count; i++) {
        if (spf_is_record(texts[i])) {
            *out = texts[i];
            found++;
        }
    }
    if (found == 1)
        return SPF_PASS;
    if (found == 0) {
        set_problem(c, "%.*s has no SPF record", STR_ARG(shown(c, domain)));
        return SPF_NONE;
    }
    set_problem(c, "%.*s has more than one SPF record", STR_ARG(shown(c, domain)));
    return SPF_PERMERROR;
}

/* SPF_PASS: there is a record. */
static enum spf_result fetch_record(struct check *c, struct str domain, struct spf_record *out)
{
    struct dns_answer answer;
    struct error err = {0};
    struct str *texts, text = STR_NULL;
    size_t count;
    enum spf_result result;

    if (!is_checkable(domain)) {
        set_problem(c, "\"%.*s\" is no full domain name", STR_ARG(shown(c, domain)));
        return SPF_NONE;
    }
    if (check_time(c) != NO_MATCH)
        return SPF_TEMPERROR;
    if (dns_lookup_txt(c->a, dns_escape_name(c->a, domain), &texts, &count, &answer, &err) < 0) {
        dns_failed(c, domain);
        return SPF_TEMPERROR;
    }
    result = select_record(c, domain, texts, count, &text);
    if (result == SPF_PASS && spf_parse_record(c->a, text, out, &err) < 0) {
        set_problem(c, "%.*s: %s", STR_ARG(shown(c, domain)), err.text);
        return SPF_PERMERROR;
    }
    return result;
}

static enum spf_result redirect(struct check *c, const struct spf_record *record)
{
    enum spf_result result;
    struct str name;

    if (count_term(c) != NO_MATCH || target_name(c, record->redirect, &name) != NO_MATCH)
        return SPF_PERMERROR;
    result = check_host(c, name);
    return result == SPF_NONE ? SPF_PERMERROR : result;
}

static enum spf_result evaluate(struct check *c, const struct spf_record *record)
{
    for (size_t i = 0; i < record->count; i++) {
        const struct spf_directive *d = &record->directives[i];
        enum match match = match_directive(c, d);

        fiber_pause();
        if (match == TEMPERROR || match == PERMERROR)
            return match == TEMPERROR ? SPF_TEMPERROR : SPF_PERMERROR;
        if (match == NO_MATCH)
            continue;
        c->mechanism = d->text;
        c->exp = d->result == SPF_FAIL ? record->exp : STR_NULL;
        c->exp_domain = c->macros.domain;
        return d->result;
    }
    c->mechanism = STR_NULL;
    return record->redirect.n > 0 && !record->has_all ? redirect(c, record) : SPF_NEUTRAL;
}

static enum spf_result check_host(struct check *c, struct str domain)
{
    struct str outer = c->macros.domain;
    struct spf_record record;
    enum spf_result result;

    result = fetch_record(c, domain, &record);
    if (result != SPF_PASS)
        return result;
    c->macros.domain = domain;
    result = evaluate(c, &record);
    c->macros.domain = outer;
    return result;
}

/* ---- the explanation -------------------------------------------------------------------------- */

/* A sender's local part may hold anything; a reply is printable ASCII (RFC 7208, 6.2). */
static struct str printable(struct arena *a, struct str s)
{
    char *text = arena_alloc(a, s.n + 1);

    for (size_t i = 0; i < s.n; i++)
        text[i] = s.p[i] >= ' ' && s.p[i] <= '~' ? s.p[i] : '?';
    return str_of(text, s.n);
}

/* Whatever goes wrong here means that there is none. */
static struct str explain(struct check *c)
{
    struct dns_answer answer;
    struct str *texts, name, text;
    size_t count;

    if (c->exp.n == 0)
        return STR_NULL;
    c->macros.domain = c->exp_domain;
    if (expand_name(c, c->exp, &name, NULL) < 0 || check_time(c) != NO_MATCH ||
        dns_lookup_txt(c->a, dns_escape_name(c->a, name), &texts, &count, &answer, NULL) < 0 ||
        count != 1 || !spf_macro_is_valid(texts[0], SPF_IN_EXPLANATION))
        return STR_NULL;
    if (spf_macro_uses(texts[0], 'p'))
        c->macros.validated_name = validated_name(c);
    if (spf_macro_expand(c->a, texts[0], &c->macros, &text, NULL) < 0 ||
        text.n > EXPLANATION_SIZE_MAX)
        return STR_NULL;
    return printable(c->a, text);
}

/* ---- the call ---------------------------------------------------------------------------------- */

/* U-labels become A-labels; what cannot is no domain that has a record. */
static struct str ascii_domain(struct arena *a, struct str domain)
{
    struct str ascii;

    if (str_is_ascii(domain))
        return domain;
    return domain_canonical(a, domain, &ascii, NULL) == 0 ? ascii : STR_NULL;
}

static void set_identity(struct check *c, const struct spf_query *q)
{
    struct spf_macros *m = &c->macros;

    m->helo = q->helo;
    m->receiver = q->receiver.n > 0 ? q->receiver : STR("unknown");
    if (!str_rcut(q->sender, '@', &m->local, &m->sender_domain)) {
        m->local = STR_NULL;
        m->sender_domain = q->sender.n > 0 ? q->sender : q->helo;
    }
    if (m->local.n == 0)
        m->local = STR("postmaster");
    m->sender_domain = without_final_dot(ascii_domain(c->a, m->sender_domain));
    m->sender = arena_printf(c->a, "%.*s@%.*s", STR_ARG(m->local), STR_ARG(m->sender_domain));
    m->now_s = time(NULL);
}

/* IPv4 inside IPv6 is IPv4 (RFC 7208, 5); false for a unix socket. */
static bool set_client(struct check *c, const struct sockaddr_storage *client)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct spf_macros *m = &c->macros;

    if (!net_address(client, m->address))
        return false;
    m->is_ipv4 = memcmp(m->address, mapped, sizeof mapped) == 0;
    if (m->is_ipv4)
        memcpy(m->address, m->address + sizeof mapped, 4);
    return true;
}

PARKS void spf_check(struct arena *a, const struct spf_query *q, struct spf_answer *out)
{
    struct check c = {.a = a, .deadline_ms = loop_deadline(TIME_MAX_MS)};

    *out = (struct spf_answer){.result = SPF_NONE};
    set_identity(&c, q);
    out->domain = c.macros.sender_domain;
    if (!set_client(&c, q->client)) {
        out->problem = STR("the client has no IP address");
        return;
    }
    out->result = check_host(&c, c.macros.sender_domain);
    if (out->result == SPF_NONE || out->result == SPF_TEMPERROR || out->result == SPF_PERMERROR)
        out->problem = c.problem;
    else
        out->mechanism = c.mechanism;
    if (out->result == SPF_FAIL)
        out->explanation = explain(&c);
}

const char *spf_result_name(enum spf_result r)
{
    static const char *const names[] = {
        [SPF_NONE] = "none",           [SPF_NEUTRAL] = "neutral",   [SPF_PASS] = "pass",
        [SPF_FAIL] = "fail",           [SPF_SOFTFAIL] = "softfail", [SPF_TEMPERROR] = "temperror",
        [SPF_PERMERROR] = "permerror",
    };

    return names[r];
}
