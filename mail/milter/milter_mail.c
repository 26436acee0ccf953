/* milter_mail.c - what milters change about a message: collected, then done.
 *
 * A field's place is counted as Sendmail counts: the field that we put in front (Received) is number 0 of what is there,
 * so 0 and 1 both mean the top of what milters see. */
#include "mail/milter/milter_mail.h"

/* ---- the message ----------------------------------------------------------------------------------- */

int milter_mail_init(struct milter_mail *m, struct arena *a, struct str message, struct error *err)
{
    *m = (struct milter_mail){.arena = a};
    buf_init(&m->replaced, 0);
    return header_edit_open(&m->header, a, message, err);
}

void milter_mail_fini(struct milter_mail *m)
{
    buf_fini(&m->replaced);
}

void milter_mail_add_rcpt(struct milter_mail *m, struct str address, bool was_given)
{
    if (m->rcpt_count == m->rcpt_room) {
        struct milter_rcpt *old = m->rcpts;

        m->rcpt_room = m->rcpt_room == 0 ? 8 : m->rcpt_room * 2;
        m->rcpts = ARENA_ARRAY(m->arena, m->rcpt_room, struct milter_rcpt);
        if (m->rcpt_count > 0)
            memcpy(m->rcpts, old, m->rcpt_count * sizeof *old);
    }
    m->rcpts[m->rcpt_count++] = (struct milter_rcpt){.address = address, .was_given = was_given};
}

bool milter_mail_is_changed(const struct milter_mail *m)
{
    return m->header.is_changed || m->is_body_changed;
}

struct str milter_mail_text(const struct milter_mail *m, size_t room_size)
{
    struct str header = header_edit_header(&m->header), body = m->header.body;
    char *p = arena_alloc(m->arena, room_size + header.n + body.n);

    memcpy(p + room_size, header.p, header.n);
    if (body.n > 0)
        memcpy(p + room_size + header.n, body.p, body.n);
    return str_of(p + room_size, header.n + body.n);
}

/* ---- collecting ------------------------------------------------------------------------------------- */

void milter_changes_init(struct milter_changes *c, const struct milter_mail *m)
{
    *c = (struct milter_changes){0};
    buf_init(&c->body, m->body_size_max);
}

void milter_changes_fini(struct milter_changes *c)
{
    buf_fini(&c->body);
}

static uint32_t action_of(enum milter_reply kind)
{
    switch (kind) {
    case MILTER_ADD_FIELD:
    case MILTER_INSERT_FIELD:
        return MILTER_MAY_ADD_FIELDS | MILTER_MAY_CHANGE_FIELDS;
    case MILTER_CHANGE_FIELD:
        return MILTER_MAY_CHANGE_FIELDS;
    case MILTER_REPLACE_BODY:
        return MILTER_MAY_CHANGE_BODY;
    case MILTER_CHANGE_SENDER:
        return MILTER_MAY_CHANGE_SENDER;
    case MILTER_ADD_RCPT:
        return MILTER_MAY_ADD_RCPT;
    case MILTER_ADD_RCPT_PARAMS:
        return MILTER_MAY_ADD_RCPT_PARAMS;
    case MILTER_DELETE_RCPT:
        return MILTER_MAY_DELETE_RCPT;
    case MILTER_QUARANTINE:
        return MILTER_MAY_QUARANTINE;
    default:
        return 0;
    }
}

static int add_body(struct milter_changes *c, struct str piece, struct error *err)
{
    c->has_body = true;
    buf_add(&c->body, piece);
    return buf_ok(&c->body) ? 0
                            : fail(err, ERR_TOO_BIG, "its new body is larger than messages may be");
}

static void keep(struct milter_changes *c, struct arena *a, const struct milter_answer *answer)
{
    if (c->n == c->room) {
        struct milter_answer *old = c->v;

        c->room = c->room == 0 ? 16 : c->room * 2;
        c->v = ARENA_ARRAY(a, c->room, struct milter_answer);
        if (c->n > 0)
            memcpy(c->v, old, c->n * sizeof *old);
    }
    c->v[c->n++] = (struct milter_answer){.kind = answer->kind,
                                          .index = answer->index,
                                          .name = arena_str(a, answer->name),
                                          .value = arena_str(a, answer->value)};
}

int milter_changes_add(struct milter_changes *c, struct milter_mail *m,
                       const struct milter_answer *answer, uint32_t actions, struct error *err)
{
    uint32_t action = action_of(answer->kind);

    if (action == 0)
        return fail(err, ERR_SYNTAX, "its answer '%c' does not belong there", (char)answer->kind);
    if ((action & actions) == 0)
        return fail(err, ERR_DENIED, "it changes what it did not ask for ('%c')",
                    (char)answer->kind);
    if (answer->kind == MILTER_REPLACE_BODY)
        return add_body(c, answer->value, err);
    if ((action & (MILTER_MAY_ADD_RCPT | MILTER_MAY_ADD_RCPT_PARAMS)) != 0 &&
        m->rcpt_count + ++c->rcpts_added > m->rcpt_max)
        return fail(err, ERR_TOO_BIG, "it adds more recipients than a message may have");
    c->size += answer->name.n + answer->value.n;
    if (c->n == MILTER_CHANGES_MAX || c->size > MILTER_CHANGES_SIZE_MAX)
        return fail(err, ERR_TOO_BIG, "it changes more than we let it: %d things or %u bytes",
                    MILTER_CHANGES_MAX, MILTER_CHANGES_SIZE_MAX);
    keep(c, m->arena, answer);
    return 0;
}

/* ---- doing ------------------------------------------------------------------------------------------- */

static void change_field(struct header_edit *header, const struct milter_answer *change)
{
    size_t nth = change->index > 0 ? change->index : 1;

    if (str_empty(str_trim(change->value)))
        header_edit_remove_nth(header, change->name, nth);
    else if (!header_edit_replace(header, change->name, nth, change->value))
        header_edit_append(header, change->name, change->value);
}

/* The domain in any case; the local part as written, as long as there is one that matches so. */
static struct milter_rcpt *find_rcpt(struct milter_mail *m, struct str address, bool is_removed)
{
    struct milter_rcpt *alike = NULL;

    for (size_t i = 0; i < m->rcpt_count; i++) {
        struct milter_rcpt *r = &m->rcpts[i];

        if (r->is_removed != is_removed)
            continue;
        if (str_eq(r->address, address))
            return r;
        if (alike == NULL && str_ieq(r->address, address))
            alike = r;
    }
    return alike;
}

static void add_rcpt(struct milter_mail *m, struct str address)
{
    struct milter_rcpt *r;

    if (str_empty(address) || find_rcpt(m, address, false) != NULL)
        return;
    if ((r = find_rcpt(m, address, true)) != NULL)
        r->is_removed = false;
    else
        milter_mail_add_rcpt(m, address, false);
}

/* However often it was given. */
static void delete_rcpt(struct milter_mail *m, struct str address)
{
    struct milter_rcpt *r;

    while ((r = find_rcpt(m, address, false)) != NULL)
        r->is_removed = true;
}

static void apply(struct milter_mail *m, const struct milter_answer *change)
{
    switch (change->kind) {
    case MILTER_ADD_FIELD:
        header_edit_append(&m->header, change->name, change->value);
        break;
    case MILTER_INSERT_FIELD:
        header_edit_insert(&m->header, change->index > 0 ? change->index - 1 : 0, change->name,
                           change->value);
        break;
    case MILTER_CHANGE_FIELD:
        change_field(&m->header, change);
        break;
    case MILTER_CHANGE_SENDER:
        m->sender = change->name;
        m->is_sender_changed = true;
        break;
    case MILTER_ADD_RCPT:
    case MILTER_ADD_RCPT_PARAMS:
        add_rcpt(m, change->name);
        break;
    case MILTER_DELETE_RCPT:
        delete_rcpt(m, change->name);
        break;
    case MILTER_QUARANTINE:
        m->quarantine = str_empty(change->value) ? STR("a filter asks for it") : change->value;
        break;
    default:
        break;
    }
}

static void apply_body(struct milter_changes *c, struct milter_mail *m)
{
    buf_fini(&m->replaced);
    m->replaced = c->body;
    buf_init(&c->body, 0);
    c->has_body = false;
    m->header.body = buf_str(&m->replaced);
    m->is_body_changed = true;
}

bool milter_changes_apply_next(struct milter_changes *c, struct milter_mail *m)
{
    if (c->applied < c->n)
        apply(m, &c->v[c->applied++]);
    else if (c->has_body)
        apply_body(c, m);
    else
        return false;
    return true;
}
