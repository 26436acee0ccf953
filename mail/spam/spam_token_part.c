/* spam_token_part.c - features of the structure: parts, their types, encodings and files. */
#include "mail/mime/header.h"
#include "mail/spam/spam_token_internal.h"

#define VALUE_SIZE_MAX     2048
#define EXTENSION_SIZE_MAX 10

static struct str type_of(const struct mime_part *part)
{
    return part != NULL ? str_head(part->type, 30) : STR("the message");
}

static struct str subtype_of(const struct mime_part *part)
{
    return part != NULL ? str_head(part->subtype, 40) : STR("");
}

static void add_file_name(struct spam_sink *s, struct str name)
{
    struct str stem, extension;

    if (name.n == 0)
        return;
    if (!str_rcut(name, '.', &stem, &extension) || extension.n > EXTENSION_SIZE_MAX)
        extension = STR("none");
    spam_addf(s, SPAM_STRUCTURE, "a file of the kind .%.*s",
              STR_ARG(arena_lower(s->arena, extension)));
    if (str_index(stem, '.') >= 0)
        spam_add(s, SPAM_STRUCTURE, STR("a file name with two dots"));
}

static void add_part_fields(struct spam_sink *s, const struct mime_part *part, struct str message)
{
    struct str header = mime_part_header(part, message);
    struct header_field field;
    struct header_params params;

    if (header_find(header, STR("Content-Type"), &field)) {
        header_parse_params(s->arena, str_head(field.value, VALUE_SIZE_MAX), &params);
        spam_addf(
            s, SPAM_STRUCTURE, "the character set %.*s",
            STR_ARG(arena_lower(s->arena, str_head(header_param(&params, STR("charset")), 40))));
        add_file_name(s, header_param(&params, STR("name")));
    }
    if (header_find(header, STR("Content-Disposition"), &field)) {
        header_parse_params(s->arena, str_head(field.value, VALUE_SIZE_MAX), &params);
        spam_addf(s, SPAM_STRUCTURE, "a part shown as %.*s", STR_ARG(str_head(params.type, 20)));
        add_file_name(s, header_param(&params, STR("filename")));
    }
}

void spam_add_part(struct spam_sink *s, const struct mime_part *part, struct str message)
{
    static const char *const encodings[] = {
        "7bit", "8bit", "binary", "base64", "quoted-printable", "unknown"};

    spam_addf(s, SPAM_STRUCTURE, "a part %.*s/%.*s in %.*s/%.*s", STR_ARG(type_of(part)),
              STR_ARG(subtype_of(part)), STR_ARG(type_of(part->parent)),
              STR_ARG(subtype_of(part->parent)));
    if (!part->is_multipart)
        spam_addf(s, SPAM_STRUCTURE, "%.*s/%.*s in %s", STR_ARG(type_of(part)),
                  STR_ARG(subtype_of(part)), encodings[part->encoding]);
    add_part_fields(s, part, message);
}
