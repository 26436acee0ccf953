/* filter_existing.c - walks a mailbox in portions; each message is read, judged and done with before the next.
 *
 * First the steps are planned, then they are done, flags before copies before the move: whatever fails on
 * the way, the message itself is still in its place. */
#include "mail/filter/filter_existing.h"

#include "mail/filter/filter_describe.h"
#include "mail/filter/filter_hooks.h"
#include "mail/mime/header.h"
#include "mail/sieve/sieve_aside.h"
#include "mail/store/sieve_store.h"
#include "server/base/date.h"
#include "server/run/config.h"

#define PORTION         200
#define COPIED_FOR_DAYS 30

const char *filter_step_name(enum filter_step_kind kind)
{
    static const char *const names[] = {"stays", "flags", "copies", "moves", "not done", "failed"};

    return names[kind];
}

/* One run over a mailbox, with what is the same for all its messages. */
struct walk {
    struct filter_existing *r;
    const struct filter_scripts *scripts; /* to include from */
    struct filter_author author;
    struct filter_place place; /* its arena is that of the portion */
    const struct message_listed *listed;
};

/* One message. */
struct visit {
    struct walk *w;
    struct arena *arena;
    const struct message_listed *listed;
    struct sieve_outcome outcome;
    struct filter_step *steps;
    size_t step_count;
    bool stays, is_sent; /* sent: it would have left, were it new */
};

/* ---- what scripts see ------------------------------------------------------------------------ */

static struct str field_of(struct str message, const char *name)
{
    struct header_field field;

    while (header_next(&message, &field))
        if (str_ieq(field.name, str_c(name)))
            return str_trim(field.value);
    return STR("");
}

static struct str sender_of(struct str message)
{
    struct str path = field_of(message, "Return-Path");

    (void)str_skip_prefix(&path, STR("<"));
    return str_ends(path, STR(">")) ? str_head(path, path.n - 1) : path;
}

static struct sieve_mail describe(const struct filter_author *author, struct str message)
{
    struct str recipient = field_of(message, "Delivered-To"), local, domain;
    struct str known = str_empty(author->address) ? recipient : author->address;

    str_rcut(known, '@', &local, &domain);
    return (struct sieve_mail){
        .message = message,
        .sender = sender_of(message),
        .recipient = str_empty(recipient) ? known : recipient,
        .account_address = known,
        .own_addresses = author->own_addresses,
        .own_addresses_count = author->own_count,
        .now_us = time_now_us(),
        .spam_percent = -1,
        .env_domain = domain,
        .env_host = str_c(config.hostname),
        .env_location = STR("MS"),
        .env_phase = STR("post"),
    };
}

static int run_script(struct arena *a, struct filter_place *place,
                      const struct filter_author *author, struct sieve_script *script,
                      struct str message, struct sieve_outcome *out, struct error *err)
{
    struct sieve_mail mail = describe(author, message);
    struct sieve_hooks hooks;

    filter_hooks_fill(place, &hooks);
    hooks.was_seen = NULL; /* delivery has marked it, most likely */
    if (place->account_id == 0)
        hooks = (struct sieve_hooks){0};
    if (sieve_run(a, &script, 1, &mail, &hooks, out) == 0)
        return 0;
    return place->cause.kind != ERR_NONE
               ? fail(err, place->cause.kind, "%s", place->cause.text)
               : fail(err, ERR_TRY_LATER, "the script cannot run now: try again later");
}

/* ---- planning -------------------------------------------------------------------------------- */

static struct filter_step *add_step(struct visit *v, enum filter_step_kind kind,
                                    const struct sieve_action *action, struct str object)
{
    struct filter_step *step = &v->steps[v->step_count++];

    *step = (struct filter_step){.kind = kind, .object = object, .action = action};
    if (action != NULL) {
        step->line = action->line;
        step->included = action->included;
    }
    return step;
}

static bool is_walked(const struct visit *v, const struct mailbox *mailbox)
{
    return mailbox->mailbox_id == v->w->r->mailbox.mailbox_id;
}

static void plan_flags(struct visit *v, const struct sieve_action *action)
{
    struct str flags = filter_describe_flags(v->arena, &action->target);

    if (!str_empty(flags))
        add_step(v, FILTER_FLAGS, action, flags);
}

static void plan_stay(struct visit *v, const struct sieve_action *action, struct str why)
{
    v->stays = true;
    add_step(v, FILTER_STAYS, action, why);
    plan_flags(v, action);
}

/* Whether it is the move is seen when all is known. */
static int plan_fileinto(struct visit *v, const struct sieve_action *action, struct error *err)
{
    const struct mailbox *mailbox;
    struct filter_step *step;

    if (filter_find_target(&v->w->place, &action->target, false, &mailbox, err) < 0)
        return -1;
    if (mailbox == NULL && !action->target.creates)
        plan_stay(
            v, action,
            arena_printf(v->arena, "there is no mailbox %.*s", STR_ARG(action->target.mailbox)));
    else if (mailbox != NULL && is_walked(v, mailbox))
        plan_stay(v, action, STR("it is there already"));
    else {
        step =
            add_step(v, action->is_copy ? FILTER_COPIES : FILTER_MOVES, action,
                     mailbox != NULL ? arena_str(v->arena, mailbox->path) : action->target.mailbox);
        step->makes = mailbox == NULL;
    }
    return 0;
}

static int plan_action(struct visit *v, const struct sieve_action *action, struct error *err)
{
    switch (action->kind) {
    case SIEVE_KEEP:
        plan_stay(v, action, STR(""));
        return 0;
    case SIEVE_FILEINTO:
        return plan_fileinto(v, action, err);
    case SIEVE_REDIRECT:
    case SIEVE_REJECT:
    case SIEVE_EREJECT:
        v->is_sent = true;
        add_step(v, FILTER_NOT_DONE, action, filter_describe_action(v->arena, action));
        return 0;
    case SIEVE_VACATION:
    case SIEVE_NOTIFY:
        add_step(v, FILTER_NOT_DONE, action, filter_describe_action(v->arena, action));
        return 0;
    default: /* a discard counts when nothing else does; marks are for what comes */
        return 0;
    }
}

/* Only the last mailbox gets the message itself, and only when it does not stay, too. */
static bool settle_moves(struct visit *v)
{
    bool is_moved = false;

    for (size_t i = v->step_count; i-- > 0;) {
        struct filter_step *step = &v->steps[i];

        if (step->kind == FILTER_MOVES && (v->stays || is_moved))
            step->kind = FILTER_COPIES;
        is_moved |= step->kind == FILTER_MOVES;
    }
    return is_moved;
}

static const struct sieve_action *find_discard(const struct visit *v)
{
    for (size_t i = 0; i < v->outcome.n; i++)
        if (v->outcome.v[i].kind == SIEVE_DISCARD)
            return &v->outcome.v[i];
    return NULL;
}

static int plan_discard(struct visit *v, const struct sieve_action *action, struct error *err)
{
    const struct mailbox *trash;

    if (filter_find_special_use(&v->w->place, STR("\\Trash"), &trash, err) < 0)
        return -1;
    if (trash == NULL)
        plan_stay(v, action, STR("the account has no mailbox for trash"));
    else if (is_walked(v, trash))
        plan_stay(v, action, STR("it is in the trash already"));
    else
        add_step(v, FILTER_MOVES, action, arena_str(v->arena, trash->path));
    return 0;
}

static void plan_fault(struct visit *v)
{
    const struct sieve_outcome *o = &v->outcome;
    struct filter_step *step = add_step(v, FILTER_FAILED, NULL, o->fault.text);

    step->line = o->fault.line;
    step->included = o->fault_included;
}

static int plan(struct visit *v, struct error *err)
{
    const struct sieve_outcome *o = &v->outcome;
    const struct sieve_action *discard = find_discard(v);

    v->steps = ARENA_ARRAY(v->arena, 2 * o->n + 4, struct filter_step);
    if (o->end == SIEVE_FAILED) {
        plan_fault(v);
        return 0;
    }
    for (size_t i = 0; i < o->n; i++)
        if (plan_action(v, &o->v[i], err) < 0)
            return -1;
    if (o->keeps_implicitly)
        plan_stay(v, &o->implicit, STR(""));
    if (settle_moves(v) || v->stays)
        return 0;
    if (discard != NULL && !v->is_sent)
        return plan_discard(v, discard, err);
    add_step(v, FILTER_STAYS, NULL, STR(""));
    return 0;
}

/* ---- doing ----------------------------------------------------------------------------------- */

static int put_flags(struct visit *v, struct mailbox_key mailbox, uint32_t uid,
                     const struct sieve_action *action, struct error *err)
{
    struct message_state *states;
    struct keywords keywords = {0};
    uint32_t *conflicts, flags = 0;
    size_t count, conflict_count;

    filter_add_flags(v->arena, &action->target, &flags, &keywords);
    if (flags == 0 && keywords.n == 0)
        return 0;
    return message_store_flags(v->arena, mailbox, mailbox.account_id, &uid, 1, FLAGS_ADD, flags,
                               keywords, UINT64_MAX, &states, &count, &conflicts, &conflict_count,
                               err);
}

static int find_place(struct visit *v, const struct filter_step *step, struct mailbox_key *out,
                      struct error *err)
{
    struct filter_place *p = &v->w->place;
    const struct mailbox *mailbox;
    int rc = step->action->kind == SIEVE_DISCARD
                 ? filter_find_special_use(p, STR("\\Trash"), &mailbox, err)
                 : filter_find_target(p, &step->action->target, true, &mailbox, err);

    if (rc < 0)
        return -1;
    if (mailbox == NULL)
        return fail(err, ERR_NOT_FOUND, "there is no mailbox %.*s", STR_ARG(step->object));
    *out = (struct mailbox_key){p->account_id, mailbox->mailbox_id};
    return 0;
}

/* Was it copied there by a run before? */
static int note_copy(struct visit *v, struct mailbox_key to, struct str *parts, bool *is_new,
                     struct error *err)
{
    int64_t until_us = time_now_us() + (int64_t)COPIED_FOR_DAYS * 86400 * 1000000;

    parts[0] = STR("copied");
    parts[1] = arena_printf(v->arena, "%lld", (long long)v->listed->message_id);
    parts[2] = arena_printf(v->arena, "%lld", (long long)to.mailbox_id);
    return sieve_store_remember(to.account_id, parts, 3, until_us, is_new, err);
}

static int copy_to(struct visit *v, const struct filter_step *step, struct mailbox_key to,
                   struct error *err)
{
    uint32_t uid = v->listed->uid, validity;
    struct uid_pair *pairs;
    struct str parts[3];
    struct error lost = {0};
    bool is_new;
    size_t n;

    if (note_copy(v, to, parts, &is_new, err) < 0)
        return -1;
    if (!is_new)
        return 0;
    if (message_copy(v->arena, v->w->r->mailbox, to, to.account_id, &uid, 1, &pairs, &n, &validity,
                     err) < 0) {
        (void)sieve_store_forget(to.account_id, parts, 3, &lost);
        return -1;
    }
    return n == 0 ? 0 : put_flags(v, to, pairs[0].to, step->action, err);
}

static int move_to(struct visit *v, const struct filter_step *step, struct mailbox_key to,
                   struct error *err)
{
    uint32_t uid = v->listed->uid, validity;
    struct uid_pair *pairs;
    size_t n;

    if (message_move(v->arena, v->w->r->mailbox, to, to.account_id, &uid, 1, &pairs, &n, &validity,
                     err) < 0)
        return -1;
    return n == 0 ? 0 : put_flags(v, to, pairs[0].to, step->action, err);
}

static int do_step(struct visit *v, const struct filter_step *step, struct error *err)
{
    struct mailbox_key to;

    if (step->kind == FILTER_FLAGS)
        return put_flags(v, v->w->r->mailbox, v->listed->uid, step->action, err);
    if (step->kind != FILTER_COPIES && step->kind != FILTER_MOVES)
        return 0;
    if (find_place(v, step, &to, err) < 0)
        return -1;
    return step->kind == FILTER_COPIES ? copy_to(v, step, to, err) : move_to(v, step, to, err);
}

/* What this message alone cannot have, such as room, does not end the run. */
static bool is_of_the_message(const struct error *err)
{
    return err->kind == ERR_OVER_QUOTA || err->kind == ERR_NOT_FOUND || err->kind == ERR_LIMIT ||
           err->kind == ERR_DENIED || err->kind == ERR_TOO_BIG || err->kind == ERR_UNSUPPORTED;
}

static int do_kind(struct visit *v, enum filter_step_kind kind, struct error *err)
{
    for (size_t i = 0; i < v->step_count; i++)
        if (v->steps[i].kind == kind && do_step(v, &v->steps[i], err) < 0)
            return -1;
    return 0;
}

static int do_steps(struct visit *v, struct error *err)
{
    struct error cause = {0};

    if (do_kind(v, FILTER_FLAGS, &cause) == 0 && do_kind(v, FILTER_COPIES, &cause) == 0 &&
        do_kind(v, FILTER_MOVES, &cause) == 0)
        return 0;
    if (!is_of_the_message(&cause))
        return fail(err, cause.kind, "%s", cause.text);
    v->step_count = 0;
    add_step(v, FILTER_FAILED, NULL, arena_str(v->arena, str_c(cause.text)));
    return 0;
}

/* ---- walking --------------------------------------------------------------------------------- */

static bool has_step(const struct visit *v, enum filter_step_kind kind)
{
    for (size_t i = 0; i < v->step_count; i++)
        if (v->steps[i].kind == kind)
            return true;
    return false;
}

static int report(struct visit *v, const struct message *m, struct error *err)
{
    struct filter_existing *r = v->w->r;
    struct filter_existing_message told = {
        .uid = v->listed->uid,
        .received_us = m->received_us,
        .subject = header_decode_text(v->arena, field_of(m->blob, "Subject")),
        .steps = v->steps,
        .step_count = v->step_count,
        .is_changed =
            has_step(v, FILTER_FLAGS) || has_step(v, FILTER_COPIES) || has_step(v, FILTER_MOVES),
        .has_failed = has_step(v, FILTER_FAILED),
    };

    r->seen++;
    r->changed += told.is_changed;
    r->failed += told.has_failed;
    return r->each != NULL ? r->each(r->arg, &told, err) : 0;
}

static int visit(struct visit *v, const struct message *m, struct error *err)
{
    struct walk *w = v->w;

    if (run_script(v->arena, &w->place, &w->author, w->r->script, m->blob, &v->outcome, err) < 0 ||
        plan(v, err) < 0)
        return -1;
    if (!w->r->is_dry_run && do_steps(v, err) < 0)
        return -1;
    return report(v, m, err);
}

static int visit_message(void *arg, size_t index, const struct message *m, struct error *err)
{
    struct walk *w = arg;
    struct visit v = {.w = w, .arena = arena_new(), .listed = &w->listed[index]};
    int rc =
        fiber_cancelled() ? fail(err, ERR_CANCELLED, "the run was broken off") : visit(&v, m, err);

    arena_free(&v.arena);
    fiber_pause();
    return rc;
}

static int walk_portion(struct walk *w, struct arena *a, size_t count, struct error *err)
{
    int64_t *ids = ARENA_ARRAY(a, count, int64_t);
    struct message_reader reader = {.account_id = w->r->mailbox.account_id,
                                    .ids = ids,
                                    .count = count,
                                    .columns = MESSAGE_ROW | MESSAGE_BLOB,
                                    .each = visit_message,
                                    .arg = w};

    for (size_t i = 0; i < count; i++)
        ids[i] = w->listed[i].message_id;
    w->place.arena = a;
    w->place.mailboxes = NULL;
    return message_read(&reader, err);
}

/* 1: there is nothing more. */
static int next_portion(struct walk *w, uint32_t *from, uint32_t end, struct error *err)
{
    struct arena *a = arena_new();
    struct message_listed *v;
    size_t count;
    int rc = message_list(a, w->r->mailbox, *from, PORTION, &v, &count, err);

    while (rc == 0 && count > 0 && v[count - 1].uid >= end)
        count--;
    if (rc == 0 && count > 0) {
        *from = v[count - 1].uid + 1;
        w->listed = v;
        rc = walk_portion(w, a, count, err);
    } else if (rc == 0)
        rc = 1;
    arena_free(&a);
    return rc;
}

static int walk(struct walk *w, struct arena *a, struct error *err)
{
    struct filter_existing *r = w->r;
    uint32_t from = r->from_uid;
    struct mailbox mailbox;
    int rc;

    if (mailbox_get(a, r->mailbox.account_id, r->mailbox.mailbox_id, &mailbox, err) < 0 ||
        filter_read_author(a, r->mailbox.account_id, &w->author, err) < 0)
        return -1;
    while ((rc = next_portion(w, &from, mailbox.uid_next, err)) == 0)
        continue;
    return rc < 0 ? -1 : 0;
}

int filter_existing_run(struct filter_existing *r, struct error *err)
{
    struct walk w = {.r = r, .place = {.account_id = r->mailbox.account_id}};
    struct arena *a;
    int rc;

    if (filter_scripts_hold(r->mailbox.account_id, &w.scripts, err) < 0)
        return -1;
    w.place.scripts = w.scripts;
    a = arena_new();
    rc = walk(&w, a, err);
    arena_free(&a);
    filter_scripts_release(&w.scripts);
    return rc;
}

/* ---- scripts, and one message ---------------------------------------------------------------- */

static int find_active(struct arena *a, int64_t account_id, struct str *name, struct error *err)
{
    struct sieve_listed *v;
    size_t count;

    if (sieve_store_list(a, account_id, &v, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (v[i].is_active) {
            *name = v[i].name;
            return 0;
        }
    return fail(err, ERR_NOT_FOUND, "the account has no active script: name the one to run");
}

int filter_existing_script(struct arena *a, int64_t account_id, struct str name,
                           struct sieve_script **out, struct error *err)
{
    struct sieve_fault fault;
    struct str content;

    if (str_empty(name) && find_active(a, account_id, &name, err) < 0)
        return -1;
    if (sieve_store_get(a, account_id, name, &content, err) < 0)
        return -1;
    if (sieve_compile_aside(content, out, a, &fault) == 0)
        return 0;
    return fail(err, ERR_SYNTAX, "%.*s:%u:%u: %.*s", STR_ARG(str_head(name, 100)), fault.line,
                fault.column, STR_ARG(str_head(fault.text, 300)));
}

int filter_try(struct arena *a, int64_t account_id, struct sieve_script *script, struct str message,
               struct sieve_outcome *out, struct error *err)
{
    struct filter_place place = {.arena = a, .account_id = account_id};
    struct filter_author author = {0};
    int rc;

    if (account_id == 0)
        return run_script(a, &place, &author, script, message, out, err);
    if (filter_read_author(a, account_id, &author, err) < 0 ||
        filter_scripts_hold(account_id, &place.scripts, err) < 0)
        return -1;
    rc = run_script(a, &place, &author, script, message, out, err);
    filter_scripts_release(&place.scripts);
    return rc;
}
