/* spam_token_header.c - features of the header as its author's program wrote it.
 *
 * Programs betray themselves by which fields they write, in which order and in which form; authors
 * by their names and subjects. Fields that the way here adds are passed over, and so is what is
 * new in every message: numbers, dates, identifiers. */
#include "mail/mime/address.h"
#include "mail/mime/header.h"
#include "mail/spam/spam_token_internal.h"

#define FIELDS_MAX      150
#define VALUE_SIZE_MAX  2000
#define FORM_SIZE_MAX   40
#define ADDRESSES_SHOWN 30

/* ---- which fields ---------------------------------------------------------------------------- */

/* Written by servers and programs on the recipient's side, or by filters on the way. */
static bool is_of_the_way(struct str name)
{
    static const char *const names[] = {
        "Received",
        "Return-Path",
        "Delivered-To",
        "Delivery-Date",
        "Envelope-To",
        "X-Original-To",
        "X-Envelope-From",
        "X-Envelope-To",
        "X-Keywords",
        "X-Status",
        "Status",
        "X-UID",
        "X-UIDL",
        "Lines",
        "Content-Length",
        "X-Apparently-To",
        "X-Delivery-Agent",
        "Old-Return-Path",
        "X-Return-Path",
        "X-Authentication-Warning",
        "X-MIME-Autoconverted",
        "X-MailScanner",
        "X-Virus-Scanned",
        "X-MDaemon-Deliver-To",
        "X-Message-Flag",
        "Authentication-Results",
        "Received-SPF",
        "X-Loop",
        "X-Original-Date",
        "Resent-Date",
        "Resent-From",
        "Resent-To",
        "Resent-Message-ID",
        "X-Egroups-Return",
        "Xref",
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_ieq(name, str_c(names[i])))
            return true;
    return str_istarts(name, STR("X-Spam")) || str_istarts(name, STR("ARC-")) ||
           str_istarts(name, STR("X-Mozilla-")) || str_istarts(name, STR("X-MS-Exchange-"));
}

static char class_of(char c)
{
    return c >= '0' && c <= '9' ? '9' : c >= 'a' && c <= 'z' ? 'a' : c >= 'A' && c <= 'Z' ? 'A' : c;
}

/* ---- addresses ------------------------------------------------------------------------------- */

static void add_local_part(struct spam_sink *s, struct str local)
{
    size_t digits = 0;

    for (size_t i = 0; i < local.n; i++)
        digits += class_of(local.p[i]) == '9';
    spam_addf(s, SPAM_SENDER, "%zu%s digits in the address", digits < 6 ? digits : 6,
              digits > 6 ? "+" : "");
    spam_addf(s, SPAM_SENDER, "called %.*s@", STR_ARG(spam_lower(s, local, 40)));
    spam_addf(s, SPAM_SENDER, "address of form %.*s@", STR_ARG(spam_form(s->arena, local)));
}

static const char *name_form(struct str value)
{
    if (str_starts(value, STR("\"")))
        return "quotes";
    if (str_starts(value, STR("=")))
        return "encoded words";
    return str_ends(value, STR(")")) ? "a comment" : "plain words";
}

static void take_from(struct spam_sink *s, struct str value)
{
    struct spam_facts *f = &s->facts;
    struct addresses list;
    struct str name;

    address_parse_list(s->arena, value, &list);
    if (list.n == 0) {
        spam_add(s, SPAM_SENDER, STR("nobody"));
        return;
    }
    f->from_domain = list.v[0].domain;
    f->from_local = list.v[0].local;
    name = header_decode_text(s->arena, list.v[0].name);
    spam_addf(s, SPAM_SENDER, "a name in %s", name.n == 0 ? "no form" : name_form(str_trim(value)));
    if (str_index(name, '@') >= 0)
        spam_add(s, SPAM_SENDER, STR("an address as name"));
    spam_add_words(s, SPAM_SENDER, name);
    spam_add_domain(s, SPAM_SENDER, "of", f->from_domain);
    add_local_part(s, f->from_local);
}

static void take_reply_to(struct spam_sink *s, struct str value)
{
    struct spam_facts *f = &s->facts;
    struct addresses list;

    address_parse_list(s->arena, value, &list);
    if (list.n == 0)
        return;
    f->reply_domain = list.v[0].domain;
    spam_add_domain(s, SPAM_SENDER, "answers go to", f->reply_domain);
}

static void take_recipients(struct spam_sink *s, struct str name, struct str value)
{
    struct spam_facts *f = &s->facts;
    struct addresses list;
    size_t named = 0;

    address_parse_list(s->arena, value, &list);
    for (size_t i = 0; i < list.n && i < ADDRESSES_SHOWN; i++)
        named += list.v[i].name.n > 0;
    f->recipients += list.n;
    if (list.n > 0 && f->to_local.n == 0)
        f->to_local = list.v[0].local;
    spam_addf(s, SPAM_HEADER, "%.*s with %u addresses, %s with names", STR_ARG(name),
              spam_step(list.n),
              named == 0        ? "none"
              : named == list.n ? "all"
                                : "some");
    if (list.n == 1 && str_ieq(list.v[0].domain, f->from_domain) && f->from_domain.n > 0)
        spam_addf(s, SPAM_HEADER, "%.*s is of the sender's domain", STR_ARG(name));
    if (list.n == 1 && list.v[0].domain.n == 0)
        spam_addf(s, SPAM_HEADER, "%.*s names no address", STR_ARG(name));
    if (list.n > 0 && list.v[0].name.n > 0 && str_index(list.v[0].name, '@') >= 0)
        spam_addf(s, SPAM_HEADER, "%.*s has an address as name", STR_ARG(name));
}

/* ---- fields ---------------------------------------------------------------------------------- */

static bool is_shouted(struct str text)
{
    size_t capitals = 0, small = 0;

    for (size_t i = 0; i < text.n; i++) {
        capitals += class_of(text.p[i]) == 'A';
        small += class_of(text.p[i]) == 'a';
    }
    return capitals > 5 && small < capitals / 4;
}

static void take_subject(struct spam_sink *s, struct str value)
{
    struct str text = header_decode_text(s->arena, value);
    ptrdiff_t encoded = str_find(value, STR("=?"));

    s->facts.subject = text;
    if (is_shouted(text))
        spam_add(s, SPAM_HEADER, STR("a subject in capitals"));
    if (!str_is_ascii(value))
        spam_add(s, SPAM_HEADER, STR("a subject in raw 8-bit letters"));
    if (encoded >= 0)
        spam_addf(s, SPAM_HEADER, "a subject in %.*s",
                  STR_ARG(spam_lower(s, str_from(value, (size_t)encoded), 14)));
    if (str_find(text, STR("     ")) >= 0)
        spam_add(s, SPAM_HEADER, STR("a subject with a wide gap"));
    spam_addf(s, SPAM_HEADER, "a subject of length %u", spam_step(text.n / 4));
    spam_add_words(s, SPAM_SUBJECT, text);
}

static void take_message_id(struct spam_sink *s, struct str value)
{
    struct spam_facts *f = &s->facts;
    struct str id = header_unfold(s->arena, value), left, right;

    str_cut(id, '@', &left, &right);
    f->id_domain = str_ends(right, STR(">")) ? str_head(right, right.n - 1) : right;
    spam_addf(s, SPAM_HEADER, "message-id of form %.*s@", STR_ARG(spam_form(s->arena, left)));
    spam_addf(s, SPAM_HEADER, "message-id left of %zu letters", left.n < 60 ? left.n / 4 * 4 : 60);
    if (str_index(f->id_domain, '.') < 0)
        spam_add(s, SPAM_HEADER, STR("message-id without a domain"));
}

static void take_date(struct spam_sink *s, struct str value)
{
    struct str text = header_unfold(s->arena, value), head, zone;

    spam_addf(s, SPAM_HEADER, "date of form %.*s", STR_ARG(spam_form(s->arena, text)));
    if (str_rcut(text, ' ', &head, &zone))
        spam_addf(s, SPAM_HEADER, "date's zone %s",
                  zone.n == 5   ? "in numbers"
                  : zone.n == 3 ? "in letters"
                                : "with a remark");
}

static void take_program(struct spam_sink *s, struct str value)
{
    struct str text = str_head(header_unfold(s->arena, value), 80), first, rest;

    spam_addf(s, SPAM_HEADER, "program %.*s", STR_ARG(spam_without_digits(s->arena, text)));
    str_cut(text, ' ', &first, &rest);
    spam_addf(s, SPAM_HEADER, "program's name %.*s", STR_ARG(spam_without_digits(s->arena, first)));
}

static void take_content_type(struct spam_sink *s, struct str value)
{
    struct header_params params;
    struct str boundary;

    header_parse_params(s->arena, value, &params);
    boundary = header_param(&params, STR("boundary"));
    if (boundary.n > 0)
        spam_addf(s, SPAM_HEADER, "boundary of form %.*s", STR_ARG(spam_form(s->arena, boundary)));
    for (size_t i = 0; i < params.n && i < 6; i++)
        spam_addf(s, SPAM_HEADER, "content-type with %.*s",
                  STR_ARG(str_head(params.v[i].name, 20)));
    spam_addf(s, SPAM_HEADER, "content-type written %.*s",
              STR_ARG(spam_form(s->arena, str_head(value, 40))));
}

/* Fields of few values: the value itself says something. */
static bool is_shown(struct str name)
{
    static const char *const names[] = {"X-Priority",
                                        "X-MSMail-Priority",
                                        "Importance",
                                        "Precedence",
                                        "Content-Transfer-Encoding",
                                        "MIME-Version",
                                        "Content-Language",
                                        "Auto-Submitted",
                                        "Organization",
                                        "X-Accept-Language",
                                        "X-MimeOLE"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_ieq(name, str_c(names[i])))
            return true;
    return false;
}

static void show_value(struct spam_sink *s, struct str name, struct str value)
{
    struct str text = str_head(header_unfold(s->arena, value), FORM_SIZE_MAX);

    spam_addf(s, SPAM_HEADER, "%.*s: %.*s", STR_ARG(name),
              STR_ARG(spam_without_digits(s->arena, text)));
}

static void take_cc(struct spam_sink *s, struct str value)
{
    take_recipients(s, STR("cc"), value);
}

static void take_to(struct spam_sink *s, struct str value)
{
    take_recipients(s, STR("to"), value);
}

static const struct {
    const char *name;
    void (*take)(struct spam_sink *s, struct str value);
} takers[] = {
    {"from", take_from},
    {"reply-to", take_reply_to},
    {"to", take_to},
    {"cc", take_cc},
    {"subject", take_subject},
    {"message-id", take_message_id},
    {"date", take_date},
    {"x-mailer", take_program},
    {"user-agent", take_program},
    {"content-type", take_content_type},
};

static void take_value(struct spam_sink *s, struct str name, struct str value)
{
    for (size_t i = 0; i < sizeof takers / sizeof *takers; i++)
        if (str_eq(name, str_c(takers[i].name)))
            takers[i].take(s, value);
    if (is_shown(name))
        show_value(s, name, value);
}

/* ---- one field after the other --------------------------------------------------------------- */

static void note_presence(struct spam_facts *f, struct str name)
{
    f->has_subject |= str_eq(name, STR("subject"));
    f->has_message_id |= str_eq(name, STR("message-id"));
    f->has_recipient |= str_eq(name, STR("to")) || str_eq(name, STR("cc"));
    f->has_date |= str_eq(name, STR("date"));
    f->has_mime_version |= str_eq(name, STR("mime-version"));
    f->is_answer |= str_eq(name, STR("in-reply-to")) || str_eq(name, STR("references"));
}

/* Returns the name in small letters: it comes before the next one. */
static struct str take_field(struct spam_sink *s, const struct header_field *field,
                             struct str before)
{
    struct str name = spam_lower(s, field->name, FORM_SIZE_MAX);

    note_presence(&s->facts, name);
    spam_addf(s, SPAM_HEADER, "%.*s", STR_ARG(name));
    spam_addf(s, SPAM_HEADER, "%.*s, then %.*s", STR_ARG(before), STR_ARG(name));
    spam_addf(s, SPAM_HEADER, "written %.*s", STR_ARG(str_head(field->name, FORM_SIZE_MAX)));
    if (field->value.n > 0 && field->value.p[0] != ' ')
        spam_addf(s, SPAM_HEADER, "no space before the value of %.*s", STR_ARG(name));
    take_value(s, name, str_head(field->value, VALUE_SIZE_MAX));
    return name;
}

/* Known before the hops are walked, which stand above them. */
static void foresee(struct spam_sink *s, struct str header)
{
    struct header_field field;
    struct addresses list;
    struct str id, left;

    if (header_find(header, STR("From"), &field)) {
        address_parse_list(s->arena, str_head(field.value, VALUE_SIZE_MAX), &list);
        s->facts.from_domain = list.n > 0 ? list.v[0].domain : STR("");
    }
    if (header_find(header, STR("Message-ID"), &field)) {
        id = header_unfold(s->arena, str_head(field.value, VALUE_SIZE_MAX));
        if (str_rcut(id, '@', &left, &id))
            s->facts.id_domain = str_ends(id, STR(">")) ? str_head(id, id.n - 1) : id;
    }
}

void spam_add_header(struct spam_sink *s, struct str header)
{
    struct header_field field;
    struct str before = STR("(top)");
    size_t count = 0;

    foresee(s, header);
    while (count++ < FIELDS_MAX && header_next(&header, &field)) {
        struct str value = str_head(field.value, VALUE_SIZE_MAX);
        if (str_ieq(field.name, STR("Received")))
            spam_add_hop(s, value);
        else if (str_ieq(field.name, STR("Return-Path")))
            spam_add_envelope(s, value);
        else if (field.name.n > 0 && !is_of_the_way(field.name))
            before = take_field(s, &field, before);
    }
    spam_addf(s, SPAM_HEADER, "%.*s, then the end", STR_ARG(before));
    spam_add_relations(s);
}
