/* dns_advice.c - the entries, how they are written, and the order in which things are looked at. */
#include "mail/authentic/dns_advice.h"

#include "mail/authentic/dns_advice_internal.h"
#include "server/base/buf.h"
#include "server/base/net.h"

#define STRING_SIZE_MAX 255 /* RFC 1035, 3.3 */
#define LINE_SIZE_MAX   (64 << 10)
#define TEXTS_MAX       20

const char *advice_state_name(enum advice_state state)
{
    static const char *const names[] = {"ok", "missing", "different", "no answer"};

    return names[state];
}

void advice_list_init(struct advice_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

struct advice *advice_add(struct advice_check *c, const char *subject, struct str name)
{
    struct advice *v = ARENA_NEW(c->a, struct advice);

    v->subject = subject;
    v->name = name;
    *c->out->end = v;
    c->out->end = &v->next;
    return v;
}

void advice_missing(struct advice *v, bool is_urgent, struct str remark)
{
    v->state = ADVICE_MISSING;
    v->is_urgent = is_urgent;
    v->remark = remark;
}

void advice_different(struct advice *v, bool is_urgent, struct str remark)
{
    v->state = ADVICE_DIFFERENT;
    v->is_urgent = is_urgent;
    v->remark = remark;
}

void advice_unanswered(struct advice_check *c, struct advice *v, bool is_urgent,
                       const struct error *why)
{
    v->state = ADVICE_UNANSWERED;
    v->is_urgent = is_urgent;
    v->remark = arena_str(c->a, str_c(why->text));
}

/* ---- texts --------------------------------------------------------------------------------- */

struct str advice_join(struct arena *a, struct str list, struct str more)
{
    return str_empty(list) ? more : arena_printf(a, "%.*s, %.*s", STR_ARG(list), STR_ARG(more));
}

struct str advice_address_text(struct arena *a, const struct sockaddr_storage *address)
{
    return net_text(a, address, 32, 128);
}

struct str advice_addresses_text(struct arena *a, const struct sockaddr_storage *v, size_t count)
{
    struct str out = STR("");

    for (size_t i = 0; i < count; i++)
        out = advice_join(a, out, advice_address_text(a, &v[i]));
    return out;
}

bool advice_has_address(const struct sockaddr_storage *v, size_t count,
                        const struct sockaddr_storage *address)
{
    uint8_t wanted[16], one[16];

    if (!net_address(address, wanted))
        return false;
    for (size_t i = 0; i < count; i++)
        if (net_address(&v[i], one) && memcmp(one, wanted, sizeof one) == 0)
            return true;
    return false;
}

struct str advice_line(struct arena *a, struct str name, const char *type, struct str data)
{
    return arena_printf(a, "%.*s. IN %s %.*s", STR_ARG(name), type, STR_ARG(data));
}

static void add_string(struct buf *out, struct str part)
{
    buf_adds(out, " \"");
    for (size_t i = 0; i < part.n; i++) {
        unsigned char c = (unsigned char)part.p[i];

        if (c < 32 || c >= 127)
            buf_addf(out, "\\%03u", c);
        else if (c == '"' || c == '\\')
            buf_addf(out, "\\%c", c);
        else
            buf_addc(out, (char)c);
    }
    buf_addc(out, '"');
}

struct str advice_txt_line(struct arena *a, struct str name, struct str text)
{
    struct buf out;
    struct str line;

    buf_init(&out, LINE_SIZE_MAX);
    buf_addf(&out, "%.*s. IN TXT", STR_ARG(name));
    do {
        add_string(&out, str_head(text, STRING_SIZE_MAX));
        text = str_from(text, STRING_SIZE_MAX);
    } while (text.n > 0);
    line = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return line;
}

PARKS bool advice_texts(struct advice_check *c, struct advice *v, struct str version,
                        bool is_urgent, struct str **texts, size_t *count)
{
    struct dns_answer answer;
    struct error err = {0};
    size_t total = 0;
    struct str *all;

    *count = 0;
    if (dns_lookup_txt(c->a, v->name, &all, &total, &answer, &err) < 0) {
        advice_unanswered(c, v, is_urgent, &err);
        return false;
    }
    *texts = ARENA_ARRAY(c->a, TEXTS_MAX, struct str);
    for (size_t i = 0; i < total && *count < TEXTS_MAX; i++) {
        if (!str_istarts(all[i], version))
            continue;
        (*texts)[(*count)++] = all[i];
        v->found = advice_join(c->a, v->found, all[i]);
    }
    return true;
}

/* ---- a domain ------------------------------------------------------------------------------ */

PARKS void advice_of_domain(struct arena *a, const struct advice_facts *facts, struct str domain,
                            const struct dkim_key_row *keys, size_t key_count,
                            struct advice_list *out)
{
    struct advice_check c = {a, facts, domain, keys, key_count, out};

    advice_mx(&c);
    advice_spf(&c, domain, false);
    advice_dkim(&c);
    advice_dmarc(&c);
    advice_sts(&c);
    advice_tls_reports(&c);
    advice_services(&c);
    advice_autoconfig(&c);
}
