/* sieve_values_date.c - parts of a date in a time zone (RFC 5260, 4). */
#include "mail/sieve/sieve_run_internal.h"

#include "server/base/date.h"

#define DAY_S                86400
#define MODIFIED_JULIAN_1970 40587 /* days from 1858-11-17 to 1970-01-01 */

struct moment {
    int64_t unix_s, days; /* days and the rest: in the zone */
    int zone_min, year, month, day, hour, minute, second;
};

static struct moment moment_of(int64_t unix_s, int zone_min)
{
    struct moment m = {.unix_s = unix_s, .zone_min = zone_min};
    int64_t local = unix_s + 60 * (int64_t)zone_min;
    int rest;

    m.days = local / DAY_S - (local % DAY_S < 0);
    rest = (int)(local - m.days * DAY_S);
    civil_from_days(m.days, &m.year, &m.month, &m.day);
    m.hour = rest / 3600;
    m.minute = rest / 60 % 60;
    m.second = rest % 60;
    return m;
}

static struct str zone_text(struct arena *a, int zone_min, const char *colon)
{
    int size = zone_min < 0 ? -zone_min : zone_min;

    return arena_printf(a, "%c%02d%s%02d", zone_min < 0 ? '-' : '+', size / 60, colon, size % 60);
}

static struct str iso8601_text(struct arena *a, const struct moment *m)
{
    struct str zone = zone_text(a, m->zone_min, ":");

    return arena_printf(a, "%04d-%02d-%02dT%02d:%02d:%02d%.*s", m->year, m->month, m->day, m->hour,
                        m->minute, m->second, STR_ARG(zone));
}

static struct str std11_text(struct arena *a, const struct moment *m)
{
    struct buf b;
    struct str out;

    buf_init(&b, 100);
    date_add_rfc5322(&b, m->unix_s, m->zone_min);
    out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

bool sieve_date_text(struct arena *a, enum sieve_date_part part, int64_t unix_s, int zone_min,
                     struct str *out)
{
    struct moment m = moment_of(unix_s, zone_min);

    switch (part) {
    case SIEVE_DATE_YEAR:
        *out = arena_printf(a, "%04d", m.year);
        return true;
    case SIEVE_DATE_MONTH:
        *out = arena_printf(a, "%02d", m.month);
        return true;
    case SIEVE_DATE_DAY:
        *out = arena_printf(a, "%02d", m.day);
        return true;
    case SIEVE_DATE_DATE:
        *out = arena_printf(a, "%04d-%02d-%02d", m.year, m.month, m.day);
        return true;
    case SIEVE_DATE_JULIAN:
        *out = arena_printf(a, "%lld", (long long)m.days + MODIFIED_JULIAN_1970);
        return true;
    case SIEVE_DATE_HOUR:
        *out = arena_printf(a, "%02d", m.hour);
        return true;
    case SIEVE_DATE_MINUTE:
        *out = arena_printf(a, "%02d", m.minute);
        return true;
    case SIEVE_DATE_SECOND:
        *out = arena_printf(a, "%02d", m.second);
        return true;
    case SIEVE_DATE_TIME:
        *out = arena_printf(a, "%02d:%02d:%02d", m.hour, m.minute, m.second);
        return true;
    case SIEVE_DATE_ISO8601:
        *out = iso8601_text(a, &m);
        return true;
    case SIEVE_DATE_STD11:
        *out = std11_text(a, &m);
        return true;
    case SIEVE_DATE_ZONE:
        *out = zone_text(a, zone_min, "");
        return true;
    case SIEVE_DATE_WEEKDAY: /* 1970-01-01 was a Thursday; Sunday is 0 */
        *out = arena_printf(a, "%d", (int)(((m.days + 4) % 7 + 7) % 7));
        return true;
    case SIEVE_DATE_UNKNOWN:
        break;
    }
    return false;
}

/* The last date of a field stands behind its last semicolon, or is all of it. */
static bool read_date(struct sieve_run *r, const struct sieve_field *f, int64_t *unix_s,
                      int *zone_min)
{
    struct str text = header_unfold(r->scratch, f->raw);
    ptrdiff_t at = str_rindex(text, ';');

    if (at >= 0 && date_parse_rfc5322(str_trim(str_from(text, (size_t)at + 1)), unix_s, zone_min))
        return true;
    return date_parse_rfc5322(text, unix_s, zone_min);
}

static bool date_of_field(struct sieve_run *r, const struct sieve_test *t, int64_t *unix_s,
                          int *zone_min)
{
    struct sieve_fields *f = sieve_fields_of(r, &t->u.date.header);
    size_t from, to;

    if (!sieve_index_range(&t->u.date.index, f->n, &from, &to))
        return false;
    return read_date(r, &f->v[from], unix_s, zone_min); /* the first unless :index says otherwise */
}

static bool choose_zone(struct sieve_run *r, const struct sieve_test *t, int original_min, int *out)
{
    switch (t->u.date.zone) {
    case SIEVE_ZONE_LOCAL:
        *out = r->mail->zone_min;
        return true;
    case SIEVE_ZONE_ORIGINAL:
        *out = original_min;
        return true;
    case SIEVE_ZONE_GIVEN:
        *out = t->u.date.zone_min;
        return true;
    case SIEVE_ZONE_STRING:
        return sieve_zone_parse(sieve_run_string(r, &t->u.date.zone_string), out);
    }
    return false;
}

void sieve_date_values(struct sieve_run *r, const struct sieve_test *t, struct sieve_values *out)
{
    int64_t unix_s = r->mail->now_us / 1000000;
    int zone_min = r->mail->zone_min;
    enum sieve_date_part part = t->u.date.part;
    struct str text;

    if (t->kind == SIEVE_TEST_DATE && !date_of_field(r, t, &unix_s, &zone_min))
        return;
    if (!choose_zone(r, t, zone_min, &zone_min))
        return;
    if (part == SIEVE_DATE_UNKNOWN)
        part = sieve_date_part_of(sieve_run_string(r, &t->u.date.part_string));
    if (sieve_date_text(r->scratch, part, unix_s, zone_min, &text))
        sieve_values_add_text(r, out, text);
}
