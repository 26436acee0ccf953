/* sieve_run_action.c - what a script wants done, written down with every argument resolved.
 *
 * Everything an action holds is copied into the outcome's arena. What was constant was checked when
 * the script was compiled; what variables made is checked here with the same functions. */
#include "mail/sieve/sieve_run_internal.h"

#include "mail/sieve/sieve_vacation.h"
#include "server/base/date.h"

#define LIST_MEMBERS_MAX 50

static enum sieve_flow failed(struct sieve_run *r, const struct sieve_command *c, const char *why)
{
    sieve_run_fault(r, c->line, c->column, "%s", why);
    return SIEVE_FLOW_FAILED;
}

static struct sieve_action *find_room(struct sieve_run *r)
{
    struct sieve_outcome *o = r->outcome;

    if (o->v == NULL)
        o->v = ARENA_ARRAY(r->out, SIEVE_ACTIONS_MAX, struct sieve_action);
    return o->n < SIEVE_ACTIONS_MAX ? &o->v[o->n++] : NULL;
}

/* NULL: there are too many. */
static struct sieve_action *add_action(struct sieve_run *r, const struct sieve_command *c,
                                       enum sieve_action_kind kind)
{
    struct sieve_action *x = find_room(r);

    if (x == NULL) {
        sieve_run_fault(r, c->line, c->column, "the script wants more than %d actions",
                        SIEVE_ACTIONS_MAX);
        return NULL;
    }
    *x = (struct sieve_action){.kind = kind, .line = c->line, .script = r->script};
    if (r->frame->included.n > 0)
        x->included = arena_str(r->out, r->frame->included);
    x->is_edited = r->message.is_edited;
    return x;
}

static struct str keep_string(struct sieve_run *r, const struct sieve_string *s)
{
    return sieve_string_is_given(s) ? arena_str(r->out, sieve_run_string(r, s)) : STR("");
}

static int keep_message(struct sieve_run *r, const struct sieve_command *c, struct sieve_action *x)
{
    struct error err = {0};

    if (sieve_message_write(&r->message, &x->message, &err) < 0)
        return sieve_run_fault(r, c->line, c->column, "%s", err.text);
    return 0;
}

/* ---- targets ---------------------------------------------------------------------------------- */

static void keep_flags(struct sieve_run *r, const struct sieve_flags *set, struct sieve_target *t)
{
    struct str *v = ARENA_ARRAY(r->out, set->n + 1, struct str);

    for (unsigned i = 0; i < set->n; i++)
        v[i] = arena_str(r->out, set->v[i]);
    t->flags = v;
    t->flags_count = set->n;
}

static void resolve_flags(struct sieve_run *r, const struct sieve_place *place,
                          struct sieve_target *t)
{
    struct sieve_flags *set = ARENA_NEW(r->scratch, struct sieve_flags);
    struct str *words;

    if (!place->has_flags) {
        keep_flags(r, &r->flags, t);
        return;
    }
    words = sieve_run_strings(r, &place->flags);
    for (unsigned i = 0; i < place->flags.n; i++)
        sieve_flags_add(set, words[i]);
    keep_flags(r, set, t);
}

static int resolve_place(struct sieve_run *r, const struct sieve_command *c,
                         const struct sieve_place *place, struct sieve_target *t)
{
    t->mailbox = keep_string(r, &place->mailbox);
    if (!sieve_mailbox_name_valid(t->mailbox))
        return sieve_run_fault(r, c->line, c->column, "\"%.*s\" cannot be the name of a mailbox",
                               STR_ARG(str_head(t->mailbox, 100)));
    t->mailbox_id = keep_string(r, &place->mailbox_id);
    t->special_use = keep_string(r, &place->special_use);
    t->creates = place->creates;
    resolve_flags(r, place, t);
    return 0;
}

static struct str shown_mailbox(const struct sieve_action *x)
{
    return x->kind == SIEVE_KEEP || str_ieq(x->target.mailbox, STR("INBOX")) ? STR("INBOX")
                                                                             : x->target.mailbox;
}

static bool is_same_place(const struct sieve_action *x, const struct sieve_action *y)
{
    return str_eq(shown_mailbox(x), shown_mailbox(y)) &&
           str_eq(x->target.mailbox_id, y->target.mailbox_id) &&
           str_eq(x->target.special_use, y->target.special_use);
}

/* One copy for one mailbox (RFC 5228, 2.10.3); the last flags win (RFC 5232, 3). */
static void drop_if_twice(struct sieve_run *r)
{
    struct sieve_outcome *o = r->outcome;
    struct sieve_action *x = &o->v[o->n - 1];

    for (size_t i = 0; i + 1 < o->n; i++) {
        struct sieve_action *y = &o->v[i];
        if ((y->kind != SIEVE_KEEP && y->kind != SIEVE_FILEINTO) || !is_same_place(x, y))
            continue;
        if (r->mail->imap != NULL && x->kind != y->kind)
            continue; /* on an IMAP event keep is no INBOX */
        y->target.flags = x->target.flags;
        y->target.flags_count = x->target.flags_count;
        y->target.creates |= x->target.creates;
        o->n--;
        return;
    }
}

/* Delivering and rejecting exclude each other (RFC 5429, 2.4). */
static int note_delivery(struct sieve_run *r, const struct sieve_command *c)
{
    if (r->has_reject)
        return sieve_run_fault(r, c->line, c->column,
                               "a message that is rejected cannot be delivered, too");
    r->has_delivery = true;
    return 0;
}

enum sieve_flow sieve_run_keep(struct sieve_run *r, const struct sieve_command *c)
{
    struct sieve_action *x;

    if (note_delivery(r, c) < 0 || (x = add_action(r, c, SIEVE_KEEP)) == NULL)
        return SIEVE_FLOW_FAILED;
    x->target.mailbox = STR("");
    resolve_flags(r, &c->u.file.place, &x->target);
    if (r->mail->imap != NULL)
        x->message = r->mail->message; /* what is in a mailbox does not change (RFC 6785, 3.7) */
    else if (keep_message(r, c, x) < 0)
        return SIEVE_FLOW_FAILED;
    r->cancels_keep = true;
    drop_if_twice(r);
    return SIEVE_FLOW_ON;
}

enum sieve_flow sieve_run_fileinto(struct sieve_run *r, const struct sieve_command *c)
{
    struct sieve_action *x;

    if (note_delivery(r, c) < 0 || (x = add_action(r, c, SIEVE_FILEINTO)) == NULL)
        return SIEVE_FLOW_FAILED;
    if (resolve_place(r, c, &c->u.file.place, &x->target) < 0 || keep_message(r, c, x) < 0)
        return SIEVE_FLOW_FAILED;
    x->is_copy = c->u.file.is_copy;
    if (!x->is_copy)
        r->cancels_keep = true;
    drop_if_twice(r);
    return SIEVE_FLOW_ON;
}

enum sieve_flow sieve_run_discard(struct sieve_run *r, const struct sieve_command *c)
{
    r->cancels_keep = true;
    return add_action(r, c, SIEVE_DISCARD) == NULL ? SIEVE_FLOW_FAILED : SIEVE_FLOW_ON;
}

/* The keep that no script spoke of; after a fault the message is the one that script met. */
void sieve_add_implicit_keep(struct sieve_run *r)
{
    struct sieve_action *x = &r->outcome->implicit;

    *x = (struct sieve_action){.kind = SIEVE_KEEP, .is_edited = r->message.is_edited};
    x->target.mailbox = STR("");
    keep_flags(r, &r->flags, &x->target);
    if (r->mail->imap != NULL || sieve_message_write(&r->message, &x->message, NULL) < 0) {
        x->message = r->mail->message;
        x->is_edited = false;
    }
}

static bool has_flag(const struct sieve_flags *set, struct str flag)
{
    for (unsigned i = 0; i < set->n; i++)
        if (str_ieq(set->v[i], flag))
            return true;
    return false;
}

/* On an IMAP event the internal variable is what the message shall have (RFC 6785, 3.8). */
void sieve_add_changed_flags(struct sieve_run *r)
{
    const struct sieve_imap *imap = r->mail->imap;
    bool is_same = imap->flags_count == r->flags.n;
    struct sieve_action *x;

    for (size_t i = 0; i < imap->flags_count; i++)
        is_same = is_same && has_flag(&r->flags, imap->flags[i]);
    x = is_same ? NULL : find_room(r);
    if (x == NULL)
        return;
    *x = (struct sieve_action){.kind = SIEVE_SET_FLAGS, .script = r->script};
    x->message = r->mail->message;
    keep_flags(r, &r->flags, &x->target);
}

/* ---- redirect --------------------------------------------------------------------------------- */

static int resolve_deliver_by(struct sieve_run *r, const struct sieve_command *c,
                              struct sieve_action *x)
{
    struct str mode, when;

    x->has_by = c->u.redirect.has_by;
    if (!x->has_by)
        return 0;
    x->by_trace = c->u.redirect.by_trace;
    mode = keep_string(r, &c->u.redirect.by_mode);
    x->by_returns = str_ieq(mode, STR("return"));
    if (!c->u.redirect.by_is_absolute) {
        x->by_us = r->mail->now_us + c->u.redirect.by_seconds * 1000000;
        return 0;
    }
    x->by_us = c->u.redirect.by_seconds * 1000000;
    if (sieve_string_is_constant(&c->u.redirect.by_absolute))
        return 0;
    when = sieve_run_string(r, &c->u.redirect.by_absolute);
    if (!date_parse_rfc3339(when, &x->by_us))
        return sieve_run_fault(r, c->line, c->column,
                               "\"%.*s\" is no date and time as RFC 3339 writes them",
                               STR_ARG(str_head(when, 100)));
    return 0;
}

static bool is_redirected_already(const struct sieve_run *r, struct str address)
{
    for (size_t i = 0; i < r->outcome->n; i++)
        if (r->outcome->v[i].kind == SIEVE_REDIRECT && str_ieq(r->outcome->v[i].address, address))
            return true;
    return false;
}

static int add_redirect(struct sieve_run *r, const struct sieve_command *c, struct str address)
{
    struct error err = {0};
    struct sieve_action *x;

    if (!sieve_address_valid(address))
        return sieve_run_fault(r, c->line, c->column, "\"%.*s\" is no address to redirect to",
                               STR_ARG(str_head(address, 100)));
    if (is_redirected_already(r, address))
        return 0;
    x = add_action(r, c, SIEVE_REDIRECT);
    if (x == NULL)
        return -1;
    x->address = arena_str(r->out, address);
    x->is_copy = c->u.redirect.is_copy;
    x->dsn_notify = keep_string(r, &c->u.redirect.dsn_notify);
    x->dsn_ret = keep_string(r, &c->u.redirect.dsn_ret);
    if (!str_empty(x->dsn_notify) && !sieve_dsn_notify_valid(x->dsn_notify))
        return sieve_run_fault(r, c->line, c->column, "\"%.*s\" is no value for :notify",
                               STR_ARG(str_head(x->dsn_notify, 100)));
    if (sieve_message_write_unenclosed(&r->message, &x->message, &err) < 0)
        return sieve_run_fault(r, c->line, c->column, "%s", err.text);
    return resolve_deliver_by(r, c, x);
}

static int redirect_to_list(struct sieve_run *r, const struct sieve_command *c, struct str list)
{
    struct str *members = NULL;
    size_t count = 0;

    if (r->hooks->list_members != NULL &&
        r->hooks->list_members(r->hooks->context, r->out, list, &members, &count) < 0)
        return sieve_run_try_later(r);
    if (count == 0 || count > LIST_MEMBERS_MAX)
        return sieve_run_fault(r, c->line, c->column,
                               "the list \"%.*s\" has %zu members: redirect takes 1 to %d",
                               STR_ARG(str_head(list, 100)), count, LIST_MEMBERS_MAX);
    for (size_t i = 0; i < count; i++)
        if (add_redirect(r, c, members[i]) < 0)
            return -1;
    return 0;
}

PARKS enum sieve_flow sieve_run_redirect(struct sieve_run *r, const struct sieve_command *c)
{
    struct str address = arena_str(r->kept, sieve_run_string(r, &c->u.redirect.address));
    int answer;

    if (note_delivery(r, c) < 0)
        return SIEVE_FLOW_FAILED;
    if (++r->redirects > SIEVE_REDIRECTS_MAX) {
        sieve_run_fault(r, c->line, c->column, "the script redirects more than %d times",
                        SIEVE_REDIRECTS_MAX);
        return SIEVE_FLOW_FAILED;
    }
    answer = c->u.redirect.is_list ? redirect_to_list(r, c, address) : add_redirect(r, c, address);
    if (answer < 0)
        return SIEVE_FLOW_FAILED;
    if (!c->u.redirect.is_copy)
        r->cancels_keep = true;
    return SIEVE_FLOW_ON;
}

/* ---- reject, vacation ------------------------------------------------------------------------- */

enum sieve_flow sieve_run_reject(struct sieve_run *r, const struct sieve_command *c)
{
    struct sieve_action *x;

    if (r->mail->imap != NULL)
        return failed(r, c, "a message that lies in a mailbox cannot be rejected");
    if (r->has_reject)
        return failed(r, c, "a message cannot be rejected twice");
    if (r->has_vacation)
        return failed(r, c, "a message that is answered by vacation cannot be rejected, too");
    if (r->has_delivery)
        return failed(r, c, "a message that is delivered cannot be rejected, too");
    x = add_action(r, c, c->kind == SIEVE_COMMAND_REJECT ? SIEVE_REJECT : SIEVE_EREJECT);
    if (x == NULL)
        return SIEVE_FLOW_FAILED;
    x->text = keep_string(r, &c->u.text);
    r->has_reject = true;
    r->cancels_keep = true;
    return SIEVE_FLOW_ON;
}

static struct str vacation_subject(struct sieve_run *r, const struct sieve_command *c)
{
    struct sieve_fields *f;

    if (sieve_string_is_given(&c->u.vacation.subject))
        return keep_string(r, &c->u.vacation.subject);
    f = sieve_fields_named(r, STR("subject"));
    return f->n > 0 ? arena_printf(r->out, "Auto: %.*s", STR_ARG(str_head(f->v[0].text.text, 900)))
                    : STR("Automated reply");
}

static struct str vacation_handle(struct sieve_run *r, const struct sieve_command *c)
{
    return sieve_string_is_given(&c->u.vacation.handle) ? keep_string(r, &c->u.vacation.handle)
                                                        : c->u.vacation.default_handle;
}

static int add_vacation(struct sieve_run *r, const struct sieve_command *c)
{
    struct sieve_action *x = add_action(r, c, SIEVE_VACATION);

    if (x == NULL)
        return -1;
    x->address = r->mail->sender;
    x->text = keep_string(r, &c->u.vacation.reason);
    x->subject = vacation_subject(r, c);
    x->from = keep_string(r, &c->u.vacation.from);
    x->handle = arena_str(r->out, vacation_handle(r, c));
    x->seconds = c->u.vacation.seconds;
    x->is_mime = c->u.vacation.is_mime;
    x->has_fcc = c->u.vacation.has_fcc;
    return x->has_fcc ? resolve_place(r, c, &c->u.vacation.fcc, &x->fcc) : 0;
}

enum sieve_flow sieve_run_vacation(struct sieve_run *r, const struct sieve_command *c)
{
    const char *why;

    if (r->mail->imap != NULL)
        return failed(r, c, "vacation answers messages that arrive, not events of a mailbox");
    if (r->has_vacation)
        return failed(r, c, "vacation is called twice: one answer is all that a message may get");
    if (r->has_reject)
        return failed(r, c, "a message that is rejected cannot be answered by vacation, too");
    r->has_vacation = true;
    why = sieve_vacation_refusal(r, sieve_run_strings(r, &c->u.vacation.addresses),
                                 c->u.vacation.addresses.n);
    if (why != NULL) {
        sieve_run_note(r, c->line, false, STR("vacation"), str_c(why), STR(""));
        return SIEVE_FLOW_ON;
    }
    return add_vacation(r, c) < 0 ? SIEVE_FLOW_FAILED : SIEVE_FLOW_ON;
}

/* ---- notify (RFC 5435) ------------------------------------------------------------------------ */

static void keep_options(struct sieve_run *r, const struct sieve_command *c, struct sieve_action *x)
{
    const struct sieve_strings *options = &c->u.notify.options;
    struct str *v = ARENA_ARRAY(r->out, options->n + 1, struct str);

    for (unsigned i = 0; i < options->n; i++)
        v[i] = keep_string(r, &options->v[i]);
    x->options = v;
    x->options_count = options->n;
}

static int importance_of(struct str text)
{
    return str_eq(text, STR("1")) ? 1 : str_eq(text, STR("3")) ? 3 : 2;
}

static int add_notify(struct sieve_run *r, const struct sieve_command *c, struct str method)
{
    struct sieve_action *x = add_action(r, c, SIEVE_NOTIFY);

    if (x == NULL)
        return -1;
    x->method = method;
    x->from = keep_string(r, &c->u.notify.from);
    x->text = keep_string(r, &c->u.notify.message);
    x->importance = importance_of(keep_string(r, &c->u.notify.importance));
    keep_options(r, c, x);
    x->has_fcc = c->u.notify.has_fcc;
    return x->has_fcc ? resolve_place(r, c, &c->u.notify.fcc, &x->fcc) : 0;
}

enum sieve_flow sieve_run_notify(struct sieve_run *r, const struct sieve_command *c)
{
    struct str method = keep_string(r, &c->u.notify.method);

    if (!sieve_notify_uri_valid(r->scratch, method)) {
        sieve_run_fault(r, c->line, c->column, "\"%.*s\" is no mailto: URI with a recipient",
                        STR_ARG(str_head(method, 100)));
        return SIEVE_FLOW_FAILED;
    }
    return add_notify(r, c, method) < 0 ? SIEVE_FLOW_FAILED : SIEVE_FLOW_ON;
}

/* ---- duplicate's mark ------------------------------------------------------------------------- */

int sieve_add_duplicate_mark(struct sieve_run *r, const struct sieve_test *t, struct str handle,
                             struct str id)
{
    const struct sieve_command at = {.line = t->line, .column = t->column};
    struct sieve_action *x = add_action(r, &at, SIEVE_DUPLICATE_MARK);

    if (x == NULL)
        return -1;
    x->handle = arena_str(r->out, handle);
    x->id = arena_str(r->out, id);
    x->seconds = t->u.duplicate.seconds;
    x->marks_anew = t->u.duplicate.last;
    return 0;
}

/* ---- editheader (RFC 5293) -------------------------------------------------------------------- */

static enum sieve_flow add_header(struct sieve_run *r, const struct sieve_command *c)
{
    struct str name = sieve_run_string(r, &c->u.edit.written);
    struct str value = sieve_run_string(r, &c->u.edit.value);
    struct error err = {0};

    if (!sieve_header_name_valid(name))
        return failed(r, c, "the name of the header field is none");
    if (value.n > SIEVE_HEADER_SIZE_MAX)
        return failed(r, c, "the value of the header field is too long");
    if (!sieve_header_may_add(name))
        return SIEVE_FLOW_ON;
    if (sieve_message_add_field(&r->message, name, value, c->u.edit.at_end, &err) < 0)
        return failed(r, c, err.text);
    return SIEVE_FLOW_ON;
}

static int is_unwanted(struct sieve_run *r, const struct sieve_command *c, struct str raw)
{
    struct sieve_values values = {0};

    if (c->u.edit.match.keys_count == 0)
        return 1;
    sieve_values_add_text(r, &values, str_trim(header_decode_text(r->scratch, raw)));
    return sieve_run_match(r, &c->u.edit.match, c->line, &values, true);
}

/* Which fields go is decided before the first goes. */
static int choose_fields(struct sieve_run *r, const struct sieve_command *c, struct str name,
                         bool *goes)
{
    size_t count, from, to, n = 0, at = 0;
    const struct header_field *all = sieve_message_fields(&r->message, &count);

    for (size_t i = 0; i < count; i++)
        n += str_ieq(all[i].name, name);
    if (!sieve_index_range(&c->u.edit.index, n, &from, &to))
        return 0;
    for (size_t i = 0; i < count; i++) {
        int answer;
        if (!str_ieq(all[i].name, name))
            continue;
        answer = at >= from && at < to ? is_unwanted(r, c, all[i].value) : 0;
        if (answer < 0)
            return -1;
        goes[i] = answer > 0;
        at++;
    }
    return 0;
}

static enum sieve_flow delete_header(struct sieve_run *r, const struct sieve_command *c)
{
    struct str name = sieve_run_string(r, &c->u.edit.written);
    size_t count;
    bool *goes;

    if (!sieve_header_name_valid(name))
        return failed(r, c, "the name of the header field is none");
    if (!sieve_header_may_delete(&r->message, name))
        return SIEVE_FLOW_ON;
    sieve_message_fields(&r->message, &count);
    goes = ARENA_ARRAY(r->scratch, count + 1, bool);
    if (sieve_run_step(r, c->line, 1 + count / 64) < 0 || choose_fields(r, c, name, goes) < 0)
        return SIEVE_FLOW_FAILED;
    sieve_message_delete_fields(&r->message, goes);
    return SIEVE_FLOW_ON;
}

enum sieve_flow sieve_run_edit(struct sieve_run *r, const struct sieve_command *c)
{
    return c->kind == SIEVE_COMMAND_ADDHEADER ? add_header(r, c) : delete_header(r, c);
}

/* ---- processcalendar (RFC 9671) --------------------------------------------------------------- */

PARKS enum sieve_flow sieve_run_calendar(struct sieve_run *r, const struct sieve_command *c)
{
    struct sieve_calendar_request q = {
        .allow_public = c->u.calendar.allow_public,
        .updates_only = c->u.calendar.updates_only,
        .delete_cancelled = c->u.calendar.delete_cancelled,
    };
    struct str outcome = STR("no_action"), reason = STR("");
    struct error err = {0};

    if (sieve_message_write(&r->message, &q.message, &err) < 0)
        return failed(r, c, err.text);
    q.addresses = sieve_run_strings(r, &c->u.calendar.addresses);
    q.addresses_count = c->u.calendar.addresses.n;
    q.calendar_id = keep_string(r, &c->u.calendar.calendar_id);
    q.organizers = keep_string(r, &c->u.calendar.organizers);
    if (r->hooks->process_calendar != NULL &&
        r->hooks->process_calendar(r->hooks->context, r->kept, &q, &outcome, &reason) < 0) {
        sieve_run_try_later(r);
        return SIEVE_FLOW_FAILED;
    }
    if (c->u.calendar.outcome != SIEVE_NO_VARIABLE)
        sieve_run_set(r, c->u.calendar.outcome, outcome, 0);
    if (c->u.calendar.reason != SIEVE_NO_VARIABLE)
        sieve_run_set(r, c->u.calendar.reason, reason, 0);
    return SIEVE_FLOW_ON;
}
