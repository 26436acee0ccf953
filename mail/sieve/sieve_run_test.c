/* sieve_run_test.c - one answer per test: true, false, or a fault. */
#include "mail/sieve/sieve_run_internal.h"

static int from_values(struct sieve_run *r, const struct sieve_test *t,
                       int (*fill)(struct sieve_run *, const struct sieve_test *,
                                   struct sieve_values *))
{
    struct sieve_values values = {0};

    if (fill(r, t, &values) < 0)
        return -1;
    return sieve_run_match(r, &t->match, t->line, &values, t->kind != SIEVE_TEST_BODY);
}

static int fill_envelope(struct sieve_run *r, const struct sieve_test *t, struct sieve_values *out)
{
    sieve_envelope_values(r, t, out);
    return 0;
}

static int fill_date(struct sieve_run *r, const struct sieve_test *t, struct sieve_values *out)
{
    sieve_date_values(r, t, out);
    return 0;
}

static int fill_environment(struct sieve_run *r, const struct sieve_test *t,
                            struct sieve_values *out)
{
    sieve_environment_values(r, sieve_run_string(r, &t->u.name), out);
    return 0;
}

/* ---- string, hasflag, size -------------------------------------------------------------------- */

/* :count counts the strings that are not empty (RFC 5229, 5). */
static int fill_strings(struct sieve_run *r, const struct sieve_test *t, struct sieve_values *out)
{
    struct str *v = sieve_run_strings(r, &t->u.strings);

    for (unsigned i = 0; i < t->u.strings.n; i++)
        if (v[i].n > 0 || t->match.how.type != SIEVE_COUNT_OF)
            sieve_values_add_text(r, out, v[i]);
    return 0;
}

static void add_flags(struct sieve_run *r, unsigned variable, struct sieve_values *out)
{
    struct sieve_flags *set = ARENA_NEW(r->scratch, struct sieve_flags);

    sieve_flags_of_variable(r, variable, set);
    for (unsigned i = 0; i < set->n; i++)
        sieve_values_add_text(r, out, set->v[i]);
}

static int fill_flags(struct sieve_run *r, const struct sieve_test *t, struct sieve_values *out)
{
    if (t->u.hasflag.n == 0)
        add_flags(r, SIEVE_NO_VARIABLE, out);
    for (unsigned i = 0; i < t->u.hasflag.n; i++)
        add_flags(r, t->u.hasflag.variables[i], out);
    return 0;
}

static size_t message_size(const struct sieve_run *r)
{
    const struct sieve_message *m = &r->message;

    return m->written.p != NULL ? m->written.n : header_edit_header(&m->edit).n + m->edit.body.n;
}

/* Of the part at hand inside a loop (RFC 5703, 4.1's example), else of the message. */
static int test_size(struct sieve_run *r, const struct sieve_test *t)
{
    const struct mime_part *part = sieve_current_part(r);
    uint64_t size = part != NULL ? part->header_size + part->body_size : message_size(r);

    return t->u.size.is_over ? size > t->u.size.size : size < t->u.size.size;
}

/* ---- spamtest, virustest (RFC 5235) ----------------------------------------------------------- */

static int test_verdict(struct sieve_run *r, const struct sieve_test *t, bool was_tested, int value)
{
    struct sieve_values values = {0};

    if (t->match.how.type == SIEVE_COUNT_OF)
        return sieve_run_match_count(r, &t->match, t->line, was_tested);
    sieve_values_add_text(r, &values, arena_printf(r->scratch, "%d", value));
    return sieve_run_match(r, &t->match, t->line, &values, true);
}

/* 0 percent is 1, 100 are 10; what lies between is spread over 2 to 9. */
static int spam_value(int percent)
{
    if (percent < 0)
        return 0;
    if (percent == 0)
        return 1;
    return percent >= 100 ? 10 : 2 + (percent - 1) * 8 / 99;
}

static int test_spam(struct sieve_run *r, const struct sieve_test *t)
{
    int percent = r->mail->spam_percent;
    int shown = t->u.is_percent ? (percent > 0 ? percent : 0) : spam_value(percent);

    return test_verdict(r, t, percent >= 0, shown);
}

/* ---- duplicate (RFC 7352) --------------------------------------------------------------------- */

/* p NULL: there is no id, and nothing is a duplicate. */
static struct str unique_id(struct sieve_run *r, const struct sieve_test *t)
{
    struct sieve_fields *f;

    if (sieve_string_is_given(&t->u.duplicate.unique_id))
        return sieve_run_string(r, &t->u.duplicate.unique_id);
    f = t->u.duplicate.has_header ? sieve_fields_of(r, &t->u.duplicate.header)
                                  : sieve_fields_named(r, STR("message-id"));
    return f->n > 0 ? f->v[0].text.text : STR_NULL;
}

static struct sieve_seen *find_seen(struct sieve_run *r, struct str handle, struct str id)
{
    struct sieve_seen *s = r->seen;

    while (s != NULL && !(str_eq(s->handle, handle) && str_eq(s->id, id)))
        s = s->next;
    return s;
}

/* The same question has the same answer throughout a run. */
static int test_duplicate(struct sieve_run *r, const struct sieve_test *t)
{
    struct str id = unique_id(r, t), handle = STR("");
    struct sieve_seen *s;

    if (sieve_string_is_given(&t->u.duplicate.handle))
        handle = sieve_run_string(r, &t->u.duplicate.handle);
    if (str_empty(id))
        return 0;
    s = find_seen(r, handle, id);
    if (s != NULL)
        return s->is_seen;
    s = ARENA_NEW(r->kept, struct sieve_seen);
    s->handle = arena_str(r->kept, handle);
    s->id = arena_str(r->kept, id);
    if (r->hooks->was_seen != NULL &&
        r->hooks->was_seen(r->hooks->context, s->handle, s->id, &s->is_seen) < 0)
        return sieve_run_try_later(r);
    s->next = r->seen;
    r->seen = s;
    if (!s->is_seen || t->u.duplicate.last)
        if (sieve_add_duplicate_mark(r, t, s->handle, s->id) < 0)
            return -1;
    return s->is_seen;
}

/* ---- what the store knows --------------------------------------------------------------------- */

static int all_mailboxes_exist(struct sieve_run *r, const struct sieve_test *t)
{
    struct str *v = sieve_run_strings(r, &t->u.strings);

    for (unsigned i = 0; i < t->u.strings.n; i++) {
        bool exists = false;
        if (r->hooks->mailbox_exists != NULL &&
            r->hooks->mailbox_exists(r->hooks->context, v[i], &exists) < 0)
            return sieve_run_try_later(r);
        if (!exists)
            return 0;
    }
    return 1;
}

static int all_mailbox_ids_exist(struct sieve_run *r, const struct sieve_test *t)
{
    struct str *v = sieve_run_strings(r, &t->u.strings);

    for (unsigned i = 0; i < t->u.strings.n; i++) {
        struct str path = STR_NULL;
        if (r->hooks->mailbox_by_id != NULL &&
            r->hooks->mailbox_by_id(r->hooks->context, r->kept, v[i], &path) < 0)
            return sieve_run_try_later(r);
        if (str_empty(path))
            return 0;
    }
    return 1;
}

static struct str metadata_mailbox(struct sieve_run *r, const struct sieve_test *t)
{
    return sieve_string_is_given(&t->u.metadata.mailbox)
               ? sieve_run_string(r, &t->u.metadata.mailbox)
               : STR("");
}

static int all_special_uses_exist(struct sieve_run *r, const struct sieve_test *t)
{
    struct str *v = sieve_run_strings(r, &t->u.metadata.names);
    struct str mailbox = metadata_mailbox(r, t);

    for (unsigned i = 0; i < t->u.metadata.names.n; i++) {
        struct str found = STR_NULL;
        if (r->hooks->special_use != NULL &&
            r->hooks->special_use(r->hooks->context, r->kept, mailbox, v[i], &found) < 0)
            return sieve_run_try_later(r);
        if (str_empty(found))
            return 0;
    }
    return 1;
}

static int ask_metadata(struct sieve_run *r, struct str mailbox, struct str entry, bool *exists,
                        struct str *value)
{
    *exists = false;
    *value = STR("");
    if (r->hooks->metadata != NULL &&
        r->hooks->metadata(r->hooks->context, r->kept, mailbox, entry, exists, value) < 0)
        return sieve_run_try_later(r);
    return 0;
}

static int all_metadata_exist(struct sieve_run *r, const struct sieve_test *t)
{
    struct str *v = sieve_run_strings(r, &t->u.metadata.names), value;
    struct str mailbox = metadata_mailbox(r, t);

    for (unsigned i = 0; i < t->u.metadata.names.n; i++) {
        bool exists;
        if (ask_metadata(r, mailbox, v[i], &exists, &value) < 0)
            return -1;
        if (!exists)
            return 0;
    }
    return 1;
}

static int fill_metadata(struct sieve_run *r, const struct sieve_test *t, struct sieve_values *out)
{
    struct str entry = sieve_run_string(r, &t->u.metadata.names.v[0]), value;
    bool exists;

    if (ask_metadata(r, metadata_mailbox(r, t), entry, &exists, &value) < 0)
        return -1;
    if (exists)
        sieve_values_add_text(r, out, value);
    return 0;
}

/* ---- notify, lists, ihave --------------------------------------------------------------------- */

static int all_methods_valid(struct sieve_run *r, const struct sieve_test *t)
{
    struct str *v = sieve_run_strings(r, &t->u.strings);

    for (unsigned i = 0; i < t->u.strings.n; i++)
        if (!sieve_notify_uri_valid(r->scratch, v[i]))
            return 0;
    return 1;
}

/* Nobody knows whether a mailbox has its reader before it (RFC 5436, 2.2). */
static int fill_capability(struct sieve_run *r, const struct sieve_test *t,
                           struct sieve_values *out)
{
    struct str capability = sieve_run_string(r, &t->u.notify.capability);

    if (sieve_notify_uri_valid(r->scratch, sieve_run_string(r, &t->u.notify.uri)) &&
        str_ieq(capability, STR("online")))
        sieve_values_add_text(r, out, STR("maybe"));
    return 0;
}

static int all_lists_exist(struct sieve_run *r, const struct sieve_test *t)
{
    struct str *v = sieve_run_strings(r, &t->u.strings);

    for (unsigned i = 0; i < t->u.strings.n; i++) {
        bool exists = false;
        if (r->hooks->list_exists != NULL &&
            r->hooks->list_exists(r->hooks->context, v[i], &exists) < 0)
            return sieve_run_try_later(r);
        if (!exists)
            return 0;
    }
    return 1;
}

static int test_ihave(struct sieve_run *r, const struct sieve_test *t)
{
    if (t->u.ihave.is_true)
        r->frame->enabled |= t->u.ihave.extensions;
    return t->u.ihave.is_true;
}

static int fault_of(struct sieve_run *r, const struct sieve_test *t)
{
    return sieve_run_fault(r, t->line, t->column, "%.*s", STR_ARG(t->u.fault));
}

/* ---- dispatch --------------------------------------------------------------------------------- */

static const char *const test_names[] = {
    [SIEVE_TEST_ADDRESS] = "address",
    [SIEVE_TEST_HEADER] = "header",
    [SIEVE_TEST_EXISTS] = "exists",
    [SIEVE_TEST_ENVELOPE] = "envelope",
    [SIEVE_TEST_SIZE] = "size",
    [SIEVE_TEST_BODY] = "body",
    [SIEVE_TEST_DATE] = "date",
    [SIEVE_TEST_CURRENTDATE] = "currentdate",
    [SIEVE_TEST_STRING] = "string",
    [SIEVE_TEST_HASFLAG] = "hasflag",
    [SIEVE_TEST_ENVIRONMENT] = "environment",
    [SIEVE_TEST_IHAVE] = "ihave",
    [SIEVE_TEST_DUPLICATE] = "duplicate",
    [SIEVE_TEST_SPAMTEST] = "spamtest",
    [SIEVE_TEST_VIRUSTEST] = "virustest",
    [SIEVE_TEST_MAILBOXEXISTS] = "mailboxexists",
    [SIEVE_TEST_MAILBOXIDEXISTS] = "mailboxidexists",
    [SIEVE_TEST_SPECIALUSE_EXISTS] = "specialuse_exists",
    [SIEVE_TEST_METADATA] = "metadata",
    [SIEVE_TEST_METADATAEXISTS] = "metadataexists",
    [SIEVE_TEST_SERVERMETADATA] = "servermetadata",
    [SIEVE_TEST_SERVERMETADATAEXISTS] = "servermetadataexists",
    [SIEVE_TEST_VALID_NOTIFY_METHOD] = "valid_notify_method",
    [SIEVE_TEST_NOTIFY_METHOD_CAPABILITY] = "notify_method_capability",
    [SIEVE_TEST_VALID_EXT_LIST] = "valid_ext_list",
};

static int run_leaf(struct sieve_run *r, const struct sieve_test *t)
{
    switch (t->kind) {
    case SIEVE_TEST_ADDRESS:
        return from_values(r, t, sieve_address_values);
    case SIEVE_TEST_HEADER:
        return from_values(r, t, sieve_header_values);
    case SIEVE_TEST_EXISTS:
        return sieve_exists(r, t);
    case SIEVE_TEST_ENVELOPE:
        return from_values(r, t, fill_envelope);
    case SIEVE_TEST_SIZE:
        return test_size(r, t);
    case SIEVE_TEST_BODY:
        return from_values(r, t, sieve_body_values);
    case SIEVE_TEST_DATE:
    case SIEVE_TEST_CURRENTDATE:
        return from_values(r, t, fill_date);
    case SIEVE_TEST_STRING:
        return from_values(r, t, fill_strings);
    case SIEVE_TEST_HASFLAG:
        return from_values(r, t, fill_flags);
    case SIEVE_TEST_ENVIRONMENT:
        return from_values(r, t, fill_environment);
    case SIEVE_TEST_IHAVE:
        return test_ihave(r, t);
    case SIEVE_TEST_DUPLICATE:
        return test_duplicate(r, t);
    case SIEVE_TEST_SPAMTEST:
        return test_spam(r, t);
    case SIEVE_TEST_VIRUSTEST:
        return test_verdict(r, t, r->mail->virus_value > 0, r->mail->virus_value);
    case SIEVE_TEST_MAILBOXEXISTS:
        return all_mailboxes_exist(r, t);
    case SIEVE_TEST_MAILBOXIDEXISTS:
        return all_mailbox_ids_exist(r, t);
    case SIEVE_TEST_SPECIALUSE_EXISTS:
        return all_special_uses_exist(r, t);
    case SIEVE_TEST_METADATA:
    case SIEVE_TEST_SERVERMETADATA:
        return from_values(r, t, fill_metadata);
    case SIEVE_TEST_METADATAEXISTS:
    case SIEVE_TEST_SERVERMETADATAEXISTS:
        return all_metadata_exist(r, t);
    case SIEVE_TEST_VALID_NOTIFY_METHOD:
        return all_methods_valid(r, t);
    case SIEVE_TEST_NOTIFY_METHOD_CAPABILITY:
        return from_values(r, t, fill_capability);
    case SIEVE_TEST_VALID_EXT_LIST:
        return all_lists_exist(r, t);
    case SIEVE_TEST_FAULT:
        return fault_of(r, t);
    default:
        return t->kind == SIEVE_TEST_TRUE;
    }
}

static int run_list(struct sieve_run *r, const struct sieve_test *t, bool all)
{
    for (const struct sieve_test *x = t->u.tests; x != NULL; x = x->next) {
        int answer = sieve_run_test(r, x);
        if (answer < 0 || (answer > 0) != all)
            return answer;
    }
    return all;
}

static int needs_fault(struct sieve_run *r, const struct sieve_test *t)
{
    uint64_t missing = t->needs & ~r->frame->enabled;

    if (missing == 0)
        return 0;
    return sieve_run_fault(r, t->line, t->column,
                           "\"%s\" is used and neither required nor asked for with ihave",
                           sieve_extensions[__builtin_ctzll(missing)]);
}

/* Nesting is limited when the script is compiled. */
PARKS int sieve_run_test(struct sieve_run *r, const struct sieve_test *t)
{
    int answer;

    if (sieve_run_step(r, t->line, 1) < 0 || needs_fault(r, t) < 0)
        return -1;
    if (t->kind == SIEVE_TEST_NOT) {
        answer = sieve_run_test(r, t->u.tests);
        return answer < 0 ? -1 : !answer;
    }
    if (t->kind == SIEVE_TEST_ALLOF || t->kind == SIEVE_TEST_ANYOF)
        return run_list(r, t, t->kind == SIEVE_TEST_ALLOF);
    arena_reset(r->scratch);
    answer = run_leaf(r, t);
    if (answer > 0 && test_names[t->kind] != NULL)
        r->note_test = str_c(test_names[t->kind]);
    return answer;
}
