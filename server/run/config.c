/* config.c - the table of settings, the parser of files, and the printers.
 *
 * inih splits a file into names and values; what a value may hold, its comments and its quotes are
 * judged here, line by line, so that one run shows every mistake. Nothing here knows what a
 * setting is for, except the short list of texts that can be checked before the server starts. */
#include "server/run/config.h"
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include "server/base/log.h"
#include "server/base/memory.h"
#include "server/base/net.h"
#include "server/base/utf8.h"

#define LINE_SIZE_MAX 16384 /* dns_override may be long */

enum option_type { TYPE_TEXT, TYPE_PATH, TYPE_BOOL, TYPE_COUNT, TYPE_BYTES, TYPE_DURATION };

static const struct option {
    const char *name; /* NULL: a section, titled by `meaning` */
    enum option_type type;
    size_t offset;
    const char *default_text, *min, *max;
    const char *meaning;
} options[] = {
#define SECTION(title) {.meaning = title},
#define OPTION(name, type, default_text, min, max, meaning)                                        \
    {#name, TYPE_##type, offsetof(struct config, name), default_text, min, max, meaning},
#include "server/run/config.def"
#undef OPTION
#undef SECTION
};

#define OPTION_COUNT (sizeof options / sizeof options[0])
#define OPTION_EACH(o)                                                                             \
    for (const struct option *o = options; o < options + OPTION_COUNT; o++)                        \
        if (o->name != NULL)

static const char *const type_names[] = {
    [TYPE_TEXT] = "text",   [TYPE_PATH] = "path",   [TYPE_BOOL] = "yes or no",
    [TYPE_COUNT] = "count", [TYPE_BYTES] = "bytes", [TYPE_DURATION] = "duration",
};

struct config config;

/* What config_fini() may free: a test may have pointed the struct's own members at literals. */
static char *owned_texts[OPTION_COUNT];

static void *member(const struct option *o)
{
    return (char *)&config + o->offset;
}

static bool is_text(const struct option *o)
{
    return o->type == TYPE_TEXT || o->type == TYPE_PATH;
}

static const struct option *find_option(struct str name)
{
    OPTION_EACH (o)
        if (str_eq(str_c(o->name), name))
            return o;
    return NULL;
}

/* --- numbers with units ----------------------------------------------------------------------- */

static const struct unit {
    const char *suffix;
    int64_t factor;
} byte_units[] = {{"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1LL << 40}, {0}},
  duration_units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {0}},
  count_units[] = {{"", 1}, {0}};

static const struct unit *units_of(const struct option *o)
{
    switch (o->type) {
    case TYPE_BYTES:
        return byte_units;
    case TYPE_DURATION:
        return duration_units;
    default:
        return count_units;
    }
}

static bool parse_number(struct str text, const struct unit *unit, int64_t *out)
{
    struct str digits = text, suffix;
    uint64_t number;

    while (digits.n > 0 && (digits.p[digits.n - 1] < '0' || digits.p[digits.n - 1] > '9'))
        digits.n--;
    suffix = str_trim(str_from(text, digits.n));
    if (!str_to_u64(digits, &number) || number > INT64_MAX)
        return false;
    while (unit->suffix != NULL && !str_ieq(suffix, str_c(unit->suffix)))
        unit++;
    if (unit->suffix == NULL && (number != 0 || suffix.n != 0))
        return false; /* a bare 0 needs no unit */
    return !__builtin_mul_overflow((int64_t)number, unit->suffix != NULL ? unit->factor : 1, out);
}

bool config_parse_duration(struct str text, int64_t *ms)
{
    return parse_number(text, duration_units, ms);
}

/* In the largest unit that divides it. */
static void print_number(FILE *to, const struct unit *units, int64_t value)
{
    const struct unit *best = units;

    for (const struct unit *u = units; u->suffix != NULL; u++)
        if (value != 0 && value % u->factor == 0)
            best = u;
    fprintf(to, "%lld%s", (long long)(value / best->factor), best->suffix);
}

/* --- setting one ------------------------------------------------------------------------------ */

static int fail_format(const struct option *o, struct str value, struct error *err)
{
    static const char *const mends[] = {
        [TYPE_BOOL] = "yes or no",
        [TYPE_COUNT] = "a whole number",
        [TYPE_BYTES] = "a size such as 512, 64K, 50M or 2G",
        [TYPE_DURATION] = "a duration such as 500ms, 30s, 10m, 4h or 7d",
    };

    return fail(err, ERR_SYNTAX, "%s cannot be \"%.*s\": write %s", o->name,
                (int)(value.n < 60 ? value.n : 60), value.p, mends[o->type]);
}

static int fail_range(const struct option *o, struct str value, struct error *err)
{
    if (o->min == NULL)
        return fail(err, ERR_SYNTAX, "%s is %.*s: write at most %s", o->name, STR_ARG(value),
                    o->max);
    if (o->max == NULL)
        return fail(err, ERR_SYNTAX, "%s is %.*s: write at least %s", o->name, STR_ARG(value),
                    o->min);
    return fail(err, ERR_SYNTAX, "%s is %.*s: write %s to %s", o->name, STR_ARG(value), o->min,
                o->max);
}

static bool in_range(const struct option *o, int64_t number)
{
    int64_t limit;

    if (o->min != NULL && parse_number(str_c(o->min), units_of(o), &limit) && number < limit)
        return false;
    return o->max == NULL || !parse_number(str_c(o->max), units_of(o), &limit) || number <= limit;
}

static int set_number(const struct option *o, struct str value, struct error *err)
{
    int64_t number;

    if (!parse_number(value, units_of(o), &number))
        return fail_format(o, value, err);
    if (!in_range(o, number))
        return fail_range(o, value, err);
    *(int64_t *)member(o) = number;
    return 0;
}

static int set_bool(const struct option *o, struct str value, struct error *err)
{
    if (!str_ieq(value, STR("yes")) && !str_ieq(value, STR("no")))
        return fail_format(o, value, err);
    *(bool *)member(o) = str_ieq(value, STR("yes"));
    return 0;
}

static bool is_log_level(struct str value)
{
    enum log_level level;

    return log_parse_level(value, &level);
}

static bool is_at_most_one_character(struct str value)
{
    return value.n <= 1;
}

static bool is_networks(struct str value)
{
    return net_list_valid(value, NULL);
}

/* Texts of which we know now that they cannot work; listeners are parsed later. */
static const struct text_check {
    size_t offset;
    bool (*holds)(struct str value);
    const char *mend;
} text_checks[] = {
    {offsetof(struct config, log_level), is_log_level, "debug, info, warn or error"},
    {offsetof(struct config, recipient_delimiter), is_at_most_one_character,
     "one character, or nothing"},
    {offsetof(struct config, smtp_xclient_networks), is_networks,
     "networks such as \"192.0.2.0/24, ::1\""},
    {offsetof(struct config, smtp_trusted_networks), is_networks,
     "networks such as \"192.0.2.0/24, ::1\""},
};

static int check_text(const struct option *o, struct str value, struct error *err)
{
    for (size_t i = 0; i < value.n; i++)
        if ((unsigned char)value.p[i] < ' ' || value.p[i] == 0x7f)
            return fail(err, ERR_SYNTAX, "%s holds a control character: write it without", o->name);
    if (!utf8_valid(value))
        return fail(err, ERR_SYNTAX, "%s is not UTF-8: write the file in UTF-8", o->name);
    for (size_t i = 0; i < sizeof text_checks / sizeof text_checks[0]; i++)
        if (text_checks[i].offset == o->offset && !text_checks[i].holds(value))
            return fail(err, ERR_SYNTAX, "%s cannot be \"%.*s\": write %s", o->name,
                        (int)(value.n < 60 ? value.n : 60), value.p, text_checks[i].mend);
    return 0;
}

static int set_text(const struct option *o, struct str value, struct error *err)
{
    char **owned = &owned_texts[o - options];

    if (check_text(o, value, err) < 0)
        return -1;
    free(*owned);
    *owned = memory_copy_str(value);
    *(const char **)member(o) = *owned;
    return 0;
}

static int set_option(const struct option *o, struct str value, struct error *err)
{
    if (is_text(o))
        return set_text(o, value, err);
    return o->type == TYPE_BOOL ? set_bool(o, value, err) : set_number(o, value, err);
}

void config_defaults(void)
{
    OPTION_EACH (o) {
        struct error err = {0};

        if (set_option(o, str_c(o->default_text), &err) < 0) {
            fprintf(stderr, "config.def: %s\n", err.text);
            abort();
        }
    }
}

void config_fini(void)
{
    OPTION_EACH (o) {
        if (!is_text(o))
            continue;
        free(owned_texts[o - options]);
        owned_texts[o - options] = NULL;
        *(const char **)member(o) = NULL;
    }
}

/* --- unknown names ---------------------------------------------------------------------------- */

/* How many pairs of neighbouring letters two names share, in per cent of all (Dice): it forgives
 * both a slip of the finger and words in another order. */
static unsigned likeness(struct str a, struct str b)
{
    unsigned shared = 0;

    if (a.n < 2 || b.n < 2)
        return 0;
    for (size_t i = 0; i + 1 < a.n; i++) {
        struct str pair = str_of(a.p + i, 2);

        if (str_ifind(a, pair) == (ptrdiff_t)i && str_ifind(b, pair) >= 0)
            shared++;
    }
    return (unsigned)(200 * shared / (a.n + b.n - 2));
}

static int fail_unknown(struct str name, struct error *err)
{
    const struct option *nearest = NULL;
    unsigned best = 44; /* less alike is a guess, not help */

    name = str_head(name, 60);
    OPTION_EACH (o) {
        unsigned score = likeness(name, str_c(o->name));

        if (score > best) {
            best = score;
            nearest = o;
        }
    }
    if (nearest == NULL)
        return fail(err, ERR_NOT_FOUND,
                    "there is no setting \"%.*s\": `merpati config print` lists all",
                    STR_ARG(name));
    return fail(err, ERR_NOT_FOUND, "there is no setting \"%.*s\": did you mean %s?", STR_ARG(name),
                nearest->name);
}

int config_set(struct str name, struct str value, struct error *err)
{
    const struct option *o = find_option(name);

    return o == NULL ? fail_unknown(name, err) : set_option(o, value, err);
}

/* --- files ------------------------------------------------------------------------------------ */

struct reading {
    FILE *file;
    const char *path;
    struct buf *errors;
    char *line; /* getline's */
    size_t line_cap;
    unsigned line_number;
    unsigned set_in_line[OPTION_COUNT]; /* 0: not in this file */
    bool failed;
};

static void report(struct reading *r, const char *text)
{
    buf_addf(r->errors, "%s:%u: %s\n", r->path, r->line_number, text);
    r->failed = true;
}

/* What inih would misread in silence. */
static const char *line_fault(struct str line)
{
    if (str_index(line, '\0') >= 0)
        return "the line holds a NUL byte: write the file as plain text";
    if (line.n > LINE_SIZE_MAX - 3)
        return "the line is longer than 16 KB: write it shorter";
    line = str_trim(line);
    if (str_starts(line, STR("[")) && str_index(line, ']') < 0)
        return "a section is not closed: write [name]";
    return NULL;
}

/* inih's fgets. It knows no line numbers, so they are counted here. */
static char *read_line(char *to, int size, void *stream)
{
    struct reading *r = stream;
    ssize_t n = getline(&r->line, &r->line_cap, r->file);
    struct str line = str_of(r->line, n < 0 ? 0 : (size_t)n);
    const char *fault;

    if (n < 0)
        return NULL;
    r->line_number++;
    fault = line_fault(line);
    if (fault != NULL) {
        report(r, fault);
        line = STR("\n");
    }
    line = str_head(line, (size_t)size - 1);
    memcpy(to, line.p, line.n);
    to[line.n] = '\0';
    return to;
}

static bool begins_comment(struct str rest)
{
    return rest.n > 0 && (rest.p[0] == '#' || rest.p[0] == ';');
}

/* "value  # why" -> "value" */
static struct str cut_comment(struct str text)
{
    if (begins_comment(text))
        return str_head(text, 0);
    for (size_t i = 1; i < text.n; i++)
        if ((text.p[i - 1] == ' ' || text.p[i - 1] == '\t') && begins_comment(str_from(text, i)))
            return str_trim(str_head(text, i));
    return text;
}

/* text begins with a quote. False when it is not closed or something follows but a comment. */
static bool unquote(struct str text, struct buf *value)
{
    size_t i = 1;

    for (; i < text.n && text.p[i] != '"'; i++) {
        if (text.p[i] == '\\' && i + 1 < text.n)
            i++;
        buf_addc(value, text.p[i]);
    }
    if (i >= text.n)
        return false;
    text = str_trim(str_from(text, i + 1));
    return text.n == 0 || begins_comment(text);
}

static int read_value(const struct option *o, struct str text, struct error *err)
{
    struct buf unquoted;
    int result;

    text = str_trim(text);
    if (!str_starts(text, STR("\"")))
        return set_option(o, cut_comment(text), err);
    buf_init(&unquoted, LINE_SIZE_MAX);
    if (unquote(text, &unquoted))
        result = set_option(o, buf_str(&unquoted), err);
    else
        result =
            fail(err, ERR_SYNTAX,
                 "%s is not quoted well: write \"text\", with \\\" for a quote inside", o->name);
    buf_fini(&unquoted);
    return result;
}

static int read_setting(struct reading *r, struct str name, const char *value, struct error *err)
{
    const struct option *o = find_option(name);
    unsigned *seen;

    if (o == NULL)
        return fail_unknown(name, err);
    if (value == NULL)
        return fail(err, ERR_SYNTAX, "%s has no value: write %s = value", o->name, o->name);
    seen = &r->set_in_line[o - options];
    if (*seen != 0)
        return fail(err, ERR_EXISTS, "%s is set already in line %u: remove one of the two", o->name,
                    *seen);
    *seen = r->line_number;
    return read_value(o, str_c(value), err);
}

/* inih's handler; returns nonzero to go on. */
static int on_setting(void *user, const char *section, const char *name, const char *value)
{
    struct reading *r = user;
    struct error err = {0};
    struct str trimmed = str_trim(str_c(name));

    (void)section;
    if (trimmed.n == 0 && value != NULL)
        report(r, "the name is missing: write name = value");
    else if (read_setting(r, trimmed, value, &err) < 0)
        report(r, err.text);
    return 1;
}

/* Debian's inih takes its options from variables. Comments and continued lines are ours to judge:
 * inih would cut a quoted value at " ;" and take an indented line for more of the last value. */
static void set_up_inih(void)
{
    ini_use_stack = false;
    ini_max_line = LINE_SIZE_MAX;
    ini_initial_alloc = LINE_SIZE_MAX;
    ini_allow_inline_comments = false;
    ini_allow_multiline = false;
    ini_allow_no_value = true;
}

/* What only the whole file can show. */
static void check_together(struct reading *r)
{
    bool has_cert = !str_empty(str_c(config.tls_cert)), has_key = !str_empty(str_c(config.tls_key));

    if (has_cert == has_key)
        return;
    buf_addf(r->errors, "%s: %s is set without %s: set both or none\n", r->path,
             has_cert ? "tls_cert" : "tls_key", has_cert ? "tls_key" : "tls_cert");
    r->failed = true;
}

int config_read(const char *path, struct buf *errors)
{
    struct reading r = {.path = path, .errors = errors, .file = fopen(path, "re")};

    if (r.file == NULL) {
        buf_addf(errors, "%s: cannot be read: %s\n", path, strerror(errno));
        return -1;
    }
    set_up_inih();
    if (ini_parse_stream(read_line, &r, on_setting, &r) == -2)
        memory_exhausted("config_read", LINE_SIZE_MAX);
    if (ferror(r.file)) {
        buf_addf(errors, "%s: cannot be read: %s\n", path, strerror(errno));
        r.failed = true;
    }
    if (!r.failed)
        check_together(&r);
    free(r.line);
    fclose(r.file);
    return r.failed ? -1 : 0;
}

/* --- printing --------------------------------------------------------------------------------- */

static bool needs_quotes(struct str text)
{
    return str_trim(text).n != text.n || cut_comment(text).n != text.n ||
           str_starts(text, STR("\""));
}

static void print_escaped(FILE *to, const char *text)
{
    fputc('"', to);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', to);
        fputc(*text, to);
    }
    fputc('"', to);
}

static const char *text_of(const struct option *o)
{
    const char *text = *(const char **)member(o);

    return text != NULL ? text : "";
}

static void print_value(FILE *to, const struct option *o)
{
    if (o->type == TYPE_BOOL)
        fputs(*(bool *)member(o) ? "yes" : "no", to);
    else if (!is_text(o))
        print_number(to, units_of(o), *(int64_t *)member(o));
    else if (needs_quotes(str_c(text_of(o))))
        print_escaped(to, text_of(o));
    else
        fputs(text_of(o), to);
}

static void print_range(FILE *to, const struct option *o)
{
    if (o->min != NULL && o->max != NULL)
        fprintf(to, "%s to %s", o->min, o->max);
    else if (o->min != NULL)
        fprintf(to, "at least %s", o->min);
    else if (o->max != NULL)
        fprintf(to, "at most %s", o->max);
}

static void print_meaning(FILE *to, const struct option *o)
{
    fprintf(to, "\n# %s\n# %s, default %s", o->meaning, type_names[o->type],
            *o->default_text != '\0' ? o->default_text : "empty");
    if (o->min != NULL || o->max != NULL) {
        fputs(", ", to);
        print_range(to, o);
    }
    fputc('\n', to);
}

void config_print(FILE *to, bool with_meanings)
{
    for (const struct option *o = options; o < options + OPTION_COUNT; o++) {
        if (o->name == NULL) {
            if (with_meanings)
                fprintf(to, "%s### %s\n", o == options ? "" : "\n", o->meaning);
            continue;
        }
        if (with_meanings)
            print_meaning(to, o);
        fprintf(to, "%s = ", o->name);
        print_value(to, o);
        fputc('\n', to);
    }
}

void config_print_json(FILE *to)
{
    const char *separator = "{";

    OPTION_EACH (o) {
        fprintf(to, "%s\n  \"%s\": ", separator, o->name);
        if (o->type == TYPE_BOOL)
            fputs(*(bool *)member(o) ? "true" : "false", to);
        else if (is_text(o))
            print_escaped(to, text_of(o)); /* holds no control characters */
        else
            fprintf(to, "%lld", (long long)*(int64_t *)member(o));
        separator = ",";
    }
    fputs("\n}\n", to);
}

/* A bar would end the cell. */
static void print_cell(FILE *to, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|')
            fputc('\\', to);
        fputc(*text, to);
    }
}

/* "Listeners: how to write them" -> a heading and a sentence */
static void print_docs_section(FILE *to, const char *title)
{
    struct str heading, rest;

    str_cut(str_c(title), ':', &heading, &rest);
    rest = str_trim(rest);
    fprintf(to, "\n## %.*s\n\n", STR_ARG(heading));
    if (rest.n > 0)
        fprintf(to, "%c%.*s.\n\n", ascii_upper(rest.p[0]), STR_ARG(str_from(rest, 1)));
    fputs("| Name | Type | Default | Range | Meaning |\n|---|---|---|---|---|\n", to);
}

static void print_docs_row(FILE *to, const struct option *o)
{
    fprintf(to, "| `%s` | %s | ", o->name, type_names[o->type]);
    if (*o->default_text != '\0')
        fprintf(to, "`%s`", o->default_text);
    fputs(" | ", to);
    print_range(to, o);
    fputs(" | ", to);
    print_cell(to, o->meaning);
    fputs(" |\n", to);
}

static const char docs_head[] =
    "# Settings\n"
    "\n"
    "This page is made by `merpati config docs`. Every setting has a default, so the file may be\n"
    "empty or missing. `merpati config print` shows the values in force, as a file to be read "
    "back.\n"
    "\n"
    "A file holds lines `name = value`. `#` and `;` begin a comment, behind a value only after\n"
    "a space. `[section]` lines may order the file and mean nothing. A value with spaces at its\n"
    "ends or with ` #` inside stands in double quotes, with `\\\"` and `\\\\` inside. A setting\n"
    "stands once in a file. All mistakes are reported at once, each with its line and its mend.\n"
    "\n"
    "| Type | How to write it |\n"
    "|---|---|\n"
    "| text | anything on one line |\n"
    "| path | a file or folder |\n"
    "| yes or no | `yes` or `no` |\n"
    "| count | a whole number |\n"
    "| bytes | `512`, `64K`, `50M`, `2G`, `1T` (powers of 1024) |\n"
    "| duration | `500ms`, `30s`, `10m`, `4h`, `7d` |\n";

void config_print_docs(FILE *to)
{
    fputs(docs_head, to);
    for (const struct option *o = options; o < options + OPTION_COUNT; o++) {
        if (o->name == NULL)
            print_docs_section(to, o->meaning);
        else
            print_docs_row(to, o);
    }
}
