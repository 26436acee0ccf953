/* sieve_values_environment.c - what a script may know of where it runs (RFC 5183; RFC 6785, 4). */
#include "mail/sieve/sieve_run_internal.h"

static struct str flags_text(struct sieve_run *r, const struct sieve_imap *imap)
{
    struct buf b;
    struct str out;

    buf_init(&b, SIEVE_STRING_SIZE_MAX);
    for (size_t i = 0; i < imap->changed_flags_count; i++) {
        if (i > 0)
            buf_addc(&b, ' ');
        buf_add(&b, imap->changed_flags[i]);
    }
    out = arena_str(r->scratch, buf_str(&b));
    buf_fini(&b);
    return out;
}

/* p NULL: there is no such item. */
static struct str imap_item(struct sieve_run *r, struct str name)
{
    const struct sieve_imap *imap = r->mail->imap;

    if (imap == NULL || !str_skip_prefix(&name, STR("imap.")))
        return STR_NULL;
    if (str_ieq(name, STR("user")))
        return imap->user;
    if (str_ieq(name, STR("email")))
        return imap->email;
    if (str_ieq(name, STR("cause")))
        return imap->cause;
    if (str_ieq(name, STR("mailbox")))
        return imap->mailbox;
    if (str_ieq(name, STR("changedflags")))
        return flags_text(r, imap);
    return STR_NULL;
}

static struct str item(struct sieve_run *r, struct str name)
{
    const struct sieve_mail *m = r->mail;
    const struct {
        struct str name, value;
    } items[] = {
        {STR("domain"), m->env_domain},
        {STR("host"), m->env_host},
        {STR("location"), m->env_location},
        {STR("phase"), m->env_phase},
        {STR("remote-host"), m->env_remote_host},
        {STR("remote-ip"), m->env_remote_ip},
        {STR("name"), STR("Merpati")},
        {STR("version"), STR(MERPATI_VERSION)},
    };

    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++)
        if (str_ieq(name, items[i].name))
            return items[i].value;
    return imap_item(r, name);
}

/* What is unknown has no value, and no test of it is true (RFC 5183, 4). */
void sieve_environment_values(struct sieve_run *r, struct str name, struct sieve_values *out)
{
    struct str value = item(r, name);

    if (value.p != NULL)
        sieve_values_add_text(r, out, value);
}
