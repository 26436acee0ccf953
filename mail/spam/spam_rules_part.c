/* spam_rules_part.c - rules over the parts: kinds of files that do harm, archives that cannot be
 * looked into, text that is hidden. Files are known by their names and, of archives, by the names
 * in them; what they do is for the scanners to say. */
#include "mail/mime/body.h"
#include "mail/mime/header.h"
#include "mail/spam/spam_confusable.h"
#include "mail/spam/spam_rules.h"
#include "mail/spam/spam_token_internal.h"

#define VALUE_SIZE_MAX   4000
#define NAME_SIZE_MAX    300
#define ARCHIVE_SIZE_MAX ((size_t)64 << 10)
#define TEXT_SIZE_MAX    ((size_t)64 << 10)
#define ENTRIES_MAX      200

struct look {
    struct arena *arena;
    struct spam_findings *out;
    struct str message;
    struct str locked; /* name of an encrypted archive; empty: none */
    bool tells_password, has_plain, has_html, has_hidden;
};

static void find(struct look *l, enum spam_finding_kind kind, struct str detail)
{
    spam_find(l->arena, l->out, kind, detail);
}

/* ---- kinds of files -------------------------------------------------------------------------- */

static const char *const programs[] = {
    "exe", "scr",  "pif",  "com",         "bat",    "cmd",     "vbs", "vbe", "js",
    "jse", "wsf",  "wsh",  "hta",         "msi",    "msp",     "cpl", "jar", "lnk",
    "reg", "ps1",  "dll",  "apk",         "xll",    "chm",     "inf", "scf", "sct",
    "url", "appx", "msix", "application", "gadget", "command", NULL};
static const char *const macros[] = {"docm", "dotm", "xlsm", "xltm", "xlam", "xlsb", "pptm", "potm",
                                     "ppam", "ppsm", "sldm", "one",  "iqy",  "slk",  NULL};
static const char *const images[] = {"iso", "img", "vhd", "vhdx", "udf", "dmg", NULL};
static const char *const pages[] = {"html", "htm", "shtml", "xhtml", "svg", "mht", "mhtml", NULL};
/* What a program pretends to be. */
static const char *const harmless[] = {"doc", "docx", "xls", "xlsx", "ppt", "pptx",
                                       "pdf", "txt",  "jpg", "jpeg", "png", "gif",
                                       "mp3", "mp4",  "zip", "rtf",  "csv", NULL};

static bool is_one_of(struct str extension, const char *const *list)
{
    for (; *list != NULL; list++)
        if (str_ieq(extension, str_c(*list)))
            return true;
    return false;
}

static struct str extension_of(struct str name)
{
    struct str stem, extension;

    return str_rcut(name, '.', &stem, &extension) ? str_trim(extension) : STR("");
}

static bool is_double(struct str name)
{
    struct str stem, extension;

    return str_rcut(name, '.', &stem, &extension) && is_one_of(str_trim(extension), programs) &&
           is_one_of(extension_of(str_trim(stem)), harmless);
}

static void look_at_name(struct look *l, struct str name, bool is_attached)
{
    struct str extension = extension_of(name);

    if (spam_hides_signs(name))
        find(l, SPAM_FINDING_FILE_DISGUISED, name);
    if (is_double(name))
        find(l, SPAM_FINDING_FILE_DOUBLE, name);
    else if (is_one_of(extension, programs))
        find(l, SPAM_FINDING_FILE_PROGRAM, name);
    else if (is_one_of(extension, macros))
        find(l, SPAM_FINDING_FILE_MACROS, name);
    else if (is_one_of(extension, images))
        find(l, SPAM_FINDING_FILE_IMAGE, name);
    else if (is_attached && is_one_of(extension, pages))
        find(l, SPAM_FINDING_FILE_PAGE, name);
}

/* ---- archives: the heads of entries in zip (APPNOTE 4.3.7) ----------------------------------- */

static unsigned u16(struct str s, size_t at)
{
    return (unsigned char)s.p[at] | (unsigned)(unsigned char)s.p[at + 1] << 8;
}

static bool next_entry(struct str *rest, struct str *name, bool *is_encrypted)
{
    ptrdiff_t at = str_find(*rest, STR("PK\x03\x04"));
    struct str head;

    if (at < 0)
        return false;
    head = str_from(*rest, (size_t)at);
    if (head.n < 30)
        return false;
    *is_encrypted = u16(head, 6) & 1;
    *name = str_head(str_from(head, 30), u16(head, 26));
    *rest = str_from(head, 30);
    return true;
}

static void look_into_zip(struct look *l, struct str name, struct str bytes)
{
    struct str entry;
    bool is_encrypted;

    for (unsigned count = 0; count < ENTRIES_MAX && next_entry(&bytes, &entry, &is_encrypted);
         count++) {
        if (is_one_of(extension_of(entry), programs))
            find(l, SPAM_FINDING_ARCHIVE_PROGRAM, name);
        if (is_encrypted)
            l->locked = name;
    }
}

static void look_into_archive(struct look *l, const struct mime_part *part, struct str name)
{
    struct str body = str_head(mime_part_body(part, l->message), ARCHIVE_SIZE_MAX);
    struct buf bytes;

    buf_init(&bytes, ARCHIVE_SIZE_MAX);
    mime_decode(&bytes, part->encoding, body);
    if (str_starts(buf_str(&bytes), STR("PK\x03\x04")))
        look_into_zip(l, name.n > 0 ? name : STR("zip"), buf_str(&bytes));
    buf_fini(&bytes);
    /* Whether these are encrypted is told deep inside: the word for a password is enough. */
    if (str_ieq(extension_of(name), STR("rar")) || str_ieq(extension_of(name), STR("7z")))
        l->locked = name;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static bool tells_password(struct str text)
{
    static const char *const words[] = {"password",   "passwort", "passcode", "kata sandi",
                                        "kata kunci", "sandi:",   "pwd:",     NULL};

    for (size_t i = 0; words[i] != NULL; i++)
        if (str_ifind(text, str_c(words[i])) >= 0)
            return true;
    return false;
}

static bool hides_text(struct str html)
{
    struct str attribute, value;

    for (ptrdiff_t at; (at = str_index(html, '<')) >= 0;) {
        struct str tag = str_from(html, (size_t)at + 1), name = spam_tag_name(tag);
        struct str rest = str_from(tag, name.n);
        html = tag;
        if (tag.n == 0 || ascii_lower(tag.p[0]) < 'a' || ascii_lower(tag.p[0]) > 'z')
            continue;
        while (spam_next_attribute(&rest, &attribute, &value))
            if (spam_is_hiding(attribute, value) && !str_ieq(name, STR("input")))
                return true;
        html = rest;
    }
    return false;
}

static void look_at_text(struct look *l, const struct mime_part *part)
{
    struct mime_part beginning = *part;
    struct buf text;

    if (beginning.body_size > TEXT_SIZE_MAX)
        beginning.body_size = TEXT_SIZE_MAX;
    buf_init(&text, SIZE_MAX);
    mime_part_text(&text, &beginning, l->message);
    l->tells_password |= tells_password(buf_str(&text));
    if (str_eq(part->subtype, STR("html"))) {
        l->has_html = true;
        l->has_hidden |= hides_text(buf_str(&text));
    } else {
        l->has_plain |= str_trim(buf_str(&text)).n > 0;
    }
    buf_fini(&text);
}

/* ---- parts ----------------------------------------------------------------------------------- */

static struct str name_of(struct arena *a, const struct mime_part *part, struct str message,
                          bool *is_attached)
{
    struct str header = mime_part_header(part, message), name = STR("");
    struct header_params params;
    struct header_field field;

    *is_attached = false;
    if (header_find(header, STR("Content-Disposition"), &field)) {
        header_parse_params(a, str_head(field.value, VALUE_SIZE_MAX), &params);
        *is_attached = str_ieq(params.type, STR("attachment"));
        name = header_param(&params, STR("filename"));
    }
    if (name.n == 0 && header_find(header, STR("Content-Type"), &field)) {
        header_parse_params(a, str_head(field.value, VALUE_SIZE_MAX), &params);
        name = header_param(&params, STR("name"));
    }
    return str_head(name, NAME_SIZE_MAX);
}

static void look_at_part(struct look *l, const struct mime_part *part)
{
    bool is_attached;
    struct str name = name_of(l->arena, part, l->message, &is_attached);

    look_at_name(l, name, is_attached);
    if (str_eq(part->type, STR("text")) && !is_attached)
        look_at_text(l, part);
    else
        look_into_archive(l, part, name);
}

void spam_find_in_parts(struct arena *a, const struct mime_part *root, struct str message,
                        struct spam_findings *out)
{
    struct look l = {.arena = a, .out = out, .message = message, .locked = STR("")};
    size_t count = 0;

    for (const struct mime_part *p = root; p != NULL && count++ < SPAM_PARTS_MAX;
         p = mime_part_next(p))
        if (!p->is_multipart && !p->is_message)
            look_at_part(&l, p);
    if (l.locked.n > 0 && l.tells_password)
        find(&l, SPAM_FINDING_ARCHIVE_LOCKED, l.locked);
    if (l.has_hidden)
        find(&l, SPAM_FINDING_HIDDEN_TEXT, STR(""));
    if (l.has_hidden && l.has_html && !l.has_plain)
        find(&l, SPAM_FINDING_HTML_ALONE_HIDDEN, STR(""));
}
