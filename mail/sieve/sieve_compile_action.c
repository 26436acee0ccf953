/* sieve_compile_action.c - one function per command: from sorted arguments to the typed node. */
#include <openssl/sha.h>
#include "mail/sieve/sieve_compile_internal.h"
#include "server/base/date.h"
#include "server/base/encode.h"

#define VACATION_DAYS_DEFAULT  7
#define SECONDS_OF_A_DAY       86400
#define HANDLE_HASH_SIZE       16 /* bytes of a SHA-256 that are kept */
#define INCLUDE_NAME_MAX       512
#define DELIVER_BY_SECONDS_MAX 999999999 /* RFC 2852, 4: nine digits */

static bool has_tag(const struct sieve_compiler *c, enum sieve_tag tag)
{
    return c->args.tags[tag] != NULL;
}

static const struct sieve_word *value_of(const struct sieve_compiler *c, enum sieve_tag tag)
{
    return c->args.values[tag];
}

static int read_tag_string(struct sieve_compiler *c, enum sieve_tag tag, struct sieve_string *out)
{
    return sieve_make_string(c, value_of(c, tag), out);
}

static bool is_special_use(struct str attribute)
{
    return attribute.n > 1 && attribute.p[0] == '\\' && sieve_flag_valid(str_from(attribute, 1));
}

static bool is_not_empty(struct str text)
{
    return text.n > 0;
}

/* --- keep, fileinto ------------------------------------------------------------------------------- */

/* A mailbox and what may stand with it (RFC 5232, 4; RFC 5490, 3.2; RFC 8579, 4; RFC 9042, 3). */
static int read_place(struct sieve_compiler *c, const struct sieve_word *mailbox,
                      struct sieve_place *place)
{
    place->has_flags = has_tag(c, SIEVE_TAG_FLAGS);
    place->creates = has_tag(c, SIEVE_TAG_CREATE);
    if (sieve_make_string(c, mailbox, &place->mailbox) < 0 ||
        read_tag_string(c, SIEVE_TAG_SPECIALUSE, &place->special_use) < 0 ||
        read_tag_string(c, SIEVE_TAG_MAILBOXID, &place->mailbox_id) < 0 ||
        sieve_make_strings(c, value_of(c, SIEVE_TAG_FLAGS), &place->flags) < 0)
        return -1;
    if (sieve_check_string(
            c, value_of(c, SIEVE_TAG_SPECIALUSE), &place->special_use, is_special_use,
            "a special use: write one such as \"\\\\Junk\" or \"\\\\Archive\"") < 0 ||
        sieve_check_string(c, value_of(c, SIEVE_TAG_MAILBOXID), &place->mailbox_id, is_not_empty,
                           "the id of a mailbox") < 0)
        return -1;
    return sieve_check_string(
        c, mailbox, &place->mailbox, sieve_mailbox_name_valid,
        "the name of a mailbox: use 1 to 1000 bytes of text without control characters");
}

int sieve_compile_keep(struct sieve_compiler *c, struct sieve_command *command)
{
    return read_place(c, NULL, &command->u.file.place);
}

int sieve_compile_fileinto(struct sieve_compiler *c, struct sieve_command *command)
{
    command->u.file.is_copy = has_tag(c, SIEVE_TAG_COPY);
    return read_place(c, c->args.given[0], &command->u.file.place);
}

/* The options of a place belong to :fcc (RFC 8580, 3.1). */
static int read_fcc(struct sieve_compiler *c, bool *has_fcc, struct sieve_place *place)
{
    static const enum sieve_tag options[] = {SIEVE_TAG_FLAGS, SIEVE_TAG_CREATE,
                                             SIEVE_TAG_SPECIALUSE, SIEVE_TAG_MAILBOXID};

    *has_fcc = has_tag(c, SIEVE_TAG_FCC);
    for (unsigned i = 0; i < sizeof options / sizeof *options && !*has_fcc; i++)
        if (has_tag(c, options[i]))
            return sieve_fail_word(
                c, c->args.tags[options[i]],
                "\":%s\" says where the copy of \":fcc\" goes: add \":fcc\" with a mailbox",
                sieve_tags[options[i]].word);
    return *has_fcc ? read_place(c, value_of(c, SIEVE_TAG_FCC), place) : 0;
}

/* --- redirect ------------------------------------------------------------------------------------- */

static int fail_redirect_address(struct sieve_compiler *c, struct str address)
{
    return sieve_fail_word(c, c->args.given[0],
                           "\"%s\" is no address: write one such as \"name@example.org\"",
                           sieve_shown(c->report, address));
}

static int read_redirect_address(struct sieve_compiler *c, struct sieve_command *command)
{
    struct sieve_string *address = &command->u.redirect.address;

    command->u.redirect.is_list = has_tag(c, SIEVE_TAG_LIST);
    if (sieve_make_string(c, c->args.given[0], address) < 0)
        return -1;
    if (command->u.redirect.is_list)
        return sieve_check_string(c, c->args.given[0], address, is_not_empty, "the name of a list");
    if (sieve_string_is_constant(address) &&
        !sieve_address_take(c->out, address->text, &address->text))
        return fail_redirect_address(c, address->text);
    return 0;
}

static bool is_dsn_ret(struct str value)
{
    return str_ieq(value, STR("FULL")) || str_ieq(value, STR("HDRS"));
}

static bool is_by_mode(struct str value)
{
    return str_ieq(value, STR("notify")) || str_ieq(value, STR("return"));
}

static int read_by_absolute(struct sieve_compiler *c, const struct sieve_word *word,
                            struct sieve_command *command)
{
    int64_t us;

    command->u.redirect.by_is_absolute = true;
    if (sieve_make_string(c, word, &command->u.redirect.by_absolute) < 0)
        return -1;
    if (!sieve_string_is_constant(&command->u.redirect.by_absolute))
        return 0;
    if (!date_parse_rfc3339(command->u.redirect.by_absolute.text, &us))
        return sieve_fail_word(
            c, word, "this is no date and time: write it as \"2026-11-23T08:00:00+07:00\"");
    command->u.redirect.by_seconds = us / 1000000;
    return 0;
}

/* RFC 6009, 6: a mode and a trace are nothing without a time. */
static int read_deliver_by(struct sieve_compiler *c, struct sieve_command *command)
{
    const struct sieve_word *relative = value_of(c, SIEVE_TAG_BYTIMERELATIVE),
                            *absolute = value_of(c, SIEVE_TAG_BYTIMEABSOLUTE);
    enum sieve_tag extra = has_tag(c, SIEVE_TAG_BYMODE) ? SIEVE_TAG_BYMODE : SIEVE_TAG_BYTRACE;

    command->u.redirect.has_by = relative != NULL || absolute != NULL;
    command->u.redirect.by_trace = has_tag(c, SIEVE_TAG_BYTRACE);
    if (!command->u.redirect.has_by && has_tag(c, extra))
        return sieve_fail_word(c, c->args.tags[extra],
                               "\":%s\" needs \":bytimerelative\" or \":bytimeabsolute\"",
                               sieve_tags[extra].word);
    if (relative != NULL && relative->number > DELIVER_BY_SECONDS_MAX)
        return sieve_fail_word(c, relative, "this time is too long: the most is %d seconds",
                               DELIVER_BY_SECONDS_MAX);
    if (relative != NULL)
        command->u.redirect.by_seconds = (int64_t)relative->number;
    if (absolute != NULL && read_by_absolute(c, absolute, command) < 0)
        return -1;
    if (read_tag_string(c, SIEVE_TAG_BYMODE, &command->u.redirect.by_mode) < 0)
        return -1;
    return sieve_check_string(c, value_of(c, SIEVE_TAG_BYMODE), &command->u.redirect.by_mode,
                              is_by_mode, "a mode: write \"notify\" or \"return\"");
}

int sieve_compile_redirect(struct sieve_compiler *c, struct sieve_command *command)
{
    command->u.redirect.is_copy = has_tag(c, SIEVE_TAG_COPY);
    if (read_redirect_address(c, command) < 0 || read_deliver_by(c, command) < 0)
        return -1;
    if (read_tag_string(c, SIEVE_TAG_NOTIFY, &command->u.redirect.dsn_notify) < 0 ||
        read_tag_string(c, SIEVE_TAG_RET, &command->u.redirect.dsn_ret) < 0)
        return -1;
    if (sieve_check_string(
            c, value_of(c, SIEVE_TAG_NOTIFY), &command->u.redirect.dsn_notify,
            sieve_dsn_notify_valid,
            "what \":notify\" takes: write \"NEVER\" or some of \"SUCCESS,FAILURE,DELAY\"") < 0)
        return -1;
    return sieve_check_string(c, value_of(c, SIEVE_TAG_RET), &command->u.redirect.dsn_ret,
                              is_dsn_ret, "what \":ret\" takes: write \"FULL\" or \"HDRS\"");
}

/* --- reject, ereject, error, vacation, notify ----------------------------------------------------- */

int sieve_compile_text(struct sieve_compiler *c, struct sieve_command *command)
{
    return sieve_make_string(c, c->args.given[0], &command->u.text);
}

static int read_from(struct sieve_compiler *c, struct sieve_string *from)
{
    const struct sieve_word *word = value_of(c, SIEVE_TAG_FROM);

    if (sieve_make_string(c, word, from) < 0)
        return -1;
    if (word == NULL || !sieve_string_is_constant(from) ||
        sieve_from_valid(c->report->a, from->text))
        return 0;
    return sieve_fail_word(c, word, "\"%s\" is no address: write one such as \"name@example.org\"",
                           sieve_shown(c->report, from->text));
}

/* What is too short or too long becomes the nearest allowed (RFC 5230, 4.1); :seconds 0 is allowed (RFC 6131, 2). */
static uint64_t vacation_seconds(const struct sieve_compiler *c)
{
    const struct sieve_word *days = value_of(c, SIEVE_TAG_DAYS),
                            *seconds = value_of(c, SIEVE_TAG_SECONDS);
    const uint64_t max = (uint64_t)SIEVE_VACATION_DAYS_MAX * SECONDS_OF_A_DAY;
    uint64_t count = days ? days->number : VACATION_DAYS_DEFAULT;

    if (seconds != NULL)
        return seconds->number > max ? max : seconds->number;
    if (count > SIEVE_VACATION_DAYS_MAX)
        return max;
    return (count == 0 ? 1 : count) * SECONDS_OF_A_DAY;
}

static void add_with_size(struct buf *out, const struct sieve_word *word)
{
    buf_addf(out, "%zu:", word ? word->strings->text.n + 1 : 0);
    if (word != NULL)
        buf_add(out, word->strings->text);
}

/* Without :handle, answers are the same when :subject, :from, :mime and the reason are (RFC 5230, 4.2). */
static struct str default_handle(struct sieve_compiler *c)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    struct buf text;
    struct str handle;

    buf_init(&text, 3 * (size_t)SIEVE_SIZE_MAX);
    buf_addc(&text, has_tag(c, SIEVE_TAG_MIME) ? 'm' : 't');
    add_with_size(&text, value_of(c, SIEVE_TAG_SUBJECT));
    add_with_size(&text, value_of(c, SIEVE_TAG_FROM));
    add_with_size(&text, c->args.given[0]);
    SHA256((const unsigned char *)text.p, text.n, digest);
    buf_clear(&text);
    hex_encode(&text, str_of((const char *)digest, HANDLE_HASH_SIZE));
    handle = arena_str(c->out, buf_str(&text));
    buf_fini(&text);
    return handle;
}

int sieve_compile_vacation(struct sieve_compiler *c, struct sieve_command *command)
{
    command->u.vacation.seconds = vacation_seconds(c);
    command->u.vacation.is_mime = has_tag(c, SIEVE_TAG_MIME);
    command->u.vacation.default_handle = default_handle(c);
    if (sieve_make_string(c, c->args.given[0], &command->u.vacation.reason) < 0 ||
        read_tag_string(c, SIEVE_TAG_SUBJECT, &command->u.vacation.subject) < 0 ||
        read_tag_string(c, SIEVE_TAG_HANDLE, &command->u.vacation.handle) < 0 ||
        read_from(c, &command->u.vacation.from) < 0)
        return -1;
    if (sieve_make_strings(c, value_of(c, SIEVE_TAG_ADDRESSES), &command->u.vacation.addresses) < 0)
        return -1;
    return read_fcc(c, &command->u.vacation.has_fcc, &command->u.vacation.fcc);
}

static bool is_importance(struct str value)
{
    return value.n == 1 && value.p[0] >= '1' && value.p[0] <= '3';
}

/* Methods that are not known here fail when they are used: scripts ask valid_notify_method before (RFC 5435, 3.2). */
static int check_method(struct sieve_compiler *c, const struct sieve_string *method)
{
    if (!sieve_string_is_constant(method))
        return 0;
    if (str_index(method->text, ':') <= 0)
        return sieve_fail_word(
            c, c->args.given[0],
            "\"%s\" says not how to notify: write a URI such as \"mailto:name@example.org\"",
            sieve_shown(c->report, method->text));
    if (str_istarts(method->text, STR("mailto:")) &&
        !sieve_notify_uri_valid(c->report->a, method->text))
        return sieve_fail_word(
            c, c->args.given[0],
            "\"%s\" names no address: write a URI such as \"mailto:name@example.org\"",
            sieve_shown(c->report, method->text));
    return 0;
}

int sieve_compile_notify(struct sieve_compiler *c, struct sieve_command *command)
{
    if (sieve_make_string(c, c->args.given[0], &command->u.notify.method) < 0 ||
        check_method(c, &command->u.notify.method) < 0)
        return -1;
    if (read_from(c, &command->u.notify.from) < 0 ||
        read_tag_string(c, SIEVE_TAG_MESSAGE, &command->u.notify.message) < 0 ||
        read_tag_string(c, SIEVE_TAG_IMPORTANCE, &command->u.notify.importance) < 0 ||
        sieve_make_strings(c, value_of(c, SIEVE_TAG_OPTIONS), &command->u.notify.options) < 0)
        return -1;
    if (sieve_check_string(c, value_of(c, SIEVE_TAG_IMPORTANCE), &command->u.notify.importance,
                           is_importance,
                           "an importance: write \"1\" (high), \"2\" or \"3\" (low)") < 0)
        return -1;
    return read_fcc(c, &command->u.notify.has_fcc, &command->u.notify.fcc);
}

/* --- variables and flags -------------------------------------------------------------------------- */

static unsigned modifiers(const struct sieve_compiler *c)
{
    static const struct {
        enum sieve_tag tag;
        enum sieve_modifier modifier;
    } rows[] = {
        {SIEVE_TAG_LOWER, SIEVE_LOWER},
        {SIEVE_TAG_UPPER, SIEVE_UPPER},
        {SIEVE_TAG_LOWERFIRST, SIEVE_LOWERFIRST},
        {SIEVE_TAG_UPPERFIRST, SIEVE_UPPERFIRST},
        {SIEVE_TAG_QUOTEWILDCARD, SIEVE_QUOTEWILDCARD},
        {SIEVE_TAG_QUOTEREGEX, SIEVE_QUOTEREGEX},
        {SIEVE_TAG_ENCODEURL, SIEVE_ENCODEURL},
        {SIEVE_TAG_LENGTH, SIEVE_LENGTH},
    };
    unsigned bits = 0;

    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        if (has_tag(c, rows[i].tag))
            bits |= rows[i].modifier;
    return bits;
}

static int read_variable(struct sieve_compiler *c, const struct sieve_word *word, unsigned *out)
{
    struct str name;

    if (word == NULL) {
        *out = SIEVE_NO_VARIABLE;
        return 0;
    }
    return sieve_make_constant(c, word, &name) < 0 ? -1
                                                   : sieve_make_variable(c, word, name, true, out);
}

int sieve_compile_set(struct sieve_compiler *c, struct sieve_command *command)
{
    command->u.set.modifiers = modifiers(c);
    if (read_variable(c, c->args.given[0], &command->u.set.variable) < 0 ||
        sieve_make_string(c, c->args.given[1], &command->u.set.value) < 0)
        return -1;
    if (sieve_string_is_constant(&command->u.set.value) &&
        command->u.set.value.text.n > SIEVE_VARIABLE_SIZE_MAX)
        return sieve_fail_word(
            c, c->args.given[1],
            "a variable holds %d bytes, and this text is longer: make it shorter",
            SIEVE_VARIABLE_SIZE_MAX);
    return 0;
}

int sieve_compile_flag(struct sieve_compiler *c, struct sieve_command *command)
{
    return read_variable(c, c->args.given[0], &command->u.flag.variable) < 0
               ? -1
               : sieve_make_strings(c, c->args.given[1], &command->u.flag.flags);
}

/* --- editheader ----------------------------------------------------------------------------------- */

static int read_edit_name(struct sieve_compiler *c, struct sieve_command *command)
{
    const struct sieve_word *word = c->args.given[0];

    if (sieve_make_string(c, word, &command->u.edit.written) < 0 ||
        sieve_make_name(c, word, &command->u.edit.name) < 0)
        return -1;
    return sieve_check_string(c, word, &command->u.edit.written, sieve_header_name_valid,
                              "the name of a header field: write it without spaces and colon");
}

static bool is_field_value(struct str value)
{
    for (size_t i = 0; i < value.n; i++)
        if ((unsigned char)value.p[i] < ' ' && value.p[i] != '\t' && value.p[i] != '\r' &&
            value.p[i] != '\n')
            return false;
    return value.n <= SIEVE_HEADER_SIZE_MAX;
}

int sieve_compile_addheader(struct sieve_compiler *c, struct sieve_command *command)
{
    command->u.edit.at_end = has_tag(c, SIEVE_TAG_LAST);
    if (read_edit_name(c, command) < 0 ||
        sieve_make_string(c, c->args.given[1], &command->u.edit.value) < 0)
        return -1;
    return sieve_check_string(c, c->args.given[1], &command->u.edit.value, is_field_value,
                              "the value of a header field: use at most 2048 bytes of text");
}

int sieve_compile_deleteheader(struct sieve_compiler *c, struct sieve_command *command)
{
    const struct sieve_word *number = value_of(c, SIEVE_TAG_INDEX);

    command->u.edit.index.from_last = has_tag(c, SIEVE_TAG_LAST);
    if (number == NULL && command->u.edit.index.from_last)
        return sieve_fail_word(c, c->args.tags[SIEVE_TAG_LAST],
                               "\":last\" needs \":index\" with a number");
    if (number != NULL && number->number == 0)
        return sieve_fail_word(c, number, "fields are counted from 1");
    if (number != NULL)
        command->u.edit.index.number =
            number->number > UINT32_MAX ? UINT32_MAX : (uint32_t)number->number;
    return read_edit_name(c, command) < 0
               ? -1
               : sieve_make_match(c, c->args.given[1], &command->u.edit.match);
}

/* --- include -------------------------------------------------------------------------------------- */

static bool is_script_name(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] < ' ' || name.p[i] == 127 || name.p[i] == '/')
            return false;
    return name.n > 0 && name.n <= INCLUDE_NAME_MAX;
}

int sieve_compile_include(struct sieve_compiler *c, struct sieve_command *command)
{
    command->u.include.location = has_tag(c, SIEVE_TAG_GLOBAL) ? SIEVE_GLOBAL : SIEVE_PERSONAL;
    command->u.include.once = has_tag(c, SIEVE_TAG_ONCE);
    command->u.include.optional = has_tag(c, SIEVE_TAG_OPTIONAL);
    if (sieve_make_string(c, c->args.given[0], &command->u.include.name) < 0)
        return -1;
    if (!sieve_string_is_constant(&command->u.include.name))
        return sieve_fail_word(c, c->args.given[0],
                               "the name of a script must not have variables: write it out");
    return sieve_check_string(c, c->args.given[0], &command->u.include.name, is_script_name,
                              "the name of a script");
}

int sieve_compile_global(struct sieve_compiler *c, struct sieve_command *command)
{
    for (const struct sieve_literal *literal = c->args.given[0]->strings; literal != NULL;
         literal = literal->next)
        if (sieve_make_global(c, c->args.given[0], literal->text) < 0)
            return -1;
    return 0;
}

/* --- parts of the message ------------------------------------------------------------------------- */

int sieve_compile_foreverypart(struct sieve_compiler *c, struct sieve_command *command)
{
    const struct sieve_word *name = value_of(c, SIEVE_TAG_NAME);

    return name ? sieve_make_constant(c, name, &command->u.loop.name) : 0;
}

int sieve_compile_break(struct sieve_compiler *c, struct sieve_command *command)
{
    const struct sieve_word *word = value_of(c, SIEVE_TAG_NAME);
    struct str name = STR_NULL;

    if (c->loops == NULL)
        return sieve_fail_node(c, "\"break\" leaves a \"foreverypart\" and stands outside of one: "
                                  "use \"stop\" or \"return\"");
    if (word != NULL && sieve_make_constant(c, word, &name) < 0)
        return -1;
    command->u.brk.levels = 1;
    for (const struct sieve_loop *loop = c->loops; word != NULL;
         loop = loop->outer, command->u.brk.levels++) {
        if (loop == NULL)
            return sieve_fail_word(c, word,
                                   "there is no \"foreverypart\" around this with the name \"%s\"",
                                   sieve_shown(c->report, name));
        if (str_eq(loop->name, name))
            break;
    }
    return 0;
}

/* With :mime the text brings its own header (RFC 5703, 5). */
int sieve_compile_replace(struct sieve_compiler *c, struct sieve_command *command)
{
    enum sieve_tag extra = has_tag(c, SIEVE_TAG_SUBJECT) ? SIEVE_TAG_SUBJECT : SIEVE_TAG_FROM;

    command->u.body.is_mime = has_tag(c, SIEVE_TAG_MIME);
    if (command->u.body.is_mime && has_tag(c, extra))
        return sieve_fail_word(
            c, c->args.tags[extra],
            "\":%s\" has no effect beside \":mime\": write the field into the text",
            sieve_tags[extra].word);
    if (sieve_make_string(c, c->args.given[0], &command->u.body.text) < 0 ||
        read_tag_string(c, SIEVE_TAG_SUBJECT, &command->u.body.subject) < 0 ||
        read_from(c, &command->u.body.from) < 0)
        return -1;
    return sieve_make_strings(c, value_of(c, SIEVE_TAG_HEADERS), &command->u.body.headers);
}

int sieve_compile_extracttext(struct sieve_compiler *c, struct sieve_command *command)
{
    const struct sieve_word *first = value_of(c, SIEVE_TAG_FIRST);

    command->u.extract.modifiers = modifiers(c);
    command->u.extract.first = first ? first->number : UINT64_MAX;
    return read_variable(c, c->args.given[0], &command->u.extract.variable);
}

/* --- calendars ------------------------------------------------------------------------------------ */

int sieve_compile_processcalendar(struct sieve_compiler *c, struct sieve_command *command)
{
    command->u.calendar.allow_public = has_tag(c, SIEVE_TAG_ALLOWPUBLIC);
    command->u.calendar.updates_only = has_tag(c, SIEVE_TAG_UPDATESONLY);
    command->u.calendar.delete_cancelled =
        has_tag(c, SIEVE_TAG_DELETECANCELLED) || has_tag(c, SIEVE_TAG_DELETECANCELED);
    if (sieve_make_strings(c, value_of(c, SIEVE_TAG_ADDRESSES), &command->u.calendar.addresses) <
            0 ||
        read_tag_string(c, SIEVE_TAG_CALENDARID, &command->u.calendar.calendar_id) < 0 ||
        read_tag_string(c, SIEVE_TAG_ORGANIZERS, &command->u.calendar.organizers) < 0)
        return -1;
    if (read_variable(c, value_of(c, SIEVE_TAG_OUTCOME), &command->u.calendar.outcome) < 0)
        return -1;
    return read_variable(c, value_of(c, SIEVE_TAG_REASON), &command->u.calendar.reason);
}
