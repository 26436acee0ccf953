/* milter_list.c - the setting `milters`, taken apart. */
#include "mail/milter/milter_list.h"

#include <sys/un.h>

#define PATH_SIZE_MAX (sizeof((struct sockaddr_un *)0)->sun_path - 1)

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

/* "host:port", "[::1]:port". */
static bool parse_inet(struct str text, struct milter_target *out)
{
    struct str port;
    uint32_t number;

    if (!str_rcut(text, ':', &out->host, &port) || !str_to_u32(port, &number) || number == 0 ||
        number > 65535)
        return false;
    if (str_starts(out->host, STR("[")) && str_ends(out->host, STR("]")))
        out->host = str_of(out->host.p + 1, out->host.n - 2);
    else if (str_index(out->host, ':') >= 0)
        return false;
    out->port = (uint16_t)number;
    return out->host.n > 0;
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
    if (str_skip_prefix(&where, STR("unix:"))) {
        out->host = where;
        return str_starts(where, STR("/")) && where.n <= PATH_SIZE_MAX ? 0 : bad_entry(entry, err);
    }
    if (str_skip_prefix(&where, STR("inet:")) && parse_inet(where, out))
        return 0;
    return bad_entry(entry, err);
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
