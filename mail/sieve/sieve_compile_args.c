/* sieve_compile_args.c - arguments of a command or test, sorted by the tables: what each one is, whether it is allowed,
 * whether its extension was required, and what excludes what (RFC 5228, 2.6). */
#include <stdio.h>
#include "mail/sieve/sieve_compile_internal.h"

int sieve_fail_word(struct sieve_compiler *c, const struct sieve_word *word, const char *format,
                    ...)
{
    va_list ap;
    struct str text;

    va_start(ap, format);
    text = arena_vprintf(c->report->a, format, ap);
    va_end(ap);
    return sieve_fail(c->report, word->line, word->column, "%.*s", STR_ARG(text));
}

int sieve_fail_node(struct sieve_compiler *c, const char *format, ...)
{
    va_list ap;
    struct str text;

    va_start(ap, format);
    text = arena_vprintf(c->report->a, format, ap);
    va_end(ap);
    return sieve_fail(c->report, c->args.node->line, c->args.node->column, "%.*s", STR_ARG(text));
}

int sieve_use(struct sieve_compiler *c, unsigned line, unsigned column, const char *what,
              uint64_t extensions)
{
    uint64_t missing = extensions & ~c->required & ~c->by_ihave;

    c->args.needs |= extensions & ~c->required & c->by_ihave;
    if (missing == 0)
        return 0;
    for (unsigned i = 0; i < SIEVE_EXT_COUNT; i++)
        if (missing & (UINT64_C(1) << i))
            return sieve_fail(c->report, line, column,
                              "\"%s\" needs require [\"%s\"]: add it to the first line", what,
                              sieve_extension_name(i));
    return 0;
}

/* --- tags ----------------------------------------------------------------------------------------- */

static const struct sieve_tag_use *find_use(const struct sieve_verb *verb, struct str tag)
{
    for (unsigned set = 0; set < SIEVE_TAG_USES_MAX; set++)
        for (unsigned i = 0; i < verb->tags[set].n; i++)
            if (str_ieq(tag, str_c(sieve_tags[verb->tags[set].v[i].tag].word)))
                return &verb->tags[set].v[i];
    return NULL;
}

static int fail_unknown_tag(struct sieve_compiler *c, const struct sieve_word *word)
{
    c->is_unknown = true;
    return sieve_fail_word(c, word, "\"%s\" knows no \":%s\": correct its name or remove it",
                           c->args.verb->name, sieve_shown(c->report, word->tag));
}

/* Twice the same one, or two that exclude each other. */
static int check_alone(struct sieve_compiler *c, const struct sieve_word *word, enum sieve_tag tag)
{
    if (c->args.tags[tag] != NULL)
        return sieve_fail_word(c, word, "\":%s\" stands here twice: remove one of them",
                               sieve_tags[tag].word);
    if (sieve_tags[tag].group == 0)
        return 0;
    for (unsigned other = 0; other < SIEVE_TAG_COUNT_ALL; other++)
        if (c->args.tags[other] != NULL && sieve_tags[other].group == sieve_tags[tag].group)
            return sieve_fail_word(c, word,
                                   "\":%s\" and \":%s\" exclude each other: remove one of them",
                                   sieve_tags[other].word, sieve_tags[tag].word);
    return 0;
}

static const char *wanted_name(char takes)
{
    return takes == 'n' ? "a number" : takes == 's' ? "a string" : "a string or a list of strings";
}

static bool is_of_type(const struct sieve_word *word, char takes)
{
    if (takes == 'n')
        return word->kind == SIEVE_WORD_NUMBER;
    return word->kind == SIEVE_WORD_STRINGS && (takes == 'S' || !word->is_list);
}

/* Takes a tag and what belongs to it; *word is then the last word taken. */
static int read_tag(struct sieve_compiler *c, const struct sieve_word **word)
{
    const struct sieve_word *tag = *word;
    const struct sieve_tag_use *use = find_use(c->args.verb, tag->tag);
    const struct sieve_tag_info *info;
    char what[40];

    if (use == NULL)
        return fail_unknown_tag(c, tag);
    info = &sieve_tags[use->tag];
    snprintf(what, sizeof what, ":%s", info->word);
    if (check_alone(c, tag, use->tag) < 0 ||
        sieve_use(c, tag->line, tag->column, what, use->needs) < 0)
        return -1;
    c->args.tags[use->tag] = tag;
    if (info->takes == 0)
        return 0;
    if (tag->next == NULL || !is_of_type(tag->next, info->takes))
        return sieve_fail_word(c, tag, "\":%s\" needs %s behind it", info->word,
                               wanted_name(info->takes));
    *word = c->args.values[use->tag] = tag->next;
    return 0;
}

/* --- arguments without tag ------------------------------------------------------------------------ */

static unsigned count_required(const char *takes)
{
    unsigned n = 0;

    for (; *takes != 0; takes++)
        if (*takes == '?')
            takes++;
        else
            n++;
    return n;
}

/* Which are missing: optional ones are filled from the left as far as there are enough. */
static int sort_positional(struct sieve_compiler *c, const struct sieve_word *const *words,
                           unsigned count)
{
    const char *takes = c->args.verb->takes;
    unsigned required = count_required(takes), spare, at = 0;

    if (count < required)
        return sieve_fail_node(c, "\"%s\" needs %u more argument%s: it takes %u",
                               c->args.verb->name, required - count,
                               required - count == 1 ? "" : "s", required);
    spare = count - required;
    for (unsigned i = 0; *takes != 0; i++, takes++) {
        if (*takes == '?') {
            takes++;
            if (spare == 0)
                continue;
            spare--;
        }
        if (!is_of_type(words[at], *takes))
            return sieve_fail_word(c, words[at], "\"%s\" needs %s here", c->args.verb->name,
                                   wanted_name(*takes));
        c->args.given[i] = words[at++];
    }
    if (spare > 0)
        return sieve_fail_word(c, words[at],
                               "\"%s\" takes no more arguments: remove this one, or put strings "
                               "into a list: [\"a\", \"b\"]",
                               c->args.verb->name);
    return 0;
}

static int read_words(struct sieve_compiler *c)
{
    const struct sieve_word *words[SIEVE_POSITIONAL_MAX + 1] = {NULL};
    unsigned count = 0;

    for (const struct sieve_word *word = c->args.node->words; word != NULL; word = word->next) {
        if (word->kind != SIEVE_WORD_TAG) {
            if (count <= SIEVE_POSITIONAL_MAX)
                words[count++] = word;
            continue;
        }
        if (count > 0)
            return sieve_fail_word(
                c, word, "tags stand before the other arguments: put \":%s\" right behind \"%s\"",
                sieve_shown(c->report, word->tag), c->args.verb->name);
        if (read_tag(c, &word) < 0)
            return -1;
    }
    return sort_positional(c, words, count);
}

static int check_shape(struct sieve_compiler *c)
{
    const struct sieve_node *node = c->args.node;

    if (node->tests != NULL && c->args.verb->command == NULL && c->args.verb->test != NULL)
        return sieve_fail(
            c->report, node->tests->line, node->tests->column,
            "\"%s\" cannot follow \"%s\": put both into allof (..., ...) or anyof (..., ...)",
            sieve_shown(c->report, node->tests->name), c->args.verb->name);
    if (node->tests != NULL)
        return sieve_fail(c->report, node->tests->line, node->tests->column,
                          "\"%s\" takes no test: end it with \";\" before \"%s\"",
                          c->args.verb->name, sieve_shown(c->report, node->tests->name));
    if (node->has_block && !c->args.verb->has_block)
        return sieve_fail_node(c, "\"%s\" takes no block: end it with \";\"", c->args.verb->name);
    if (!node->has_block && c->args.verb->has_block)
        return sieve_fail_node(c, "\"%s\" needs a block: put commands in { and } behind it",
                               c->args.verb->name);
    return 0;
}

int sieve_read_args(struct sieve_compiler *c, const struct sieve_node *node,
                    const struct sieve_verb *verb)
{
    memset(&c->args, 0, sizeof c->args);
    c->args.node = node;
    c->args.verb = verb;
    if (sieve_use(c, node->line, node->column, verb->name, verb->needs) < 0 || check_shape(c) < 0)
        return -1;
    return read_words(c);
}
