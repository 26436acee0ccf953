/* spam_lookalike.c - compares names and domains as readers would: by their skeletons
 * (spam_confusable.h), and by one letter added, left out, changed or swapped with the next. */
#include "mail/spam/spam_lookalike.h"

#include <idn2.h>
#include <stdlib.h>

#include "mail/spam/spam_confusable.h"
#include "mail/spam/spam_token_internal.h"
#include "server/base/memory.h"
#include "server/base/utf8.h"

#define DOMAIN_SIZE_MAX   253
#define NAME_SIZE_MAX     200
#define NAME_SIZE_MIN     6
#define NAME_WORDS_MAX    8
#define KNOWN_COUNT_FIRST 16

struct known_domain {
    struct str family, skeleton;
    bool is_ours;
};
struct known_person {
    struct str form, address; /* form: see name_form() */
};

struct spam_known {
    struct arena *arena;
    struct known_domain *domains;
    struct known_person *people;
    size_t domain_count, domain_cap, person_count, person_cap;
};

/* ---- domains --------------------------------------------------------------------------------- */

struct str spam_domain_utf8(struct arena *a, struct str domain)
{
    struct str small = arena_lower(a, str_head(domain, DOMAIN_SIZE_MAX)), result = small;
    char *utf8 = NULL;

    if (str_find(small, STR("xn--")) >= 0 &&
        idn2_to_unicode_8z8z(arena_c(a, small), &utf8, 0) == IDN2_OK)
        result = arena_str(a, str_c(utf8));
    idn2_free(utf8);
    return result;
}

static void *grown(struct arena *a, void *v, size_t count, size_t *cap, size_t size)
{
    char *bigger;

    if (count < *cap)
        return v;
    *cap = *cap == 0 ? KNOWN_COUNT_FIRST : *cap * 2;
    bigger = arena_array(a, *cap, size);
    if (count > 0)
        memcpy(bigger, v, count * size);
    return bigger;
}

struct spam_known *spam_known_new(struct arena *a)
{
    struct spam_known *k = ARENA_NEW(a, struct spam_known);

    k->arena = a;
    return k;
}

void spam_known_add_domain(struct spam_known *k, struct str domain, bool is_ours)
{
    struct str utf8 = spam_domain_utf8(k->arena, domain),
               family = is_ours ? utf8 : spam_family(utf8);

    if (k->domain_count >= SPAM_KNOWN_DOMAINS_MAX || family.n == 0)
        return;
    k->domains = grown(k->arena, k->domains, k->domain_count, &k->domain_cap, sizeof *k->domains);
    k->domains[k->domain_count++] =
        (struct known_domain){family, spam_skeleton(k->arena, family), is_ours};
}

static bool is_within(struct str domain, struct str parent)
{
    return str_ieq(domain, parent) || (domain.n > parent.n && str_iends(domain, parent) &&
                                       domain.p[domain.n - parent.n - 1] == '.');
}

bool spam_is_ours(const struct spam_known *k, struct str domain)
{
    for (size_t i = 0; i < k->domain_count; i++)
        if (k->domains[i].is_ours && is_within(domain, k->domains[i].family))
            return true;
    return false;
}

static size_t common_head(struct str a, struct str b)
{
    size_t n = 0;

    while (n < a.n && n < b.n && a.p[n] == b.p[n])
        n++;
    return n;
}

/* Letters of UTF-8 count as their bytes: a look-alike is found by its skeleton anyway. */
static bool is_one_edit(struct str a, struct str b)
{
    size_t at = common_head(a, b);
    struct str x = str_from(a, at), y = str_from(b, at);

    if (x.n == 0 && y.n == 0)
        return false;
    if (x.n == y.n && str_eq(str_from(x, 1), str_from(y, 1)))
        return true;
    if (x.n == y.n && x.n > 1 && x.p[0] == y.p[1] && x.p[1] == y.p[0])
        return str_eq(str_from(x, 2), str_from(y, 2));
    return (x.n == y.n + 1 && str_eq(str_from(x, 1), y)) ||
           (y.n == x.n + 1 && str_eq(str_from(y, 1), x));
}

static bool is_known(const struct spam_known *k, struct str domain)
{
    for (size_t i = 0; i < k->domain_count; i++)
        if (is_within(domain, k->domains[i].family))
            return true;
    return false;
}

static size_t label_size(struct str family)
{
    struct str label, rest;

    str_cut(family, '.', &label, &rest);
    return label.n;
}

enum spam_likeness spam_likeness(struct arena *a, const struct spam_known *k, struct str domain)
{
    struct str utf8 = spam_domain_utf8(a, domain), family = spam_family(utf8);
    struct str skeleton = spam_skeleton(a, family);
    enum spam_likeness found = SPAM_UNLIKE;

    if (domain.n == 0 || is_known(k, utf8))
        return SPAM_UNLIKE;
    for (size_t i = 0; i < k->domain_count; i++) {
        const struct known_domain *d = &k->domains[i];
        if (label_size(d->family) < SPAM_IMITATED_SIZE_MIN)
            continue;
        if (str_eq(d->skeleton, skeleton))
            return SPAM_HOMOGRAPH;
        if (is_one_edit(d->family, family))
            found = SPAM_ONE_EDIT;
    }
    return found;
}

/* ---- people ---------------------------------------------------------------------------------- */

static int compare_words(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static size_t words_of(struct str text, struct str words[NAME_WORDS_MAX])
{
    size_t count = 0;

    for (size_t i = 0; i < text.n && count < NAME_WORDS_MAX;) {
        size_t from = i;
        while (i < text.n && strchr(" \t,.\"'()-_", text.p[i]) == NULL)
            i++;
        if (i > from)
            words[count++] = str_of(text.p + from, i - from);
        i++;
    }
    return count;
}

/* "Sari, Dewi" and "Dewi Sari" are one; empty when it says too little. */
static struct str name_form(struct arena *a, struct str name)
{
    struct str words[NAME_WORDS_MAX], text = spam_skeleton(a, str_head(name, NAME_SIZE_MAX));
    size_t count = words_of(text, words);
    struct str form = STR("");

    qsort(words, count, sizeof *words, compare_words);
    for (size_t i = 0; i < count; i++)
        form = arena_printf(a, "%.*s%s%.*s", STR_ARG(form), i > 0 ? " " : "", STR_ARG(words[i]));
    return count > 1 && form.n >= NAME_SIZE_MIN ? form : STR("");
}

void spam_known_add_person(struct spam_known *k, struct str name, struct str address)
{
    struct str form = name_form(k->arena, name);

    if (k->person_count >= SPAM_KNOWN_PEOPLE_MAX || form.n == 0)
        return;
    k->people = grown(k->arena, k->people, k->person_count, &k->person_cap, sizeof *k->people);
    k->people[k->person_count++] = (struct known_person){form, arena_lower(k->arena, address)};
}

/* Somebody may have the name and the address: then it is that one. */
static bool bears_name(struct arena *a, const struct spam_known *k, struct str name,
                       struct str address)
{
    struct str form = name_form(a, name);
    bool is_found = false;

    if (form.n == 0)
        return false;
    for (size_t i = 0; i < k->person_count; i++)
        if (str_eq(k->people[i].form, form)) {
            if (str_ieq(k->people[i].address, address))
                return false;
            is_found = true;
        }
    return is_found;
}

/* ---- an address as name ---------------------------------------------------------------------- */

static bool is_address_byte(char c)
{
    return (unsigned char)c > 127 || (c >= '0' && c <= '9') ||
           (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') || c == '.' || c == '-' || c == '_' ||
           c == '+';
}

static bool find_address(struct str text, struct str *address, struct str *domain)
{
    ptrdiff_t at = str_index(text, '@');
    size_t from = (size_t)at, to = (size_t)at + 1;

    if (at <= 0)
        return false;
    while (from > 0 && is_address_byte(text.p[from - 1]))
        from--;
    while (to < text.n && is_address_byte(text.p[to]))
        to++;
    *address = str_of(text.p + from, to - from);
    *domain = str_from(*address, (size_t)at - from + 1);
    while (domain->n > 0 && domain->p[domain->n - 1] == '.') {
        domain->n--;
        address->n--;
    }
    return from < (size_t)at && str_index(*domain, '.') > 0;
}

static void find_address_name(struct arena *a, const struct spam_known *k, struct str name,
                              struct str domain, struct spam_findings *out)
{
    struct str shown, shown_domain;

    if (!find_address(str_head(name, NAME_SIZE_MAX), &shown, &shown_domain) ||
        str_ieq(spam_family(shown_domain), spam_family(domain)))
        return;
    spam_find(a, out,
              spam_is_ours(k, shown_domain) ? SPAM_FINDING_NAME_IS_OUR_ADDRESS
                                            : SPAM_FINDING_NAME_IS_ADDRESS,
              shown);
}

void spam_find_lookalikes(struct arena *a, const struct spam_known *k, struct str name,
                          struct str local, struct str domain, struct spam_findings *out)
{
    struct str address = arena_printf(a, "%.*s@%.*s", STR_ARG(str_head(local, NAME_SIZE_MAX)),
                                      STR_ARG(str_head(domain, DOMAIN_SIZE_MAX)));
    enum spam_likeness likeness = spam_likeness(a, k, domain);

    if (spam_is_ours(k, domain))
        return; /* whether it is really from there is DMARC's to say */
    if (likeness != SPAM_UNLIKE)
        spam_find(a, out,
                  likeness == SPAM_HOMOGRAPH ? SPAM_FINDING_DOMAIN_HOMOGRAPH
                                             : SPAM_FINDING_DOMAIN_IMITATES,
                  spam_domain_utf8(a, domain));
    if (bears_name(a, k, name, address))
        spam_find(a, out, SPAM_FINDING_NAME_OF_COLLEAGUE, name);
    find_address_name(a, k, name, domain, out);
}
