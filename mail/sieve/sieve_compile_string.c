/* sieve_compile_string.c - strings: encoded characters put in (RFC 5228, 2.4.2.4), variables found (RFC 5229, 3), header
 * names and variables numbered, keys prepared. What a "${" does not begin rightly stays as it is. */
#include "mail/sieve/sieve_compile_internal.h"
#include "server/base/buf.h"
#include "server/base/map.h"
#include "server/base/utf8.h"

/* --- encoded characters --------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void skip_blanks(struct str *s)
{
    while (s->n > 0 && is_blank(s->p[0]))
        *s = str_from(*s, 1);
}

/* One hexadecimal number; saturated. Returns its digits. */
static unsigned take_hex(struct str *s, uint32_t *value)
{
    unsigned digits = 0;

    for (*value = 0; s->n > 0 && hex_value(s->p[0]) >= 0; digits++) {
        *value = *value > 0xffffff ? UINT32_MAX : *value * 16 + (uint32_t)hex_value(s->p[0]);
        *s = str_from(*s, 1);
    }
    return digits;
}

enum sequence { NO_SEQUENCE, GOOD_SEQUENCE, OUT_OF_RANGE };

/* What stands between the colon and "}" of *s. The text is added only when all of it is well-formed. */
static enum sequence take_sequence(struct str *s, bool is_unicode, struct buf *out)
{
    struct str rest = *s;
    size_t mark = out->n;
    bool in_range = true;
    uint32_t value;

    for (skip_blanks(&rest); rest.n > 0 && rest.p[0] != '}'; skip_blanks(&rest)) {
        unsigned digits = take_hex(&rest, &value);

        if (digits == 0 || (!is_unicode && digits > 2) ||
            (rest.n > 0 && rest.p[0] != '}' && !is_blank(rest.p[0]))) {
            buf_truncate(out, mark);
            return NO_SEQUENCE;
        }
        if (!is_unicode)
            buf_addc(out, (char)value);
        else if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
            in_range = false;
        else
            utf8_add(out, value);
    }
    if (rest.n == 0 || (out->n == mark && in_range)) {
        buf_truncate(out, mark);
        return NO_SEQUENCE;
    }
    *s = str_from(rest, 1);
    return in_range ? GOOD_SEQUENCE : OUT_OF_RANGE;
}

static int fail_literal(struct sieve_compiler *c, const struct sieve_literal *literal,
                        const char *text)
{
    return sieve_fail(c->report, literal->line, literal->column, "%s", text);
}

static int add_encoded(struct sieve_compiler *c, const struct sieve_literal *literal,
                       struct str *rest, struct buf *out)
{
    struct str behind = *rest;
    bool is_unicode = str_istarts(behind, STR("${unicode:"));

    if (!is_unicode && !str_istarts(behind, STR("${hex:"))) {
        buf_addc(out, '$');
        *rest = str_from(*rest, 1);
        return 0;
    }
    behind = str_from(behind, is_unicode ? sizeof "${unicode:" - 1 : sizeof "${hex:" - 1);
    switch (take_sequence(&behind, is_unicode, out)) {
    case GOOD_SEQUENCE:
        *rest = behind;
        return 0;
    case OUT_OF_RANGE:
        return fail_literal(c, literal,
                            "${unicode:...} names no character: its numbers go from 0 to D7FF and "
                            "from E000 to 10FFFF");
    case NO_SEQUENCE:
        buf_addc(out, '$');
        *rest = str_from(*rest, 1);
    }
    return 0;
}

static int decode_characters(struct sieve_compiler *c, const struct sieve_literal *literal,
                             struct str *text)
{
    struct str rest = *text;
    struct buf out;
    int answer = 0;

    if (str_find(rest, STR("${")) < 0)
        return 0;
    buf_init(&out, text->n + 1);
    while (answer == 0 && rest.n > 0) {
        ptrdiff_t dollar = str_index(rest, '$');

        buf_add(&out, str_head(rest, dollar < 0 ? rest.n : (size_t)dollar));
        rest = dollar < 0 ? STR_NULL : str_from(rest, (size_t)dollar);
        if (rest.n > 0)
            answer = add_encoded(c, literal, &rest, &out);
    }
    *text = arena_str(c->out, buf_str(&out));
    buf_fini(&out);
    if (answer == 0 && (!utf8_valid(*text) || (text->n > 0 && memchr(text->p, 0, text->n) != NULL)))
        return fail_literal(
            c, literal,
            "the encoded characters of this string give no text in UTF-8: use ${unicode:...}");
    return answer;
}

/* --- variables ------------------------------------------------------------------------------------ */

static bool is_identifier_char(char c, bool is_first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!is_first && c >= '0' && c <= '9');
}

static bool is_identifier(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_identifier_char(s.p[i], i == 0))
            return false;
    return s.n > 0;
}

static bool is_decimal(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

/* name, namespace.name, namespace.sub.name or a number: whatever may stand in "${...}". */
static bool is_reference(struct str s)
{
    struct str part;

    if (is_decimal(s))
        return true;
    if (s.n == 0 || !is_identifier_char(s.p[0], true))
        return false;
    for (bool more = true; more;) {
        more = str_cut(s, '.', &part, &s);
        if (!is_identifier(part) && !is_decimal(part))
            return false;
    }
    return true;
}

/* The next "${reference}" of a text; its name. */
static bool find_reference(struct str text, size_t from, size_t *start, size_t *end,
                           struct str *name)
{
    for (size_t i = from; i + 3 < text.n; i++) {
        size_t to = i + 2;

        if (text.p[i] != '$' || text.p[i + 1] != '{')
            continue;
        while (to < text.n && (is_identifier_char(text.p[to], false) || text.p[to] == '.'))
            to++;
        *name = str_of(text.p + i + 2, to - i - 2);
        if (to < text.n && text.p[to] == '}' && is_reference(*name)) {
            *start = i;
            *end = to + 1;
            return true;
        }
        i = to - 1;
    }
    return false;
}

static struct sieve_slot *find_slot(struct sieve_compiler *c, struct str key)
{
    uintptr_t number = (uintptr_t)map_get(c->slots, key);

    return number == 0 ? NULL : &c->variables[number - 1];
}

/* key: "name", or "global.name". */
static int make_slot(struct sieve_compiler *c, unsigned line, unsigned column, struct str key,
                     struct sieve_slot **out)
{
    struct str name = key;
    bool is_global = str_skip_prefix(&name, STR("global."));

    *out = find_slot(c, key);
    if (*out != NULL)
        return 0;
    if (name.n > SIEVE_VARIABLE_NAME_MAX)
        return sieve_fail(c->report, line, column,
                          "the name of a variable has more than %d letters: make it shorter",
                          SIEVE_VARIABLE_NAME_MAX);
    if (c->variables_count == SIEVE_VARIABLES_MAX)
        return sieve_fail(c->report, line, column,
                          "the script has more than %d variables: use fewer", SIEVE_VARIABLES_MAX);
    *out = &c->variables[c->variables_count++];
    (*out)->variable =
        (struct sieve_variable){.name = arena_str(c->out, name), .is_global = is_global};
    map_put(c->slots, key, (void *)(uintptr_t)c->variables_count);
    return 0;
}

static int check_namespace(struct sieve_compiler *c, unsigned line, unsigned column,
                           struct str name)
{
    struct str rest = name;

    if (str_index(name, '.') < 0)
        return 0;
    if (!str_skip_prefix(&rest, STR("global.")))
        return sieve_fail(
            c->report, line, column,
            "\"%s\" is in no namespace of variables that is known here: only \"global.\" is",
            sieve_shown(c->report, name));
    if (!sieve_has(c, SIEVE_EXT(INCLUDE)))
        return sieve_fail(
            c->report, line, column,
            "variables in \"global.\" need require [\"include\"]: add it to the first line");
    if (!is_identifier(rest))
        return sieve_fail(c->report, line, column,
                          "\"%s\" is no name of a variable: behind \"global.\" stand letters, "
                          "digits and underscores",
                          sieve_shown(c->report, name));
    return 0;
}

static int make_reference(struct sieve_compiler *c, const struct sieve_literal *literal,
                          struct str name, struct sieve_piece *piece)
{
    struct sieve_slot *slot;

    if (is_decimal(name)) {
        uint64_t number;

        sieve_number(name, &number);
        if (number >= SIEVE_MATCH_VARIABLES_MAX)
            return sieve_fail(c->report, literal->line, literal->column,
                              "${%s} is beyond the last part of a match that is kept: ${%d}",
                              sieve_shown(c->report, name), SIEVE_MATCH_VARIABLES_MAX - 1);
        *piece = (struct sieve_piece){.kind = SIEVE_PIECE_MATCH, .index = (unsigned)number};
        return 0;
    }
    if (check_namespace(c, literal->line, literal->column, name) < 0 ||
        make_slot(c, literal->line, literal->column, arena_lower(c->work, name), &slot) < 0)
        return -1;
    *piece = (struct sieve_piece){.kind = SIEVE_PIECE_VARIABLE,
                                  .index = (unsigned)(slot - c->variables)};
    return 0;
}

static unsigned count_references(struct str text)
{
    size_t at = 0, start;
    struct str name;
    unsigned n = 0;

    while (find_reference(text, at, &start, &at, &name))
        n++;
    return n;
}

static int split(struct sieve_compiler *c, const struct sieve_literal *literal,
                 struct sieve_string *string)
{
    struct str text = string->text, name;
    unsigned references = count_references(text);
    struct sieve_piece *pieces;
    size_t at = 0, start, end;

    if (references == 0)
        return 0;
    string->pieces = pieces = ARENA_ARRAY(c->out, 2 * references + 1, struct sieve_piece);
    for (; find_reference(text, at, &start, &end, &name); at = end) {
        if (start > at)
            pieces[string->pieces_count++] = (struct sieve_piece){
                .kind = SIEVE_PIECE_TEXT, .text = str_of(text.p + at, start - at)};
        if (make_reference(c, literal, name, &pieces[string->pieces_count++]) < 0)
            return -1;
    }
    if (at < text.n)
        pieces[string->pieces_count++] =
            (struct sieve_piece){.kind = SIEVE_PIECE_TEXT, .text = str_from(text, at)};
    return 0;
}

static bool is_variable_name(struct str name)
{
    struct str rest = name;

    return is_identifier(name) || (str_skip_prefix(&rest, STR("global.")) && is_identifier(rest));
}

int sieve_make_variable(struct sieve_compiler *c, const struct sieve_word *word, struct str name,
                        bool is_set, unsigned *out)
{
    struct sieve_slot *slot;

    if (!sieve_has(c, SIEVE_EXT(VARIABLES)))
        return sieve_fail_word(
            c, word, "a variable needs require [\"variables\"]: add it to the first line");
    if (!is_variable_name(name))
        return sieve_fail_word(c, word,
                               "\"%s\" is no name of a variable: use letters, digits and "
                               "underscores, and no digit first",
                               sieve_shown(c->report, name));
    if (check_namespace(c, word->line, word->column, name) < 0 ||
        make_slot(c, word->line, word->column, arena_lower(c->work, name), &slot) < 0)
        return -1;
    slot->is_set = slot->is_set || is_set;
    *out = (unsigned)(slot - c->variables);
    return 0;
}

/* From here on the name without namespace means the global one (RFC 6609, 3.4.1). */
int sieve_make_global(struct sieve_compiler *c, const struct sieve_word *word, struct str name)
{
    struct str key = arena_lower(c->work, name);
    struct sieve_slot *local, *global;

    if (!is_identifier(name))
        return sieve_fail_word(c, word,
                               "\"%s\" is no name of a variable: use letters, digits and "
                               "underscores, and no digit first",
                               sieve_shown(c->report, name));
    local = find_slot(c, key);
    if (local != NULL && local->is_set && !local->variable.is_global)
        return sieve_fail_word(
            c, word, "the variable \"%s\" was set before it became global: put \"global\" first",
            sieve_shown(c->report, name));
    if (make_slot(c, word->line, word->column, arena_printf(c->work, "global.%.*s", STR_ARG(key)),
                  &global) < 0)
        return -1;
    map_put(c->slots, key, (void *)(uintptr_t)(global - c->variables + 1));
    return 0;
}

/* --- strings -------------------------------------------------------------------------------------- */

static int make_one(struct sieve_compiler *c, const struct sieve_literal *literal,
                    struct sieve_string *out)
{
    *out = (struct sieve_string){.text = literal->text, .line = literal->line};
    if (out->text.p == NULL)
        out->text = STR("");
    if (sieve_has(c, SIEVE_EXT(ENCODED_CHARACTER)) && decode_characters(c, literal, &out->text) < 0)
        return -1;
    return sieve_has(c, SIEVE_EXT(VARIABLES)) ? split(c, literal, out) : 0;
}

int sieve_make_string(struct sieve_compiler *c, const struct sieve_word *word,
                      struct sieve_string *out)
{
    if (word != NULL)
        return make_one(c, word->strings, out);
    *out = (struct sieve_string){.text = STR_NULL};
    return 0;
}

int sieve_make_strings(struct sieve_compiler *c, const struct sieve_word *word,
                       struct sieve_strings *out)
{
    struct sieve_string *v;

    *out = (struct sieve_strings){.is_constant = true};
    if (word == NULL)
        return 0;
    out->v = v = ARENA_ARRAY(c->out, word->strings_count, struct sieve_string);
    for (const struct sieve_literal *literal = word->strings; literal != NULL;
         literal = literal->next) {
        if (make_one(c, literal, &v[out->n]) < 0)
            return -1;
        out->is_constant = out->is_constant && sieve_string_is_constant(&v[out->n]);
        out->n++;
    }
    return 0;
}

int sieve_make_constant(struct sieve_compiler *c, const struct sieve_word *word, struct str *out)
{
    struct sieve_string string;

    if (sieve_make_string(c, word, &string) < 0)
        return -1;
    if (!sieve_string_is_constant(&string))
        return sieve_fail_word(c, word, "this string must not have variables: write it out");
    *out = string.text;
    return 0;
}

void sieve_lower_string(struct sieve_compiler *c, struct sieve_string *string)
{
    if (sieve_string_is_constant(string) && string->text.n > 0)
        string->text = arena_lower(c->out, string->text);
}

/* --- checks --------------------------------------------------------------------------------------- */

int sieve_check_string(struct sieve_compiler *c, const struct sieve_word *word,
                       const struct sieve_string *string, bool (*is_valid)(struct str),
                       const char *wanted)
{
    if (word == NULL || !sieve_string_is_constant(string) || is_valid(string->text))
        return 0;
    return sieve_fail_word(c, word, "\"%s\" is not %s", sieve_shown(c->report, string->text),
                           wanted);
}

int sieve_check_strings(struct sieve_compiler *c, const struct sieve_word *word,
                        const struct sieve_strings *strings, bool (*is_valid)(struct str),
                        const char *wanted)
{
    const struct sieve_literal *literal = word ? word->strings : NULL;

    for (unsigned i = 0; literal != NULL; literal = literal->next, i++)
        if (sieve_string_is_constant(&strings->v[i]) && !is_valid(strings->v[i].text))
            return sieve_fail(c->report, literal->line, literal->column, "\"%s\" is not %s",
                              sieve_shown(c->report, strings->v[i].text), wanted);
    return 0;
}

/* --- header names --------------------------------------------------------------------------------- */

static int number_of_name(struct sieve_compiler *c, struct str name)
{
    uintptr_t number = (uintptr_t)map_get(c->names, name);

    if (number != 0)
        return (int)(number - 1);
    if (c->names_count == c->names_max) {
        struct str *more = ARENA_ARRAY(c->work, c->names_max = c->names_max * 2 + 16, struct str);

        if (c->names_count > 0)
            memcpy(more, c->name_texts, c->names_count * sizeof *more);
        c->name_texts = more;
    }
    c->name_texts[c->names_count++] = name;
    map_put(c->names, name, (void *)(uintptr_t)c->names_count);
    return (int)c->names_count - 1;
}

static int make_one_name(struct sieve_compiler *c, const struct sieve_literal *literal,
                         struct sieve_name *out)
{
    if (make_one(c, literal, &out->string) < 0)
        return -1;
    sieve_lower_string(c, &out->string);
    out->id = sieve_string_is_constant(&out->string) ? number_of_name(c, out->string.text) : -1;
    return 0;
}

int sieve_make_name(struct sieve_compiler *c, const struct sieve_word *word, struct sieve_name *out)
{
    return make_one_name(c, word->strings, out);
}

int sieve_make_names(struct sieve_compiler *c, const struct sieve_word *word,
                     struct sieve_names *out)
{
    struct sieve_name *v = ARENA_ARRAY(c->out, word->strings_count, struct sieve_name);

    *out = (struct sieve_names){.v = v};
    for (const struct sieve_literal *literal = word->strings; literal != NULL;
         literal = literal->next)
        if (make_one_name(c, literal, &v[out->n++]) < 0)
            return -1;
    return 0;
}

/* --- matching ------------------------------------------------------------------------------------- */

static int read_comparator(struct sieve_compiler *c, enum sieve_comparator *out)
{
    static const struct {
        struct str name;
        uint64_t needs;
    } rows[] = {
        [SIEVE_ASCII_CASEMAP] = {STR("i;ascii-casemap"), 0},
        [SIEVE_OCTET] = {STR("i;octet"), 0},
        [SIEVE_ASCII_NUMERIC] = {STR("i;ascii-numeric"), SIEVE_EXT(ASCII_NUMERIC)},
        [SIEVE_UNICODE_CASEMAP] = {STR("i;unicode-casemap"), SIEVE_EXT(UNICODE_CASEMAP)},
    };
    const struct sieve_word *word = c->args.values[SIEVE_TAG_COMPARATOR];
    struct str name;

    *out = SIEVE_ASCII_CASEMAP;
    if (word == NULL)
        return 0;
    if (sieve_make_constant(c, word, &name) < 0)
        return -1;
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        if (str_eq(name, rows[i].name)) {
            *out = i;
            return sieve_use(c, word->line, word->column, rows[i].name.p, rows[i].needs);
        }
    c->is_unknown = true;
    return sieve_fail_word(c, word,
                           "there is no comparator \"%s\" here: use i;ascii-casemap, i;octet, "
                           "i;ascii-numeric or i;unicode-casemap",
                           sieve_shown(c->report, name));
}

static enum sieve_match_type match_type(const struct sieve_compiler *c)
{
    static const enum sieve_tag tags[] = {
        [SIEVE_IS] = SIEVE_TAG_IS,           [SIEVE_CONTAINS] = SIEVE_TAG_CONTAINS,
        [SIEVE_MATCHES] = SIEVE_TAG_MATCHES, [SIEVE_REGEX] = SIEVE_TAG_REGEX,
        [SIEVE_VALUE] = SIEVE_TAG_VALUE,     [SIEVE_COUNT_OF] = SIEVE_TAG_COUNT,
        [SIEVE_LIST] = SIEVE_TAG_LIST,
    };

    for (unsigned i = 0; i < sizeof tags / sizeof *tags; i++)
        if (c->args.tags[tags[i]] != NULL)
            return i;
    return SIEVE_IS;
}

static int read_relation(struct sieve_compiler *c, enum sieve_relation *out)
{
    static const char *const names[] = {[SIEVE_GT] = "gt", [SIEVE_GE] = "ge", [SIEVE_LT] = "lt",
                                        [SIEVE_LE] = "le", [SIEVE_EQ] = "eq", [SIEVE_NE] = "ne"};
    const struct sieve_word *word = c->args.values[SIEVE_TAG_VALUE]
                                        ? c->args.values[SIEVE_TAG_VALUE]
                                        : c->args.values[SIEVE_TAG_COUNT];
    struct str name;

    *out = SIEVE_EQ;
    if (word == NULL)
        return 0;
    if (sieve_make_constant(c, word, &name) < 0)
        return -1;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (str_ieq(name, str_c(names[i]))) {
            *out = i;
            return 0;
        }
    return sieve_fail_word(c, word, "\"%s\" is no relation: use gt, ge, lt, le, eq or ne",
                           sieve_shown(c->report, name));
}

static int read_how(struct sieve_compiler *c, struct sieve_match_how *how)
{
    how->type = match_type(c);
    if (read_comparator(c, &how->comparator) < 0 || read_relation(c, &how->relation) < 0)
        return -1;
    if (how->comparator == SIEVE_ASCII_NUMERIC &&
        (how->type == SIEVE_CONTAINS || how->type == SIEVE_MATCHES || how->type == SIEVE_REGEX))
        return sieve_fail_word(
            c, c->args.values[SIEVE_TAG_COMPARATOR],
            "i;ascii-numeric compares whole numbers: use it with :is, :value or :count");
    return 0;
}

static int prepare_key(struct sieve_compiler *c, const struct sieve_literal *literal,
                       struct sieve_match_how how, struct sieve_key_slot *slot)
{
    struct str why;

    if (how.type == SIEVE_REGEX && ++c->regexes_count > SIEVE_REGEXES_MAX)
        return sieve_fail(c->report, literal->line, literal->column,
                          "the script has more than %d regular expressions: use fewer",
                          SIEVE_REGEXES_MAX);
    if (!sieve_string_is_constant(&slot->string))
        return 0;
    if (sieve_key_prepare(c->out, how, slot->string.text, &slot->key, &why) < 0)
        return sieve_fail(c->report, literal->line, literal->column, "%.*s", STR_ARG(why));
    if (how.type == SIEVE_REGEX && arena_size(c->out) > c->size_max)
        return fail_literal(c, literal,
                            "the regular expressions of the script are too big together: use "
                            "smaller numbers in their braces");
    return 0;
}

int sieve_make_match(struct sieve_compiler *c, const struct sieve_word *keys,
                     struct sieve_match *out)
{
    const struct sieve_literal *literal = keys ? keys->strings : NULL;
    struct sieve_key_slot *v;

    if (read_how(c, &out->how) < 0)
        return -1;
    out->keys = v = ARENA_ARRAY(c->out, keys ? keys->strings_count : 1, struct sieve_key_slot);
    for (; literal != NULL; literal = literal->next, out->keys_count++)
        if (make_one(c, literal, &v[out->keys_count].string) < 0 ||
            prepare_key(c, literal, out->how, &v[out->keys_count]) < 0)
            return -1;
    return 0;
}
