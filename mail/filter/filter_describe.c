/* filter_describe.c - words for what scripts decide. Whatever a message or a script brought along is cut and kept on one line. */
#include "mail/filter/filter_describe.h"

#define SHOWN_SIZE_MAX 120
#define FLAGS_SHOWN    20

/* At most so many bytes, whole characters. */
static struct str cut(struct str text)
{
    size_t n = SHOWN_SIZE_MAX;

    if (text.n <= n)
        return text;
    while (n > 0 && ((unsigned char)text.p[n] & 0xc0) == 0x80)
        n--;
    return str_head(text, n);
}

static struct str shown(struct arena *a, struct str text)
{
    bool is_cut = text.n > SHOWN_SIZE_MAX;
    struct str out = arena_str(a, cut(str_trim(text)));
    char *p = (char *)out.p;

    for (size_t i = 0; i < out.n; i++)
        if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
            p[i] = ' ';
    return is_cut ? arena_printf(a, "%.*s...", STR_ARG(out)) : out;
}

struct str filter_describe_flags(struct arena *a, const struct sieve_target *target)
{
    struct str out = STR("");

    for (size_t i = 0; i < target->flags_count && i < FLAGS_SHOWN; i++)
        out = arena_printf(a, "%.*s%s%.*s", STR_ARG(out), i == 0 ? "" : " ",
                           STR_ARG(shown(a, target->flags[i])));
    return out;
}

static struct str with_flags(struct arena *a, struct str what, const struct sieve_action *action)
{
    struct str flags = filter_describe_flags(a, &action->target);

    if (action->is_copy)
        what = arena_printf(a, "%.*s (a copy)", STR_ARG(what));
    return str_empty(flags) ? what
                            : arena_printf(a, "%.*s (flags %.*s)", STR_ARG(what), STR_ARG(flags));
}

static struct str with_text(struct arena *a, const char *what, struct str object)
{
    return arena_printf(a, "%s%.*s", what, STR_ARG(shown(a, object)));
}

static struct str place_of(const struct sieve_target *t)
{
    if (!str_empty(t->mailbox))
        return t->mailbox;
    return str_empty(t->special_use) ? t->mailbox_id : t->special_use;
}

struct str filter_describe_action(struct arena *a, const struct sieve_action *action)
{
    switch (action->kind) {
    case SIEVE_KEEP:
        return with_flags(a, STR("keep"), action);
    case SIEVE_FILEINTO:
        return with_flags(a, with_text(a, "fileinto ", place_of(&action->target)), action);
    case SIEVE_REDIRECT:
        return with_flags(a, with_text(a, "redirect ", action->address), action);
    case SIEVE_REJECT:
    case SIEVE_EREJECT:
        return with_text(a, "reject: ", action->text);
    case SIEVE_DISCARD:
        return STR("discard");
    case SIEVE_VACATION:
        return with_text(a, "vacation answer to ", action->address);
    case SIEVE_NOTIFY:
        return with_text(a, "notice to ", action->method);
    case SIEVE_DUPLICATE_MARK:
        return with_text(a, "remember as seen ", action->id);
    case SIEVE_SET_FLAGS:
        return with_flags(a, STR("set flags"), action);
    }
    return STR("");
}

struct str filter_describe_note(struct arena *a, const struct sieve_note *note)
{
    if (str_empty(note->test))
        return STR("");
    return arena_printf(a, "%.*s: \"%.*s\" meets \"%.*s\"", STR_ARG(note->test),
                        STR_ARG(shown(a, note->value)), STR_ARG(shown(a, note->key)));
}
