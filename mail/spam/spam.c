/* spam.c - joins what was learnt and what was found into one verdict with its reasons. */
#include "mail/spam/spam.h"

#include <math.h>

#include "server/run/config.h"
#include "server/run/offload.h"

#define LOOKED_AT_HERE_MAX ((size_t)64 << 10) /* larger messages would hold up the worker */

void spam_inspect(struct arena *a, const struct mime_part *root, struct str message,
                  const struct spam_circumstances *facts, struct spam_findings *out,
                  struct spam_hosts *hosts)
{
    struct spam_circumstances all = *facts;
    struct spam_hosts unused;

    out->n = 0;
    if (all.known == NULL)
        all.known = spam_known_new(a);
    spam_find_by_rules(a, root, message, &all, out);
    spam_find_links(a, root, message, all.known, out, hosts != NULL ? hosts : &unused);
}

/* ---- reasons --------------------------------------------------------------------------------- */

static void insert(struct spam_verdict *v, const struct spam_reason_said *reason)
{
    size_t at = v->reason_count;

    while (at > 0 && fabs(v->reasons[at - 1].weight) < fabs(reason->weight))
        at--;
    if (at == SPAM_VERDICT_REASONS_MAX)
        return;
    v->reason_count += v->reason_count < SPAM_VERDICT_REASONS_MAX;
    memmove(&v->reasons[at + 1], &v->reasons[at], (v->reason_count - at - 1) * sizeof *v->reasons);
    v->reasons[at] = *reason;
}

static void insert_learnt(struct arena *a, struct spam_verdict *v, const struct spam_opinion *o,
                          size_t i)
{
    const char *english = o->is_spam ? "Learnt from spam" : "Learnt from decent mail";
    const char *indonesian = o->is_spam ? "Dipelajari dari spam" : "Dipelajari dari surat baik";
    struct spam_reason_said said = {
        .name = "LEARNT",
        .weight = o->reasons[i].weight,
        .english = arena_printf(a, "%s: %.*s.", english, STR_ARG(o->reasons[i].text)),
        .indonesian = arena_printf(a, "%s: %.*s.", indonesian, STR_ARG(o->reasons[i].text)),
    };

    insert(v, &said);
}

static void insert_finding(struct spam_verdict *v, const struct spam_finding *f)
{
    struct spam_reason_said said = {f->name, f->weight, f->english, f->indonesian};

    insert(v, &said);
}

void spam_judge(struct arena *a, const struct spam_opinion *opinion,
                const struct spam_findings *findings, double threshold, struct spam_verdict *out)
{
    *out = (struct spam_verdict){.is_learnt = opinion != NULL && opinion->is_known};
    out->score = out->is_learnt ? opinion->score : SPAM_SCORE_UNLEARNT;
    out->score += spam_findings_weight(findings);
    out->is_spam = out->score > threshold;
    out->percent = (unsigned)lround(100 / (1 + exp(-out->score)));
    for (size_t i = 0; i < findings->n; i++)
        insert_finding(out, &findings->v[i]);
    for (size_t i = 0; out->is_learnt && i < opinion->reason_count; i++)
        insert_learnt(a, out, opinion, i);
}

/* ---- all of it ------------------------------------------------------------------------------- */

struct looking {
    struct arena *arena;
    const struct mime_part *root;
    struct str message;
    const struct spam_circumstances *facts;
    struct spam_features features;
    struct spam_findings findings;
};

static void look(void *arg)
{
    struct looking *l = arg;

    spam_features(l->arena, l->root, l->message, &l->features);
    spam_inspect(l->arena, l->root, l->message, l->facts, &l->findings, NULL);
}

PARKS int spam_check(struct arena *a, const struct mime_part *root, struct str message,
                     int64_t account_id, const struct spam_circumstances *facts,
                     struct spam_verdict *out, struct error *err)
{
    struct looking *l =
        ARENA_NEW(a, struct looking); /* findings are too many for a fiber's stack */
    struct spam_opinion opinion;

    *l = (struct looking){.arena = a, .root = root, .message = message, .facts = facts};
    if (message.n > LOOKED_AT_HERE_MAX)
        offload(look, l);
    else
        look(l);
    if (spam_classify(a, &l->features, account_id, &opinion, err) < 0)
        return -1;
    spam_judge(a, &opinion, &l->findings, (double)config.spam_threshold / 10, out);
    return 0;
}
