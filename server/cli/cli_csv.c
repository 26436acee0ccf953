/* cli_csv.c - reads rows off the front of a text. LF and CRLF end a line; spaces belong to the field. */
#include "server/cli/cli_csv.h"

void csv_open(struct csv *csv, struct str text)
{
    if (str_starts(text, STR("\xef\xbb\xbf")))
        text = str_from(text, 3);
    *csv = (struct csv){.rest = text, .next_line = 1};
}

static bool at_line_end(struct str s)
{
    return s.n == 0 || s.p[0] == '\n' || str_starts(s, STR("\r\n"));
}

static void skip_line_end(struct csv *csv)
{
    if (csv->rest.n == 0)
        return;
    csv->rest = str_from(csv->rest, csv->rest.p[0] == '\r' ? 2 : 1);
    csv->next_line++;
}

static struct str plain_field(struct csv *csv)
{
    size_t n = 0;

    while (n < csv->rest.n && csv->rest.p[n] != ',' && !at_line_end(str_from(csv->rest, n)))
        n++;
    struct str field = str_head(csv->rest, n);
    csv->rest = str_from(csv->rest, n);
    return field;
}

/* Behind the opening quote. */
static int quoted_field(struct csv *csv, struct arena *a, struct str *field, struct error *err)
{
    struct str s = str_from(csv->rest, 1);
    ptrdiff_t next_quote = 0;
    size_t n = 0, closing = 0;
    char *to;

    for (;; closing = (size_t)next_quote + 2) {
        next_quote = str_index(str_from(s, closing), '"');
        if (next_quote < 0)
            return fail(err, ERR_SYNTAX, "line %zu: a quoted field has no end", csv->line);
        next_quote += (ptrdiff_t)closing;
        if ((size_t)next_quote + 1 >= s.n || s.p[next_quote + 1] != '"')
            break;
    }
    to = arena_alloc(a, (size_t)next_quote + 1);
    for (size_t i = 0; i < (size_t)next_quote; i++) {
        to[n++] = s.p[i];
        csv->next_line += s.p[i] == '\n';
        i += s.p[i] == '"'; /* the second of a pair */
    }
    *field = str_of(to, n);
    csv->rest = str_from(s, (size_t)next_quote + 1);
    if (!at_line_end(csv->rest) && csv->rest.p[0] != ',')
        return fail(err, ERR_SYNTAX, "line %zu: something follows the closing quote of a field",
                    csv->line);
    return 0;
}

static int read_field(struct csv *csv, struct arena *a, struct str *field, struct error *err)
{
    if (csv->rest.n > 0 && csv->rest.p[0] == '"')
        return quoted_field(csv, a, field, err);
    *field = plain_field(csv);
    return 0;
}

int csv_next(struct csv *csv, struct arena *a, struct csv_row *row, struct error *err)
{
    while (csv->rest.n > 0 && at_line_end(csv->rest))
        skip_line_end(csv);
    if (csv->rest.n == 0)
        return 0;
    csv->line = csv->next_line;
    for (row->count = 0;;) {
        if (row->count == CSV_FIELDS_MAX)
            return fail(err, ERR_SYNTAX, "line %zu: more than %d fields", csv->line,
                        CSV_FIELDS_MAX);
        if (read_field(csv, a, &row->fields[row->count++], err) < 0)
            return -1;
        if (at_line_end(csv->rest))
            break;
        csv->rest = str_from(csv->rest, 1); /* the comma */
    }
    skip_line_end(csv);
    return 1;
}
