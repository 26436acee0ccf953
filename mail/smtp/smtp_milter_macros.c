/* smtp_milter_macros.c - one function for each macro of a milter conversation. */
#include "mail/smtp/smtp_milter_macros.h"

#include <netinet/in.h>

#include "server/base/net.h"
#include "server/run/config.h"

static struct str port_text(struct smtp_session *s, const struct sockaddr_storage *address)
{
    unsigned port = 0;

    if (address->ss_family == AF_INET)
        port = ntohs(((const struct sockaddr_in *)address)->sin_port);
    else if (address->ss_family == AF_INET6)
        port = ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
    return arena_printf(s->command_arena, "%u", port);
}

static struct str domain_of(struct str address)
{
    struct str local, domain;

    return str_rcut(address, '@', &local, &domain) ? domain : STR("");
}

static struct str hostname(struct smtp_macros *m)
{
    return str_c(config.hostname);
}

static struct str daemon_name(struct smtp_macros *m)
{
    return m->session->role == SMTP_SUBMISSION ? STR("submission") : STR("smtp");
}

static struct str daemon_addr(struct smtp_macros *m)
{
    return net_text(m->session->command_arena, conn_local(m->session->conn), 32, 128);
}

static struct str daemon_port(struct smtp_macros *m)
{
    return port_text(m->session, conn_local(m->session->conn));
}

static struct str version(struct smtp_macros *m)
{
    return STR("Merpati " MERPATI_VERSION);
}

static struct str client_addr(struct smtp_macros *m)
{
    return conn_peer_text(m->session->conn);
}

static struct str client_name(struct smtp_macros *m)
{
    return str_empty(m->client_name) ? STR("unknown") : m->client_name;
}

static struct str client_port(struct smtp_macros *m)
{
    return port_text(m->session, conn_peer(m->session->conn));
}

static struct str client(struct smtp_macros *m)
{
    return arena_printf(m->session->command_arena, "%.*s [%.*s]", STR_ARG(client_name(m)),
                        STR_ARG(client_addr(m)));
}

static struct str queue_id(struct smtp_macros *m)
{
    return m->session->tx.trace_id != 0 ? str_c(m->session->tx.trace_text) : STR("");
}

static struct str auth_type(struct smtp_macros *m)
{
    return m->session->is_logged_in ? str_c(m->session->auth_mechanism) : STR("");
}

static struct str auth_authen(struct smtp_macros *m)
{
    return m->session->is_logged_in ? m->session->account_address : STR("");
}

static struct str auth_author(struct smtp_macros *m)
{
    return m->session->tx.params.submitter;
}

/* "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256 bits)": the nth word of it. */
static struct str tls_word(struct smtp_macros *m, unsigned nth)
{
    struct str rest = STR(""), word = STR("");

    if (conn_is_tls(m->session->conn))
        rest = conn_tls_description(m->session->conn);
    for (unsigned i = 0; i <= nth; i++)
        if (!str_next_token(&rest, ' ', &word))
            return STR("");
    str_skip_prefix(&word, STR("("));
    return word;
}

static struct str tls_version(struct smtp_macros *m)
{
    return tls_word(m, 0);
}

static struct str cipher(struct smtp_macros *m)
{
    return tls_word(m, 3);
}

static struct str cipher_bits(struct smtp_macros *m)
{
    return tls_word(m, 4);
}

static struct str mail_addr(struct smtp_macros *m)
{
    return m->session->tx.sender;
}

static struct str mail_host(struct smtp_macros *m)
{
    return domain_of(m->session->tx.sender);
}

static struct str rcpt_addr(struct smtp_macros *m)
{
    return m->rcpt;
}

static struct str rcpt_host(struct smtp_macros *m)
{
    return domain_of(m->rcpt);
}

static const struct {
    const char *name;
    struct str (*value)(struct smtp_macros *m);
} table[] = {
    {"j", hostname},
    {"v", version},
    {"_", client},
    {"i", queue_id},
    {"daemon_name", daemon_name},
    {"daemon_addr", daemon_addr},
    {"daemon_port", daemon_port},
    {"if_name", hostname},
    {"if_addr", daemon_addr},
    {"client_addr", client_addr},
    {"client_name", client_name},
    {"client_ptr", client_name},
    {"client_port", client_port},
    {"auth_type", auth_type},
    {"auth_authen", auth_authen},
    {"auth_author", auth_author},
    {"tls_version", tls_version},
    {"cipher", cipher},
    {"cipher_bits", cipher_bits},
    {"mail_addr", mail_addr},
    {"mail_host", mail_host},
    {"rcpt_addr", rcpt_addr},
    {"rcpt_host", rcpt_host},
};

struct str smtp_macro_value(void *arg, struct str name)
{
    if (name.n > 2 && name.p[0] == '{' && name.p[name.n - 1] == '}')
        name = str_of(name.p + 1, name.n - 2);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (str_eq(name, str_c(table[i].name)))
            return table[i].value(arg);
    return STR("");
}
