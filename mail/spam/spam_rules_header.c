/* spam_rules_header.c - rules over the header: what is missing, forged or disguised in it. */
#include "mail/mime/address.h"
#include "mail/mime/header.h"
#include "mail/spam/spam_confusable.h"
#include "mail/spam/spam_rules.h"
#include "server/base/date.h"

#define FIELDS_MAX       300
#define VALUE_SIZE_MAX   4000
#define DAY_US           (INT64_C(86400) * 1000000)
#define FUTURE_US        (2 * DAY_US) /* zones that are wrong make half a day */
#define PAST_US          (30 * DAY_US)
#define SHOUTED_SIZE_MIN 8
#define GAP              "      "

enum single { FROM, SUBJECT, DATE, MESSAGE_ID, TO, SINGLE_COUNT };
static const char *const singles[SINGLE_COUNT] = {"From", "Subject", "Date", "Message-ID", "To"};

struct look {
    struct arena *arena;
    const struct spam_circumstances *facts;
    struct spam_findings *out;
    struct str values[SINGLE_COUNT];
    unsigned counts[SINGLE_COUNT], received;
    bool is_answer,
        is_listed; /* In-Reply-To or References; List-Id: it may have been here before */
};

static void find(struct look *l, enum spam_finding_kind kind, struct str detail)
{
    spam_find(l->arena, l->out, kind, detail);
}

/* ---- walking --------------------------------------------------------------------------------- */

/* "from a by b with ..." says that b had it; only b can know. */
static bool is_by(struct str received, struct str host)
{
    ptrdiff_t at = str_ifind(received, STR("by "));
    struct str rest = at < 0 ? STR("") : str_from(received, (size_t)at + 3);

    return host.n > 0 && str_istarts(rest, host) &&
           (rest.n == host.n || strchr(" \t;(", rest.p[host.n]) != NULL);
}

static void take_received(struct look *l, struct str value)
{
    struct str text;

    if (l->received++ < l->facts->own_received_count || l->facts->own_host_count == 0)
        return;
    text = header_unfold(l->arena, value);
    for (size_t i = 0; i < l->facts->own_host_count; i++)
        if (is_by(text, l->facts->own_hosts[i]) && !l->is_listed)
            find(l, SPAM_FINDING_RECEIVED_FORGED, l->facts->own_hosts[i]);
}

static void take_single(struct look *l, const struct header_field *field)
{
    for (unsigned i = 0; i < SINGLE_COUNT; i++)
        if (str_ieq(field->name, str_c(singles[i]))) {
            if (l->counts[i]++ == 0)
                l->values[i] = str_head(field->value, VALUE_SIZE_MAX);
            else
                find(l, SPAM_FINDING_FIELD_TWICE, str_c(singles[i]));
        }
}

static void walk(struct look *l, struct str header)
{
    struct header_field field;
    size_t count = 0;

    l->is_listed = header_find(header, STR("List-Id"), &field) ||
                   header_find(header, STR("Resent-From"), &field);
    l->is_answer = header_find(header, STR("In-Reply-To"), &field) ||
                   header_find(header, STR("References"), &field);
    while (count++ < FIELDS_MAX && header_next(&header, &field))
        if (str_ieq(field.name, STR("Received")))
            take_received(l, str_head(field.value, VALUE_SIZE_MAX));
        else
            take_single(l, &field);
}

/* ---- fields ---------------------------------------------------------------------------------- */

static void look_at_date(struct look *l)
{
    struct str text = header_unfold(l->arena, l->values[DATE]);
    int64_t date_s, date_us;

    if (l->counts[DATE] == 0) {
        find(l, SPAM_FINDING_DATE_MISSING, STR(""));
    } else if (!date_parse_rfc5322(text, &date_s, NULL) || date_s > INT64_MAX / 1000000 ||
               date_s < INT64_MIN / 1000000) {
        find(l, SPAM_FINDING_DATE_BROKEN, text);
    } else if (l->facts->now_us != 0) {
        date_us = date_s * 1000000;
        if (date_us > l->facts->now_us + FUTURE_US)
            find(l, SPAM_FINDING_DATE_FUTURE, text);
        if (date_us < l->facts->now_us - PAST_US)
            find(l, SPAM_FINDING_DATE_PAST, text);
    }
}

/* Our own hosts write their names into the identifiers of what is sent from here. */
static bool is_own_host(const struct look *l, struct str host)
{
    for (size_t i = 0; i < l->facts->own_host_count; i++)
        if (str_ieq(host, l->facts->own_hosts[i]))
            return true;
    return false;
}

static void look_at_id(struct look *l)
{
    struct str id = header_unfold(l->arena, l->values[MESSAGE_ID]), left, host;

    if (l->counts[MESSAGE_ID] == 0) {
        find(l, SPAM_FINDING_ID_MISSING, STR(""));
        return;
    }
    if (!str_rcut(id, '@', &left, &host) || left.n < 2 || host.n < 2 || !str_starts(id, STR("<"))) {
        find(l, SPAM_FINDING_ID_BROKEN, id);
        return;
    }
    if (str_ends(host, STR(">")))
        host.n--;
    if (is_own_host(l, host) && !l->is_listed)
        find(l, SPAM_FINDING_ID_FORGED, id);
}

static bool is_shouted(struct str text)
{
    size_t capitals = 0, small = 0;

    for (size_t i = 0; i < text.n; i++) {
        capitals += text.p[i] >= 'A' && text.p[i] <= 'Z';
        small += text.p[i] >= 'a' && text.p[i] <= 'z';
    }
    return capitals >= SHOUTED_SIZE_MIN && small < capitals / 4;
}

static void look_at_subject(struct look *l)
{
    struct str text = header_decode_text(l->arena, l->values[SUBJECT]);
    ptrdiff_t gap = str_find(text, STR(GAP));

    if (str_trim(text).n == 0)
        find(l, SPAM_FINDING_SUBJECT_EMPTY, STR(""));
    if (spam_mixes_alphabets(text) || spam_hides_signs(text))
        find(l, SPAM_FINDING_SUBJECT_DISGUISED, STR(""));
    if (is_shouted(text))
        find(l, SPAM_FINDING_SUBJECT_CAPITALS, STR(""));
    if (gap > 0 && str_trim(str_from(text, (size_t)gap)).n > 0)
        find(l, SPAM_FINDING_SUBJECT_GAP, STR(""));
    if (str_istarts(text, STR("re:")) && !l->is_answer)
        find(l, SPAM_FINDING_SUBJECT_NO_ANSWER, STR(""));
}

static void look_at_author(struct look *l)
{
    struct addresses list = {0};
    struct str name;

    if (l->counts[FROM] > 0)
        address_parse_list(l->arena, l->values[FROM], &list);
    if (list.n == 0 || list.v[0].domain.n == 0)
        find(l, SPAM_FINDING_FROM_MISSING, STR(""));
    if (list.n == 0 || l->facts->known == NULL)
        return;
    name = header_decode_text(l->arena, list.v[0].name);
    spam_find_lookalikes(l->arena, l->facts->known, name, list.v[0].local, list.v[0].domain,
                         l->out);
}

void spam_find_in_header(struct arena *a, struct str header, const struct spam_circumstances *facts,
                         struct spam_findings *out)
{
    struct look l = {.arena = a, .facts = facts, .out = out};

    walk(&l, header);
    look_at_author(&l);
    look_at_date(&l);
    look_at_id(&l);
    look_at_subject(&l);
    if (facts->helo.n > 0 && is_own_host(&l, facts->helo))
        find(&l, SPAM_FINDING_HELO_FORGED, facts->helo);
}
