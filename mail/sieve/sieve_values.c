/* sieve_values.c - header fields, addresses and the envelope, as tests compare them.
 *
 * A field of the message is decoded once a run, an address split once, however many rules ask. The
 * fields of inner parts are read anew for each test: few rules look at them. */
#include "mail/sieve/sieve_run_internal.h"

#include "server/base/date.h"
#include "server/run/config.h"

/* ---- fields of the message -------------------------------------------------------------------- */

static void read_fields(struct sieve_run *r, struct sieve_fields *f, struct str name)
{
    size_t count, n = 0;
    const struct header_field *all = sieve_message_fields(&r->message, &count);

    r->steps += count / 64;
    for (size_t i = 0; i < count; i++)
        n += str_ieq(all[i].name, name);
    *f = (struct sieve_fields){.version = r->message.header_version};
    f->v = ARENA_ARRAY(r->kept, n + 1, struct sieve_field);
    for (size_t i = 0; f->n < n; i++)
        if (str_ieq(all[i].name, name))
            f->v[f->n++].raw = all[i].value;
    for (size_t i = 0; i < n; i++)
        f->v[i].text.text = str_trim(header_decode_text(r->kept, f->v[i].raw));
}

struct sieve_fields *sieve_fields_named(struct sieve_run *r, struct str name)
{
    struct str lower = arena_lower(r->scratch, name);
    struct sieve_fields *f = map_get(r->fields, lower);

    if (f == NULL) {
        f = ARENA_NEW(r->kept, struct sieve_fields);
        map_put(r->fields, lower, f);
    }
    if (f->version != r->message.header_version)
        read_fields(r, f, lower);
    return f;
}

struct sieve_fields *sieve_fields_of(struct sieve_run *r, const struct sieve_name *name)
{
    struct sieve_fields *f;

    if (name->id < 0)
        return sieve_fields_named(r, sieve_run_string(r, &name->string));
    f = r->frame->fields[name->id];
    if (f == NULL || f->version != r->message.header_version)
        f = r->frame->fields[name->id] = sieve_fields_named(r, name->string.text);
    return f;
}

/* Of `count` fields those that :index names: from (from 0) up to before `to`. */
bool sieve_index_range(const struct sieve_index *index, size_t count, size_t *from, size_t *to)
{
    *from = 0;
    *to = count;
    if (index->number == 0)
        return count > 0;
    if (index->number > count)
        return false;
    *from = index->from_last ? count - index->number : index->number - 1;
    *to = *from + 1;
    return true;
}

/* ---- what of a field -------------------------------------------------------------------------- */

static void add_params(struct sieve_run *r, const struct sieve_test *t, struct str raw,
                       struct sieve_values *out)
{
    const struct sieve_strings *wanted = &t->u.header.mime.params;
    struct str *names = sieve_run_strings(r, wanted);
    struct header_params p;

    header_parse_params(r->scratch, raw, &p);
    for (size_t i = 0; i < p.n; i++)
        for (unsigned k = 0; k < wanted->n; k++)
            if (str_ieq(p.v[i].name, names[k])) {
                sieve_values_add_text(r, out, p.v[i].value);
                break;
            }
}

static struct str type_value(struct arena *a, enum sieve_mime_option option, struct str name,
                             const struct header_params *p)
{
    bool is_disposition = str_ieq(name, STR("Content-Disposition"));

    if (!is_disposition && !str_ieq(name, STR("Content-Type")))
        return STR("");
    if (option == SIEVE_MIME_SUBTYPE)
        return is_disposition ? STR("") : p->subtype;
    if (option == SIEVE_MIME_TYPE || is_disposition)
        return p->type;
    return arena_printf(a, "%.*s/%.*s", STR_ARG(p->type), STR_ARG(p->subtype));
}

/* RFC 5703, 4.1. */
static void add_mime_value(struct sieve_run *r, const struct sieve_test *t, struct str name,
                           struct str raw, struct sieve_values *out)
{
    enum sieve_mime_option option = t->u.header.mime.option;
    struct header_params p;

    if (option == SIEVE_MIME_PARAM) {
        add_params(r, t, raw, out);
        return;
    }
    header_parse_params(r->scratch, raw, &p);
    if (t->match.how.type == SIEVE_COUNT_OF && str_empty(p.type)) /* counts what could be parsed */
        return;
    sieve_values_add_text(r, out, type_value(r->scratch, option, name, &p));
}

static struct str local_without_detail(struct str local, struct str *detail)
{
    ptrdiff_t at = config.recipient_delimiter[0] != '\0'
                       ? str_index(local, config.recipient_delimiter[0])
                       : -1;

    *detail = at < 0 ? STR_NULL : str_from(local, (size_t)at + 1);
    if (at >= 0 && detail->p == NULL)
        *detail = STR("");
    return at < 0 ? local : str_head(local, (size_t)at);
}

/* RFC 5228, 2.7.4; RFC 5233, 4. */
struct str sieve_address_of_part(struct arena *a, struct str local, struct str domain,
                                 enum sieve_address_part part)
{
    struct str detail, user = local_without_detail(local, &detail);

    switch (part) {
    case SIEVE_ALL:
        return str_empty(domain) ? local
                                 : arena_printf(a, "%.*s@%.*s", STR_ARG(local), STR_ARG(domain));
    case SIEVE_LOCALPART:
        return local;
    case SIEVE_DOMAIN:
        return domain.p != NULL ? domain : STR("");
    case SIEVE_USER:
        return user;
    case SIEVE_DETAIL:
        return detail;
    }
    return STR_NULL;
}

static void split_addresses(struct arena *a, struct sieve_field *f)
{
    if (!f->is_split)
        address_parse_list(a, f->raw, &f->addresses);
    f->is_split = true;
}

/* A word without a domain is an address as a whole only: it has no parts. */
static bool has_part(const struct address *x, enum sieve_address_part part)
{
    return !x->is_group_start && !x->is_group_end && !str_empty(x->local) &&
           (part == SIEVE_ALL || !str_empty(x->domain));
}

/* The parts of a field's addresses are made once and kept as long as the field. */
static void add_addresses(struct sieve_run *r, struct arena *a, struct sieve_field *f,
                          enum sieve_address_part part, struct sieve_values *out)
{
    split_addresses(a, f);
    if (f->parts[part] == NULL) {
        f->parts[part] = ARENA_ARRAY(a, f->addresses.n + 1, struct sieve_value);
        for (size_t i = 0; i < f->addresses.n; i++) {
            const struct address *x = &f->addresses.v[i];
            if (has_part(x, part))
                f->parts[part][i].text = sieve_address_of_part(a, x->local, x->domain, part);
        }
    }
    for (size_t i = 0; i < f->addresses.n; i++)
        if (f->parts[part][i].text.p != NULL)
            sieve_values_add(r, out, &f->parts[part][i]);
}

/* ---- inner parts ------------------------------------------------------------------------------ */

/* The part a :mime test is about: the current one, or the message. */
static struct mime_part *scope_of(struct sieve_run *r)
{
    struct mime_part *current = sieve_current_part(r);

    return current != NULL ? current : sieve_message_root(&r->message);
}

static bool is_within(const struct mime_part *part, const struct mime_part *scope)
{
    for (; part != NULL; part = part->parent)
        if (part == scope)
            return true;
    return false;
}

static void add_inner_field(struct sieve_run *r, const struct sieve_test *t,
                            const struct header_field *field, struct sieve_values *out)
{
    struct sieve_field *f = ARENA_NEW(r->scratch, struct sieve_field);

    f->raw = field->value;
    if (t->kind == SIEVE_TEST_ADDRESS)
        add_addresses(r, r->scratch, f, t->u.header.part, out);
    else if (t->u.header.mime.option > SIEVE_MIME_WHOLE)
        add_mime_value(r, t, field->name, field->value, out);
    else
        sieve_values_add_text(r, out, str_trim(header_decode_text(r->scratch, field->value)));
}

static size_t count_named(struct str header, struct str name)
{
    struct header_field field;
    size_t n = 0;

    while (header_next(&header, &field))
        n += str_ieq(field.name, name);
    return n;
}

static void add_inner_fields(struct sieve_run *r, const struct sieve_test *t, struct str header,
                             struct str name, struct sieve_values *out)
{
    struct header_field field;
    size_t from, to, at = 0;

    if (!sieve_index_range(&t->u.header.index, count_named(header, name), &from, &to))
        return;
    while (header_next(&header, &field))
        if (str_ieq(field.name, name)) {
            if (at >= from && at < to)
                add_inner_field(r, t, &field, out);
            at++;
        }
}

/* The header of the message is what editheader made of it. */
static void add_message_fields(struct sieve_run *r, const struct sieve_test *t,
                               const struct sieve_name *name, struct sieve_values *out)
{
    struct sieve_fields *f = sieve_fields_of(r, name);
    size_t from, to;

    if (!sieve_index_range(&t->u.header.index, f->n, &from, &to))
        return;
    for (; from < to; from++) {
        if (t->kind == SIEVE_TEST_ADDRESS)
            add_addresses(r, r->kept, &f->v[from], t->u.header.part, out);
        else if (t->u.header.mime.option > SIEVE_MIME_WHOLE)
            add_mime_value(r, t, sieve_run_string(r, &name->string), f->v[from].raw, out);
        else
            sieve_values_add(r, out, &f->v[from].text);
    }
}

/* A field of the parts in scope; the message itself is one of them. */
static int add_part_fields(struct sieve_run *r, const struct sieve_test *t,
                           const struct sieve_name *name, struct sieve_values *out)
{
    struct mime_part *scope = scope_of(r);
    const struct mime_part *part = scope;
    struct str text = sieve_run_string(r, &name->string);

    do {
        if (sieve_run_step(r, t->line, 1 + part->header_size / 256) < 0)
            return -1;
        if (part->parent == NULL)
            add_message_fields(r, t, name, out);
        else
            add_inner_fields(r, t, mime_part_header(part, r->message.base), text, out);
        part = t->u.header.mime.any_child ? mime_part_next(part) : NULL;
    } while (part != NULL && is_within(part, scope));
    return 0;
}

static int add_values(struct sieve_run *r, const struct sieve_test *t, struct sieve_values *out)
{
    for (unsigned i = 0; i < t->u.header.names.n; i++) {
        const struct sieve_name *name = &t->u.header.names.v[i];
        if (t->u.header.mime.option == SIEVE_MIME_NONE)
            add_message_fields(r, t, name, out);
        else if (add_part_fields(r, t, name, out) < 0)
            return -1;
    }
    return 0;
}

PARKS int sieve_header_values(struct sieve_run *r, const struct sieve_test *t,
                              struct sieve_values *out)
{
    return add_values(r, t, out);
}

PARKS int sieve_address_values(struct sieve_run *r, const struct sieve_test *t,
                               struct sieve_values *out)
{
    return add_values(r, t, out);
}

/* Every one of the names is there (RFC 5228, 5.5). */
PARKS int sieve_exists(struct sieve_run *r, const struct sieve_test *t)
{
    for (unsigned i = 0; i < t->u.header.names.n; i++) {
        const struct sieve_name *name = &t->u.header.names.v[i];
        struct sieve_values found = {0};
        if (sieve_run_step(r, t->line, 1) < 0)
            return -1;
        if (t->u.header.mime.option == SIEVE_MIME_NONE)
            found.n = sieve_fields_of(r, name)->n;
        else if (add_part_fields(r, t, name, &found) < 0)
            return -1;
        if (found.n == 0)
            return 0;
    }
    return 1;
}

/* ---- the envelope (RFC 5228, 5.4; RFC 6009) --------------------------------------------------- */

static void add_path(struct sieve_run *r, struct str path, enum sieve_address_part part,
                     struct sieve_values *out)
{
    struct str local, domain, text;

    if (str_empty(path)) { /* <> is the empty string, whatever part is asked for */
        sieve_values_add_text(r, out, STR(""));
        return;
    }
    if (!str_rcut(path, '@', &local, &domain))
        domain = STR("");
    if (local.n >= 2 && local.p[0] == '"' && local.p[local.n - 1] == '"')
        local = str_of(local.p + 1, local.n - 2);
    text = part == SIEVE_ALL ? path : sieve_address_of_part(r->scratch, local, domain, part);
    if (text.p != NULL)
        sieve_values_add_text(r, out, text);
}

static void add_dsn_notify(struct sieve_run *r, struct str notify, struct sieve_values *out)
{
    struct str word;

    while (str_next_token(&notify, ',', &word))
        sieve_values_add_text(r, out, word);
}

static void add_deliver_by(struct sieve_run *r, enum sieve_envelope_part part,
                           struct sieve_values *out)
{
    const struct sieve_mail *m = r->mail;
    int64_t left_s = (m->deliver_by_us - m->now_us) / 1000000;
    struct buf b;

    if (!m->has_deliver_by)
        return;
    buf_init(&b, 64);
    if (part == SIEVE_ENVELOPE_BYTIMERELATIVE)
        buf_addf(&b, "%lld", (long long)left_s);
    else if (part == SIEVE_ENVELOPE_BYMODE)
        buf_add(&b, str_head(m->deliver_by_mode, 20));
    else if (part == SIEVE_ENVELOPE_BYTRACE)
        buf_adds(&b, m->deliver_by_trace ? "true" : "false");
    else
        date_add_rfc3339(&b, m->deliver_by_us);
    sieve_values_add_text(r, out, arena_str(r->scratch, buf_str(&b)));
    buf_fini(&b);
}

static void add_if_given(struct sieve_run *r, struct str text, struct sieve_values *out)
{
    if (!str_empty(text))
        sieve_values_add_text(r, out, text);
}

static void add_envelope_part(struct sieve_run *r, const struct sieve_test *t,
                              enum sieve_envelope_part part, struct sieve_values *out)
{
    const struct sieve_mail *m = r->mail;

    switch (part) {
    case SIEVE_ENVELOPE_FROM:
        add_path(r, m->sender, t->u.envelope.part, out);
        break;
    case SIEVE_ENVELOPE_TO:
        add_path(r, m->recipient, t->u.envelope.part, out);
        break;
    case SIEVE_ENVELOPE_NOTIFY:
        add_dsn_notify(r, m->dsn_notify, out);
        break;
    case SIEVE_ENVELOPE_ORCPT:
        add_if_given(r, m->dsn_orcpt, out);
        break;
    case SIEVE_ENVELOPE_RET:
        add_if_given(r, m->dsn_ret, out);
        break;
    case SIEVE_ENVELOPE_ENVID:
        add_if_given(r, m->dsn_envid, out);
        break;
    case SIEVE_ENVELOPE_BYTIMEABSOLUTE:
    case SIEVE_ENVELOPE_BYTIMERELATIVE:
    case SIEVE_ENVELOPE_BYMODE:
    case SIEVE_ENVELOPE_BYTRACE:
        add_deliver_by(r, part, out);
        break;
    case SIEVE_ENVELOPE_UNKNOWN:
        break;
    }
}

void sieve_envelope_values(struct sieve_run *r, const struct sieve_test *t,
                           struct sieve_values *out)
{
    for (unsigned i = 0; i < t->u.envelope.strings.n; i++) {
        enum sieve_envelope_part part = t->u.envelope.parts[i];
        if (part == SIEVE_ENVELOPE_UNKNOWN)
            part = sieve_envelope_part_of(sieve_run_string(r, &t->u.envelope.strings.v[i]));
        add_envelope_part(r, t, part, out);
    }
}
