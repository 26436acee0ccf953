/* dmarc.c - the tree walk, alignment, and the verdict (RFC 9989, 4.4, 4.10, 5.3).
 *
 * One check asks for each name at most once (struct discovery remembers). Walks are made only when
 * something depends on them: an identifier that is the From domain itself is aligned in either mode, and one that
 * does not lie below the From domain's organizational domain never is. */
#include "mail/authentic/dmarc.h"

#include "server/base/buf.h"
#include "server/directory/directory.h"
#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/loop.h"

#define LOOKUPS_MAX     64 /* names asked for in one check */
#define DOMAIN_SIZE_MAX 253
#define LABELS_SHORTENED                                                                           \
    7 /* RFC 9989, 4.10: longer names lose labels on the left after the first query */
#define TXT_RECORDS_MAX 50

enum finding { FOUND_RECORD, FOUND_NONE, FOUND_UNKNOWN /* DNS could not tell */ };

struct lookup {
    struct str domain;
    enum finding finding;
    struct dmarc_record record;
};

struct discovery {
    struct arena *arena;
    struct lookup *v;
    size_t n;
    int64_t deadline_ms; /* no question is asked later: who mails waits for us */
};

static void discovery_init(struct discovery *d, struct arena *a)
{
    *d = (struct discovery){.arena = a,
                            .v = ARENA_ARRAY(a, LOOKUPS_MAX, struct lookup),
                            .deadline_ms = loop_deadline(config.dns_timeout)};
}

/* ---- one name -------------------------------------------------------------------------------- */

/* Several records at one name count as none (RFC 9989, 4.10); texts that are none do not count. */
static void read_records(struct discovery *d, const struct str *texts, size_t count,
                         struct lookup *l)
{
    size_t found = 0;

    for (size_t i = 0; i < count && i < TXT_RECORDS_MAX; i++) {
        struct dmarc_record record;

        if (!dmarc_record_parse(d->arena, texts[i], &record))
            continue;
        l->record = record;
        found++;
    }
    l->finding = found == 1 ? FOUND_RECORD : FOUND_NONE;
}

static void ask(struct discovery *d, struct lookup *l)
{
    struct str name = arena_printf(d->arena, "_dmarc.%.*s", STR_ARG(l->domain)), *texts;
    struct dns_answer answer;
    struct error err = {0};
    size_t count;

    if (loop_now_ms() > d->deadline_ms)
        l->finding = FOUND_UNKNOWN;
    else if (dns_lookup_txt(d->arena, name, &texts, &count, &answer, &err) == 0)
        read_records(d, texts, count, l);
    else
        l->finding = err.kind == ERR_SYNTAX ? FOUND_NONE : FOUND_UNKNOWN;
}

/* NULL when too many names were asked for already. */
static const struct lookup *look_up(struct discovery *d, struct str domain)
{
    for (size_t i = 0; i < d->n; i++)
        if (str_eq(d->v[i].domain, domain))
            return &d->v[i];
    if (d->n == LOOKUPS_MAX)
        return NULL;
    d->v[d->n].domain = domain;
    ask(d, &d->v[d->n]);
    return &d->v[d->n++];
}

/* ---- the walk -------------------------------------------------------------------------------- */

static size_t label_count(struct str domain)
{
    size_t count = domain.n > 0;

    for (size_t i = 0; i < domain.n; i++)
        count += domain.p[i] == '.';
    return count;
}

static struct str parent_of(struct str domain)
{
    struct str label, rest;

    return str_cut(domain, '.', &label, &rest) ? rest : STR_NULL;
}

/* The name to ask for behind this one: its parent, or for long names the last seven labels. */
static struct str next_target(struct str domain)
{
    size_t labels = label_count(domain);

    do
        domain = parent_of(domain);
    while (--labels > LABELS_SHORTENED);
    return domain;
}

/* The steps of a walk, longest name first; ends behind a record with psd=y or psd=n. */
struct walk {
    const struct lookup *steps[DMARC_QUERIES_MAX];
    size_t n;
    bool is_unknown; /* DNS failed at a step: what lies above it was not asked for */
};

static void walk_tree(struct discovery *d, struct str domain, struct walk *w)
{
    *w = (struct walk){.n = 0};
    for (struct str at = domain; at.n > 0 && w->n < DMARC_QUERIES_MAX; at = next_target(at)) {
        const struct lookup *l = look_up(d, at);

        if (l == NULL || l->finding == FOUND_UNKNOWN) {
            w->is_unknown = true;
            return;
        }
        w->steps[w->n++] = l;
        /* psd=y where the walk begins says nothing of what is above (4.10.2), and yet ends no walk below it. */
        if (l->finding == FOUND_RECORD &&
            (l->record.psd == DMARC_PSD_NO || (l->record.psd == DMARC_PSD_YES && w->n > 1)))
            return;
    }
}

/* The name one label below `above`, on the way down to `domain`. */
static struct str one_below(struct str domain, struct str above)
{
    struct str at = domain;

    for (struct str up = parent_of(at); up.n > above.n; up = parent_of(at))
        at = up;
    return at;
}

/* RFC 9989, 4.10.2: psd=n, else the name below psd=y, else the shortest name with a record, else the name itself. */
static struct str organizational_of(const struct walk *w, struct str domain)
{
    struct str shortest = domain;

    for (size_t i = 0; i < w->n; i++) {
        const struct lookup *l = w->steps[i];

        if (l->finding != FOUND_RECORD)
            continue;
        if (l->record.psd == DMARC_PSD_NO)
            return l->domain;
        if (l->record.psd == DMARC_PSD_YES && i > 0)
            return one_below(domain, l->domain);
        shortest = l->domain;
    }
    return shortest;
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

/* In lower case and ASCII. Underscores, which no mail domain should have, are taken as they are; anything else makes it no
 * domain: DNS would know nothing of "example.org>", and a reader would still see example.org. */
static bool domain_for_dns(struct arena *a, struct str domain, struct str *out)
{
    struct str name = str_trim(domain);

    if (str_ends(name, STR(".")))
        name = str_head(name, name.n - 1);
    if (name.n == 0 || name.n > 4 * DOMAIN_SIZE_MAX)
        return false;
    if (!str_is_ascii(name))
        return domain_canonical(a, name, out, NULL) == 0;
    *out = arena_lower(a, name);
    for (size_t i = 0; i < name.n; i++)
        if (!is_name_char(out->p[i]))
            return false;
    return name.n <= DOMAIN_SIZE_MAX && name.p[0] != '.' && str_find(name, STR("..")) < 0;
}

PARKS int dmarc_organizational_domain(struct arena *a, struct str domain, struct str *out,
                                      struct error *err)
{
    struct discovery d;
    struct walk w;

    if (!domain_for_dns(a, domain, &domain))
        return fail(err, ERR_SYNTAX, "\"%.*s\" is not a domain", (int)str_head(domain, 100).n,
                    domain.p);
    discovery_init(&d, a);
    walk_tree(&d, domain, &w);
    if (w.is_unknown)
        return fail(err, ERR_TRY_LATER, "DNS could not be asked for the domains above %.*s",
                    STR_ARG(domain));
    *out = organizational_of(&w, domain);
    return 0;
}

/* ---- the check ------------------------------------------------------------------------------- */

struct check {
    struct discovery discovery;
    struct dmarc_verdict *out;
    bool is_organization_unknown; /* asked for, and DNS failed */
    bool is_undecided;            /* an aligned identifier might have passed */
};

static void problem(struct check *c, enum dmarc_result result, const char *what, struct str domain)
{
    c->out->result = result;
    c->out->problem = arena_printf(c->discovery.arena, "%s %.*s", what, STR_ARG(domain));
}

static void find_organization(struct check *c)
{
    struct walk w;

    if (c->out->organizational_domain.n > 0 || c->is_organization_unknown)
        return;
    walk_tree(&c->discovery, c->out->from_domain, &w);
    c->is_organization_unknown = w.is_unknown;
    if (!w.is_unknown)
        c->out->organizational_domain = organizational_of(&w, c->out->from_domain);
}

static bool is_below(struct str domain, struct str above)
{
    return str_ends(domain, above) &&
           (domain.n == above.n || domain.p[domain.n - above.n - 1] == '.');
}

enum aligned { NOT_ALIGNED, IS_ALIGNED, MAYBE_ALIGNED };

/* RFC 9989, 4.4: the same name, or in relaxed mode the same organizational domain. */
static enum aligned align(struct check *c, struct str identifier, enum dmarc_alignment mode)
{
    struct walk w;

    if (!domain_for_dns(c->discovery.arena, identifier, &identifier))
        return NOT_ALIGNED;
    if (str_eq(identifier, c->out->from_domain))
        return IS_ALIGNED;
    if (mode == DMARC_STRICT)
        return NOT_ALIGNED;
    find_organization(c);
    if (c->is_organization_unknown)
        return MAYBE_ALIGNED;
    if (!is_below(identifier, c->out->organizational_domain))
        return NOT_ALIGNED;
    walk_tree(&c->discovery, identifier, &w);
    if (w.is_unknown)
        return MAYBE_ALIGNED;
    return str_eq(organizational_of(&w, identifier), c->out->organizational_domain) ? IS_ALIGNED
                                                                                    : NOT_ALIGNED;
}

/* An identifier whose own check could not be finished leaves the verdict open if it would be aligned. */
static bool counts(struct check *c, bool is_pass, bool is_open, struct str domain,
                   enum dmarc_alignment mode)
{
    enum aligned aligned = is_pass || is_open ? align(c, domain, mode) : NOT_ALIGNED;

    if (aligned == MAYBE_ALIGNED || (aligned == IS_ALIGNED && is_open))
        c->is_undecided = true;
    return aligned == IS_ALIGNED && is_pass;
}

static void check_identifiers(struct check *c, const struct spf_answer *spf,
                              const struct dkim_verdict *dkim)
{
    const struct dmarc_record *record = &c->out->record;

    c->out->is_spf_aligned =
        counts(c, spf->result == SPF_PASS, spf->result == SPF_TEMPERROR, spf->domain, record->aspf);
    for (size_t i = 0; i < dkim->n && !c->out->is_dkim_aligned; i++) {
        const struct dkim_signature *s = &dkim->v[i];

        c->out->is_dkim_aligned = counts(c, s->result == DKIM_PASS, s->result == DKIM_TEMPERROR,
                                         s->domain, record->adkim);
    }
}

/* RFC 9989, 3.2: a name is not there when DNS says NXDOMAIN, for then nothing is below it either (RFC 8020). */
static int check_existence(struct check *c)
{
    struct dns_answer answer;
    struct error err = {0};

    if (dns_lookup(c->discovery.arena, c->out->from_domain, DNS_A, &answer, &err) == 0)
        c->out->is_nonexistent = answer.status == DNS_NO_NAME;
    else if (err.kind != ERR_SYNTAX)
        return -1;
    return 0;
}

static enum dmarc_policy one_step_milder(enum dmarc_policy policy)
{
    return policy == DMARC_POLICY_REJECT ? DMARC_POLICY_QUARANTINE : DMARC_POLICY_NONE;
}

static enum dmarc_policy disposition_of(const struct dmarc_verdict *v, enum dmarc_policy policy)
{
    return v->record.is_test ? one_step_milder(policy) : policy;
}

/* The record found above the From domain speaks of it as sp or np. */
static void choose_policy(struct check *c)
{
    struct dmarc_verdict *v = c->out;
    enum dmarc_policy sp = v->record.sp, np = v->record.np;

    v->policy = sp;
    v->at_stake = disposition_of(v, sp);
    if (str_eq(v->record_domain, v->from_domain)) {
        v->policy = v->record.p;
        v->at_stake = disposition_of(v, v->policy);
    } else if (np != sp && check_existence(c) < 0) {
        v->at_stake = disposition_of(v, np > sp ? np : sp);
        problem(c, DMARC_TEMPERROR, "DNS could not tell whether there is a domain", v->from_domain);
    } else if (v->is_nonexistent) {
        v->policy = np;
        v->at_stake = disposition_of(v, np);
    }
}

/* RFC 9989, 4.10.1: the record of the From domain, else of its organizational domain, else of the public suffix.
 * False when there is none, or no answer. */
static bool find_record(struct check *c)
{
    struct dmarc_verdict *v = c->out;
    const struct lookup *own = look_up(&c->discovery, v->from_domain), *found = own;
    struct walk w;

    if (own->finding == FOUND_NONE) {
        find_organization(c);
        walk_tree(&c->discovery, v->from_domain, &w);
        for (size_t i = 0; i < w.n && found->finding != FOUND_RECORD; i++)
            if (w.steps[i]->finding == FOUND_RECORD &&
                is_below(v->organizational_domain, w.steps[i]->domain))
                found = w.steps[i];
    }
    if (own->finding == FOUND_UNKNOWN || c->is_organization_unknown) {
        problem(c, DMARC_TEMPERROR, "DNS could not be asked for the DMARC policy of",
                v->from_domain);
        return false;
    }
    if (found->finding != FOUND_RECORD)
        return false;
    v->record_domain = found->domain;
    v->record = found->record;
    return true;
}

static void decide(struct check *c)
{
    struct dmarc_verdict *v = c->out;

    if (v->is_spf_aligned || v->is_dkim_aligned) {
        v->result = DMARC_PASS;
        v->problem = STR_NULL;
    } else if (c->is_undecided) {
        problem(c, DMARC_TEMPERROR, "DNS could not tell whether the message is really from",
                v->from_domain);
    } else if (v->result != DMARC_TEMPERROR) {
        v->result = DMARC_FAIL;
        v->disposition = v->at_stake;
    }
}

PARKS void dmarc_check(struct arena *a, struct str from_domain, const struct spf_answer *spf,
                       const struct dkim_verdict *dkim, struct dmarc_verdict *out)
{
    struct check c = {.out = out};

    *out = (struct dmarc_verdict){.result = DMARC_NONE, .at_stake = DMARC_POLICY_REJECT};
    discovery_init(&c.discovery, a);
    if (!domain_for_dns(a, from_domain, &out->from_domain)) {
        out->from_domain = STR_NULL;
        out->result = DMARC_PERMERROR;
        out->problem = STR("the author's address has no usable domain");
        return;
    }
    if (!find_record(&c))
        return;
    if (out->record.problem.n > 0) {
        out->result = DMARC_PERMERROR;
        out->problem = out->record.problem;
        return;
    }
    choose_policy(&c);
    check_identifiers(&c, spf, dkim);
    decide(&c);
}

const char *dmarc_result_name(enum dmarc_result r)
{
    static const char *const names[] = {"none", "pass", "fail", "temperror", "permerror"};

    return names[r];
}

/* ---- where reports go ------------------------------------------------------------------------ */

/* RFC 9990, 3.5: a record at POLICY-DOMAIN._report._dmarc.THEIR-DOMAIN agrees, and may name another address of that
 * domain. 1: agreed, 0: not, -1: cannot be told. */
static int destination_agrees(struct arena *a, struct str policy_domain, struct str their_domain,
                              struct str *address)
{
    struct str name =
        arena_printf(a, "%.*s._report._dmarc.%.*s", STR_ARG(policy_domain), STR_ARG(their_domain));
    struct str *texts, local, domain;
    struct dns_answer answer;
    struct error err = {0};
    size_t count;

    if (dns_lookup_txt(a, name, &texts, &count, &answer, &err) < 0)
        return err.kind == ERR_SYNTAX ? 0 : -1;
    for (size_t i = 0; i < count && i < TXT_RECORDS_MAX; i++) {
        struct dmarc_record record;

        if (!dmarc_record_parse(a, texts[i], &record))
            continue;
        if (record.rua_count > 0 && str_rcut(record.rua[0], '@', &local, &domain) &&
            str_ieq(domain, their_domain))
            *address = record.rua[0];
        return 1;
    }
    return 0;
}

/* Does the address belong to the policy's own organization, or agree? */
static int destination_check(struct arena *a, struct str policy_domain, struct str *address,
                             struct error *err)
{
    struct str local, domain, ours, theirs;

    if (!str_rcut(*address, '@', &local, &domain) || !domain_for_dns(a, domain, &domain))
        return 0;
    if (str_eq(domain, policy_domain))
        return 1;
    if (dmarc_organizational_domain(a, policy_domain, &ours, err) < 0 ||
        dmarc_organizational_domain(a, domain, &theirs, err) < 0)
        return -1;
    return str_eq(ours, theirs) ? 1 : destination_agrees(a, policy_domain, domain, address);
}

PARKS int dmarc_report_addresses(struct arena *a, struct str policy_domain, const struct str *rua,
                                 size_t rua_count, struct str **out, size_t *count,
                                 struct error *err)
{
    *out = ARENA_ARRAY(a, rua_count + 1, struct str);
    *count = 0;
    if (!domain_for_dns(a, policy_domain, &policy_domain))
        return fail(err, ERR_SYNTAX, "the policy's domain is not a domain");
    for (size_t i = 0; i < rua_count && i < DMARC_URIS_MAX; i++) {
        struct str address = rua[i];
        struct error own = {0};
        int agreed = destination_check(a, policy_domain, &address, &own);

        if (agreed < 0)
            return fail(err, ERR_TRY_LATER, "DNS could not tell whether %.*s wants reports",
                        (int)str_head(address, 100).n, address.p);
        if (agreed > 0)
            (*out)[(*count)++] = address;
    }
    return 0;
}
