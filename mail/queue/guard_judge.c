/* guard_judge.c - the thresholds, and the sentences about them. */
#include "mail/queue/guard_judge.h"

#include <inttypes.h>

#include "server/run/config.h"

static const char *const names[GUARD_CAUSES] = {
    [GUARD_NOTHING] = "",
    [GUARD_MESSAGES] = "messages",
    [GUARD_RECIPIENTS] = "recipients",
    [GUARD_AWAY] = "recipients-away",
    [GUARD_BOUNCES] = "bounces",
    [GUARD_COUNTRIES] = "countries",
    [GUARD_NETWORKS] = "networks",
    [GUARD_NEW_COUNTRY] = "new-country",
};

const char *guard_cause_name(enum guard_cause cause)
{
    return names[cause];
}

enum guard_cause guard_cause_parse(struct str name)
{
    for (int i = 0; i < GUARD_CAUSES; i++)
        if (str_eq(name, str_c(names[i])))
            return (enum guard_cause)i;
    return GUARD_NOTHING;
}

/* ---- thresholds ------------------------------------------------------------------------------------- */

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t usual_volume(const struct guard_view *v, enum sending_count what)
{
    return larger(v->usual[what], v->forgiven[what]);
}

static bool has_jumped(const struct guard_view *v, enum sending_count what, int64_t floor)
{
    return floor > 0 && v->levels[what] > floor &&
           v->levels[what] > usual_volume(v, what) * config.guard_factor;
}

/* What was forgiven does not count again. */
static bool has_bounced(const struct guard_view *v, int64_t *bounces, int64_t *among)
{
    *bounces = v->levels[SENDING_BOUNCES] - v->forgiven[SENDING_BOUNCES];
    *among = larger(v->day_away, *bounces);
    return config.guard_bounces > 0 && *bounces >= config.guard_bounces &&
           *bounces * 100 > *among * config.guard_bounces_percent;
}

static bool is_spread(const struct guard_view *v, unsigned level, int64_t limit)
{
    return limit > 0 && v->levels[level] > larger(limit, v->forgiven[level]);
}

static bool is_at_work_abroad(const struct guard_view *v)
{
    return v->is_abroad && config.guard_new_country > 0 &&
           v->levels[SENDING_AWAY] >
               larger(config.guard_new_country, usual_volume(v, SENDING_AWAY));
}

static struct guard_finding find_volume(const struct guard_view *v, enum sending_count what,
                                        enum guard_cause cause)
{
    return (struct guard_finding){cause, v->levels[what], usual_volume(v, what)};
}

struct guard_finding guard_judge(const struct guard_view *v)
{
    int64_t bounces, among;

    if (has_jumped(v, SENDING_AWAY, config.guard_recipients_away))
        return find_volume(v, SENDING_AWAY, GUARD_AWAY);
    if (has_jumped(v, SENDING_RECIPIENTS, config.guard_recipients))
        return find_volume(v, SENDING_RECIPIENTS, GUARD_RECIPIENTS);
    if (has_jumped(v, SENDING_MESSAGES, config.guard_messages))
        return find_volume(v, SENDING_MESSAGES, GUARD_MESSAGES);
    if (has_bounced(v, &bounces, &among))
        return (struct guard_finding){GUARD_BOUNCES, bounces, among};
    if (is_spread(v, LEVEL_COUNTRIES, config.guard_countries))
        return (struct guard_finding){GUARD_COUNTRIES, v->levels[LEVEL_COUNTRIES],
                                      config.guard_countries};
    if (is_spread(v, LEVEL_NETWORKS, config.guard_networks))
        return (struct guard_finding){GUARD_NETWORKS, v->levels[LEVEL_NETWORKS],
                                      config.guard_networks};
    if (is_at_work_abroad(v))
        return find_volume(v, SENDING_AWAY, GUARD_NEW_COUNTRY);
    return (struct guard_finding){GUARD_NOTHING, 0, 0};
}

/* ---- sentences --------------------------------------------------------------------------------------- */

#define N "%" PRId64

static struct str sentence_en(struct arena *a, const struct guard_finding *f, struct str detail)
{
    switch (f->cause) {
    case GUARD_MESSAGES:
        return arena_printf(a, N " messages within an hour; the most so far were " N, f->seen,
                            f->usual);
    case GUARD_RECIPIENTS:
        return arena_printf(a, N " recipients within an hour; the most so far were " N, f->seen,
                            f->usual);
    case GUARD_AWAY:
        return arena_printf(
            a, N " recipients on other servers within an hour; the most so far were " N, f->seen,
            f->usual);
    case GUARD_BOUNCES:
        return arena_printf(
            a, N " of the day's " N " recipients on other servers were refused for good", f->seen,
            f->usual);
    case GUARD_COUNTRIES:
        return arena_printf(a, "mail from " N " countries within a few hours (%.*s)", f->seen,
                            STR_ARG(detail));
    case GUARD_NETWORKS:
        return arena_printf(a, "mail from " N " networks within a few hours", f->seen);
    case GUARD_NEW_COUNTRY:
        return arena_printf(a,
                            "mail from a country that it was never sent from before (%.*s), to " N
                            " recipients on other servers within an hour",
                            STR_ARG(detail), f->seen);
    case GUARD_NOTHING:
    case GUARD_CAUSES:
        break;
    }
    return STR("");
}

static struct str sentence_id(struct arena *a, const struct guard_finding *f, struct str detail)
{
    switch (f->cause) {
    case GUARD_MESSAGES:
        return arena_printf(a, N " pesan dalam satu jam; paling banyak sebelumnya " N, f->seen,
                            f->usual);
    case GUARD_RECIPIENTS:
        return arena_printf(a, N " penerima dalam satu jam; paling banyak sebelumnya " N, f->seen,
                            f->usual);
    case GUARD_AWAY:
        return arena_printf(
            a, N " penerima di server lain dalam satu jam; paling banyak sebelumnya " N, f->seen,
            f->usual);
    case GUARD_BOUNCES:
        return arena_printf(
            a, N " dari " N " penerima di server lain hari ini ditolak untuk seterusnya", f->seen,
            f->usual);
    case GUARD_COUNTRIES:
        return arena_printf(a, "pesan dari " N " negara dalam beberapa jam (%.*s)", f->seen,
                            STR_ARG(detail));
    case GUARD_NETWORKS:
        return arena_printf(a, "pesan dari " N " jaringan dalam beberapa jam", f->seen);
    case GUARD_NEW_COUNTRY:
        return arena_printf(a,
                            "pesan dari negara yang belum pernah dipakai (%.*s), kepada " N
                            " penerima di server lain dalam satu jam",
                            STR_ARG(detail), f->seen);
    case GUARD_NOTHING:
    case GUARD_CAUSES:
        break;
    }
    return STR("");
}

struct str guard_sentence(struct arena *a, const char *language, const struct guard_finding *f,
                          struct str detail)
{
    return str_eq(str_c(language), STR("id")) ? sentence_id(a, f, detail)
                                              : sentence_en(a, f, detail);
}
