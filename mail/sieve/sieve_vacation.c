/* sieve_vacation.c - no answer to lists, to other programs, to oneself, and to what was not addressed to one. */
#include "mail/sieve/sieve_vacation.h"

#include "server/run/config.h"

static struct str local_of(struct str address)
{
    struct str local, domain;

    str_rcut(address, '@', &local, &domain);
    return local;
}

/* RFC 5230, 4.6 and what programs are called today. */
static bool is_program(struct str sender)
{
    static const char *const names[] = {"mailer-daemon", "listserv",   "majordomo",  "noreply",
                                        "no-reply",      "no_reply",   "donotreply", "do-not-reply",
                                        "do_not_reply",  "bounce",     "bounces",    "postmaster",
                                        "autoreply",     "auto-reply", NULL};
    struct str local = local_of(sender);

    for (size_t i = 0; names[i] != NULL; i++)
        if (str_ieq(local, str_c(names[i])))
            return true;
    return str_istarts(local, STR("owner-")) || str_istarts(local, STR("bounce-")) ||
           str_istarts(local, STR("bounces+")) || str_istarts(local, STR("bounce+")) ||
           str_istarts(local, STR("noreply-")) || str_istarts(local, STR("no-reply-")) ||
           str_istarts(local, STR("noreply+")) || str_istarts(local, STR("srs0=")) ||
           str_iends(local, STR("-request")) || str_iends(local, STR("-bounces")) ||
           str_iends(local, STR("-owner")) || str_iends(local, STR("-relay"));
}

static struct str first_value(struct sieve_run *r, const char *name)
{
    struct sieve_fields *f = sieve_fields_named(r, str_c(name));

    return f->n > 0 ? f->v[0].text.text : STR_NULL;
}

/* "no" and nothing else means a person wrote it (RFC 3834, 5). */
static bool is_auto_submitted(struct sieve_run *r)
{
    struct str value = first_value(r, "auto-submitted"), word, rest;

    if (value.p == NULL)
        return false;
    str_cut(value, ';', &word, &rest);
    str_cut(str_trim(word), ' ', &word, &rest);
    return !str_ieq(word, STR("no"));
}

static bool is_bulk(struct sieve_run *r)
{
    struct str precedence = first_value(r, "precedence");

    return precedence.p != NULL &&
           (str_ieq(precedence, STR("bulk")) || str_ieq(precedence, STR("list")) ||
            str_ieq(precedence, STR("junk")));
}

static bool is_from_list(struct sieve_run *r)
{
    size_t count;
    const struct header_field *fields = sieve_message_fields(&r->message, &count);

    for (size_t i = 0; i < count; i++)
        if (str_istarts(fields[i].name, STR("List-")) ||
            str_ieq(fields[i].name, STR("Mailing-List")))
            return true;
    return false;
}

/* Exchange's own way to say "do not answer" (MS-OXCMAIL, 2.2.3.2.14). */
static bool suppresses_answers(struct sieve_run *r)
{
    struct str value = first_value(r, "x-auto-response-suppress");

    return value.p != NULL &&
           (str_ifind(value, STR("all")) >= 0 || str_ifind(value, STR("oof")) >= 0 ||
            str_ifind(value, STR("autoreply")) >= 0);
}

/* ---- was it addressed to me? ------------------------------------------------------------------ */

static bool is_same_address(struct str a, struct str b)
{
    struct str local_a, domain_a, local_b, domain_b, rest;

    if (str_ieq(a, b))
        return true;
    if (!str_rcut(a, '@', &local_a, &domain_a) || !str_rcut(b, '@', &local_b, &domain_b))
        return false;
    /* With and without the detail it is the same person. */
    if (config.recipient_delimiter[0] != '\0')
        str_cut(local_a, config.recipient_delimiter[0], &local_a, &rest);
    return str_ieq(local_a, local_b) && str_ieq(domain_a, domain_b);
}

static bool is_mine(const struct sieve_run *r, const struct str *addresses, size_t count,
                    struct str address)
{
    const struct sieve_mail *m = r->mail;

    for (size_t i = 0; i < count; i++)
        if (str_ieq(address, addresses[i]))
            return true;
    for (size_t i = 0; i < m->own_addresses_count; i++)
        if (is_same_address(address, m->own_addresses[i]))
            return true;
    return is_same_address(address, m->account_address) ||
           (!str_empty(m->recipient) && is_same_address(address, m->recipient)) ||
           (!str_empty(m->original_recipient) && is_same_address(address, m->original_recipient));
}

static bool names_me(struct sieve_run *r, const struct str *addresses, size_t count,
                     const char *name)
{
    struct sieve_fields *f = sieve_fields_named(r, str_c(name));

    for (size_t i = 0; i < f->n; i++) {
        struct addresses list;
        address_parse_list(r->scratch, f->v[i].raw, &list);
        for (size_t k = 0; k < list.n; k++) {
            const struct address *x = &list.v[k];
            struct str whole = sieve_address_of_part(r->scratch, x->local, x->domain, SIEVE_ALL);
            if (!str_empty(x->domain) && is_mine(r, addresses, count, whole))
                return true;
        }
    }
    return false;
}

static bool is_addressed_to_me(struct sieve_run *r, const struct str *addresses, size_t count)
{
    static const char *const names[] = {"to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names_me(r, addresses, count, names[i]))
            return true;
    return false;
}

const char *sieve_vacation_refusal(struct sieve_run *r, const struct str *addresses, size_t count)
{
    struct str sender = r->mail->sender;

    if (str_empty(sender))
        return "the message has no sender to answer";
    if (!sieve_address_valid(sender))
        return "the sender is no address that can be answered";
    if (is_program(sender))
        return "the sender is a program";
    if (is_mine(r, addresses, count, sender))
        return "you sent the message yourself";
    if (is_auto_submitted(r))
        return "a program sent the message";
    if (is_from_list(r))
        return "the message came through a list";
    if (is_bulk(r))
        return "the message is bulk mail";
    if (suppresses_answers(r))
        return "the sender wants no automatic answers";
    if (!is_addressed_to_me(r, addresses, count))
        return "none of your addresses is among the recipients in the header";
    return NULL;
}
