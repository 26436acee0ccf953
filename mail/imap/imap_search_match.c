/* imap_search_match.c - three-valued logic over one message.
 *
 * Depth is bounded by the parser. Pure: safe on a helper thread. */
#include "mail/imap/imap_search_match.h"

#include "mail/imap/imap_search_text.h"
#include "mail/mime/header.h"
#include "mail/store/text_index.h"
#include "server/base/date.h"

#define DAY_S 86400

static unsigned own_columns(const struct search_key *key)
{
    switch (key->kind) {
    case KEY_SIZE:
    case KEY_RECEIVED:
    case KEY_RECEIVED_US:
    case KEY_SAVED:
    case KEY_THREAD_ID:
        return MESSAGE_ROW;
    case KEY_SENT:
        return MESSAGE_HEADERS;
    case KEY_HEADER:
    case KEY_BODY:
    case KEY_TEXT:
        return search_text_columns(key);
    case KEY_ALL:
    case KEY_SEQUENCE:
    case KEY_UID:
    case KEY_FLAG:
    case KEY_KEYWORD:
    case KEY_MODSEQ:
    case KEY_EMAIL_ID:
    case KEY_AND:
    case KEY_OR:
        break;
    }
    return 0;
}

unsigned search_columns(const struct search_key *key)
{
    unsigned columns = own_columns(key);

    for (const struct search_key *child = key->first_child; child != NULL; child = child->next)
        columns |= search_columns(child);
    return columns;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static bool in_range(const struct search_key *key, int64_t value)
{
    return value >= key->from && value < key->to;
}

/* Too large a header is not kept; then the message itself is there (see is_open). */
static struct str date_header(const struct search_subject *subject)
{
    struct str kept = subject->message->headers;

    return kept.p != NULL ? kept : subject->message->blob;
}

/* The day as the sender's own calendar had it: "disregarding time and timezone". */
static bool matches_sent(const struct search_key *key, struct search_subject *subject)
{
    struct str header = date_header(subject);
    struct header_field field;
    int64_t unix_s;
    int offset_min = 0;

    if (!header_find(header, STR("Date"), &field) ||
        !date_parse_rfc5322(field.value, &unix_s, &offset_min))
        return false;
    return in_range(key, floor_div(unix_s + (int64_t)offset_min * 60, DAY_S));
}

static bool has_keyword(const struct index_entry *entry, struct str name)
{
    for (size_t i = 0; entry->keywords != NULL && i < entry->keywords->n; i++)
        if (str_ieq(entry->keywords->v[i], name))
            return true;
    return false;
}

static bool matches_leaf(const struct search_key *key, struct search_subject *subject)
{
    const struct index_entry *entry = &subject->entry;
    const struct message *m = subject->message;

    switch (key->kind) {
    case KEY_ALL:
        return true;
    case KEY_SEQUENCE:
        return imap_set_contains(&key->set, subject->seq);
    case KEY_UID:
        return imap_set_contains(&key->set, entry->uid);
    case KEY_FLAG:
        return (entry->flags & key->flag) != 0;
    case KEY_KEYWORD:
        return has_keyword(entry, key->text);
    case KEY_MODSEQ:
        return entry->modseq >= (uint64_t)key->from;
    case KEY_SIZE:
        return in_range(key, (int64_t)m->size);
    case KEY_RECEIVED:
        return in_range(key, floor_div(floor_div(m->received_us, 1000000), DAY_S));
    case KEY_SAVED:
        return in_range(key, floor_div(floor_div(m->saved_us, 1000000), DAY_S));
    case KEY_RECEIVED_US:
        return in_range(key, m->received_us);
    case KEY_SENT:
        return matches_sent(key, subject);
    case KEY_HEADER:
    case KEY_BODY:
    case KEY_TEXT: /* search_text_matches */
        break;
    case KEY_EMAIL_ID:
        return key->object.account_id == subject->account_id && key->object.id == entry->message_id;
    case KEY_THREAD_ID:
        return key->object.account_id == subject->account_id && key->object.id == m->thread_id;
    case KEY_AND:
    case KEY_OR:
        break;
    }
    return false;
}

static enum search_answer matches_children(const struct search_key *key,
                                           struct search_subject *subject)
{
    enum search_answer deciding = key->kind == KEY_AND ? SEARCH_NO : SEARCH_YES;
    enum search_answer answer = key->kind == KEY_AND ? SEARCH_YES : SEARCH_NO;

    for (const struct search_key *child = key->first_child; child != NULL; child = child->next) {
        enum search_answer one = search_matches(child, subject);
        if (one == deciding)
            return deciding;
        if (one == SEARCH_OPEN)
            answer = SEARCH_OPEN;
    }
    return answer;
}

static bool is_open(const struct search_key *key, const struct search_subject *subject)
{
    unsigned columns = own_columns(key);

    if (columns & ~subject->columns)
        return true;
    return (columns & MESSAGE_HEADERS) && subject->message->headers.p == NULL &&
           !(subject->columns & MESSAGE_BLOB);
}

static bool is_text(const struct search_key *key)
{
    return key->kind == KEY_HEADER || key->kind == KEY_BODY || key->kind == KEY_TEXT;
}

/* What the index rules out needs no reading. */
static enum search_answer matches_text(const struct search_key *key, struct search_subject *subject)
{
    if (key->candidates != NULL &&
        !text_candidates_contain(key->candidates, subject->entry.message_id))
        return SEARCH_NO;
    return search_text_matches(key, subject);
}

enum search_answer search_matches(const struct search_key *key, struct search_subject *subject)
{
    enum search_answer answer;

    if (key->kind == KEY_AND || key->kind == KEY_OR)
        answer = matches_children(key, subject);
    else if (is_text(key))
        answer = matches_text(key, subject);
    else if (is_open(key, subject))
        answer = SEARCH_OPEN;
    else
        answer = matches_leaf(key, subject) ? SEARCH_YES : SEARCH_NO;
    if (!key->is_negated || answer == SEARCH_OPEN)
        return answer;
    return answer == SEARCH_YES ? SEARCH_NO : SEARCH_YES;
}
