/* dkim_sign.c - making signature fields: what they cover, how they are written, DKIM's own.
 *
 * Fields that readers see are signed where they are, and most of them once more than they are there
 * ("oversigned"), so that nobody can add another. Fields that relays add or change are left out. */
#include "mail/authentic/dkim_internal.h"
#include "server/base/encode.h"

#define LINE_MAX_SIZE 76

enum sign_when {
    SIGN_PRESENT, /* each one that is there */
    SIGN_SEALED,  /* those and one more, if there is any */
    SIGN_ALWAYS,  /* those and one more, even when there is none */
};

/* RFC 6376, 5.4.1, List-* for one-click unsubscription (RFC 8058, 4), and what changes how a body is read. */
static const struct {
    const char *name;
    enum sign_when when;
} sign_table[] = {
    {"From", SIGN_ALWAYS},
    {"Subject", SIGN_ALWAYS},
    {"Date", SIGN_SEALED},
    {"To", SIGN_SEALED},
    {"Cc", SIGN_SEALED},
    {"Sender", SIGN_SEALED},
    {"Reply-To", SIGN_SEALED},
    {"Message-ID", SIGN_SEALED},
    {"In-Reply-To", SIGN_SEALED},
    {"References", SIGN_SEALED},
    {"MIME-Version", SIGN_ALWAYS},
    {"Content-Type", SIGN_ALWAYS},
    {"Content-Transfer-Encoding", SIGN_ALWAYS},
    {"Content-Language", SIGN_PRESENT},
    {"Auto-Submitted", SIGN_PRESENT},
    {"Autocrypt", SIGN_PRESENT},
    {"List-Id", SIGN_PRESENT},
    {"List-Help", SIGN_PRESENT},
    {"List-Post", SIGN_PRESENT},
    {"List-Owner", SIGN_PRESENT},
    {"List-Archive", SIGN_PRESENT},
    {"List-Subscribe", SIGN_PRESENT},
    {"List-Unsubscribe", SIGN_PRESENT},
    {"List-Unsubscribe-Post", SIGN_PRESENT},
    {"Resent-From", SIGN_PRESENT},
    {"Resent-Sender", SIGN_PRESENT},
    {"Resent-To", SIGN_PRESENT},
    {"Resent-Cc", SIGN_PRESENT},
    {"Resent-Date", SIGN_PRESENT},
    {"Resent-Message-ID", SIGN_PRESENT},
};

/* ---- what is covered ----------------------------------------------------------------------------------- */

static size_t count_of(struct arena *a, const struct dkim_message *m, const char *name)
{
    size_t count = 0;

    for (uint32_t at = dkim_message_lowest(a, m, str_c(name)); at != 0;
         at = m->fields[at - 1].above)
        count++;
    return count;
}

/* A message may have a thousand fields of one name: no more than what a verifier looks at is named. */
static void add_names(struct buf *out, const char *name, size_t count, size_t *left)
{
    for (; count > 0 && *left > 0; count--, --*left) {
        if (out->n > 0)
            buf_addc(out, ':');
        buf_adds(out, name);
    }
}

struct str dkim_names_to_sign(struct arena *a, const struct dkim_message *m, bool is_arc)
{
    size_t left = 100;
    struct buf names;
    struct str text;

    buf_init(&names, 64 * 1024);
    for (size_t i = 0; i < sizeof sign_table / sizeof sign_table[0]; i++) {
        size_t count = count_of(a, m, sign_table[i].name);
        bool is_sealed =
            sign_table[i].when == SIGN_ALWAYS || (sign_table[i].when == SIGN_SEALED && count > 0);

        add_names(&names, sign_table[i].name, count + is_sealed, &left);
    }
    if (is_arc)
        add_names(&names, "DKIM-Signature", count_of(a, m, "DKIM-Signature"), &left);
    text = arena_str(a, buf_str(&names));
    buf_fini(&names);
    return text;
}

/* ---- how it is written ---------------------------------------------------------------------------------- */

/* Names are folded behind a colon, where white space counts for nothing (RFC 6376, 3.5, h=). */
static void add_folded_names(struct buf *out, struct str names)
{
    size_t column = sizeof "\th=" - 1;
    struct str name;
    bool is_first = true;

    buf_adds(out, "\r\n\th=");
    while (tag_value_next(&names, ':', &name)) {
        if (!is_first)
            buf_addc(out, ':');
        if (!is_first && column + name.n + 2 > LINE_MAX_SIZE) {
            buf_adds(out, "\r\n\t ");
            column = 2;
        }
        buf_add(out, name);
        column += name.n + 1;
        is_first = false;
    }
    buf_addc(out, ';');
}

struct str dkim_field_begin(struct arena *a, struct str field_name, struct str lead,
                            const struct dkim_signer *signer, struct str names,
                            const uint8_t *body_digest, int64_t now_s)
{
    struct buf out;
    struct str text;

    buf_init(&out, 128 * 1024);
    buf_addf(&out, "%.*s: %.*s; a=%s;", STR_ARG(field_name), STR_ARG(lead),
             dkim_algorithm_name(signer->key->algorithm));
    if (body_digest != NULL)
        buf_adds(&out, " c=relaxed/relaxed;");
    buf_addf(&out, "\r\n\td=%.*s; s=%.*s; t=%lld;", STR_ARG(signer->domain),
             STR_ARG(signer->selector), (long long)now_s);
    if (body_digest != NULL) {
        add_folded_names(&out, names);
        buf_adds(&out, "\r\n\tbh=");
        base64_encode(&out, str_of((const char *)body_digest, DKIM_DIGEST_SIZE));
        buf_addc(&out, ';');
    }
    buf_adds(&out, "\r\n\tb=");
    text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return text;
}

int dkim_field_end(struct arena *a, const struct dkim_signing *s, struct str *field,
                   struct error *err)
{
    struct buf out, base64;
    struct str rest, line;

    if (s->signature_size == 0)
        return fail(err, ERR_INTERNAL, "the message cannot be signed");
    buf_init(&base64, 2 * DKIM_SIGNATURE_SIZE_MAX);
    base64_encode(&base64, str_of((const char *)s->signature, s->signature_size));
    buf_init(&out, 256 * 1024);
    buf_add(&out, s->bare);
    for (rest = buf_str(&base64); rest.n > 0; rest = str_from(rest, line.n)) {
        line = str_head(rest, LINE_MAX_SIZE - 4);
        if (rest.n != base64.n)
            buf_adds(&out, "\r\n\t ");
        buf_add(&out, line);
    }
    buf_adds(&out, "\r\n");
    *field = arena_str(a, buf_str(&out));
    buf_fini(&out);
    buf_fini(&base64);
    return 0;
}

/* ---- DKIM-Signature --------------------------------------------------------------------------------------- */

static int end_fields(struct arena *a, const struct dkim_signing *v, size_t count,
                      struct str *fields, struct error *err)
{
    struct str field;

    *fields = STR("");
    for (size_t i = 0; i < count; i++) {
        if (dkim_field_end(a, &v[i], &field, err) < 0)
            return -1;
        *fields = arena_printf(a, "%.*s%.*s", STR_ARG(*fields), STR_ARG(field));
    }
    return 0;
}

int dkim_sign(struct arena *a, struct str message, const struct dkim_signer *v, size_t count,
              int64_t now_s, struct str *fields, struct error *err)
{
    struct dkim_signing *signings = ARENA_ARRAY(a, count + 1, struct dkim_signing);
    struct dkim_selection covered;
    struct dkim_body_digest body;
    struct dkim_message m;
    struct str names;

    *fields = STR("");
    if (dkim_message_read(a, message, &m, err) < 0)
        return -1;
    if (dkim_message_lowest(a, &m, STR("From")) == 0)
        return fail(err, ERR_SYNTAX, "a message without From cannot be signed");
    names = dkim_names_to_sign(a, &m, false);
    if (dkim_select(a, &m, names, NULL, &covered, err) < 0)
        return -1;
    dkim_body_digest_make(m.body, &body);
    for (size_t i = 0; i < count; i++)
        signings[i] = (struct dkim_signing){
            .key = v[i].key,
            .covered = &covered,
            .bare = dkim_field_begin(a, STR("DKIM-Signature"), STR("v=1"), &v[i], names,
                                     body.digest, now_s),
        };
    dkim_sign_all(signings, count);
    return end_fields(a, signings, count, fields, err);
}
