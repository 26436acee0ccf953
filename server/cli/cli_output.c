/* cli_output.c - keeps the values of the whole answer, then prints them in one of two ways. */
#include <assert.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <utf8proc.h>

#include "server/base/buf.h"
#include "server/base/date.h"
#include "server/base/utf8.h"
#include "server/cli/cli_output.h"

#define COLUMNS_MAX 24
#define GAP         2

struct cell {
    enum { CELL_NULL, CELL_TEXT, CELL_NUMBER, CELL_FLAG, CELL_TEXTS } type; /* in JSON */
    struct str text;                                                        /* for people */
    int64_t number;
    const struct str *texts;
    size_t text_count;
};

struct row {
    struct row *next;
    struct cell cells[COLUMNS_MAX];
};

struct cli_output {
    struct arena *arena;
    bool is_json;
    const char *names[COLUMNS_MAX];
    size_t column_count, at;
    struct row *first, *last;
    size_t widths[COLUMNS_MAX]; /* of what was printed so far */
    bool has_begun;
};

struct cli_output *cli_output_new(struct arena *a, bool is_json)
{
    struct cli_output *out = ARENA_NEW(a, struct cli_output);

    out->arena = a;
    out->is_json = is_json;
    return out;
}

void cli_row(struct cli_output *out)
{
    struct row *row = ARENA_NEW(out->arena, struct row);

    if (out->last == NULL)
        out->first = row;
    else
        out->last->next = row;
    out->last = row;
    out->at = 0;
}

static void add(struct cli_output *out, const char *name, struct cell cell)
{
    assert(out->last != NULL);
    assert(out->at < COLUMNS_MAX);
    out->names[out->at] = name;
    out->last->cells[out->at++] = cell;
    if (out->at > out->column_count)
        out->column_count = out->at;
}

void cli_text(struct cli_output *out, const char *name, struct str value)
{
    add(out, name, (struct cell){.type = CELL_TEXT, .text = arena_str(out->arena, value)});
}

void cli_number(struct cli_output *out, const char *name, int64_t value)
{
    add(out, name,
        (struct cell){.type = CELL_NUMBER,
                      .number = value,
                      .text = arena_printf(out->arena, "%lld", (long long)value)});
}

static struct str bytes_text(struct arena *a, int64_t value)
{
    static const char units[] = "KMGTPE";
    double scaled = (double)value;
    int unit = -1;

    if (value < 1024)
        return arena_printf(a, "%lld", (long long)value);
    for (; scaled >= 1024 && units[unit + 1] != '\0'; unit++)
        scaled /= 1024;
    return arena_printf(a, scaled < 10 && scaled != (int)scaled ? "%.1f%c" : "%.0f%c", scaled,
                        units[unit]);
}

void cli_bytes(struct cli_output *out, const char *name, int64_t value)
{
    add(out, name,
        (struct cell){.type = CELL_NUMBER, .number = value, .text = bytes_text(out->arena, value)});
}

void cli_limit(struct cli_output *out, const char *name, int64_t value, bool is_bytes)
{
    if (value == 0)
        add(out, name, (struct cell){.type = CELL_NULL, .text = STR("none")});
    else if (is_bytes)
        cli_bytes(out, name, value);
    else
        cli_number(out, name, value);
}

void cli_flag(struct cli_output *out, const char *name, bool value)
{
    add(out, name,
        (struct cell){.type = CELL_FLAG, .number = value, .text = value ? STR("yes") : STR("no")});
}

void cli_time(struct cli_output *out, const char *name, int64_t unix_us)
{
    struct buf text;

    if (unix_us == 0) {
        add(out, name, (struct cell){.type = CELL_NULL, .text = STR("never")});
        return;
    }
    buf_init(&text, 64);
    date_add_rfc3339(&text, unix_us);
    cli_text(out, name, buf_str(&text));
    buf_fini(&text);
}

void cli_texts(struct cli_output *out, const char *name, const struct str *values, size_t count)
{
    struct buf joined;

    buf_init(&joined, SIZE_MAX);
    for (size_t i = 0; i < count; i++)
        buf_addf(&joined, "%s%.*s", i > 0 ? ", " : "", STR_ARG(values[i]));
    add(out, name,
        (struct cell){.type = CELL_TEXTS,
                      .text = arena_str(out->arena, buf_str(&joined)),
                      .texts = values,
                      .text_count = count});
    buf_fini(&joined);
}

/* --- printing -------------------------------------------------------------------------------------- */

static size_t width_of(struct str text)
{
    uint32_t code_point;
    size_t width = 0;

    while (utf8_next(&text, &code_point)) {
        int w = utf8proc_charwidth((utf8proc_int32_t)code_point);
        width += w > 0 ? (size_t)w : 0;
    }
    return width;
}

/* Control characters, of which U+0080 to U+009F have some too (U+009B begins what ESC [ does), and those that turn the direction
 * of what follows (UAX #9). */
static bool moves_cursor(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

struct str cli_safe_text(struct arena *a, struct str text)
{
    struct buf safe;
    struct str out;
    uint32_t c;

    buf_init(&safe, 3 * text.n + 1);
    while (utf8_next(&text, &c))
        utf8_add(&safe, moves_cursor(c) ? '?' : c);
    out = arena_str(a, buf_str(&safe));
    buf_fini(&safe);
    return out;
}

/* Names come from people, and reports from anybody. */
static void print_safely(const struct cli_output *out, struct str text)
{
    text = cli_safe_text(out->arena, text);
    fwrite(text.p, 1, text.n, stdout);
}

static void print_spaces(size_t count)
{
    while (count-- > 0)
        putchar(' ');
}

static void print_cell(const struct cli_output *out, size_t column, struct str text, size_t width)
{
    bool is_right = out->first != NULL && out->first->cells[column].type == CELL_NUMBER;
    bool is_last = column + 1 == out->column_count;
    size_t space = width - width_of(text);

    if (is_right)
        print_spaces(space);
    print_safely(out, text);
    if (!is_last)
        print_spaces(GAP + (is_right ? 0 : space));
}

static void print_table(struct cli_output *out)
{
    size_t *widths = out->widths;

    if (out->first == NULL)
        return;
    for (size_t i = 0; i < out->column_count; i++) {
        if (!out->has_begun)
            widths[i] = width_of(str_c(out->names[i]));
        for (const struct row *row = out->first; row != NULL; row = row->next)
            if (width_of(row->cells[i].text) > widths[i])
                widths[i] = width_of(row->cells[i].text);
    }
    for (size_t i = 0; i < out->column_count && !out->has_begun; i++)
        print_cell(out, i, str_c(out->names[i]), widths[i]);
    if (!out->has_begun)
        putchar('\n');
    for (const struct row *row = out->first; row != NULL; row = row->next) {
        for (size_t i = 0; i < out->column_count; i++)
            print_cell(out, i, row->cells[i].text, widths[i]);
        putchar('\n');
    }
}

static json_t *json_text(struct str s)
{
    json_t *value = json_stringn(s.p != NULL ? s.p : "", s.n);

    return value != NULL ? value : json_null(); /* not UTF-8: such a thing is not in the database */
}

static json_t *json_cell(const struct cell *cell)
{
    json_t *array;

    switch (cell->type) {
    case CELL_TEXT:
        return json_text(cell->text);
    case CELL_NUMBER:
        return json_integer(cell->number);
    case CELL_FLAG:
        return json_boolean(cell->number);
    case CELL_TEXTS:
        array = json_array();
        for (size_t i = 0; i < cell->text_count; i++)
            json_array_append_new(array, json_text(cell->texts[i]));
        return array;
    case CELL_NULL:
        break;
    }
    return json_null();
}

static json_t *json_row(const struct cli_output *out, const struct row *row)
{
    json_t *object = json_object();

    for (size_t i = 0; i < out->column_count; i++)
        json_object_set_new(object, out->names[i], json_cell(&row->cells[i]));
    return object;
}

static void print_json(json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(value);
}

static void print_json_part(const struct cli_output *out)
{
    bool is_first = !out->has_begun;

    for (const struct row *row = out->first; row != NULL; row = row->next) {
        json_t *object = json_row(out, row);

        fputs(is_first ? "[\n" : ",\n", stdout);
        is_first = false;
        json_dumpf(object, stdout, JSON_INDENT(2));
        json_decref(object);
    }
}

void cli_print_part(struct cli_output *out, struct arena *next)
{
    if (out->is_json)
        print_json_part(out);
    else
        print_table(out);
    out->has_begun = out->has_begun || out->first != NULL;
    out->first = out->last = NULL;
    out->arena = next;
}

void cli_print_list(struct cli_output *out)
{
    json_t *array;

    if (out->has_begun) {
        cli_print_part(out, out->arena);
        fputs(out->is_json ? "\n]\n" : "", stdout);
        return;
    }

    if (!out->is_json) {
        print_table(out);
        return;
    }
    array = json_array();
    for (const struct row *row = out->first; row != NULL; row = row->next)
        json_array_append_new(array, json_row(out, row));
    print_json(array);
}

void cli_print_record(struct cli_output *out)
{
    size_t width = 0;

    if (out->is_json) {
        print_json(json_row(out, out->first));
        return;
    }
    for (size_t i = 0; i < out->column_count; i++)
        if (width_of(str_c(out->names[i])) > width)
            width = width_of(str_c(out->names[i]));
    for (size_t i = 0; i < out->column_count; i++) {
        printf("%s:", out->names[i]);
        print_spaces(width - width_of(str_c(out->names[i])) + 1);
        print_safely(out, out->first->cells[i].text);
        putchar('\n');
    }
}

void cli_print_done(struct cli_output *out, const char *format, ...)
{
    va_list ap;

    if (out->is_json) {
        print_json(json_row(out, out->first));
        return;
    }
    va_start(ap, format);
    print_safely(out, arena_vprintf(out->arena, format, ap));
    va_end(ap);
    putchar('\n');
}

void cli_print_error(const struct error *err, bool is_json)
{
    fprintf(stderr, "merpati: %s\n", err->text);
    if (is_json)
        print_json(
            json_pack("{s:s, s:s}", "error", error_kind_name(err->kind), "reason", err->text));
}
