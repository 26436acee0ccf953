/* sieve_run.c - walks compiled scripts: control flow, limits, faults, and the sequence of scripts.
 *
 * A run keeps a list of what is to be done and does nothing. A fault drops what the script that
 * made it wanted so far, restores the message as that script met it, and leaves the implicit keep
 * (RFC 5228, 2.10.6); what scripts before it decided stands. */
#include "mail/sieve/sieve_run_internal.h"

/* ---- faults and limits ------------------------------------------------------------------------ */

int sieve_run_fault(struct sieve_run *r, unsigned line, unsigned column, const char *format, ...)
{
    struct sieve_outcome *o = r->outcome;
    va_list ap;

    if (o->fault.text.p != NULL) /* the first cause */
        return -1;
    va_start(ap, format);
    o->fault.text = arena_vprintf(r->out, format, ap);
    va_end(ap);
    o->fault.line = line;
    o->fault.column = column;
    o->fault_script = r->script;
    o->fault_included = r->frame != NULL ? arena_str(r->out, r->frame->included) : STR("");
    return -1;
}

int sieve_run_try_later(struct sieve_run *r)
{
    r->is_try_later = true;
    return -1;
}

PARKS int sieve_run_step(struct sieve_run *r, unsigned line, uint64_t steps)
{
    uint64_t before = r->steps;

    r->steps += steps;
    if (r->steps > SIEVE_STEPS_MAX)
        return sieve_run_fault(r, line, 1, "the script takes more than %d steps", SIEVE_STEPS_MAX);
    if (before / 64 == r->steps / 64)
        return 0;
    if (arena_size(r->kept) + arena_size(r->scratch) >
        SIEVE_RUN_MEMORY_MAX + 8 * r->mail->message.n)
        return sieve_run_fault(r, line, 1, "the script needs too much memory");
    if (fiber_self() != NULL)
        fiber_pause();
    return 0;
}

/* Extensions that only ihave gave are known where it said so (RFC 5463, 4). */
static int check_needs(struct sieve_run *r, uint64_t needs, unsigned line, unsigned column)
{
    uint64_t missing = needs & ~r->frame->enabled;

    if (missing == 0)
        return 0;
    return sieve_run_fault(r, line, column,
                           "\"%s\" is used and neither required nor asked for with ihave",
                           sieve_extensions[__builtin_ctzll(missing)]);
}

/* ---- notes ------------------------------------------------------------------------------------ */

/* Rules that were true are worth more than those that were not: they get half of the room for certain. */
void sieve_run_note(struct sieve_run *r, unsigned line, bool is_true, struct str test,
                    struct str value, struct str key)
{
    struct sieve_outcome *o = r->outcome;
    struct sieve_note *n;

    if (o->notes_count >= (is_true ? SIEVE_NOTES_MAX : SIEVE_NOTES_MAX / 2))
        return;
    n = &o->notes[o->notes_count++];
    *n = (struct sieve_note){.script = r->script, .line = line, .is_true = is_true, .test = test};
    n->included = r->frame->included.n > 0 ? arena_str(r->out, r->frame->included) : STR("");
    n->value = value.n > 0 ? arena_str(r->out, value) : STR("");
    n->key = key.n > 0 ? arena_str(r->out, key) : STR("");
}

static void note(struct sieve_run *r, unsigned line, bool is_true)
{
    if (is_true)
        sieve_run_note(r, line, true, r->note_test, r->note_value, r->note_key);
    else
        sieve_run_note(r, line, false, STR(""), STR(""), STR(""));
}

/* ---- control ---------------------------------------------------------------------------------- */

static enum sieve_flow run_if(struct sieve_run *r, const struct sieve_command *c)
{
    for (const struct sieve_branch *b = c->u.branches; b != NULL; b = b->next) {
        int answer = 1;
        r->note_test = r->note_value = r->note_key = STR_NULL;
        if (b->test != NULL) {
            answer = sieve_run_test(r, b->test);
            if (answer < 0)
                return SIEVE_FLOW_FAILED;
            note(r, b->line, answer > 0);
        }
        if (answer > 0)
            return sieve_run_block(r, b->block);
    }
    return SIEVE_FLOW_ON;
}

static enum sieve_flow run_set(struct sieve_run *r, const struct sieve_command *c)
{
    sieve_run_set(r, c->u.set.variable, sieve_run_string(r, &c->u.set.value), c->u.set.modifiers);
    return SIEVE_FLOW_ON;
}

static enum sieve_flow run_break(struct sieve_run *r, const struct sieve_command *c)
{
    r->breaks = c->u.brk.levels;
    return SIEVE_FLOW_BREAK;
}

static enum sieve_flow run_error(struct sieve_run *r, const struct sieve_command *c)
{
    struct str text = str_head(sieve_run_string(r, &c->u.text), 500);

    sieve_run_fault(r, c->line, c->column, "the script ended itself: %.*s", STR_ARG(text));
    return SIEVE_FLOW_FAILED;
}

static enum sieve_flow run_command(struct sieve_run *r, const struct sieve_command *c)
{
    switch (c->kind) {
    case SIEVE_COMMAND_IF:
        return run_if(r, c);
    case SIEVE_COMMAND_STOP:
        return SIEVE_FLOW_STOP;
    case SIEVE_COMMAND_KEEP:
        return sieve_run_keep(r, c);
    case SIEVE_COMMAND_FILEINTO:
        return sieve_run_fileinto(r, c);
    case SIEVE_COMMAND_REDIRECT:
        return sieve_run_redirect(r, c);
    case SIEVE_COMMAND_DISCARD:
        return sieve_run_discard(r, c);
    case SIEVE_COMMAND_REJECT:
    case SIEVE_COMMAND_EREJECT:
        return sieve_run_reject(r, c);
    case SIEVE_COMMAND_VACATION:
        return sieve_run_vacation(r, c);
    case SIEVE_COMMAND_NOTIFY:
        return sieve_run_notify(r, c);
    case SIEVE_COMMAND_SET:
        return run_set(r, c);
    case SIEVE_COMMAND_SETFLAG:
    case SIEVE_COMMAND_ADDFLAG:
    case SIEVE_COMMAND_REMOVEFLAG:
        sieve_run_change_flags(r, c);
        return SIEVE_FLOW_ON;
    case SIEVE_COMMAND_ADDHEADER:
    case SIEVE_COMMAND_DELETEHEADER:
        return sieve_run_edit(r, c);
    case SIEVE_COMMAND_INCLUDE:
        return sieve_run_include(r, c);
    case SIEVE_COMMAND_RETURN:
        return SIEVE_FLOW_RETURN;
    case SIEVE_COMMAND_GLOBAL:
        return SIEVE_FLOW_ON;
    case SIEVE_COMMAND_FOREVERYPART:
        return sieve_run_loop(r, c);
    case SIEVE_COMMAND_BREAK:
        return run_break(r, c);
    case SIEVE_COMMAND_REPLACE:
        return sieve_run_replace(r, c);
    case SIEVE_COMMAND_ENCLOSE:
        return sieve_run_enclose(r, c);
    case SIEVE_COMMAND_EXTRACTTEXT:
        return sieve_run_extract(r, c);
    case SIEVE_COMMAND_ERROR:
        return run_error(r, c);
    case SIEVE_COMMAND_PROCESSCALENDAR:
        return sieve_run_calendar(r, c);
    case SIEVE_COMMAND_FAULT:
        sieve_run_fault(r, c->line, c->column, "%.*s", STR_ARG(c->u.fault));
        return SIEVE_FLOW_FAILED;
    }
    return SIEVE_FLOW_ON;
}

static enum sieve_flow run_commands(struct sieve_run *r, const struct sieve_command *c)
{
    enum sieve_flow flow = SIEVE_FLOW_ON;

    for (; c != NULL && flow == SIEVE_FLOW_ON; c = c->next) {
        arena_reset(r->scratch);
        if (sieve_run_step(r, c->line, 1) < 0 || check_needs(r, c->needs, c->line, c->column) < 0)
            return SIEVE_FLOW_FAILED;
        flow = run_command(r, c);
    }
    return flow;
}

enum sieve_flow sieve_run_block(struct sieve_run *r, const struct sieve_command *first)
{
    enum sieve_flow flow;

    if (first == NULL)
        return SIEVE_FLOW_ON;
    if (r->nesting == SIEVE_RUN_NESTING_MAX) {
        sieve_run_fault(r, first->line, first->column,
                        "blocks are nested more than %d deep, those of including scripts counted",
                        SIEVE_RUN_NESTING_MAX);
        return SIEVE_FLOW_FAILED;
    }
    r->nesting++;
    flow = run_commands(r, first);
    r->nesting--;
    return flow;
}

/* ---- one script, and all of them -------------------------------------------------------------- */

static void start_script(struct sieve_run *r, unsigned index, struct sieve_script *script)
{
    r->script = index;
    r->frame = sieve_frame_new(r, sieve_script_program(script), STR(""));
    r->loop = NULL;
    r->nesting = 0;
    r->has_vacation = r->has_delivery = false;
}

static void close_frames(struct sieve_run *r)
{
    for (; r->frame != NULL; r->frame = r->frame->parent)
        buf_fini(&r->frame->captured);
}

/* The state that a script which fails must not change. */
struct before {
    struct str message;
    bool is_edited;
    struct sieve_flags flags;
    size_t actions;
};

static int remember(struct sieve_run *r, struct before *b)
{
    struct error err = {0};

    b->is_edited = r->message.is_edited;
    b->flags = r->flags;
    b->actions = r->outcome->n;
    if (sieve_message_write(&r->message, &b->message, &err) < 0)
        return sieve_run_fault(r, 1, 1, "%s", err.text);
    return 0;
}

static void go_back(struct sieve_run *r, const struct before *b)
{
    sieve_message_init(&r->message, r->out, b->message);
    r->message.is_edited = b->is_edited;
    r->flags = b->flags;
    r->outcome->n = b->actions;
    r->cancels_keep = false;
}

/* False: nothing more is to be run. */
static bool run_script(struct sieve_run *r, unsigned index, struct sieve_script *script)
{
    struct before *before = ARENA_NEW(r->kept, struct before);
    enum sieve_flow flow;

    start_script(r, index, script);
    flow =
        remember(r, before) < 0 ? SIEVE_FLOW_FAILED : sieve_run_block(r, r->frame->program->first);
    close_frames(r);
    if (flow != SIEVE_FLOW_FAILED)
        return !r->cancels_keep && !r->has_reject;
    r->outcome->end = r->is_try_later ? SIEVE_TRY_LATER : SIEVE_FAILED;
    go_back(r, before);
    return false;
}

static void finish(struct sieve_run *r)
{
    struct sieve_outcome *o = r->outcome;

    o->keeps_implicitly = !r->cancels_keep;
    sieve_add_implicit_keep(r);
    if (r->mail->imap != NULL && o->end == SIEVE_DONE)
        sieve_add_changed_flags(r);
    sieve_run_close_included(r);
    map_free(&r->fields);
}

static void set_flags(struct sieve_run *r)
{
    const struct sieve_imap *imap = r->mail->imap;

    for (size_t i = 0; imap != NULL && i < imap->flags_count; i++)
        sieve_flags_add(&r->flags, imap->flags[i]);
}

PARKS int sieve_run(struct arena *a, struct sieve_script *const *scripts, size_t count,
                    const struct sieve_mail *mail, const struct sieve_hooks *hooks,
                    struct sieve_outcome *out)
{
    static const struct sieve_hooks none;
    struct arena *kept = arena_new(), *scratch = arena_new();
    struct sieve_run *r = ARENA_NEW(kept, struct sieve_run);

    *out = (struct sieve_outcome){.notes = ARENA_ARRAY(a, SIEVE_NOTES_MAX, struct sieve_note)};
    r->out = a;
    r->kept = kept;
    r->scratch = scratch;
    r->mail = mail;
    r->hooks = hooks != NULL ? hooks : &none;
    r->outcome = out;
    r->fields = map_new();
    sieve_message_init(&r->message, a, mail->message);
    set_flags(r);
    for (size_t i = 0; i < count; i++)
        if (!run_script(r, (unsigned)i, scripts[i]))
            break;
    finish(r);
    arena_free(&scratch);
    arena_free(&kept);
    return out->end == SIEVE_TRY_LATER ? -1 : 0;
}
