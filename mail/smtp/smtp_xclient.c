/* smtp_xclient.c - XCLIENT: a proxy that we trust says whom it speaks for (Postfix's protocol).
 *
 * All attributes are read before any takes effect. The session then begins anew, with the greeting, as if that client had
 * just connected: policies, logs, limits of log-ins and the Received field see it and not the proxy. What the
 * client connected to (DESTADDR, DESTPORT) is understood and of no use here. */
#include <arpa/inet.h>

#include "mail/smtp/smtp_internal.h"

#include "mail/mime/xtext.h"
#include "mail/smtp/smtp_milter.h"
#include "mail/smtp/smtp_policy.h"
#include "server/directory/directory.h"

struct xclient {
    struct arena *a;
    struct sockaddr_storage peer; /* AF_UNSPEC: not given */
    uint16_t port;
    struct str name, helo, login;
    bool has_proto, is_esmtp;
};

static bool is_unavailable(struct str value)
{
    return str_ieq(value, STR("[UNAVAILABLE]")) || str_ieq(value, STR("[TEMPUNAVAIL]"));
}

static int bad(const char *name, struct error *err)
{
    return fail(err, ERR_SYNTAX, "XCLIENT: %s has a bad value", name);
}

static int read_name(struct xclient *x, struct str value, struct error *err)
{
    if (is_unavailable(value))
        return 0;
    if (!smtp_helo_is_valid(value))
        return bad("NAME", err);
    x->name = value;
    return 0;
}

static int read_address(struct str value, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    bool is_ipv6 = str_skip_prefix(&value, STR("IPV6:")) || str_index(value, ':') >= 0;
    char text[INET6_ADDRSTRLEN];

    if (value.n >= sizeof text)
        return -1;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    out->ss_family = is_ipv6 ? AF_INET6 : AF_INET;
    return inet_pton(out->ss_family, text,
                     is_ipv6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr) == 1
               ? 0
               : -1;
}

static int read_addr(struct xclient *x, struct str value, struct error *err)
{
    if (is_unavailable(value))
        return 0;
    return read_address(value, &x->peer) < 0 ? bad("ADDR", err) : 0;
}

static int read_destaddr(struct xclient *x, struct str value, struct error *err)
{
    struct sockaddr_storage ignored;

    return is_unavailable(value) || read_address(value, &ignored) == 0 ? 0 : bad("DESTADDR", err);
}

static bool parse_port(struct str value, uint16_t *out)
{
    uint32_t port;

    if (!str_to_u32(value, &port) || port > UINT16_MAX)
        return false;
    *out = (uint16_t)port;
    return true;
}

static int read_port(struct xclient *x, struct str value, struct error *err)
{
    return is_unavailable(value) || parse_port(value, &x->port) ? 0 : bad("PORT", err);
}

static int read_destport(struct xclient *x, struct str value, struct error *err)
{
    uint16_t ignored;

    return is_unavailable(value) || parse_port(value, &ignored) ? 0 : bad("DESTPORT", err);
}

static int read_proto(struct xclient *x, struct str value, struct error *err)
{
    x->has_proto = true;
    x->is_esmtp = str_ieq(value, STR("ESMTP"));
    return x->is_esmtp || str_ieq(value, STR("SMTP")) ? 0 : bad("PROTO", err);
}

static int read_helo(struct xclient *x, struct str value, struct error *err)
{
    if (is_unavailable(value))
        return 0;
    if (!smtp_helo_is_valid(value))
        return bad("HELO", err);
    x->helo = value;
    return 0;
}

static int read_login(struct xclient *x, struct str value, struct error *err)
{
    x->login = is_unavailable(value) ? STR_NULL : value;
    return 0;
}

static const struct {
    const char *name;
    int (*read)(struct xclient *x, struct str value, struct error *err);
} attributes[] = {
    {"NAME", read_name},   {"REVERSE_NAME", read_name}, {"ADDR", read_addr},
    {"PORT", read_port},   {"PROTO", read_proto},       {"HELO", read_helo},
    {"LOGIN", read_login}, {"DESTADDR", read_destaddr}, {"DESTPORT", read_destport},
};

#define ATTRIBUTE_COUNT (sizeof attributes / sizeof *attributes)

static int read_attribute(struct xclient *x, struct str token, struct error *err)
{
    struct str name, value, decoded;

    if (!str_cut(token, '=', &name, &value) || str_empty(value) ||
        !xtext_decode(x->a, value, &decoded))
        return fail(err, ERR_SYNTAX, "XCLIENT: write NAME=value, with the value in xtext");
    for (size_t i = 0; i < ATTRIBUTE_COUNT; i++)
        if (str_ieq(name, str_c(attributes[i].name)))
            return attributes[i].read(x, decoded, err);
    return fail(err, ERR_SYNTAX, "XCLIENT: unknown attribute %.*s", STR_ARG(str_head(name, 40)));
}

static int read_attributes(struct xclient *x, struct str args, struct error *err)
{
    struct str token;

    if (str_empty(args))
        return fail(err, ERR_SYNTAX, "XCLIENT: name an attribute, such as ADDR=192.0.2.7");
    while (str_next_token(&args, ' ', &token))
        if (read_attribute(x, token, err) < 0)
            return -1;
    return 0;
}

/* The proxy has seen the log-in; who it was must be known here all the same. */
static int find_login(struct smtp_session *s, const struct xclient *x, struct account *account,
                      struct error *err)
{
    if (str_empty(x->login))
        return 0;
    if (directory_find_account(s->command_arena, x->login, account, err) < 0)
        return -1;
    return account->is_active ? 0 : fail(err, ERR_DENIED, "XCLIENT: the account is suspended");
}

static bool set_peer(struct smtp_session *s, struct xclient *x)
{
    if (x->peer.ss_family == AF_INET)
        ((struct sockaddr_in *)&x->peer)->sin_port = htons(x->port);
    else if (x->peer.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&x->peer)->sin6_port = htons(x->port);
    else
        return true;
    return conn_assume_peer(s->conn, &x->peer);
}

static void set_names(struct smtp_session *s, const struct xclient *x)
{
    s->client_name = str_of(s->client_name_text, x->name.n);
    if (x->name.n > 0)
        memcpy(s->client_name_text, x->name.p, x->name.n);
    if (x->helo.n == 0)
        return;
    memcpy(s->helo_text, x->helo.p, x->helo.n);
    s->helo = str_of(s->helo_text, x->helo.n);
    s->is_esmtp = !x->has_proto || x->is_esmtp;
    s->phase = SMTP_READY; /* the client has said it already; the proxy may say it again */
}

int smtp_cmd_xclient(struct smtp_session *s, struct str args, struct error *err)
{
    struct xclient x = {.a = s->command_arena};
    struct account account;

    if (!s->may_xclient)
        return smtp_reply(s, 550, "5.7.1", "XCLIENT is not for you");
    if (read_attributes(&x, args, err) < 0 || find_login(s, &x, &account, err) < 0)
        return -1;
    smtp_session_forget(s);
    smtp_milter_close(s);
    if (!set_peer(s, &x)) {
        smtp_reply(s, 421, "4.3.2", "too many connections from that client, come back later");
        s->phase = SMTP_CLOSING;
        return 0;
    }
    smtp_policy_meet(s);
    if (x.login.n > 0)
        smtp_set_login(s, &account);
    if (smtp_policy_connect(s) != 0)
        return 0;
    set_names(s, &x);
    if (smtp_milter_connect(s) != 0)
        return 0;
    smtp_greet(s);
    return 0;
}
