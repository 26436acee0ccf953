/* date.c - the three date formats of mail, read leniently or strictly as their readers need.
 *
 * RFC 5322 dates come from every mailer ever written: whatever can be understood is. RFC 3339 and
 * IMAP dates come from protocols and are refused when malformed. No locale, no time zone
 * database, no libc calendar: the proleptic Gregorian calendar is thirty lines. */
#include "server/base/date.h"
#include <time.h>

#define DAY_S     86400
#define SECOND_US 1000000

static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char day_names[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};

struct fields {
    uint32_t year, month, day; /* month 1-12 */
    uint32_t hour, minute, second;
    int offset_min;
};

int64_t time_now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * SECOND_US + now.tv_nsec / 1000;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Years begin in March here, so that the leap day is the last day; 400 years are an era. */
int64_t days_from_civil(int year, int month, int day)
{
    int64_t y = (int64_t)year - (month <= 2);
    int64_t era = floor_div(y, 400);
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

void civil_from_days(int64_t days, int *year, int *month, int *day)
{
    int64_t shifted = days + 719468;
    int64_t era = floor_div(shifted, 146097);
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted_month = (5 * day_of_year + 2) / 153;

    *day = (int)(day_of_year - (153 * shifted_month + 2) / 5 + 1);
    *month = (int)(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
    *year = (int)(year_of_era + era * 400 + (*month <= 2));
}

static uint32_t days_in_month(uint32_t year, uint32_t month)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return month == 2 && is_leap ? 29 : days[month - 1];
}

/* Second 60 is a leap second and becomes the first of the next minute. */
static bool fields_valid(const struct fields *f)
{
    return f->year <= 9999 && f->month >= 1 && f->month <= 12 && f->day >= 1 &&
           f->day <= days_in_month(f->year, f->month) && f->hour <= 23 && f->minute <= 59 &&
           f->second <= 60;
}

static int64_t fields_to_unix(const struct fields *f)
{
    int64_t days = days_from_civil((int)f->year, (int)f->month, (int)f->day);
    int64_t minutes = days * 1440 + f->hour * 60 + f->minute - f->offset_min;

    return minutes * 60 + f->second;
}

/* None of the formats has years outside 0 to 9999. */
static int64_t clamp_to_four_digits(int64_t local_s)
{
    const int64_t first = days_from_civil(0, 1, 1) * DAY_S;
    const int64_t last = days_from_civil(10000, 1, 1) * DAY_S - 1;

    return local_s < first ? first : local_s > last ? last : local_s;
}

static struct fields fields_from_unix(int64_t unix_s, int offset_min)
{
    int64_t local = clamp_to_four_digits(clamp_to_four_digits(unix_s) + (int64_t)offset_min * 60);
    int64_t days = floor_div(local, DAY_S);
    uint32_t second = (uint32_t)(local - days * DAY_S);
    int year, month, day;

    civil_from_days(days, &year, &month, &day);
    return (struct fields){
        .year = (uint32_t)year,
        .month = (uint32_t)month,
        .day = (uint32_t)day,
        .hour = second / 3600,
        .minute = second / 60 % 60,
        .second = second % 60,
        .offset_min = offset_min,
    };
}

/* The month of a name's first three letters, 0 when there is none. */
static uint32_t month_number(struct str name)
{
    for (uint32_t i = 0; i < 12; i++)
        if (str_istarts(name, str_of(month_names[i], 3)))
            return i + 1;
    return 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z';
}

/* --- RFC 5322 ------------------------------------------------------------------------------- */

static bool skip_char(struct str *s, char c)
{
    if (s->n == 0 || s->p[0] != c)
        return false;
    *s = str_from(*s, 1);
    return true;
}

/* s stands behind the opening parenthesis. Comments nest; one that never closes ends the text. */
static void skip_comment(struct str *s)
{
    for (size_t depth = 1; s->n > 0 && depth > 0; *s = str_from(*s, 1)) {
        if (s->p[0] == '\\')
            *s = str_from(*s, 1);
        else if (s->p[0] == '(')
            depth++;
        else if (s->p[0] == ')')
            depth--;
    }
}

static void skip_space(struct str *s)
{
    for (;;) {
        while (skip_char(s, ' ') || skip_char(s, '\t') || skip_char(s, '\r') || skip_char(s, '\n'))
            ;
        if (!skip_char(s, '('))
            return;
        skip_comment(s);
    }
}

static struct str take_while(struct str *s, bool (*is_wanted)(char))
{
    size_t n = 0;
    struct str taken;

    while (n < s->n && is_wanted(s->p[n]))
        n++;
    taken = str_head(*s, n);
    *s = str_from(*s, n);
    skip_space(s);
    return taken;
}

static bool take_number(struct str *s, size_t digits_max, uint32_t *value, size_t *digits)
{
    struct str text = take_while(s, is_digit);

    if (digits != NULL)
        *digits = text.n;
    return text.n <= digits_max && str_to_u32(text, value);
}

/* Two digits are 1950 to 2049, three count from 1900 (RFC 5322, 4.3). */
static bool take_year(struct str *s, uint32_t *year)
{
    size_t digits;

    if (!take_number(s, 4, year, &digits))
        return false;
    if (digits == 3)
        *year += 1900;
    else if (digits <= 2)
        *year += *year < 50 ? 2000 : 1900;
    return true;
}

static bool take_time(struct str *s, struct fields *f)
{
    if (!take_number(s, 2, &f->hour, NULL) || !skip_char(s, ':'))
        return false;
    skip_space(s);
    if (!take_number(s, 2, &f->minute, NULL))
        return false;
    f->second = 0;
    if (!skip_char(s, ':'))
        return true;
    skip_space(s);
    return take_number(s, 2, &f->second, NULL);
}

static int named_zone_offset(struct str name)
{
    static const struct {
        char name[4];
        int hours;
    } zones[] = {
        {"EST", -5}, {"EDT", -4}, {"CST", -6}, {"CDT", -5},
        {"MST", -7}, {"MDT", -6}, {"PST", -8}, {"PDT", -7},
    };

    for (unsigned i = 0; i < sizeof zones / sizeof zones[0]; i++)
        if (str_ieq(name, str_c(zones[i].name)))
            return zones[i].hours * 60;
    return 0; /* UT, GMT and Z; military and unknown ones tell nothing (RFC 5322, 4.3) */
}

/* "+0700", "-03:30", "EST", "GMT+0700", or nothing at all, which is taken as UTC. */
static bool take_zone(struct str *s, int *offset_min)
{
    uint32_t number;
    size_t digits;
    bool is_west;

    *offset_min = named_zone_offset(take_while(s, is_letter));
    is_west = s->n > 0 && s->p[0] == '-';
    if (!skip_char(s, '-') && !skip_char(s, '+'))
        return true;
    if (!take_number(s, 4, &number, &digits))
        return false;
    if (digits <= 2) {
        number *= 100;
        if (skip_char(s, ':')) {
            uint32_t minutes;

            if (!take_number(s, 2, &minutes, NULL))
                return false;
            number += minutes;
        }
    }
    *offset_min = (int)(number / 100 * 60 + number % 100) * (is_west ? -1 : 1);
    return number % 100 < 60;
}

static bool take_date(struct str *s, struct fields *f)
{
    if (s->n > 0 && is_letter(s->p[0])) {
        take_while(s, is_letter); /* weekdays are often wrong: ignored */
        skip_char(s, ',');
        skip_space(s);
    }
    if (!take_number(s, 2, &f->day, NULL))
        return false;
    skip_char(s, '-'); /* "23-Nov-2026": old Unix mailers */
    f->month = month_number(take_while(s, is_letter));
    skip_char(s, '-');
    return take_year(s, &f->year);
}

bool date_parse_rfc5322(struct str s, int64_t *unix_s, int *offset_min)
{
    struct fields f = {0};

    skip_space(&s);
    if (!take_date(&s, &f) || !take_time(&s, &f) || !take_zone(&s, &f.offset_min) ||
        !fields_valid(&f))
        return false;
    *unix_s = fields_to_unix(&f);
    if (offset_min != NULL)
        *offset_min = f.offset_min;
    return true;
}

void date_add_rfc5322(struct buf *out, int64_t unix_s, int offset_min)
{
    struct fields f = fields_from_unix(unix_s, offset_min);
    int64_t days = days_from_civil((int)f.year, (int)f.month, (int)f.day);
    int offset = offset_min < 0 ? -offset_min : offset_min;

    buf_addf(out, "%s, %u %s %04u %02u:%02u:%02u %c%02d%02d",
             day_names[days - floor_div(days, 7) * 7], f.day, month_names[f.month - 1], f.year,
             f.hour, f.minute, f.second, offset_min < 0 ? '-' : '+', offset / 60, offset % 60);
}

/* --- fixed forms: RFC 3339 and IMAP --------------------------------------------------------- */

/* Matches a picture: a digit class letter of `picture` takes one digit into its field, any other
 * character stands for itself, case ignored. */
struct picture_field {
    char letter;
    uint32_t *value;
};

static bool match_picture(struct str s, const char *picture, const struct picture_field *fields,
                          size_t count)
{
    if (s.n != strlen(picture))
        return false;
    for (size_t i = 0; i < s.n; i++) {
        size_t at = 0;

        while (at < count && fields[at].letter != picture[i])
            at++;
        if (at == count) {
            if (ascii_lower(s.p[i]) != ascii_lower(picture[i]))
                return false;
        } else {
            if (!is_digit(s.p[i]))
                return false;
            *fields[at].value = *fields[at].value * 10 + (uint32_t)(s.p[i] - '0');
        }
    }
    return true;
}

#define PICTURE(s, picture, ...)                                                                   \
    match_picture((s), (picture), (const struct picture_field[]){__VA_ARGS__},                     \
                  sizeof((const struct picture_field[]){__VA_ARGS__}) /                            \
                      sizeof(struct picture_field))

/* ".123" of any length: microseconds, the rest is dropped. */
static bool take_fraction(struct str *s, uint32_t *us)
{
    uint32_t unit = SECOND_US;
    size_t n = 0;

    *us = 0;
    if (!skip_char(s, '.'))
        return true;
    for (; n < s->n && is_digit(s->p[n]); n++) {
        unit /= 10;
        *us += unit * (uint32_t)(s->p[n] - '0');
    }
    *s = str_from(*s, n);
    return n > 0;
}

/* "+07:00" with the picture "hh:mm", "+0700" with "hhmm". */
static bool parse_offset(struct str s, const char *picture, int *offset_min)
{
    uint32_t hours = 0, minutes = 0;

    if (s.n == 0 || (s.p[0] != '+' && s.p[0] != '-'))
        return false;
    if (!PICTURE(str_from(s, 1), picture, {'h', &hours}, {'m', &minutes}) || minutes > 59)
        return false;
    *offset_min = (int)(hours * 60 + minutes) * (s.p[0] == '-' ? -1 : 1);
    return true;
}

bool date_parse_rfc3339(struct str s, int64_t *unix_us)
{
    static const char picture[] = "yyyy-mm-ddThh:ii:ss";
    struct str zone = str_from(s, sizeof picture - 1);
    struct fields f = {0};
    uint32_t us;

    if (!PICTURE(str_head(s, sizeof picture - 1), picture, {'y', &f.year}, {'m', &f.month},
                 {'d', &f.day}, {'h', &f.hour}, {'i', &f.minute}, {'s', &f.second}))
        return false;
    if (!take_fraction(&zone, &us))
        return false;
    if (!str_ieq(zone, STR("Z")) && (!parse_offset(zone, "hh:mm", &f.offset_min) ||
                                     f.offset_min > 1439 || f.offset_min < -1439))
        return false;
    if (!fields_valid(&f))
        return false;
    *unix_us = fields_to_unix(&f) * SECOND_US + us;
    return true;
}

void date_add_rfc3339(struct buf *out, int64_t unix_us)
{
    int64_t unix_s = floor_div(unix_us, SECOND_US);
    struct fields f = fields_from_unix(unix_s, 0);

    buf_addf(out, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", f.year, f.month, f.day, f.hour, f.minute,
             f.second, (unsigned)((unix_us - unix_s * SECOND_US) / 1000));
}

/* "23-Nov-2026" */
static bool parse_imap_date(struct str s, struct fields *f)
{
    struct str day, month, year;

    if (!str_cut(s, '-', &day, &s) || !str_cut(s, '-', &month, &year))
        return false;
    f->month = month_number(month);
    return day.n <= 2 && month.n == 3 && year.n == 4 && str_to_u32(day, &f->day) &&
           str_to_u32(year, &f->year) && fields_valid(f);
}

bool date_parse_imap_day(struct str s, int64_t *day)
{
    struct fields f = {0};

    if (!parse_imap_date(s, &f))
        return false;
    *day = days_from_civil((int)f.year, (int)f.month, (int)f.day);
    return true;
}

bool date_parse_imap(struct str s, int64_t *unix_s)
{
    struct fields f = {0};
    struct str date = str_head(s, 11);

    if (s.n != sizeof "dd-mon-yyyy hh:mm:ss +zzzz" - 1)
        return false;
    if (date.p[0] == ' ')
        date = str_from(date, 1);
    if (!parse_imap_date(date, &f) || s.p[20] != ' ' ||
        !PICTURE(str_of(s.p + 11, 9), " hh:mm:ss", {'h', &f.hour}, {'m', &f.minute},
                 {'s', &f.second}) ||
        !parse_offset(str_from(s, 21), "hhmm", &f.offset_min) || !fields_valid(&f))
        return false;
    *unix_s = fields_to_unix(&f);
    return true;
}

void date_add_imap(struct buf *out, int64_t unix_s)
{
    struct fields f = fields_from_unix(unix_s, 0);

    buf_addf(out, "%2u-%s-%04u %02u:%02u:%02u +0000", f.day, month_names[f.month - 1], f.year,
             f.hour, f.minute, f.second);
}
