/* auth_results.c - Authentication-Results: a small grammar with comments everywhere (RFC 8601, 2.2).
 *
 * Reading keeps what programs need: the first comment behind a result, the reason, the properties in their
 * order. Writing folds between words, never inside a value, so that no value can end a line. */
#include "mail/authentic/auth_results.h"

#include <string.h>

#include "server/base/buf.h"
#include "server/base/utf8.h"

#define COMMENT_DEPTH_MAX 100
#define FIELD_SIZE_MAX    (64 << 10)
#define LINE_WIDTH        78
#define VALUE_SIZE_MAX                                                                             \
    480 /* of what we write: a line stays below 998 bytes (RFC 5322, 2.1.1), all of it escaped */

/* ---- reading --------------------------------------------------------------------------------- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Takes a comment off the front, nested ones with it; the text between its parentheses. An unclosed one takes all. */
static struct str take_comment(struct str *rest)
{
    struct str s = *rest;
    size_t depth = 0, i;

    for (i = 0; i < s.n; i++) {
        if (s.p[i] == '\\') {
            i++;
        } else if (s.p[i] == '(') {
            depth++;
        } else if (s.p[i] == ')' && --depth == 0) {
            *rest = str_from(s, i + 1);
            return str_of(s.p + 1, i - 1);
        }
    }
    *rest = str_from(s, s.n);
    return str_from(s, 1);
}

/* Spaces and comments; the first comment is kept when there is none yet. */
static void skip_cfws(struct str *rest, struct str *comment)
{
    while (rest->n > 0) {
        if (is_space(rest->p[0])) {
            *rest = str_from(*rest, 1);
        } else if (rest->p[0] == '(') {
            struct str text = take_comment(rest);

            if (comment != NULL && comment->n == 0)
                *comment = text;
        } else {
            return;
        }
    }
}

/* A quoted string without its quotes and escapes; line ends inside vanish. An unclosed one takes all. */
static struct str take_quoted(struct arena *a, struct str *rest)
{
    struct str s = *rest;
    char *p = arena_alloc(a, s.n + 1);
    size_t n = 0, i;

    for (i = 1; i < s.n && s.p[i] != '"'; i++) {
        if (s.p[i] == '\\' && i + 1 < s.n)
            i++;
        if (s.p[i] != '\r' && s.p[i] != '\n')
            p[n++] = s.p[i];
    }
    *rest = str_from(s, i + 1);
    return str_of(p, n);
}

static struct str take_until(struct str *rest, const char *stops)
{
    size_t n = 0;

    while (n < rest->n && !is_space(rest->p[n]) &&
           (rest->p[n] == '\0' || strchr(stops, rest->p[n]) == NULL))
        n++;
    struct str taken = str_head(*rest, n);
    *rest = str_from(*rest, n);
    return taken;
}

/* Letters, digits, hyphens and underscores; methods and ptypes of today hold nothing else. */
static struct str take_keyword(struct arena *a, struct str *rest)
{
    size_t n = 0;

    while (n < rest->n &&
           (ascii_lower(rest->p[n]) != ascii_upper(rest->p[n]) ||
            (rest->p[n] >= '0' && rest->p[n] <= '9') || rest->p[n] == '-' || rest->p[n] == '_'))
        n++;
    struct str taken = arena_lower(a, str_head(*rest, n));
    *rest = str_from(*rest, n);
    return taken;
}

/* A token, a quoted string, or an address whose local part may be quoted. */
static struct str take_value(struct arena *a, struct str *rest)
{
    struct str head, tail;

    if (rest->n == 0 || rest->p[0] != '"')
        return take_until(rest, ";(\"");
    head = take_quoted(a, rest);
    if (rest->n == 0 || rest->p[0] != '@')
        return head;
    tail = take_until(rest, ";(\"");
    return arena_printf(a, "%.*s%.*s", STR_ARG(head), STR_ARG(tail));
}

static bool take_sign(struct str *rest, char sign)
{
    skip_cfws(rest, NULL);
    if (rest->n == 0 || rest->p[0] != sign)
        return false;
    *rest = str_from(*rest, 1);
    skip_cfws(rest, NULL);
    return true;
}

static int bad(struct error *err, const char *wanted, struct str rest)
{
    return fail(err, ERR_SYNTAX, "Authentication-Results: expected %s at \"%.*s\"", wanted,
                (int)str_head(rest, 40).n, rest.n > 0 ? rest.p : "");
}

/* "reason = value" or "ptype . property = value", whose name was taken as `ptype`. */
static int read_property(struct arena *a, struct str *rest, struct str ptype, struct auth_result *r,
                         struct error *err)
{
    struct auth_property *p = &r->properties[r->property_count];
    bool is_reason = str_eq(ptype, STR("reason")) && take_sign(rest, '=');

    if (is_reason) {
        r->reason = take_value(a, rest);
        return 0;
    }
    if (!take_sign(rest, '.'))
        return bad(err, "a property", *rest);
    p->ptype = ptype;
    p->name = take_keyword(a, rest);
    if (p->name.n == 0 || !take_sign(rest, '='))
        return bad(err, "a property's value", *rest);
    p->value = take_value(a, rest);
    r->property_count++;
    return 0;
}

static int read_properties(struct arena *a, struct str *rest, struct auth_result *r,
                           struct error *err)
{
    r->properties = ARENA_ARRAY(a, AUTH_PROPERTIES_MAX, struct auth_property);
    for (;;) {
        struct str ptype;

        skip_cfws(rest, &r->comment);
        if (rest->n == 0 || rest->p[0] == ';')
            return 0;
        ptype = take_keyword(a, rest);
        if (ptype.n == 0)
            return bad(err, "a property", *rest);
        if (r->property_count == AUTH_PROPERTIES_MAX)
            return fail(err, ERR_LIMIT, "Authentication-Results: more than %d properties",
                        AUTH_PROPERTIES_MAX);
        if (read_property(a, rest, ptype, r, err) < 0)
            return -1;
    }
}

/* "method / version = result", then its properties. A version that we do not know changes nothing that we use. */
static int read_result(struct arena *a, struct str *rest, struct auth_result *r, struct error *err)
{
    r->method = take_keyword(a, rest);
    if (r->method.n == 0)
        return bad(err, "a method", *rest);
    if (take_sign(rest, '/'))
        take_keyword(a, rest);
    if (!take_sign(rest, '='))
        return bad(err, "\"=\"", *rest);
    r->result = take_keyword(a, rest);
    if (r->result.n == 0)
        return bad(err, "a result", *rest);
    return read_properties(a, rest, r, err);
}

/* "none" alone says that nothing was done. */
static bool take_none(struct str *rest)
{
    struct str after = *rest;

    if (!str_skip_prefix(&after, STR("none")))
        return false;
    skip_cfws(&after, NULL);
    if (after.n > 0 && after.p[0] != ';')
        return false;
    *rest = after;
    return true;
}

static int read_results(struct arena *a, struct str *rest, struct auth_results *out,
                        struct error *err)
{
    while (take_sign(rest, ';')) {
        if (rest->n == 0 || take_none(rest))
            continue; /* a last semicolon is common */
        if (out->n == AUTH_RESULTS_MAX)
            return fail(err, ERR_LIMIT, "Authentication-Results: more than %d results",
                        AUTH_RESULTS_MAX);
        if (read_result(a, rest, &out->v[out->n], err) < 0)
            return -1;
        out->n++;
    }
    skip_cfws(rest, NULL);
    return rest->n == 0 ? 0 : bad(err, "\";\"", *rest);
}

int auth_results_parse(struct arena *a, struct str value, struct auth_results *out,
                       struct error *err)
{
    struct str rest = value;

    *out = (struct auth_results){0};
    if (value.n > FIELD_SIZE_MAX)
        return fail(err, ERR_TOO_BIG, "Authentication-Results: longer than %d bytes",
                    FIELD_SIZE_MAX);
    out->v = ARENA_ARRAY(a, AUTH_RESULTS_MAX, struct auth_result);
    skip_cfws(&rest, NULL);
    out->authserv_id = take_value(a, &rest);
    if (out->authserv_id.n == 0)
        return bad(err, "the name of a server", rest);
    skip_cfws(&rest, NULL);
    take_keyword(a, &rest); /* the version */
    return read_results(a, &rest, out, err);
}

static bool is_name(struct str name, struct str authserv_id)
{
    while (name.n > 0 && (name.p[name.n - 1] == '.' || is_space(name.p[name.n - 1])))
        name.n--;
    return name.n > 0 && str_ieq(name, authserv_id);
}

/* The name at the front is taken in every way that some reader might take it: with quotes or without, up to a space, a
 * comment or a slash, and across spaces and comments. */
bool auth_results_is_ours(struct str value, struct str authserv_id)
{
    char name[256];
    size_t n = 0;
    bool is_quoted = false;

    while (value.n > 0 && n < sizeof name) {
        char c = value.p[0];

        if (!is_quoted && (is_space(c) || c == '(')) {
            if (is_name(str_of(name, n), authserv_id))
                return true;
            skip_cfws(&value, NULL);
            continue;
        }
        if (!is_quoted && (c == ';' || c == '/'))
            break;
        if (c == '\\' && value.n > 1) {
            value = str_from(value, 1);
            c = value.p[0];
        } else if (c == '"') {
            is_quoted = !is_quoted;
            c = '\r';
        }
        if (c != '\r' && c != '\n')
            name[n++] = c;
        value = str_from(value, 1);
    }
    return is_name(str_of(name, n), authserv_id);
}

/* ---- writing --------------------------------------------------------------------------------- */

struct auth_builder {
    struct arena *arena;
    struct buf out; /* its memory moves into the arena with the payload */
    size_t column;
    bool is_empty;
};

struct auth_builder *auth_builder_new(struct arena *a)
{
    struct auth_builder *b = ARENA_NEW(a, struct auth_builder);

    b->arena = a;
    b->is_empty = true;
    buf_init(&b->out, FIELD_SIZE_MAX);
    return b;
}

static void add_word(struct auth_builder *b, struct str word)
{
    if (b->column + 1 + word.n > LINE_WIDTH && b->column > 8) {
        buf_adds(&b->out, "\r\n\t");
        b->column = 8;
    } else if (b->column > 8) {
        buf_addc(&b->out, ' ');
        b->column++;
    }
    buf_add(&b->out, word);
    b->column += word.n;
}

/* A tail that cut a character in half would be no UTF-8. */
static struct str limited(struct str s)
{
    size_t n = s.n < VALUE_SIZE_MAX ? s.n : VALUE_SIZE_MAX;

    while (n > 0 && n < s.n && (s.p[n] & 0xc0) == 0x80)
        n--;
    return str_head(s, n);
}

/* Printable, with `escaped` characters behind a backslash. */
static void add_escaped(struct buf *out, struct str s, const char *escaped)
{
    bool is_text = utf8_valid(s);

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < ' ' || c == 127 || (c > 127 && !is_text))
            c = '?';
        if (strchr(escaped, c) != NULL)
            buf_addc(out, '\\');
        buf_addc(out, (char)c);
    }
}

/* A token (RFC 2045, 5.1), or an address: its "@" may stand unquoted in a property (RFC 8601, 2.2). */
static bool needs_quotes(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c <= ' ' || c >= 127 || strchr("()<>,;:\\\"/[]?=", c) != NULL)
            return true;
    }
    return s.n == 0;
}

static struct str value_text(struct auth_builder *b, const char *head, struct str value)
{
    struct buf text;
    struct str made;

    buf_init(&text, 4 * VALUE_SIZE_MAX);
    buf_adds(&text, head);
    value = limited(value);
    if (needs_quotes(value)) {
        buf_addc(&text, '"');
        add_escaped(&text, value, "\"\\");
        buf_addc(&text, '"');
    } else {
        buf_add(&text, value);
    }
    made = arena_str(b->arena, buf_str(&text));
    buf_fini(&text);
    return made;
}

static void add_comment(struct auth_builder *b, struct str comment)
{
    struct buf text;
    struct str rest, word;

    if (comment.n == 0)
        return;
    buf_init(&text, 4 * VALUE_SIZE_MAX);
    buf_addc(&text, '(');
    add_escaped(&text, limited(comment), "()\\");
    buf_addc(&text, ')');
    rest = buf_str(&text);
    while (str_next_token(&rest, ' ', &word))
        add_word(b, word);
    buf_fini(&text);
}

void auth_builder_result(struct auth_builder *b, const char *method, const char *result,
                         struct str comment)
{
    if (!b->is_empty)
        buf_adds(&b->out, ";\r\n\t");
    b->is_empty = false;
    b->column = 8;
    add_word(b, arena_printf(b->arena, "%s=%s", method, result));
    add_comment(b, comment);
}

void auth_builder_reason(struct auth_builder *b, struct str reason)
{
    add_word(b, value_text(b, "reason=", reason));
}

void auth_builder_property(struct auth_builder *b, const char *ptype, const char *name,
                           struct str value)
{
    struct str head = arena_printf(b->arena, "%s.%s=", ptype, name);

    add_word(b, value_text(b, head.p, value));
}

struct str auth_builder_payload(struct auth_builder *b)
{
    struct str payload = b->is_empty ? STR("none") : arena_str(b->arena, buf_str(&b->out));

    buf_fini(&b->out);
    b->is_empty = true;
    return payload;
}

struct str auth_results_field(struct arena *a, struct str authserv_id, struct str payload)
{
    return arena_printf(a, "Authentication-Results: %.*s;\r\n\t%.*s\r\n", STR_ARG(authserv_id),
                        STR_ARG(payload));
}
