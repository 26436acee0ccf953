/* smtp_params.c - one reader per parameter, and a table of them for each command.
 *
 * What is accepted here ends up in the envelopes of other servers and in the fields of reports, so nothing that could
 * end a line or a field gets through. */
#include "mail/smtp/smtp_params.h"

#include "mail/mime/xtext.h"
#include "server/base/buf.h"
#include "server/base/date.h"
#include "server/base/encode.h"
#include "server/base/utf8.h"

#define SECONDS_DIGITS_MAX 9 /* RFC 2852, 4; RFC 4865, 4 */
#define US_PER_S           1000000

/* ---- helpers ------------------------------------------------------------------------------------ */

struct mail_reader {
    struct arena *a;
    const struct smtp_offer *offer;
    struct smtp_mail_params *out;
};

static int no_value(struct str value, const char *name, struct error *err)
{
    return str_empty(value) ? 0 : fail(err, ERR_SYNTAX, "%s takes no value", name);
}

static bool read_seconds(struct str text, int64_t *out)
{
    uint64_t seconds;

    if (text.n > SECONDS_DIGITS_MAX || !str_to_u64(text, &seconds))
        return false;
    *out = (int64_t)seconds;
    return true;
}

/* ---- MAIL ---------------------------------------------------------------------------------------- */

static int read_size(struct mail_reader *r, struct str value, struct error *err)
{
    uint64_t size;

    if (value.n > 20 || !str_to_u64(value, &size))
        return fail(err, ERR_SYNTAX, "SIZE needs a number of bytes");
    if (size > (uint64_t)r->offer->size_max)
        return fail(err, ERR_TOO_BIG, "the message is larger than the %lld bytes we take",
                    (long long)r->offer->size_max);
    r->out->size_declared = (int64_t)size;
    return 0;
}

static int read_body(struct mail_reader *r, struct str value, struct error *err)
{
    if (str_ieq(value, STR("7BIT")))
        r->out->body = SMTP_BODY_7BIT;
    else if (str_ieq(value, STR("8BITMIME")))
        r->out->body = SMTP_BODY_8BITMIME;
    else if (str_ieq(value, STR("BINARYMIME")))
        r->out->body = SMTP_BODY_BINARYMIME;
    else
        return fail(err, ERR_SYNTAX, "BODY is 7BIT, 8BITMIME or BINARYMIME");
    return 0;
}

static int read_smtputf8(struct mail_reader *r, struct str value, struct error *err)
{
    r->out->is_utf8 = true;
    return no_value(value, "SMTPUTF8", err);
}

/* RFC 4954, 5: who submitted it first, as an authenticated client says; of others it is not believed. */
static int read_auth(struct mail_reader *r, struct str value, struct error *err)
{
    struct smtp_params none;
    struct smtp_path path;
    struct str text;

    if (str_eq(value, STR("<>")))
        text = value;
    else if (str_empty(value) || !xtext_decode(r->a, value, &text) ||
             smtp_parse_path(r->a, arena_printf(r->a, "<%.*s>", STR_ARG(text)), STR(""), &path,
                             &none, NULL) < 0 ||
             path.is_null || none.n > 0)
        return fail(err, ERR_SYNTAX, "AUTH needs <> or an address in xtext (RFC 4954, 5)");
    r->out->submitter = r->offer->is_trusted ? text : STR("<>");
    return 0;
}

static int read_ret(struct mail_reader *r, struct str value, struct error *err)
{
    if (str_ieq(value, STR("FULL")))
        r->out->ret = SMTP_RET_FULL;
    else if (str_ieq(value, STR("HDRS")))
        r->out->ret = SMTP_RET_HDRS;
    else
        return fail(err, ERR_SYNTAX, "RET is FULL or HDRS");
    return 0;
}

static int read_envid(struct mail_reader *r, struct str value, struct error *err)
{
    struct str decoded;

    if (str_empty(value) || value.n > SMTP_ENVID_SIZE_MAX || !xtext_decode(r->a, value, &decoded))
        return fail(err, ERR_SYNTAX, "ENVID needs printable xtext of at most %d bytes",
                    SMTP_ENVID_SIZE_MAX);
    r->out->envid = value;
    return 0;
}

/* "BY=120;R" or "BY=-60;NT" (RFC 2852, 4): a notice may be due already, a return may not. */
static int read_by(struct mail_reader *r, struct str value, struct error *err)
{
    struct str time, mode;
    bool has_mode = str_cut(value, ';', &time, &mode), is_negative = str_starts(time, STR("-"));
    bool has_trace = mode.n == 2 && ascii_upper(mode.p[1]) == 'T';
    int64_t seconds;

    if (is_negative || str_starts(time, STR("+")))
        time = str_from(time, 1);
    if (!has_mode || !read_seconds(time, &seconds) || (mode.n != 1 && !has_trace))
        return fail(err, ERR_SYNTAX, "BY needs seconds and a mode, such as BY=3600;R or BY=60;NT");
    if (ascii_upper(mode.p[0]) == 'N')
        r->out->by_mode = SMTP_BY_NOTIFY;
    else if (ascii_upper(mode.p[0]) == 'R')
        r->out->by_mode = SMTP_BY_RETURN;
    else
        return fail(err, ERR_SYNTAX, "the mode of BY is N or R");
    if (r->out->by_mode == SMTP_BY_RETURN && (is_negative || seconds == 0))
        return fail(err, ERR_SYNTAX, "BY with R needs a time above 0");
    r->out->by_trace = has_trace;
    r->out->deliver_by_us = r->offer->now_us + (is_negative ? -seconds : seconds) * US_PER_S;
    return 0;
}

static int read_priority(struct mail_reader *r, struct str value, struct error *err)
{
    bool is_negative = str_skip_prefix(&value, STR("-"));
    uint32_t number;

    if (value.n != 1 || !str_to_u32(value, &number) || (is_negative && number == 0))
        return fail(err, ERR_SYNTAX, "MT-PRIORITY is a number from -9 to 9");
    r->out->priority = is_negative ? -(int)number : (int)number;
    r->out->is_priority_lowered = r->out->priority > 0 && !r->offer->is_trusted;
    if (r->out->is_priority_lowered)
        r->out->priority = 0;
    return 0;
}

static int read_requiretls(struct mail_reader *r, struct str value, struct error *err)
{
    if (!r->offer->is_tls)
        return fail(err, ERR_UNSUPPORTED, "REQUIRETLS needs TLS: say STARTTLS first");
    r->out->requires_tls = true;
    return no_value(value, "REQUIRETLS", err);
}

static int hold(struct mail_reader *r, int64_t until_us, struct error *err)
{
    if (r->offer->hold_max_s == 0)
        return fail(err, ERR_UNSUPPORTED, "mail cannot be held for later here");
    if (r->out->hold_until_us != 0)
        return fail(err, ERR_SYNTAX, "give HOLDFOR or HOLDUNTIL, not both");
    if (until_us - r->offer->now_us > r->offer->hold_max_s * US_PER_S)
        return fail(err, ERR_SYNTAX, "mail can be held for at most %lld seconds",
                    (long long)r->offer->hold_max_s);
    r->out->hold_until_us = until_us;
    return 0;
}

static int read_holdfor(struct mail_reader *r, struct str value, struct error *err)
{
    int64_t seconds;

    if (!read_seconds(value, &seconds) || seconds == 0)
        return fail(err, ERR_SYNTAX, "HOLDFOR needs a number of seconds above 0");
    return hold(r, r->offer->now_us + seconds * US_PER_S, err);
}

/* A time that has passed is no error: a client's clock may be late (RFC 4865, 4). */
static int read_holduntil(struct mail_reader *r, struct str value, struct error *err)
{
    int64_t until_us;

    if (!date_parse_rfc3339(value, &until_us) || until_us <= 0)
        return fail(err, ERR_SYNTAX, "HOLDUNTIL needs a date such as 2030-01-31T08:00:00Z");
    return hold(r, until_us, err);
}

static const struct {
    const char *name;
    int (*read)(struct mail_reader *r, struct str value, struct error *err);
} mail_readers[] = {
    {"SIZE", read_size},
    {"BODY", read_body},
    {"SMTPUTF8", read_smtputf8},
    {"AUTH", read_auth},
    {"RET", read_ret},
    {"ENVID", read_envid},
    {"BY", read_by},
    {"MT-PRIORITY", read_priority},
    {"REQUIRETLS", read_requiretls},
    {"HOLDFOR", read_holdfor},
    {"HOLDUNTIL", read_holduntil},
};

#define MAIL_READER_COUNT (sizeof mail_readers / sizeof *mail_readers)

static int check_once(unsigned *seen, size_t index, struct str name, struct error *err)
{
    if (*seen & (1u << index))
        return fail(err, ERR_SYNTAX, "%.*s is given twice", STR_ARG(str_head(name, 40)));
    *seen |= 1u << index;
    return 0;
}

static int unknown(const char *verb, struct error *err)
{
    return fail(err, ERR_UNSUPPORTED, "unknown %s parameter", verb);
}

int smtp_read_mail_params(struct arena *a, const struct smtp_params *params,
                          const struct smtp_offer *offer, struct smtp_mail_params *out,
                          struct error *err)
{
    struct mail_reader reader = {a, offer, out};
    unsigned seen = 0;

    *out = (struct smtp_mail_params){0};
    for (size_t i = 0; i < params->n; i++) {
        struct str name = params->v[i].name;
        size_t at = 0;

        while (at < MAIL_READER_COUNT && !str_ieq(name, str_c(mail_readers[at].name)))
            at++;
        if (at == MAIL_READER_COUNT)
            return unknown("MAIL", err);
        if (check_once(&seen, at, name, err) < 0 ||
            mail_readers[at].read(&reader, params->v[i].value, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- RCPT ---------------------------------------------------------------------------------------- */

static int read_notify(struct str value, struct smtp_rcpt_params *out, struct error *err)
{
    static const struct {
        struct str word;
        enum smtp_notify flag;
    } words[] = {
        {{"SUCCESS", 7}, SMTP_NOTIFY_SUCCESS},
        {{"FAILURE", 7}, SMTP_NOTIFY_FAILURE},
        {{"DELAY", 5}, SMTP_NOTIFY_DELAY},
    };
    struct str word;
    bool has_more = true;

    if (str_ieq(value, STR("NEVER"))) {
        out->notify = SMTP_NOTIFY_NEVER;
        return 0;
    }
    while (has_more) {
        size_t i = 0;

        has_more = str_cut(value, ',', &word, &value);
        while (i < 3 && !str_ieq(word, words[i].word))
            i++;
        if (i == 3)
            return fail(err, ERR_SYNTAX,
                        "NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY");
        out->notify |= words[i].flag;
    }
    return 0;
}

static bool is_atom(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= 32 || s.p[i] == 127 || strchr("()<>@,;:\\\".[]", s.p[i]) != NULL)
            return false;
    return s.n > 0;
}

/* HEXPOINT (RFC 6533, 3): upper case, no zero in front of a long one, no surrogate, and of ASCII only what must be
 * escaped. */
static bool is_hexpoint(struct str s)
{
    static const char needed[] = " +=\\\x7f";
    uint32_t point = 0;

    for (size_t i = 0; i < s.n; i++) {
        int digit = xtext_digit(s.p[i]);
        if (digit < 0 || s.n > 6)
            return false;
        point = point * 16 + (uint32_t)digit;
    }
    if (s.n < 2 || (s.n > 2 && s.p[0] == '0') || point == 0 || point > 0x10ffff ||
        (point >= 0xd800 && point < 0xe000))
        return false;
    if (point < 32)
        return (point & 15) <= 9; /* the RFC's grammar knows no others */
    return point >= 0x80 || strchr(needed, (int)point) != NULL;
}

/* utf-8-addr-xtext, or with SMTPUTF8 utf-8-addr-unitext (RFC 6533, 3). */
static bool is_utf8_address(struct str s, bool may_be_raw)
{
    if (!utf8_valid(s) || (!may_be_raw && !str_is_ascii(s)))
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '\\') {
            ptrdiff_t end = str_index(str_from(s, i), '}');

            if (end < 4 || !str_starts(str_from(s, i), STR("\\x{")) ||
                !is_hexpoint(str_of(s.p + i + 3, (size_t)end - 3)))
                return false;
            i += (size_t)end;
        } else if (c < 128 && !xtext_is_plain((char)c))
            return false;
    }
    return s.n > 0;
}

/* Undoes a xtext that holds no control characters. Bytes of UTF-8 may be in it: Postfix says rfc822 of every address. */
static bool read_xtext(struct arena *a, struct str s, bool may_be_raw, struct str *out)
{
    char *to = arena_alloc(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '+') {
            int high = i + 2 < s.n ? xtext_digit(s.p[i + 1]) : -1;
            int low = i + 2 < s.n ? xtext_digit(s.p[i + 2]) : -1;

            if (high < 2 || low < 0 || (high == 7 && low == 15))
                return false;
            c = (unsigned char)(high * 16 + low);
            i += 2;
        } else if (c < 128 ? !xtext_is_plain((char)c) : !may_be_raw)
            return false;
        to[n++] = (char)c;
    }
    *out = str_of(to, n);
    return n > 0 && utf8_valid(*out);
}

/* "utf-8;" and utf-8-addr-xtext (RFC 6533, 3), which any server may be given. Empty when it gets too long so. */
static struct str utf8_orcpt(struct arena *a, struct str address, bool is_escaped)
{
    struct str out = STR_NULL;
    struct buf b;
    uint32_t c;

    buf_init(&b, SMTP_ORCPT_SIZE_MAX);
    buf_adds(&b, "utf-8;");
    while (utf8_next(&address, &c))
        if (c < 128 && xtext_is_plain((char)c) && (is_escaped || c != '\\'))
            buf_addc(&b, (char)c);
        else
            buf_addf(&b, "\\x{%02X}", c);
    if (buf_ok(&b))
        out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

static int read_orcpt(struct arena *a, struct str value, bool is_utf8, struct smtp_rcpt_params *out,
                      struct error *err)
{
    struct str type, text, address;
    bool says_utf8, is_good;

    str_cut(value, ';', &type, &text);
    says_utf8 = str_ieq(type, STR("utf-8"));
    address = text;
    is_good = says_utf8 ? is_utf8_address(text, is_utf8) : read_xtext(a, text, is_utf8, &address);
    if (value.n > SMTP_ORCPT_SIZE_MAX || !is_atom(type) || !str_is_ascii(type) || !is_good ||
        !(says_utf8 || str_ieq(type, STR("rfc822")) || str_is_ascii(address)))
        return fail(err, ERR_SYNTAX,
                    "ORCPT needs a type and an address, such as rfc822;ani@example.org");
    out->orcpt = str_is_ascii(address) ? value : utf8_orcpt(a, address, says_utf8);
    return 0;
}

int smtp_read_rcpt_params(struct arena *a, const struct smtp_params *params, bool is_utf8,
                          struct smtp_rcpt_params *out, struct error *err)
{
    unsigned seen = 0;

    *out = (struct smtp_rcpt_params){0};
    for (size_t i = 0; i < params->n; i++) {
        struct str name = params->v[i].name, value = params->v[i].value;
        bool is_notify = str_ieq(name, STR("NOTIFY"));

        if (!is_notify && !str_ieq(name, STR("ORCPT")))
            return unknown("RCPT", err);
        if (check_once(&seen, is_notify, name, err) < 0 ||
            (is_notify ? read_notify(value, out, err) : read_orcpt(a, value, is_utf8, out, err)) <
                0)
            return -1;
    }
    return 0;
}
