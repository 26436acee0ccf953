/* submission_fix.c - reads who a submitted message says it is from, then completes its header.
 *
 * What the fields claim is checked by others, who know accounts and grants. Whatever could make two readers see two
 * different authors (a second From, an address that is none) is refused here. */
#include "mail/queue/submission_fix.h"

#include "server/base/date.h"
#include "server/base/encode.h"

/* ---- reading ----------------------------------------------------------------------------------------- */

static bool is_address(const struct address *v)
{
    return !v->is_group_start && !v->is_group_end;
}

static bool is_whole(const struct address *v)
{
    return !str_empty(v->local) && !str_empty(v->domain);
}

struct address submission_first(const struct addresses *v)
{
    for (size_t i = 0; i < v->n; i++)
        if (is_address(&v->v[i]) && is_whole(&v->v[i]))
            return v->v[i];
    return (struct address){.local = STR(""), .domain = STR("")};
}

/* Every address of the list must be one that can be checked. */
static int check_addresses(const struct addresses *v, const char *name, size_t count_max,
                           struct error *err)
{
    size_t count = 0;

    for (size_t i = 0; i < v->n; i++) {
        if (!is_address(&v->v[i]))
            continue;
        if (!is_whole(&v->v[i]))
            return fail(err, ERR_SYNTAX,
                        "the field %s holds something that is no address: write name@domain", name);
        count++;
    }
    if (count == 0)
        return fail(err, ERR_SYNTAX, "the field %s holds no address: write name@domain", name);
    if (count > count_max)
        return fail(err, ERR_SYNTAX, "the field %s holds %zu addresses: it may hold %zu", name,
                    count, count_max);
    return 0;
}

static int read_addresses(struct submission *s, const char *name, const struct header_field *field,
                          size_t count_max, struct addresses *out, struct error *err)
{
    if (field == NULL)
        return 0;
    address_parse_list(s->header.arena, field->value, out);
    return check_addresses(out, name, count_max, err);
}

/* Fields of a resending stand together, the newest on top (RFC 5322, 3.6.6). A first one that comes only behind others
 * tells of an older resending. */
static const struct header_field *newest_resent_sender(const struct header_edit *e)
{
    const struct header_field *from = header_edit_find(e, STR("Resent-From"), 1);
    const struct header_field *sender = header_edit_find(e, STR("Resent-Sender"), 1);

    if (from == NULL || sender == NULL)
        return NULL;
    for (const struct header_field *f = from; f < sender; f++)
        if (!str_istarts(f->name, STR("Resent-")))
            return NULL;
    return sender;
}

static int check_single(const struct submission *s, const char *name, struct error *err)
{
    size_t count = header_edit_count(&s->header, str_c(name));

    return count <= 1 ? 0
                      : fail(err, ERR_SYNTAX, "the message has %zu fields %s: it may have one",
                             count, name);
}

static int read_authors(struct submission *s, struct error *err)
{
    const struct header_edit *e = &s->header;
    const struct header_field *from, *sender, *resent_from;

    if (check_single(s, "From", err) < 0 || check_single(s, "Sender", err) < 0)
        return -1;
    from = header_edit_find(e, STR("From"), 1);
    sender = header_edit_find(e, STR("Sender"), 1);
    resent_from = header_edit_find(e, STR("Resent-From"), 1);
    if (from == NULL)
        return fail(err, ERR_SYNTAX,
                    "the message has no field From: add one that names its author");
    if (read_addresses(s, "From", from, SUBMISSION_AUTHORS_MAX, &s->from, err) < 0 ||
        read_addresses(s, "Sender", sender, 1, &s->sender, err) < 0 ||
        read_addresses(s, "Resent-From", resent_from, SUBMISSION_AUTHORS_MAX, &s->resent_from,
                       err) < 0)
        return -1;
    return read_addresses(s, "Resent-Sender", newest_resent_sender(e), 1, &s->resent_sender, err);
}

/* The first of a field that says something; its value trimmed. */
static struct str first_value(const struct submission *s, struct str name)
{
    const struct header_field *field = header_edit_find(&s->header, name, 1);

    return field == NULL ? STR("") : str_trim(field->value);
}

static void read_identity(struct submission *s)
{
    struct str id = first_value(s, STR("Message-ID"));

    s->subject = first_value(s, STR("Subject"));
    s->has_date = !str_empty(first_value(s, STR("Date")));
    s->has_message_id = !str_empty(id);
    if (header_parse_msgids(s->header.arena, id, &s->message_id, 1) == 0)
        s->message_id = STR("");
}

int submission_read(struct arena *a, struct str message, struct submission *s, struct error *err)
{
    *s = (struct submission){0};
    if (header_edit_open(&s->header, a, message, err) < 0)
        return -1;
    if (s->header.block.n > SUBMISSION_HEADER_SIZE_MAX)
        return fail(err, ERR_TOO_BIG, "the header is larger than the %d bytes we take",
                    SUBMISSION_HEADER_SIZE_MAX);
    if (s->header.count == 0)
        return fail(
            err, ERR_SYNTAX,
            "the message has no header: begin with fields such as From, then an empty line");
    read_identity(s);
    return read_authors(s, err);
}

/* ---- completing ---------------------------------------------------------------------------------------- */

/* Blind recipients are known from the envelope; Return-Path is the last server's to write (RFC 5321, 4.4). */
static bool is_not_for_others(void *arg, const struct header_field *f)
{
    return str_ieq(f->name, STR("Bcc")) || str_ieq(f->name, STR("Resent-Bcc")) ||
           str_ieq(f->name, STR("Return-Path"));
}

struct repeats {
    struct str name;
    bool has_kept; /* the first one, or one that says nothing: what is added will be the only one */
};

static bool is_repeated(void *arg, const struct header_field *f)
{
    struct repeats *r = arg;
    bool was_kept = r->has_kept;

    if (!str_ieq(f->name, r->name))
        return false;
    r->has_kept = true;
    return was_kept;
}

static void keep_first(struct header_edit *e, struct str name, bool says_something)
{
    struct repeats r = {name, !says_something};

    header_edit_remove_if(e, is_repeated, &r);
}

static void add_date(struct header_edit *e, int64_t now_us)
{
    struct buf date;

    buf_init(&date, 64);
    date_add_rfc5322(&date, now_us / 1000000, 0);
    header_edit_append(e, STR("Date"), buf_str(&date));
    buf_fini(&date);
}

static void add_message_id(struct submission *s, const struct submission_plan *plan)
{
    char random[17];
    struct str id;

    random_text(random, sizeof random - 1);
    id = arena_printf(s->header.arena, "<%.*s.%s@%.*s>", STR_ARG(plan->message_id_left), random,
                      STR_ARG(plan->message_id_domain));
    header_edit_append(&s->header, STR("Message-ID"), id);
    s->message_id = id;
    s->has_message_id = true;
}

static void set_sender(struct submission *s, struct str sender)
{
    struct str value = arena_printf(s->header.arena, "<%.*s>", STR_ARG(sender));

    if (!header_edit_replace(&s->header, STR("Sender"), 1, value))
        header_edit_append(&s->header, STR("Sender"), value);
}

static void set_resent_sender(struct submission *s, struct str sender)
{
    struct header_edit *e = &s->header;
    struct str value = arena_printf(e->arena, "<%.*s>", STR_ARG(sender));
    const struct header_field *from = header_edit_find(e, STR("Resent-From"), 1);

    if (s->resent_sender.n == 0 || !header_edit_replace(e, STR("Resent-Sender"), 1, value))
        header_edit_insert(e, (size_t)(from - e->fields), STR("Resent-Sender"), value);
}

struct str submission_fix(struct arena *a, struct submission *s, const struct submission_plan *plan)
{
    struct header_edit *e = &s->header;

    header_edit_remove_if(e, is_not_for_others, NULL);
    keep_first(e, STR("Date"), s->has_date);
    keep_first(e, STR("Message-ID"), s->has_message_id);
    if (!str_empty(plan->sender))
        set_sender(s, plan->sender);
    if (!str_empty(plan->resent_sender))
        set_resent_sender(s, plan->resent_sender);
    if (!s->has_date)
        add_date(e, plan->now_us);
    if (!s->has_message_id)
        add_message_id(s, plan);
    return header_edit_header(e);
}
