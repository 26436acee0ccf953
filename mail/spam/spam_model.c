/* spam_model.c - making models by stochastic gradient descent (AdaGrad), and asking them.
 *
 * What was tried for it, on mail of two kinds with half of it kept back: plain regression over one
 * bag of features, weights scaled by their counts (naive Bayes), margins, features and groups left
 * out by chance, models of samples, groups with a bounded say. Groups of equal say gained most; the
 * rest little or nothing. */
#include "mail/spam/spam_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/memory.h"

#define PASSES            10
#define RATE              0.3f
#define SPAM_ERROR        0.5f /* a message wrongly called spam costs twice one that slips through */
#define OWN_PASSES        8
#define OWN_RATE          0.3f
#define EXAMPLES_SEEN_MIN 2 /* of a feature */
#define GROUP_MASK        7u

/* What a group may say, found by cross-validation. */
static const float group_say[SPAM_GROUPS] = {1.0f, 1.0f, 1.5f, 0.7f, 1.2f, 1.0f};

/* ---- examples -------------------------------------------------------------------------------- */

static uint32_t packed(const struct spam_feature *f)
{
    return (f->hash >> (32 - SPAM_SLOT_BITS)) << 3 | spam_feature_group(f->kind);
}

struct spam_example spam_example_of(struct arena *a, const struct spam_features *features)
{
    uint32_t *v = ARENA_ARRAY(a, features->n, uint32_t);

    for (size_t i = 0; i < features->n; i++)
        v[i] = packed(&features->v[i]);
    return (struct spam_example){.v = v, .n = features->n};
}

/* Stored examples may be anything: a slot and a group that exist. */
static uint32_t slot_of(uint32_t feature)
{
    return feature >> 3 & ((1u << SPAM_SLOT_BITS) - 1);
}

static unsigned group_of(uint32_t feature)
{
    return (feature & GROUP_MASK) < SPAM_GROUPS ? feature & GROUP_MASK : 0;
}

static uint32_t own_slot_of(uint32_t feature)
{
    return slot_of(feature) >> (SPAM_SLOT_BITS - SPAM_OWN_SLOT_BITS);
}

static void shares_of(const size_t counts[SPAM_GROUPS], float shares[SPAM_GROUPS])
{
    for (unsigned g = 0; g < SPAM_GROUPS; g++)
        shares[g] = counts[g] > 0 ? group_say[g] / sqrtf((float)counts[g] + 1) : 0;
}

static double probability(double score)
{
    return 1 / (1 + exp(-score));
}

/* ---- making: one table of floats ------------------------------------------------------------- */

struct maker {
    float *weights, *squares; /* sums of squared gradients: who moved often moves less */
    uint8_t *seen;            /* examples with the feature, up to 255 */
    float bias, bias_squares;
    uint32_t *order;
    size_t count;
};

static bool is_known(const struct maker *m, uint32_t feature)
{
    return m->seen[slot_of(feature)] >= EXAMPLES_SEEN_MIN;
}

static void count_features(struct maker *m, const struct spam_example *e)
{
    for (size_t i = 0; i < e->n; i++)
        if (m->seen[slot_of(e->v[i])] < UINT8_MAX)
            m->seen[slot_of(e->v[i])]++;
}

static void maker_shares(const struct maker *m, const struct spam_example *e,
                         float shares[SPAM_GROUPS])
{
    size_t counts[SPAM_GROUPS] = {0};

    for (size_t i = 0; i < e->n; i++)
        counts[group_of(e->v[i])] += is_known(m, e->v[i]);
    shares_of(counts, shares);
}

static void move(float *weight, float *squares, float gradient, float rate)
{
    *squares += gradient * gradient;
    *weight += rate * gradient / sqrtf(*squares + 1e-12f);
}

static void learn(struct maker *m, const struct spam_example *e)
{
    float shares[SPAM_GROUPS], error;
    double score = m->bias;

    maker_shares(m, e, shares);
    for (size_t i = 0; i < e->n; i++)
        score += m->weights[slot_of(e->v[i])] * shares[group_of(e->v[i])];
    error = (float)(e->is_spam - probability(score)) * (e->is_spam ? SPAM_ERROR : 1.0f);
    move(&m->bias, &m->bias_squares, error, RATE);
    for (size_t i = 0; i < e->n; i++)
        if (is_known(m, e->v[i]))
            move(&m->weights[slot_of(e->v[i])], &m->squares[slot_of(e->v[i])],
                 error * shares[group_of(e->v[i])], RATE);
}

/* The same every time. */
static void shuffle(uint32_t *order, size_t count, uint64_t *state)
{
    for (size_t i = count; i > 1; i--) {
        size_t other;
        uint32_t kept;
        *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        other = (size_t)((*state >> 33) % i);
        kept = order[i - 1];
        order[i - 1] = order[other];
        order[other] = kept;
    }
}

static void maker_init(struct maker *m, const struct spam_example *examples, size_t count)
{
    const size_t slots = (size_t)1 << SPAM_SLOT_BITS;

    *m = (struct maker){.weights = memory_array(slots, sizeof(float)),
                        .squares = memory_array(slots, sizeof(float)),
                        .seen = memory_array(slots, 1),
                        .order = memory_array(count + 1, sizeof(uint32_t)),
                        .count = count};
    for (size_t i = 0; i < count; i++) {
        m->order[i] = (uint32_t)i;
        count_features(m, &examples[i]);
    }
}

static void maker_fini(struct maker *m)
{
    free(m->weights);
    free(m->squares);
    free(m->seen);
    free(m->order);
}

static float greatest(const float *weights, size_t count)
{
    float max = 1e-6f;

    for (size_t i = 0; i < count; i++)
        max = fabsf(weights[i]) > max ? fabsf(weights[i]) : max;
    return max;
}

/* A weight that is known does not become 0, which would mean that it is not. */
static long quantum(float weight, float scale)
{
    long q = lroundf(weight / scale);

    return q == 0 && weight != 0 ? (weight > 0 ? 1 : -1) : q;
}

static void count_kinds(const struct spam_example *v, size_t n, uint32_t *spam, uint32_t *ham)
{
    *spam = *ham = 0;
    for (size_t i = 0; i < n; i++)
        (*(v[i].is_spam ? spam : ham))++;
}

void spam_model_make(struct spam_model *out, const struct spam_example *examples, size_t count)
{
    struct maker m;
    uint64_t state = 7;

    maker_init(&m, examples, count);
    for (unsigned pass = 0; pass < PASSES; pass++) {
        shuffle(m.order, count, &state);
        for (size_t i = 0; i < count; i++)
            learn(&m, &examples[m.order[i]]);
    }
    out->head = (struct spam_model_head){
        .magic = SPAM_MODEL_MAGIC, .version = SPAM_FEATURES_VERSION, .bias = m.bias};
    count_kinds(examples, count, &out->head.spam_count, &out->head.ham_count);
    out->head.scale = greatest(m.weights, (size_t)1 << SPAM_SLOT_BITS) / INT16_MAX;
    for (size_t i = 0; i < (size_t)1 << SPAM_SLOT_BITS; i++)
        out->weights[i] = (int16_t)quantum(m.weights[i], out->head.scale);
    maker_fini(&m);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void model_shares(const struct spam_model *m, const struct spam_example *e,
                         float shares[SPAM_GROUPS])
{
    size_t counts[SPAM_GROUPS] = {0};

    for (size_t i = 0; i < e->n; i++)
        counts[group_of(e->v[i])] += m->weights[slot_of(e->v[i])] != 0;
    shares_of(counts, shares);
}

static void all_shares(const struct spam_example *e, float shares[SPAM_GROUPS])
{
    size_t counts[SPAM_GROUPS] = {0};

    for (size_t i = 0; i < e->n; i++)
        counts[group_of(e->v[i])]++;
    shares_of(counts, shares);
}

static double base_score(const struct spam_model *m, const struct spam_example *e)
{
    float shares[SPAM_GROUPS];
    double score = m->head.bias;

    model_shares(m, e, shares);
    for (size_t i = 0; i < e->n; i++)
        score += (double)(m->head.scale * m->weights[slot_of(e->v[i])]) * shares[group_of(e->v[i])];
    return score;
}

static double own_score(const struct spam_own_model *own, const struct spam_example *e)
{
    float shares[SPAM_GROUPS];
    double score = own->head.bias;

    all_shares(e, shares);
    for (size_t i = 0; i < e->n; i++)
        score += (double)(own->head.scale * own->weights[own_slot_of(e->v[i])]) *
                 shares[group_of(e->v[i])];
    return score;
}

static double limited(double score)
{
    return score > SPAM_SCORE_MAX    ? SPAM_SCORE_MAX
           : score > -SPAM_SCORE_MAX ? score
                                     : -SPAM_SCORE_MAX;
}

double spam_model_score(const struct spam_model *m, const struct spam_own_model *own,
                        const struct spam_example *e)
{
    return limited((m != NULL ? base_score(m, e) : 0) + (own != NULL ? own_score(own, e) : 0));
}

bool spam_model_has_opinion(const struct spam_model *m)
{
    return m != NULL && m->head.spam_count >= SPAM_EXAMPLES_MIN &&
           m->head.ham_count >= SPAM_EXAMPLES_MIN;
}

static bool is_valid(struct str bytes, size_t size, uint32_t magic)
{
    struct spam_model_head head;

    if (bytes.n != size)
        return false;
    memcpy(&head, bytes.p, sizeof head);
    return head.magic == magic && head.version == SPAM_FEATURES_VERSION && isfinite(head.bias) &&
           isfinite(head.scale);
}

bool spam_model_is_valid(struct str bytes)
{
    return is_valid(bytes, sizeof(struct spam_model), SPAM_MODEL_MAGIC);
}

bool spam_own_model_is_valid(struct str bytes)
{
    return is_valid(bytes, sizeof(struct spam_own_model), SPAM_OWN_MODEL_MAGIC);
}

/* ---- an account's own ------------------------------------------------------------------------ */

struct own_maker {
    float *weights, *squares;
    float bias, bias_squares;
};

static void own_learn(struct own_maker *m, const struct spam_example *e, double base)
{
    float shares[SPAM_GROUPS], error;
    double score = base + m->bias;

    all_shares(e, shares);
    for (size_t i = 0; i < e->n; i++)
        score += m->weights[own_slot_of(e->v[i])] * shares[group_of(e->v[i])];
    error = (float)(e->is_spam - probability(score));
    move(&m->bias, &m->bias_squares, error * 0.1f, OWN_RATE * 0.1f);
    for (size_t i = 0; i < e->n; i++)
        move(&m->weights[own_slot_of(e->v[i])], &m->squares[own_slot_of(e->v[i])],
             error * shares[group_of(e->v[i])], OWN_RATE);
}

static void own_passes(struct own_maker *m, const struct spam_model *base,
                       const struct spam_example *examples, size_t count)
{
    uint32_t *order = memory_array(count + 1, sizeof *order);
    uint64_t state = 7;

    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    for (unsigned pass = 0; pass < OWN_PASSES; pass++) {
        shuffle(order, count, &state);
        for (size_t i = 0; i < count; i++)
            own_learn(m, &examples[order[i]], spam_model_score(base, NULL, &examples[order[i]]));
    }
    free(order);
}

void spam_own_model_make(struct spam_own_model *out, const struct spam_model *base,
                         const struct spam_example *examples, size_t count)
{
    const size_t slots = (size_t)1 << SPAM_OWN_SLOT_BITS;
    struct own_maker m = {.weights = memory_array(slots, sizeof(float)),
                          .squares = memory_array(slots, sizeof(float))};

    own_passes(&m, base, examples, count);
    out->head = (struct spam_model_head){
        .magic = SPAM_OWN_MODEL_MAGIC, .version = SPAM_FEATURES_VERSION, .bias = m.bias};
    count_kinds(examples, count, &out->head.spam_count, &out->head.ham_count);
    out->head.scale = greatest(m.weights, slots) / INT8_MAX;
    for (size_t i = 0; i < slots; i++)
        out->weights[i] = (int8_t)lroundf(m.weights[i] / out->head.scale);
    free(m.weights);
    free(m.squares);
}

/* ---- reasons --------------------------------------------------------------------------------- */

static void insert_reason(struct spam_reason *v, size_t *n, size_t max, struct spam_reason r)
{
    size_t at = *n;

    while (at > 0 && fabs(v[at - 1].weight) < fabs(r.weight))
        at--;
    if (at == max)
        return;
    *n += *n < max;
    memmove(&v[at + 1], &v[at], (*n - at - 1) * sizeof *v);
    v[at] = r;
}

struct shares {
    float base[SPAM_GROUPS], own[SPAM_GROUPS];
};

static double feature_weight(const struct spam_model *m, const struct spam_own_model *own,
                             uint32_t feature, const struct shares *shares)
{
    double weight = 0;

    if (m != NULL)
        weight += (double)(m->head.scale * m->weights[slot_of(feature)]) *
                  shares->base[group_of(feature)];
    if (own != NULL)
        weight += (double)(own->head.scale * own->weights[own_slot_of(feature)]) *
                  shares->own[group_of(feature)];
    return weight;
}

size_t spam_model_reasons(const struct spam_model *m, const struct spam_own_model *own,
                          const struct spam_features *features, bool for_spam,
                          struct spam_reason *out, size_t count_max)
{
    struct arena *a = arena_new();
    struct spam_example e = spam_example_of(a, features);
    struct shares shares = {0};
    size_t n = 0;

    if (m != NULL)
        model_shares(m, &e, shares.base);
    all_shares(&e, shares.own);
    for (size_t i = 0; i < features->n && count_max > 0; i++) {
        double weight = feature_weight(m, own, e.v[i], &shares);
        if (features->v[i].kind != SPAM_LETTERS && (for_spam ? weight > 0 : weight < 0))
            insert_reason(out, &n, count_max, (struct spam_reason){&features->v[i], weight});
    }
    arena_free(&a);
    return n;
}
