/* tag_list.c - one pass over the text; names and values are checked byte by byte.
 *
 * What a tag means is the caller's. The list is short (TAG_LIST_COUNT_MAX), so a name is looked up by
 * walking it. */
#include "mail/authentic/tag_list.h"

static bool is_name_byte(char c, bool is_first)
{
    bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

    return is_letter || (!is_first && ((c >= '0' && c <= '9') || c == '_'));
}

static bool is_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_name_byte(s.p[i], i == 0))
            return false;
    return s.n > 0;
}

/* VALCHAR, white space between (a line end only where a line is folded), and UTF-8. */
static bool is_value(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '\n' && i + 1 < s.n && s.p[i + 1] != ' ' && s.p[i + 1] != '\t')
            return false;
        if (c == 127 || (c < ' ' && c != '\t' && c != '\r' && c != '\n'))
            return false;
    }
    return true;
}

static int parse_tag(struct str spec, struct tag *out, struct error *err)
{
    struct str name;

    if (!str_cut(spec, '=', &name, &out->raw))
        return fail(err, ERR_SYNTAX, "a tag has no value");
    out->name = str_trim(name);
    out->value = str_trim(out->raw);
    if (!is_name(out->name))
        return fail(err, ERR_SYNTAX, "a tag has no proper name");
    if (!is_value(out->value))
        return fail(err, ERR_SYNTAX, "the tag %.*s= has a character that is not allowed",
                    (int)(out->name.n < 40 ? out->name.n : 40), out->name.p);
    return 0;
}

int tag_list_parse(struct arena *a, struct str text, struct tag_list *out, struct error *err)
{
    struct tag found[TAG_LIST_COUNT_MAX];
    struct str spec;

    *out = (struct tag_list){0};
    if (text.n > TAG_LIST_SIZE_MAX)
        return fail(err, ERR_TOO_BIG, "the list of tags is larger than %d KB",
                    TAG_LIST_SIZE_MAX / 1024);
    for (bool has_more = true; has_more;) {
        has_more = str_cut(text, ';', &spec, &text);
        if (!has_more && out->n > 0 && str_trim(spec).n == 0)
            break; /* the one semicolon that may end the list */
        if (out->n == TAG_LIST_COUNT_MAX)
            return fail(err, ERR_TOO_BIG, "there are more than %d tags", TAG_LIST_COUNT_MAX);
        out->v = found;
        if (parse_tag(spec, &found[out->n], err) < 0)
            return -1;
        if (tag_list_find(out, found[out->n].name) != NULL)
            return fail(err, ERR_EXISTS, "the tag %.*s= occurs twice",
                        (int)(found[out->n].name.n < 40 ? found[out->n].name.n : 40),
                        found[out->n].name.p);
        out->n++;
    }
    out->v = arena_copy(a, found, out->n * sizeof *found);
    return 0;
}

const struct tag *tag_list_find(const struct tag_list *list, struct str name)
{
    for (size_t i = 0; i < list->n; i++)
        if (str_eq(list->v[i].name, name))
            return &list->v[i];
    return NULL;
}

struct str tag_list_value(const struct tag_list *list, struct str name)
{
    const struct tag *tag = tag_list_find(list, name);

    return tag == NULL ? STR_NULL : tag->value;
}

struct str tag_value_compact(struct arena *a, struct str value)
{
    char *p = arena_alloc(a, value.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] != ' ' && value.p[i] != '\t' && value.p[i] != '\r' && value.p[i] != '\n')
            p[n++] = value.p[i];
    return str_of(p, n);
}

bool tag_value_next(struct str *rest, char separator, struct str *part)
{
    if (rest->p == NULL)
        return false;
    if (!str_cut(*rest, separator, part, rest))
        *rest = STR_NULL;
    *part = str_trim(*part);
    return true;
}

bool tag_value_has(struct str value, char separator, struct str wanted)
{
    struct str part;

    while (tag_value_next(&value, separator, &part))
        if (str_ieq(part, wanted))
            return true;
    return false;
}
