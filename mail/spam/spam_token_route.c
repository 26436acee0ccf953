/* spam_token_route.c - features of the way here: hops, envelope, and whether they are of the author's kin.
 *
 * Received fields below ours are claims of others, and are looked at as such: names and networks that often hand over
 * spam, names that do not fit the numbers. What a machine hands to itself or within a private network is no hop. */
#include "mail/mime/header.h"
#include "mail/spam/spam_token_internal.h"

#define FAMILY_SIZE_MIN 4

/* ---- one hop --------------------------------------------------------------------------------- */

struct hop {
    struct str helo, name, ip, by; /* "from HELO (NAME [IP]) by ..." */
    bool has_ip, is_nameless;
};

static bool is_internal(struct str text)
{
    return str_ifind(text, STR("localhost")) >= 0 || str_find(text, STR("127.0.0.1")) >= 0 ||
           str_ifind(text, STR("fetchmail")) >= 0;
}

static struct str hop_name(struct str before_ip)
{
    struct str name = str_trim(before_ip);

    str_skip_prefix(&name, STR("("));
    if (!str_skip_prefix(&name, STR("helo ")))
        str_skip_prefix(&name, STR("helo="));
    return name;
}

static bool parse_hop(struct str text, struct hop *hop)
{
    struct str close;
    ptrdiff_t by, bracket;

    *hop = (struct hop){.ip = STR("")};
    if (!str_skip_prefix(&text, STR("from ")) || is_internal(text))
        return false;
    by = str_ifind(text, STR(" by "));
    hop->by = by >= 0 ? str_from(text, (size_t)by) : STR("");
    text = by >= 0 ? str_head(text, (size_t)by) : text;
    str_cut(text, ' ', &hop->helo, &text);
    hop->is_nameless =
        str_ifind(text, STR("unknown")) >= 0 || str_ifind(text, STR("unverified")) >= 0;
    bracket = str_index(text, '[');
    hop->has_ip = bracket >= 0;
    if (hop->has_ip) {
        str_cut(str_from(text, (size_t)bracket + 1), ']', &hop->ip, &close);
        hop->name = hop_name(str_head(text, (size_t)bracket));
    }
    return !str_starts(hop->ip, STR("10.")) && !str_starts(hop->ip, STR("192.168."));
}

static void add_networks(struct spam_sink *s, struct str ip)
{
    struct str first, second, third, rest;

    if (!str_cut(ip, '.', &first, &rest) || !str_cut(rest, '.', &second, &rest) || ip.n > 15)
        return;
    spam_addf(s, SPAM_ROUTE, "network %.*s.%.*s", STR_ARG(first), STR_ARG(second));
    str_cut(rest, '.', &third, &rest);
    spam_addf(s, SPAM_ROUTE, "network %.*s.%.*s.%.*s", STR_ARG(first), STR_ARG(second),
              STR_ARG(third));
}

static void add_peer(struct spam_sink *s, const struct hop *hop)
{
    const char *fit = str_ieq(hop->helo, hop->name) ? "the same as"
                      : str_iends(hop->name, hop->helo) || str_iends(hop->helo, hop->name)
                          ? "kin to"
                          : "foreign to";

    if (hop->name.n == 0)
        spam_add(s, SPAM_ROUTE, STR("a hop known by its number only"));
    else
        spam_add_domain(s, SPAM_ROUTE, "from", hop->name);
    spam_addf(s, SPAM_ROUTE, "a greeting that is %s the name", fit);
    add_networks(s, hop->ip);
}

/* "by x (Postfix) with ESMTP id ...": the program, not whose it is. */
static void add_receiver(struct spam_sink *s, struct str by)
{
    ptrdiff_t with = str_find(by, STR(" with ")), program = str_index(by, '(');

    if (with >= 0)
        spam_addf(s, SPAM_ROUTE, "with %.*s", STR_ARG(str_head(str_from(by, (size_t)with + 6), 5)));
    if (program >= 0)
        spam_addf(
            s, SPAM_ROUTE, "program %.*s",
            STR_ARG(spam_without_digits(s->arena, str_head(str_from(by, (size_t)program), 16))));
}

static void note_family(struct str received, struct str domain, bool *is_routed)
{
    struct str family = spam_family(domain);

    if (family.n >= FAMILY_SIZE_MIN && str_ifind(received, family) >= 0)
        *is_routed = true;
}

void spam_add_hop(struct spam_sink *s, struct str received)
{
    struct spam_facts *f = &s->facts;
    struct hop hop;

    note_family(received, f->from_domain, &f->is_author_routed);
    note_family(received, f->id_domain, &f->is_id_routed);
    note_family(received, f->envelope_domain, &f->is_envelope_routed);
    if (!parse_hop(header_unfold(s->arena, received), &hop))
        return;
    spam_addf(s, SPAM_ROUTE, "a greeting of the form %.*s", STR_ARG(spam_form(s->arena, hop.helo)));
    spam_add_domain(s, SPAM_ROUTE, "greeted as", hop.helo);
    if (hop.is_nameless)
        spam_add(s, SPAM_ROUTE, STR("a hop without a name"));
    if (hop.has_ip)
        add_peer(s, &hop);
    add_receiver(s, hop.by);
}

/* ---- envelope -------------------------------------------------------------------------------- */

void spam_add_envelope(struct spam_sink *s, struct str return_path)
{
    struct spam_facts *f = &s->facts;
    struct str text = header_unfold(s->arena, return_path), local, domain;

    if (!str_rcut(text, '@', &local, &domain)) {
        spam_add(s, SPAM_ROUTE, STR("no sender to answer to"));
        return;
    }
    str_skip_prefix(&local, STR("<"));
    f->envelope_local = local;
    f->envelope_domain = str_ends(domain, STR(">")) ? str_head(domain, domain.n - 1) : domain;
    spam_add_domain(s, SPAM_ROUTE, "envelope of", f->envelope_domain);
    spam_addf(s, SPAM_ROUTE, "envelope of the form %.*s", STR_ARG(spam_form(s->arena, local)));
}

/* ---- how they fit together ------------------------------------------------------------------- */

static bool is_below(struct str a, struct str b)
{
    return a.n > b.n && str_iends(a, b) && a.p[a.n - b.n - 1] == '.';
}

static const char *relation(struct str a, struct str b)
{
    if (a.n == 0 || b.n == 0)
        return "unknown";
    if (str_ieq(a, b))
        return "the same";
    return is_below(a, b) || is_below(b, a) ? "kin" : "foreign";
}

static void add_missing(struct spam_sink *s)
{
    const struct spam_facts *f = &s->facts;

    if (!f->has_subject)
        spam_add(s, SPAM_HEADER, STR("no subject"));
    if (!f->has_message_id)
        spam_add(s, SPAM_HEADER, STR("no message-id"));
    if (!f->has_recipient)
        spam_add(s, SPAM_HEADER, STR("no recipients"));
    if (!f->has_date)
        spam_add(s, SPAM_HEADER, STR("no date"));
    if (!f->has_mime_version)
        spam_add(s, SPAM_HEADER, STR("no mime-version"));
}

static void add_subject_facts(struct spam_sink *s)
{
    const struct spam_facts *f = &s->facts;

    if (str_istarts(f->subject, STR("re:")))
        spam_addf(s, SPAM_HEADER, "an answer to %s", f->is_answer ? "something" : "nothing");
    if (str_istarts(f->subject, STR("fw")))
        spam_add(s, SPAM_HEADER, STR("a subject of forwarded mail"));
    if (f->to_local.n > 2 && str_ifind(f->subject, f->to_local) >= 0)
        spam_add(s, SPAM_HEADER, STR("the recipient's name in the subject"));
}

static void add_envelope_relations(struct spam_sink *s)
{
    const struct spam_facts *f = &s->facts;
    bool is_author =
        str_ieq(f->envelope_domain, f->from_domain) && str_ieq(f->envelope_local, f->from_local);

    spam_addf(s, SPAM_ROUTE, "envelope domain to sender's: %s",
              relation(f->envelope_domain, f->from_domain));
    spam_addf(s, SPAM_ROUTE, "envelope %s", is_author ? "is the sender" : "is not the sender");
}

/* Together they tell an own mail system from a hired or a hijacked one. */
static void add_families(struct spam_sink *s)
{
    const struct spam_facts *f = &s->facts;
    struct str family = spam_family(f->from_domain);
    const char *hops = f->is_author_routed ? "own" : "other";
    const char *envelope = relation(spam_family(f->envelope_domain), family);
    const char *id = relation(spam_family(f->id_domain), family);

    spam_addf(s, SPAM_ROUTE, "by %s hops of the sender's", hops);
    spam_addf(s, SPAM_ROUTE, "by %s hops, envelope %s", hops, envelope);
    spam_addf(s, SPAM_ROUTE, "by %s hops, envelope %s, message-id %s", hops, envelope, id);
    spam_addf(s, SPAM_ROUTE, "envelope %s, message-id %s", envelope, id);
    spam_addf(s, SPAM_ROUTE, "message-id by %s hops", f->is_id_routed ? "own" : "other");
    spam_addf(s, SPAM_ROUTE, "envelope by %s hops", f->is_envelope_routed ? "own" : "other");
}

void spam_add_relations(struct spam_sink *s)
{
    const struct spam_facts *f = &s->facts;

    spam_addf(s, SPAM_HEADER, "message-id's domain to the sender's: %s",
              relation(f->id_domain, f->from_domain));
    spam_addf(s, SPAM_HEADER, "reply domain to the sender's: %s",
              relation(f->reply_domain, f->from_domain));
    spam_addf(s, SPAM_HEADER, "recipients of step %u", spam_step(f->recipients));
    add_missing(s);
    add_subject_facts(s);
    if (f->envelope_domain.n > 0)
        add_envelope_relations(s);
    add_families(s);
}
