/* spam_finding.c - the table of findings, and sentences with what was found in them. */
#include "mail/spam/spam_finding.h"

#include <utf8proc.h>

#include "server/base/buf.h"
#include "server/base/utf8.h"

#define DETAIL_SIZE_MAX 120

static const struct {
    const char *name;
    double weight;
    const char *english, *indonesian;
} table[SPAM_FINDING_COUNT] = {
#define FINDING(id, weight, english, indonesian) {#id, weight, english, indonesian},
#include "mail/spam/spam_findings.def"
#undef FINDING
};

/* Signs that steer the writing would turn around the sentence they are shown in. */
static bool is_shown(uint32_t c)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);

    return category != UTF8PROC_CATEGORY_CC && category != UTF8PROC_CATEGORY_CF &&
           category != UTF8PROC_CATEGORY_ZL && category != UTF8PROC_CATEGORY_ZP;
}

static void add_clean(struct buf *out, struct str detail)
{
    uint32_t c;

    detail = str_trim(detail);
    for (size_t before = out->n; out->n - before < DETAIL_SIZE_MAX && utf8_next(&detail, &c);)
        if (is_shown(c))
            utf8_add(out, c);
    if (detail.n > 0)
        buf_adds(out, "...");
}

static struct str sentence(struct arena *a, const char *form, struct str detail)
{
    struct str text = str_c(form), result;
    ptrdiff_t at = str_find(text, STR("{}"));
    struct buf out;

    if (at < 0)
        return text;
    buf_init(&out, 1024);
    buf_add(&out, str_head(text, (size_t)at));
    add_clean(&out, detail);
    buf_add(&out, str_from(text, (size_t)at + 2));
    result = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return result;
}

bool spam_has_found(const struct spam_findings *findings, enum spam_finding_kind kind)
{
    for (size_t i = 0; i < findings->n; i++)
        if (findings->v[i].kind == kind)
            return true;
    return false;
}

void spam_find(struct arena *a, struct spam_findings *out, enum spam_finding_kind kind,
               struct str detail)
{
    if (spam_has_found(out, kind))
        return;
    out->v[out->n++] = (struct spam_finding){
        .kind = kind,
        .name = table[kind].name,
        .weight = table[kind].weight,
        .english = sentence(a, table[kind].english, detail),
        .indonesian = sentence(a, table[kind].indonesian, detail),
    };
}

double spam_findings_weight(const struct spam_findings *findings)
{
    double sum = 0;

    for (size_t i = 0; i < findings->n; i++)
        sum += findings->v[i].weight;
    return sum;
}
