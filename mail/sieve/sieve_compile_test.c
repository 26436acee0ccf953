/* sieve_compile_test.c - one function per test: from sorted arguments to the typed node. What is checked here is what the
 * RFC of each test asks for; the tables have seen to types and extensions before. */
#include "mail/sieve/sieve_compile_internal.h"

#define DUPLICATE_SECONDS_DEFAULT (7 * 86400) /* RFC 7352, 3.1 */

static bool has_tag(const struct sieve_compiler *c, enum sieve_tag tag)
{
    return c->args.tags[tag] != NULL;
}

static const struct sieve_word *value_of(const struct sieve_compiler *c, enum sieve_tag tag)
{
    return c->args.values[tag];
}

/* --- header, address, exists ---------------------------------------------------------------------- */

static enum sieve_address_part address_part(const struct sieve_compiler *c)
{
    static const enum sieve_tag tags[] = {
        [SIEVE_ALL] = SIEVE_TAG_ALL,       [SIEVE_LOCALPART] = SIEVE_TAG_LOCALPART,
        [SIEVE_DOMAIN] = SIEVE_TAG_DOMAIN, [SIEVE_USER] = SIEVE_TAG_USER,
        [SIEVE_DETAIL] = SIEVE_TAG_DETAIL,
    };

    for (unsigned i = 0; i < sizeof tags / sizeof *tags; i++)
        if (has_tag(c, tags[i]))
            return i;
    return SIEVE_ALL;
}

/* RFC 5260, 6: :last only with :index. */
static int read_index(struct sieve_compiler *c, struct sieve_index *out)
{
    const struct sieve_word *number = value_of(c, SIEVE_TAG_INDEX);

    out->from_last = has_tag(c, SIEVE_TAG_LAST);
    if (number == NULL)
        return out->from_last ? sieve_fail_word(c, c->args.tags[SIEVE_TAG_LAST],
                                                "\":last\" needs \":index\" with a number")
                              : 0;
    if (number->number == 0)
        return sieve_fail_word(c, number, "fields are counted from 1");
    out->number = number->number > UINT32_MAX ? UINT32_MAX : (uint32_t)number->number;
    return 0;
}

static enum sieve_mime_option mime_option(const struct sieve_compiler *c)
{
    if (has_tag(c, SIEVE_TAG_TYPE))
        return SIEVE_MIME_TYPE;
    if (has_tag(c, SIEVE_TAG_SUBTYPE))
        return SIEVE_MIME_SUBTYPE;
    if (has_tag(c, SIEVE_TAG_CONTENTTYPE))
        return SIEVE_MIME_CONTENTTYPE;
    if (has_tag(c, SIEVE_TAG_PARAM))
        return SIEVE_MIME_PARAM;
    return has_tag(c, SIEVE_TAG_MIME) ? SIEVE_MIME_WHOLE : SIEVE_MIME_NONE;
}

static int lower_strings(struct sieve_compiler *c, struct sieve_strings *strings)
{
    for (unsigned i = 0; i < strings->n; i++)
        sieve_lower_string(c, (struct sieve_string *)&strings->v[i]);
    return 0;
}

/* RFC 5703, 4.1: the options speak of :mime and are nothing without it. */
static int read_mime(struct sieve_compiler *c, struct sieve_mime *out)
{
    static const enum sieve_tag options[] = {SIEVE_TAG_ANYCHILD, SIEVE_TAG_TYPE, SIEVE_TAG_SUBTYPE,
                                             SIEVE_TAG_CONTENTTYPE, SIEVE_TAG_PARAM};

    for (unsigned i = 0; i < sizeof options / sizeof *options && !has_tag(c, SIEVE_TAG_MIME); i++)
        if (has_tag(c, options[i]))
            return sieve_fail_word(c, c->args.tags[options[i]],
                                   "\":%s\" needs \":mime\": write \":mime\" before it",
                                   sieve_tags[options[i]].word);
    out->option = mime_option(c);
    out->any_child = has_tag(c, SIEVE_TAG_ANYCHILD);
    if (sieve_make_strings(c, value_of(c, SIEVE_TAG_PARAM), &out->params) < 0)
        return -1;
    return lower_strings(c, &out->params);
}

int sieve_compile_header(struct sieve_compiler *c, struct sieve_test *test)
{
    if (read_index(c, &test->u.header.index) < 0 || read_mime(c, &test->u.header.mime) < 0)
        return -1;
    return sieve_make_names(c, c->args.given[0], &test->u.header.names) < 0
               ? -1
               : sieve_make_match(c, c->args.given[1], &test->match);
}

int sieve_compile_address(struct sieve_compiler *c, struct sieve_test *test)
{
    test->u.header.part = address_part(c);
    return sieve_compile_header(c, test);
}

int sieve_compile_exists(struct sieve_compiler *c, struct sieve_test *test)
{
    return read_mime(c, &test->u.header.mime) < 0
               ? -1
               : sieve_make_names(c, c->args.given[0], &test->u.header.names);
}

/* --- the envelope --------------------------------------------------------------------------------- */

static uint64_t needs_of_part(enum sieve_envelope_part part)
{
    if (part <= SIEVE_ENVELOPE_TO)
        return 0;
    return part <= SIEVE_ENVELOPE_ENVID ? SIEVE_EXT(ENVELOPE_DSN) : SIEVE_EXT(ENVELOPE_DELIVERBY);
}

static int read_envelope_part(struct sieve_compiler *c, const struct sieve_literal *literal,
                              const struct sieve_string *string, enum sieve_envelope_part *out)
{
    *out = SIEVE_ENVELOPE_UNKNOWN;
    if (!sieve_string_is_constant(string))
        return 0;
    *out = sieve_envelope_part_of(string->text);
    if (*out != SIEVE_ENVELOPE_UNKNOWN)
        return sieve_use(c, literal->line, literal->column, sieve_shown(c->report, string->text),
                         needs_of_part(*out));
    c->is_unknown = true;
    return sieve_fail(c->report, literal->line, literal->column,
                      "the envelope has no part \"%s\": use \"from\" or \"to\"",
                      sieve_shown(c->report, string->text));
}

static bool is_about_addresses(enum sieve_envelope_part part)
{
    return part == SIEVE_ENVELOPE_FROM || part == SIEVE_ENVELOPE_TO ||
           part == SIEVE_ENVELOPE_UNKNOWN || part == SIEVE_ENVELOPE_ORCPT;
}

int sieve_compile_envelope(struct sieve_compiler *c, struct sieve_test *test)
{
    const struct sieve_word *word = c->args.given[0];
    const struct sieve_literal *literal = word->strings;
    enum sieve_envelope_part *parts =
        ARENA_ARRAY(c->out, word->strings_count, enum sieve_envelope_part);

    test->u.envelope.part = address_part(c);
    test->u.envelope.parts = parts;
    if (sieve_make_strings(c, word, &test->u.envelope.strings) < 0)
        return -1;
    for (unsigned i = 0; literal != NULL; literal = literal->next, i++) {
        if (read_envelope_part(c, literal, &test->u.envelope.strings.v[i], &parts[i]) < 0)
            return -1;
        if (!is_about_addresses(parts[i]) && test->u.envelope.part != SIEVE_ALL)
            return sieve_fail(
                c->report, literal->line, literal->column,
                "this part of the envelope is no address: remove the tag of the address part");
    }
    return sieve_make_match(c, c->args.given[1], &test->match);
}

/* --- size, body, date ----------------------------------------------------------------------------- */

int sieve_compile_size(struct sieve_compiler *c, struct sieve_test *test)
{
    if (!has_tag(c, SIEVE_TAG_OVER) && !has_tag(c, SIEVE_TAG_UNDER))
        return sieve_fail_node(c, "\"size\" needs \":over\" or \":under\" before its number");
    test->u.size.is_over = has_tag(c, SIEVE_TAG_OVER);
    test->u.size.size = c->args.given[0]->number;
    return 0;
}

int sieve_compile_body(struct sieve_compiler *c, struct sieve_test *test)
{
    if (has_tag(c, SIEVE_TAG_RAW))
        test->u.body.transform = SIEVE_BODY_RAW;
    if (has_tag(c, SIEVE_TAG_CONTENT))
        test->u.body.transform = SIEVE_BODY_CONTENT;
    if (sieve_make_strings(c, value_of(c, SIEVE_TAG_CONTENT), &test->u.body.types) < 0 ||
        lower_strings(c, &test->u.body.types) < 0)
        return -1;
    return sieve_make_match(c, c->args.given[0], &test->match);
}

static int read_zone(struct sieve_compiler *c, struct sieve_test *test)
{
    const struct sieve_word *word = value_of(c, SIEVE_TAG_ZONE);

    test->u.date.zone = has_tag(c, SIEVE_TAG_ORIGINALZONE) ? SIEVE_ZONE_ORIGINAL : SIEVE_ZONE_LOCAL;
    if (word == NULL)
        return 0;
    if (sieve_make_string(c, word, &test->u.date.zone_string) < 0)
        return -1;
    test->u.date.zone = SIEVE_ZONE_STRING;
    if (!sieve_string_is_constant(&test->u.date.zone_string))
        return 0;
    test->u.date.zone = SIEVE_ZONE_GIVEN;
    if (sieve_zone_parse(test->u.date.zone_string.text, &test->u.date.zone_min))
        return 0;
    return sieve_fail_word(
        c, word, "\"%s\" is no time zone: write hours and minutes from UTC, as in \"+0700\"",
        sieve_shown(c->report, test->u.date.zone_string.text));
}

static int read_date_part(struct sieve_compiler *c, const struct sieve_word *word,
                          struct sieve_test *test)
{
    test->u.date.part = SIEVE_DATE_UNKNOWN;
    if (sieve_make_string(c, word, &test->u.date.part_string) < 0)
        return -1;
    if (!sieve_string_is_constant(&test->u.date.part_string))
        return 0;
    test->u.date.part = sieve_date_part_of(test->u.date.part_string.text);
    if (test->u.date.part != SIEVE_DATE_UNKNOWN)
        return 0;
    return sieve_fail_word(c, word,
                           "a date has no part \"%s\": use year, month, day, date, julian, hour, "
                           "minute, second, time, iso8601, std11, zone or weekday",
                           sieve_shown(c->report, test->u.date.part_string.text));
}

int sieve_compile_date(struct sieve_compiler *c, struct sieve_test *test)
{
    if (read_zone(c, test) < 0 || read_index(c, &test->u.date.index) < 0 ||
        sieve_make_name(c, c->args.given[0], &test->u.date.header) < 0)
        return -1;
    return read_date_part(c, c->args.given[1], test) < 0
               ? -1
               : sieve_make_match(c, c->args.given[2], &test->match);
}

int sieve_compile_currentdate(struct sieve_compiler *c, struct sieve_test *test)
{
    if (read_zone(c, test) < 0 || read_date_part(c, c->args.given[0], test) < 0)
        return -1;
    return sieve_make_match(c, c->args.given[1], &test->match);
}

/* --- variables, flags, environment ---------------------------------------------------------------- */

int sieve_compile_string_test(struct sieve_compiler *c, struct sieve_test *test)
{
    return sieve_make_strings(c, c->args.given[0], &test->u.strings) < 0
               ? -1
               : sieve_make_match(c, c->args.given[1], &test->match);
}

int sieve_compile_hasflag(struct sieve_compiler *c, struct sieve_test *test)
{
    const struct sieve_word *names = c->args.given[0];
    unsigned *variables;

    if (names != NULL) {
        test->u.hasflag.variables = variables = ARENA_ARRAY(c->out, names->strings_count, unsigned);
        for (const struct sieve_literal *literal = names->strings; literal != NULL;
             literal = literal->next)
            if (sieve_make_variable(c, names, literal->text, false,
                                    &variables[test->u.hasflag.n++]) < 0)
                return -1;
    }
    return sieve_make_match(c, c->args.given[1], &test->match);
}

int sieve_compile_environment(struct sieve_compiler *c, struct sieve_test *test)
{
    if (sieve_make_string(c, c->args.given[0], &test->u.name) < 0)
        return -1;
    sieve_lower_string(c, &test->u.name);
    return sieve_make_match(c, c->args.given[1], &test->match);
}

/* Names nobody knows, and what changes how strings are read, are never there (RFC 5463, 4). */
int sieve_compile_ihave(struct sieve_compiler *c, struct sieve_test *test)
{
    const uint64_t refused = (SIEVE_EXT(VARIABLES) | SIEVE_EXT(ENCODED_CHARACTER)) & ~c->required;
    struct sieve_strings names;

    if (sieve_make_strings(c, c->args.given[0], &names) < 0)
        return -1;
    if (!names.is_constant)
        return sieve_fail_word(
            c, c->args.given[0],
            "the extensions of \"ihave\" must not have variables: write them out");
    test->u.ihave.is_true = true;
    for (unsigned i = 0; i < names.n; i++) {
        uint64_t set = sieve_extension_set(names.v[i].text);

        if (set == 0 || (set & refused))
            test->u.ihave.is_true = false;
        else
            test->u.ihave.extensions |= set;
    }
    c->by_ihave |= test->u.ihave.extensions;
    return 0;
}

/* --- what the store knows ------------------------------------------------------------------------- */

int sieve_compile_duplicate(struct sieve_compiler *c, struct sieve_test *test)
{
    const struct sieve_word *seconds = value_of(c, SIEVE_TAG_SECONDS);

    if (sieve_make_string(c, value_of(c, SIEVE_TAG_HANDLE), &test->u.duplicate.handle) < 0 ||
        sieve_make_string(c, value_of(c, SIEVE_TAG_UNIQUEID), &test->u.duplicate.unique_id) < 0)
        return -1;
    test->u.duplicate.has_header = has_tag(c, SIEVE_TAG_HEADER);
    if (test->u.duplicate.has_header &&
        sieve_make_name(c, value_of(c, SIEVE_TAG_HEADER), &test->u.duplicate.header) < 0)
        return -1;
    test->u.duplicate.seconds = seconds ? seconds->number : DUPLICATE_SECONDS_DEFAULT;
    if (test->u.duplicate.seconds > SIEVE_DUPLICATE_SECONDS_MAX)
        test->u.duplicate.seconds = SIEVE_DUPLICATE_SECONDS_MAX; /* RFC 7352, 3.1: no error */
    test->u.duplicate.last = has_tag(c, SIEVE_TAG_LAST);
    return 0;
}

int sieve_compile_spamtest(struct sieve_compiler *c, struct sieve_test *test)
{
    test->u.is_percent = has_tag(c, SIEVE_TAG_PERCENT);
    return sieve_make_match(c, c->args.given[0], &test->match);
}

int sieve_compile_strings_test(struct sieve_compiler *c, struct sieve_test *test)
{
    return sieve_make_strings(c, c->args.given[0], &test->u.strings);
}

int sieve_compile_specialuse_exists(struct sieve_compiler *c, struct sieve_test *test)
{
    return sieve_make_string(c, c->args.given[0], &test->u.metadata.mailbox) < 0
               ? -1
               : sieve_make_strings(c, c->args.given[1], &test->u.metadata.names);
}

static int read_entries(struct sieve_compiler *c, const struct sieve_word *word,
                        const struct sieve_word *keys, struct sieve_test *test)
{
    if (sieve_make_strings(c, word, &test->u.metadata.names) < 0 ||
        sieve_check_strings(
            c, word, &test->u.metadata.names, sieve_metadata_name_valid,
            "the name of an annotation: it begins with \"/private/\" or \"/shared/\"") < 0)
        return -1;
    return keys ? sieve_make_match(c, keys, &test->match) : 0;
}

int sieve_compile_metadata(struct sieve_compiler *c, struct sieve_test *test)
{
    if (sieve_make_string(c, c->args.given[0], &test->u.metadata.mailbox) < 0)
        return -1;
    return read_entries(c, c->args.given[1], c->args.given[2], test);
}

int sieve_compile_servermetadata(struct sieve_compiler *c, struct sieve_test *test)
{
    return read_entries(c, c->args.given[0], c->args.given[1], test);
}

int sieve_compile_notify_capability(struct sieve_compiler *c, struct sieve_test *test)
{
    if (sieve_make_string(c, c->args.given[0], &test->u.notify.uri) < 0 ||
        sieve_make_string(c, c->args.given[1], &test->u.notify.capability) < 0)
        return -1;
    sieve_lower_string(c, &test->u.notify.capability);
    return sieve_make_match(c, c->args.given[2], &test->match);
}
