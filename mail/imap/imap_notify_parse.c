/* imap_notify_parse.c - the arguments of NOTIFY SET.
 *
 * The RFC's own examples leave out the parentheses around events, so events may stand without. */
#include "mail/imap/imap_notify_parse.h"

#include "mail/imap/imap_fetch_parse.h"

/* AnnotationChange is about annotations of messages (RFC 5257), which there are none of here. */
#define EVENTS_KNOWN                                                                               \
    "MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange "                         \
    "MailboxMetadataChange ServerMetadataChange"

static const struct {
    struct str name;
    unsigned event; /* 0: half of NOTIFY_MESSAGES */
} events[] = {
    {{"MessageNew", 10}, 0},
    {{"MessageExpunge", 14}, 0},
    {{"FlagChange", 10}, NOTIFY_FLAGS},
    {{"MailboxName", 11}, NOTIFY_NAMES},
    {{"SubscriptionChange", 18}, NOTIFY_SUBSCRIPTIONS},
    {{"MailboxMetadataChange", 21}, NOTIFY_METADATA},
    {{"ServerMetadataChange", 20}, NOTIFY_SERVER_METADATA},
};
#define MESSAGE_NEW     0
#define MESSAGE_EXPUNGE 1

static const struct {
    struct str name;
    enum notify_filter filter;
} filters[] = {
    {{"SELECTED", 8}, FILTER_SELECTED},      {{"SELECTED-DELAYED", 16}, FILTER_SELECTED_DELAYED},
    {{"INBOXES", 7}, FILTER_PERSONAL},       {{"PERSONAL", 8}, FILTER_PERSONAL},
    {{"SUBSCRIBED", 10}, FILTER_SUBSCRIBED}, {{"SUBTREE", 7}, FILTER_SUBTREE},
    {{"MAILBOXES", 9}, FILTER_MAILBOXES},
};

struct notify_parser {
    struct imap_session *s;
    struct imap_command *c;
    struct notify_request *out;
    size_t name_count;
};

static int too_much(struct imap_command *c, const char *what, int limit, struct error *err)
{
    c->refusal = "NOTIFICATIONOVERFLOW";
    return fail(err, ERR_LIMIT, "more than %d %s", limit, what);
}

static bool is_of_selected(enum notify_filter filter)
{
    return filter == FILTER_SELECTED || filter == FILTER_SELECTED_DELAYED;
}

/* --- events ----------------------------------------------------------------------------------- */

/* "(UID BODY.PEEK[HEADER.FIELDS (FROM)])", kept as text and parsed again for each use. */
static int parse_items(struct notify_parser *n, struct error *err)
{
    struct imap_parser *p = &n->c->args;
    const char *from = p->at;
    struct fetch_request request;

    if (imap_parse_fetch_items(p, n->s->arena, &request, err) < 0)
        return -1;
    n->out->wants_modseq = imap_fetch_has(&request, FETCH_MODSEQ);
    n->out->items = str_of(from, (size_t)(p->at - from));
    if (n->out->items.n > NOTIFY_ITEMS_SIZE_MAX)
        return too_much(n->c, "bytes of items", NOTIFY_ITEMS_SIZE_MAX, err);
    return 0;
}

static int parse_event(struct notify_parser *n, enum notify_filter filter, unsigned *seen,
                       struct error *err)
{
    struct imap_parser *p = &n->c->args;
    struct str name;

    if (imap_parse_atom(p, &name, "an event such as MessageNew", err) < 0)
        return -1;
    for (unsigned i = 0; i < sizeof events / sizeof *events; i++) {
        if (!str_ieq(name, events[i].name))
            continue;
        *seen |= 1u << i;
        if (i != MESSAGE_NEW || p->end - p->at < 2 || p->at[0] != ' ' || p->at[1] != '(')
            return 0;
        if (!is_of_selected(filter))
            return fail(err, ERR_SYNTAX, "items are fetched of the selected mailbox only");
        (void)imap_parse_skip(p, ' ');
        return parse_items(n, err);
    }
    n->c->refusal = "BADEVENT (" EVENTS_KNOWN ")";
    return fail(err, ERR_UNSUPPORTED, "there is no event %.*s here", STR_ARG(str_head(name, 40)));
}

static int check_events(enum notify_filter filter, unsigned seen, struct error *err)
{
    const unsigned messages = 1u << MESSAGE_NEW | 1u << MESSAGE_EXPUNGE;

    if ((seen & messages) != 0 && (seen & messages) != messages)
        return fail(err, ERR_SYNTAX, "MessageNew and MessageExpunge belong together");
    for (unsigned i = 0; i < sizeof events / sizeof *events; i++) {
        if (!(seen & 1u << i))
            continue;
        if (events[i].event == NOTIFY_FLAGS && (seen & messages) == 0)
            return fail(err, ERR_SYNTAX, "FlagChange needs MessageNew and MessageExpunge");
        if (is_of_selected(filter) && events[i].event > NOTIFY_FLAGS)
            return fail(err, ERR_SYNTAX, "%.*s is not an event of messages: SELECTED has no others",
                        STR_ARG(events[i].name));
    }
    return 0;
}

static unsigned events_of(unsigned seen)
{
    unsigned found = 0;

    for (unsigned i = 0; i < sizeof events / sizeof *events; i++)
        if (seen & 1u << i)
            found |= events[i].event == 0 ? (unsigned)NOTIFY_MESSAGES : events[i].event;
    return found;
}

static int parse_events(struct notify_parser *n, enum notify_filter filter, unsigned *out,
                        struct error *err)
{
    struct imap_parser *p = &n->c->args;
    bool has_parentheses;
    unsigned seen = 0;

    *out = 0;
    if (imap_parse_word(p, STR("NONE")))
        return 0;
    has_parentheses = imap_parse_skip(p, '(');
    do {
        if (parse_event(n, filter, &seen, err) < 0)
            return -1;
    } while (imap_parse_skip(p, ' '));
    if (has_parentheses && imap_parse_char(p, ')', err) < 0)
        return -1;
    *out = events_of(seen);
    return check_events(filter, seen, err);
}

/* --- mailboxes -------------------------------------------------------------------------------- */

/* Sets *is_known; only what is no name at all fails. */
static PARKS int parse_place(struct notify_parser *n, struct imap_place *out, bool *is_known,
                             struct error *err)
{
    struct error cause = {0};

    *is_known = imap_parse_mailbox(n->s, n->c, out, &cause) == 0;
    if (*is_known)
        return 0;
    if (cause.kind == ERR_TRY_LATER || cause.kind == ERR_INTERNAL ||
        (cause.kind == ERR_SYNTAX && n->c->refusal == NULL))
        return fail(err, cause.kind, "%s", cause.text);
    n->c->refusal = NULL;
    return 0;
}

static PARKS int add_place(struct notify_parser *n, struct notify_group *g, struct error *err)
{
    bool is_known;

    if (n->name_count++ == NOTIFY_NAMES_MAX)
        return too_much(n->c, "names", NOTIFY_NAMES_MAX, err);
    if (parse_place(n, &g->places[g->place_count], &is_known, err) < 0)
        return -1;
    g->place_count += is_known;
    return 0;
}

static PARKS int parse_places(struct notify_parser *n, struct notify_group *g, struct error *err)
{
    struct imap_parser *p = &n->c->args;

    g->places = ARENA_ARRAY(n->s->arena, NOTIFY_NAMES_MAX - n->name_count + 1, struct imap_place);
    if (imap_parse_space(p, err) < 0)
        return -1;
    if (!imap_parse_skip(p, '('))
        return add_place(n, g, err);
    do {
        if (add_place(n, g, err) < 0)
            return -1;
    } while (imap_parse_skip(p, ' '));
    return imap_parse_char(p, ')', err);
}

static int parse_filter(struct notify_parser *n, enum notify_filter *out, struct error *err)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (imap_parse_word(&n->c->args, filters[i].name)) {
            *out = filters[i].filter;
            return 0;
        }
    return imap_parse_expected(
        &n->c->args,
        "SELECTED, SELECTED-DELAYED, INBOXES, PERSONAL, SUBSCRIBED, SUBTREE or MAILBOXES", err);
}

/* --- groups ----------------------------------------------------------------------------------- */

static int take_selected(struct notify_parser *n, const struct notify_group *g, struct error *err)
{
    if (n->out->has_selected)
        return fail(err, ERR_SYNTAX, "SELECTED or SELECTED-DELAYED can be named once");
    n->out->has_selected = true;
    n->out->is_delayed = g->filter == FILTER_SELECTED_DELAYED;
    n->out->selected_events = g->events;
    return 0;
}

static PARKS int parse_group(struct notify_parser *n, struct error *err)
{
    struct imap_parser *p = &n->c->args;
    struct notify_group g = {0};

    if (imap_parse_char(p, '(', err) < 0 || parse_filter(n, &g.filter, err) < 0)
        return -1;
    if ((g.filter == FILTER_SUBTREE || g.filter == FILTER_MAILBOXES) &&
        parse_places(n, &g, err) < 0)
        return -1;
    if (imap_parse_space(p, err) < 0 || parse_events(n, g.filter, &g.events, err) < 0 ||
        imap_parse_char(p, ')', err) < 0)
        return -1;
    if (is_of_selected(g.filter))
        return take_selected(n, &g, err);
    if (n->out->group_count == NOTIFY_GROUPS_MAX)
        return too_much(n->c, "groups of events", NOTIFY_GROUPS_MAX, err);
    n->out->groups[n->out->group_count++] = g;
    return 0;
}

int imap_parse_notify(struct imap_session *s, struct imap_command *c, struct notify_request *out,
                      struct error *err)
{
    struct notify_parser n = {.s = s, .c = c, .out = out};

    *out = (struct notify_request){
        .groups = ARENA_ARRAY(s->arena, NOTIFY_GROUPS_MAX, struct notify_group)};
    if (imap_parse_space(&c->args, err) < 0)
        return -1;
    if (imap_parse_word(&c->args, STR("STATUS"))) {
        out->wants_status = true;
        if (imap_parse_space(&c->args, err) < 0)
            return -1;
    }
    do {
        if (parse_group(&n, err) < 0)
            return -1;
    } while (imap_parse_skip(&c->args, ' '));
    return imap_parse_end(&c->args, err);
}
