/* filter_hooks.c - answers from the store. The mailboxes of an account are read once for a run, when a script asks first. */
#include "mail/filter/filter_hooks.h"

#include "mail/store/metadata.h"
#include "mail/store/sieve_store.h"
#include "server/directory/directory.h"

#define VALUE_SIZE_MAX ((uint64_t)64 << 10)

/* ---- mailboxes ------------------------------------------------------------------------------- */

static int read_mailboxes(struct filter_place *p, struct error *err)
{
    if (p->mailboxes != NULL)
        return 0;
    return mailbox_list(p->arena, p->account_id, &p->mailboxes, &p->mailbox_count, err);
}

int filter_find_mailbox(struct filter_place *p, struct str path, const struct mailbox **out,
                        struct error *err)
{
    struct str canonical;
    struct error cause = {0};

    *out = NULL;
    if (mailbox_path_canonical(p->arena, path, &canonical, &cause) < 0)
        return 0;
    if (read_mailboxes(p, err) < 0)
        return -1;
    for (size_t i = 0; i < p->mailbox_count && *out == NULL; i++)
        if (str_eq(p->mailboxes[i].path, canonical))
            *out = &p->mailboxes[i];
    return 0;
}

/* "F1-7": mailbox 7 of account 1, as IMAP tells it. */
static bool parse_id(const struct filter_place *p, struct str id, int64_t *mailbox_id)
{
    struct str account, number;
    uint64_t account_id, n;

    if (!str_starts(id, STR("F")) || !str_cut(str_from(id, 1), '-', &account, &number) ||
        !str_to_u64(account, &account_id) || !str_to_u64(number, &n))
        return false;
    *mailbox_id = (int64_t)n;
    return account_id == (uint64_t)p->account_id;
}

int filter_find_mailbox_id(struct filter_place *p, struct str id, const struct mailbox **out,
                           struct error *err)
{
    int64_t mailbox_id;

    *out = NULL;
    if (!parse_id(p, id, &mailbox_id))
        return 0;
    if (read_mailboxes(p, err) < 0)
        return -1;
    for (size_t i = 0; i < p->mailbox_count && *out == NULL; i++)
        if (p->mailboxes[i].mailbox_id == mailbox_id)
            *out = &p->mailboxes[i];
    return 0;
}

int filter_find_special_use(struct filter_place *p, struct str attribute,
                            const struct mailbox **out, struct error *err)
{
    *out = NULL;
    if (!str_starts(attribute, STR("\\")))
        return 0;
    if (read_mailboxes(p, err) < 0)
        return -1;
    for (size_t i = 0; i < p->mailbox_count && *out == NULL; i++)
        if (str_ieq(p->mailboxes[i].role, str_from(attribute, 1)))
            *out = &p->mailboxes[i];
    return 0;
}

int filter_make_mailbox(struct filter_place *p, struct str path, const struct mailbox **out,
                        struct error *err)
{
    struct error cause = {0};
    int64_t mailbox_id;

    *out = NULL;
    if (mailbox_create(p->account_id, path, STR(""), &mailbox_id, &cause) < 0 &&
        cause.kind != ERR_EXISTS)
        return cause.kind == ERR_TRY_LATER ? fail(err, cause.kind, "%s", cause.text) : 0;
    p->mailboxes = NULL;
    return filter_find_mailbox(p, path, out, err);
}

int filter_find_target(struct filter_place *p, const struct sieve_target *t, bool makes,
                       const struct mailbox **out, struct error *err)
{
    *out = NULL;
    if (!str_empty(t->mailbox_id) && filter_find_mailbox_id(p, t->mailbox_id, out, err) < 0)
        return -1;
    if (*out == NULL && !str_empty(t->special_use) &&
        filter_find_special_use(p, t->special_use, out, err) < 0)
        return -1;
    if (*out == NULL && filter_find_mailbox(p, t->mailbox, out, err) < 0)
        return -1;
    if (*out == NULL && t->creates && makes)
        return filter_make_mailbox(p, t->mailbox, out, err);
    return 0;
}

/* ---- flags ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t flag;
} system_flags[] = {{"\\Seen", FLAG_SEEN},
                    {"\\Answered", FLAG_ANSWERED},
                    {"\\Flagged", FLAG_FLAGGED},
                    {"\\Deleted", FLAG_DELETED},
                    {"\\Draft", FLAG_DRAFT}};

static uint32_t system_flag(struct str name)
{
    for (size_t i = 0; i < sizeof system_flags / sizeof *system_flags; i++)
        if (str_ieq(name, str_c(system_flags[i].name)))
            return system_flags[i].flag;
    return 0;
}

static bool has_keyword(const struct str *v, size_t n, struct str name)
{
    for (size_t i = 0; i < n; i++)
        if (str_ieq(v[i], name))
            return true;
    return false;
}

void filter_add_flags(struct arena *a, const struct sieve_target *target, uint32_t *flags,
                      struct keywords *keywords)
{
    struct str *v = ARENA_ARRAY(a, KEYWORDS_PER_MESSAGE_MAX, struct str);
    size_t n = keywords->n;

    for (size_t i = 0; i < n; i++)
        v[i] = keywords->v[i];
    for (size_t i = 0; i < target->flags_count; i++) {
        struct str name = target->flags[i];
        uint32_t flag = system_flag(name);

        *flags |= flag;
        if (flag == 0 && !str_starts(name, STR("\\")) && name.n <= KEYWORD_SIZE_MAX &&
            n < KEYWORDS_PER_MESSAGE_MAX && !has_keyword(v, n, name))
            v[n++] = name;
    }
    *keywords = (struct keywords){v, n};
}

/* ---- the account ----------------------------------------------------------------------------- */

int filter_read_author(struct arena *a, int64_t account_id, struct filter_author *out,
                       struct error *err)
{
    struct account account;
    struct str *addresses;

    if (directory_get_account(a, account_id, &account, err) < 0 ||
        account_list_addresses(a, account_id, &addresses, &out->own_count, err) < 0)
        return -1;
    out->address = account.address;
    out->name = account.name;
    out->own_addresses = addresses;
    return 0;
}

/* ---- hooks ----------------------------------------------------------------------------------- */

static int include(void *context, enum sieve_location location, struct str name, struct arena *a,
                   struct sieve_script **out, struct sieve_fault *fault)
{
    struct filter_place *p = context;

    return filter_scripts_include(p->scripts, location, name, a, out, fault, &p->cause);
}

static int mailbox_exists(void *context, struct str path, bool *exists)
{
    struct filter_place *p = context;
    const struct mailbox *mailbox;

    if (filter_find_mailbox(p, path, &mailbox, &p->cause) < 0)
        return -1;
    *exists = mailbox != NULL;
    return 0;
}

static int mailbox_by_id(void *context, struct arena *a, struct str id, struct str *path)
{
    struct filter_place *p = context;
    const struct mailbox *mailbox;

    if (filter_find_mailbox_id(p, id, &mailbox, &p->cause) < 0)
        return -1;
    *path = mailbox != NULL ? mailbox->path : STR("");
    return 0;
}

static int special_use(void *context, struct arena *a, struct str path, struct str attribute,
                       struct str *found)
{
    struct filter_place *p = context;
    const struct mailbox *mailbox, *asked;

    *found = STR("");
    if (filter_find_special_use(p, attribute, &mailbox, &p->cause) < 0)
        return -1;
    if (mailbox == NULL || str_empty(path)) {
        *found = mailbox != NULL ? mailbox->path : STR("");
        return 0;
    }
    if (filter_find_mailbox(p, path, &asked, &p->cause) < 0)
        return -1;
    if (asked == mailbox)
        *found = mailbox->path;
    return 0;
}

static int read_annotation(struct filter_place *p, struct arena *a, int64_t mailbox_id,
                           struct str entry, struct annotation **v, size_t *count)
{
    struct metadata_query query = {.names = &entry, .name_count = 1, .size_max = VALUE_SIZE_MAX};

    if (mailbox_id == 0)
        return metadata_find_server(a, p->account_id, &query, v, count, &p->cause);
    return metadata_find(a, p->account_id, &mailbox_id, 1, p->account_id, &query, v, count,
                         &p->cause);
}

static int metadata(void *context, struct arena *a, struct str path, struct str name, bool *exists,
                    struct str *value)
{
    struct filter_place *p = context;
    const struct mailbox *mailbox = NULL;
    struct annotation *v;
    struct str entry;
    size_t count;

    *exists = false;
    if (!metadata_entry_canonical(a, name, false, &entry))
        return 0;
    if (!str_empty(path) && filter_find_mailbox(p, path, &mailbox, &p->cause) < 0)
        return -1;
    if (!str_empty(path) && mailbox == NULL)
        return 0;
    if (read_annotation(p, a, mailbox != NULL ? mailbox->mailbox_id : 0, entry, &v, &count) < 0)
        return -1;
    if (count == 0 || v[0].value.p == NULL)
        return 0;
    *exists = true;
    *value = v[0].value;
    return 0;
}

static int was_seen(void *context, struct str handle, struct str id, bool *seen)
{
    struct filter_place *p = context;
    struct str parts[] = {STR("duplicate"), handle, id};

    return sieve_store_remembers(p->account_id, parts, 3, seen, &p->cause);
}

void filter_hooks_fill(struct filter_place *place, struct sieve_hooks *hooks)
{
    *hooks = (struct sieve_hooks){
        .context = place,
        .include = include,
        .mailbox_exists = mailbox_exists,
        .mailbox_by_id = mailbox_by_id,
        .special_use = special_use,
        .metadata = metadata,
        .was_seen = was_seen,
    };
}
