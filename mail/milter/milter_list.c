/* milter_list.c - the setting `milters`, taken apart. */
#include "mail/milter/milter_list.h"

static int bad_entry(struct str entry, struct error *err)
{
    return fail(err, ERR_SYNTAX,
                "milters: \"%.*s\" is no milter; write inet:host:port or unix:/path, with =accept, "
                "=tempfail or =reject behind it for when it is away",
                STR_ARG(str_head(entry, 80)));
}

static bool parse_away(struct str word, enum milter_away *out)
{
    static const char *const words[] = {[MILTER_AWAY_TEMPFAIL] = "tempfail",
                                        [MILTER_AWAY_ACCEPT] = "accept",
                                        [MILTER_AWAY_REJECT] = "reject"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (str_ieq(word, str_c(words[i]))) {
            *out = (enum milter_away)i;
            return true;
        }
    }
    return false;
}

static int parse_entry(struct str entry, struct milter_target *out, struct error *err)
{
    struct str where, away;

    *out = (struct milter_target){.name = entry};
    if (str_rcut(entry, '=', &where, &away)) {
        if (!parse_away(away, &out->away))
            return bad_entry(entry, err);
        out->name = where;
    } else {
        where = entry;
    }
    return dial_target_parse(where, &out->where) ? 0 : bad_entry(entry, err);
}

static bool next_entry(struct str *rest, struct str *entry)
{
    size_t n = 0;

    while (rest->n > 0 && strchr(", \t", rest->p[0]) != NULL)
        *rest = str_from(*rest, 1);
    while (n < rest->n && strchr(", \t", rest->p[n]) == NULL)
        n++;
    *entry = str_head(*rest, n);
    *rest = str_from(*rest, n);
    return n > 0;
}

int milter_list_parse(struct arena *a, struct str setting, struct milter_list *out,
                      struct error *err)
{
    struct str rest = arena_str(a, setting), entry;

    *out = (struct milter_list){ARENA_ARRAY(a, MILTERS_MAX, struct milter_target), 0};
    while (next_entry(&rest, &entry)) {
        if (out->n == MILTERS_MAX)
            return fail(err, ERR_SYNTAX, "milters: more than %d of them", MILTERS_MAX);
        if (parse_entry(entry, &out->v[out->n++], err) < 0)
            return -1;
    }
    return 0;
}
