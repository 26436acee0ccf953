/* smtp_author.c - in whose name may who logged in write, and what is made of their message.
 *
 * What the fields say is read once (mail/queue/submission_fix.h) and all addresses are asked for in one query. A reader
 * believes From and, where there is one, Sender, so these are what must be true. Fields of a resending come first (RFC
 * 5322, 3.6.6): then they tell who sends, and From may be of a stranger, as it is another's letter; but a letter of our
 * own people that never was one could be made so, and their names need a grant there, too. */
#include "mail/smtp/smtp_author.h"

#include "mail/queue/message_language.h"
#include "mail/mime/address_path.h"
#include "mail/queue/submission_fix.h"
#include "mail/smtp/smtp_parse.h"
#include "mail/store/delivery.h"
#include "server/base/date.h"
#include "server/directory/grants.h"
#include "server/run/config.h"

#define SHOWN_SIZE_MAX 80 /* of an address in a refusal */

enum { FROM, SENDER, RESENT_FROM, RESENT_SENDER, FIELD_COUNT };

static const char *const field_names[FIELD_COUNT] = {"From", "Sender", "Resent-From",
                                                     "Resent-Sender"};

/* The addresses of one field. */
struct names {
    const char *field;
    struct send_address *v;
    size_t n;
};

struct author {
    struct smtp_session *s;
    struct arena *arena;
    struct submission submission;
    struct names fields[FIELD_COUNT];
    const struct names *authors, *sender; /* who sends now: the resent fields, if there are any */
    bool is_resent;
    struct send_wishes wishes;
    struct submission_plan plan;
};

/* ---- who ----------------------------------------------------------------------------------------------- */

/* What cannot be canonical is nobody's address here. */
static struct str address_text(struct arena *a, const struct address *v)
{
    struct str canonical;

    return address_canonical(a, v->local, v->domain, &canonical, NULL) == 0
               ? canonical
               : arena_printf(a, "%.*s@%.*s", STR_ARG(v->local), STR_ARG(v->domain));
}

static size_t add_names(struct author *w, const struct addresses *from, struct send_address *v)
{
    size_t n = 0;

    for (size_t i = 0; i < from->n; i++)
        if (!from->v[i].is_group_start && !from->v[i].is_group_end)
            v[n++].address = address_text(w->arena, &from->v[i]);
    return n;
}

static int ask_rights(struct author *w, struct error *err)
{
    const struct submission *m = &w->submission;
    const struct addresses *const lists[FIELD_COUNT] = {&m->from, &m->sender, &m->resent_from,
                                                        &m->resent_sender};
    struct send_address *v;
    size_t count = 0, n = 0;

    for (size_t i = 0; i < FIELD_COUNT; i++)
        count += lists[i]->n;
    v = ARENA_ARRAY(w->arena, count + 1, struct send_address);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        w->fields[i] = (struct names){field_names[i], v + n, add_names(w, lists[i], v + n)};
        n += w->fields[i].n;
    }
    if (n == 0) /* their wishes are to be known all the same */
        v[n++].address = w->s->account_address;
    w->is_resent = w->fields[RESENT_FROM].n > 0;
    w->authors = &w->fields[w->is_resent ? RESENT_FROM : FROM];
    w->sender = &w->fields[w->is_resent ? RESENT_SENDER : SENDER];
    return directory_may_send_as(w->s->account_id, v, n, &w->wishes, err);
}

/* ---- may they? ------------------------------------------------------------------------------------------- */

/* As it may stand in an answer, whatever the message held. */
static struct str shown(struct author *w, struct str address)
{
    char *text = arena_alloc(w->arena, SHOWN_SIZE_MAX);
    struct str s = str_head(address, SHOWN_SIZE_MAX);

    for (size_t i = 0; i < s.n; i++)
        text[i] = s.p[i] > 31 && s.p[i] < 127 ? s.p[i] : '?';
    return str_of(text, s.n);
}

static int deny(struct author *w, const struct names *in, const struct send_address *who,
                struct error *err)
{
    if (who->right == SEND_ON_BEHALF)
        return fail(err, ERR_DENIED,
                    "the field %s names %.*s, on whose behalf you may write: put that into From "
                    "and your own address here",
                    in->field, STR_ARG(shown(w, who->address)));
    return fail(err, ERR_DENIED,
                "the field %s names %.*s, as which you may not send; use one of your own "
                "addresses, or ask the administrator for a grant",
                in->field, STR_ARG(shown(w, who->address)));
}

static int check_names(struct author *w, const struct names *in, enum send_right needed,
                       struct error *err)
{
    for (size_t i = 0; i < in->n; i++)
        if (in->v[i].right < needed)
            return deny(w, in, &in->v[i], err);
    return 0;
}

/* Of somebody else's letter that is sent on. */
static int check_strangers(struct author *w, const struct names *in, struct error *err)
{
    for (size_t i = 0; i < in->n; i++)
        if (in->v[i].right == SEND_DENIED && (in->v[i].owner_id != 0 || in->v[i].is_in_our_domain))
            return deny(w, in, &in->v[i], err);
    return 0;
}

static int check_rights(struct author *w, struct error *err)
{
    if (check_names(w, w->authors, SEND_ON_BEHALF, err) < 0 ||
        check_names(w, w->sender, SEND_AS, err) < 0)
        return -1;
    if (!w->is_resent)
        return 0;
    if (check_strangers(w, &w->fields[FROM], err) < 0)
        return -1;
    return check_strangers(w, &w->fields[SENDER], err);
}

/* ---- the header ------------------------------------------------------------------------------------------ */

static struct str header_address(struct author *w, struct str address)
{
    struct str local, domain;

    str_rcut(address, '@', &local, &domain);
    return address_path_of(w->arena, local, domain);
}

static bool is_on_behalf(const struct names *in)
{
    for (size_t i = 0; i < in->n; i++)
        if (in->v[i].right == SEND_ON_BEHALF)
            return true;
    return false;
}

/* Who Sender must name: whoever writes on another's behalf themselves; one of several authors (RFC 5322, 3.6.2). Empty:
 * what there is will do. */
static struct str wanted_sender(struct author *w)
{
    const struct names *sender = w->sender;

    if (is_on_behalf(w->authors) && (sender->n == 0 || sender->v[0].owner_id != w->s->account_id))
        return header_address(w, w->s->account_address);
    if (w->authors->n > 1 && sender->n == 0)
        return header_address(w, w->authors->v[0].address);
    return STR("");
}

static struct str own_domain(struct author *w)
{
    struct str local, domain;

    str_rcut(w->s->account_address, '@', &local, &domain);
    for (size_t i = 0; i < w->authors->n; i++)
        if (w->authors->v[i].right != SEND_DENIED) {
            str_rcut(w->authors->v[i].address, '@', &local, &domain);
            break;
        }
    return domain;
}

static struct str fix_header(struct author *w, struct submit *m)
{
    struct str sender = config.submission_check_author ? wanted_sender(w) : STR("");

    w->plan = (struct submission_plan){
        .now_us = time_now_us(),
        .message_id_left = str_c(w->s->tx.trace_text),
        .message_id_domain = own_domain(w),
    };
    if (w->is_resent)
        w->plan.resent_sender = sender;
    else
        w->plan.sender = sender;
    m->is_utf8 |= !str_is_ascii(sender);
    return submission_fix(w->arena, &w->submission, &w->plan);
}

/* A large body is not moved for a few bytes of header: there is room before it, of which we leave half for the fields of
 * those who come after. */
static void put_together(struct author *w, struct str message, size_t room_size, struct str header,
                         struct submit *m)
{
    struct str body = w->submission.header.body;
    size_t before = room_size + message.n - body.n;
    char *to;

    m->message = message;
    m->room_size = room_size;
    if (header.p == message.p && header.n == message.n - body.n)
        return;
    if (header.n + room_size / 2 <= before)
        to = (char *)(uintptr_t)body.p - header.n;
    else {
        to = (char *)arena_alloc(w->arena, room_size + header.n + body.n) + room_size;
        memcpy(to + header.n, body.p, body.n);
        before = room_size + header.n;
    }
    memcpy(to, header.p, header.n);
    m->message = str_of(to, header.n + body.n);
    m->room_size = before - header.n;
}

/* ---- what they wish -------------------------------------------------------------------------------------- */

static void add_copy(struct submit_copy *v, size_t *n, int64_t account_id)
{
    for (size_t i = 0; i < *n; i++)
        if (v[i].account_id == account_id)
            return;
    v[(*n)++] = (struct submit_copy){account_id, MAILBOX_SENT, FLAG_SEEN};
}

/* In the Sent of who sends, and of those in whose name it is. */
static void plan_copies(struct author *w, struct submit *m)
{
    const struct names *in = w->authors;
    struct submit_copy *v = ARENA_ARRAY(w->arena, in->n + 1, struct submit_copy);
    size_t n = 0;

    if (w->wishes.wants_sent_copy)
        add_copy(v, &n, w->s->account_id);
    for (size_t i = 0; i < in->n; i++)
        if (in->v[i].wants_sent_copy && in->v[i].right != SEND_DENIED &&
            in->v[i].owner_id != w->s->account_id)
            add_copy(v, &n, in->v[i].owner_id);
    m->copies = v;
    m->copy_count = n;
}

static void plan_hold(struct author *w, struct submit *m)
{
    m->hold_until_us = w->s->tx.params.hold_until_us;
    if (m->hold_until_us == 0 && w->wishes.undo_ms > 0)
        m->hold_until_us = time_now_us() + w->wishes.undo_ms * 1000;
}

/* Somebody else's letter carries their domain's signature, if any. */
static bool is_ours(const struct author *w)
{
    const struct names *from = &w->fields[FROM];

    return !w->is_resent || (from->n > 0 && from->v[0].right != SEND_DENIED);
}

/* Odd programs write what is no address into From; where that is let through, what else there is counts all the same. */
static int read_submission(struct author *w, struct str message, struct error *err)
{
    struct error cause = {0};

    if (submission_read(w->arena, message, &w->submission, &cause) == 0)
        return 0;
    if (cause.kind == ERR_SYNTAX && w->submission.header.count > 0 &&
        !config.submission_check_author)
        return 0;
    return fail(err, cause.kind, "%s", cause.text);
}

int smtp_author_prepare(struct smtp_session *s, struct str message, size_t room_size,
                        struct submit *m, struct error *err)
{
    struct author *w = ARENA_NEW(s->tx_arena, struct author);
    const char *language = message_language(message);

    w->s = s;
    w->arena = s->tx_arena;
    if (read_submission(w, message, err) < 0 || ask_rights(w, err) < 0)
        return -1;
    if (config.submission_check_author && check_rights(w, err) < 0)
        return -1;
    m->language = str_c(language != NULL ? language : config.report_language);
    m->is_ours = is_ours(w);
    plan_copies(w, m);
    plan_hold(w, m);
    put_together(w, message, room_size, fix_header(w, m), m);
    return 0;
}
