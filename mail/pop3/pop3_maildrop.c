/* pop3_maildrop.c - the inbox between log-in and QUIT: claimed, numbered, marked, updated.
 *
 * Log-in reads the mailbox's index and nothing else. Sizes are read when the first command asks
 * for one, marks exist once there is one, and changes are made by QUIT alone, after it asked
 * whether the claim still holds: while the database was away, another session may have come. */
#include <stdlib.h>

#include "mail/pop3/pop3_internal.h"
#include "mail/store/message.h"
#include "server/base/memory.h"
#include "server/run/config.h"

#define CLAIM_PAUSE_MIN_MS 20
#define CLAIM_PAUSE_MAX_MS 400

/* A client that lost its connection comes back before we have seen the end of the old one: it gets
 * a few tries within a second. */
static int claim(struct pop3_maildrop *d, int64_t account_id, struct error *err)
{
    for (int64_t pause_ms = CLAIM_PAUSE_MIN_MS;; pause_ms *= 2) {
        struct error cause = {0};

        if (maildrop_claim(&d->claim, account_id, &cause) == 0)
            return 0;
        if (cause.kind != ERR_CONFLICT || pause_ms > CLAIM_PAUSE_MAX_MS ||
            fiber_sleep(pause_ms) == WAKE_CANCELLED)
            return fail(err, cause.kind, "%s", cause.text);
    }
}

int pop3_maildrop_open(struct pop3_maildrop *d, int64_t account_id, struct error *err)
{
    *d = (struct pop3_maildrop){.mailbox = {account_id, INBOX_ID}};
    if (claim(d, account_id, err) < 0)
        return -1;
    d->view = mailbox_view_open(d->mailbox, account_id, err);
    if (d->view == NULL) {
        pop3_maildrop_close(d);
        return -1;
    }
    view_rest(d->view); /* POP3 knows no keywords */
    d->count = view_count(d->view);
    return 0;
}

void pop3_maildrop_close(struct pop3_maildrop *d)
{
    pop3_ahead_drop(&d->ahead);
    mailbox_view_close(&d->view);
    free(d->sizes);
    free(d->marks);
    d->sizes = NULL;
    d->marks = NULL;
    maildrop_release(&d->claim);
}

/* --- sizes ------------------------------------------------------------------------------------ */

struct sizes_reader {
    const struct pop3_maildrop *drop;
    uint32_t *sizes;
    uint32_t number; /* to be filled next */
};

static void take_size(void *arg, uint32_t uid, uint64_t size)
{
    struct sizes_reader *r = arg;

    while (r->number <= r->drop->count && view_uid(r->drop->view, r->number) < uid)
        r->number++;
    if (r->number <= r->drop->count && view_uid(r->drop->view, r->number) == uid)
        r->sizes[r->number - 1] = size < UINT32_MAX ? (uint32_t)size : UINT32_MAX;
}

int pop3_maildrop_load_sizes(struct pop3_maildrop *d, struct error *err)
{
    struct sizes_reader r = {.drop = d, .number = 1};

    if (d->sizes != NULL)
        return 0;
    r.sizes = memory_array(d->count > 0 ? d->count : 1, sizeof *r.sizes);
    if (d->count > 0 &&
        maildrop_read_sizes(d->mailbox, view_uid_max(d->view), take_size, &r, err) < 0) {
        free(r.sizes);
        return -1;
    }
    d->sizes = r.sizes;
    return 0;
}

/* --- marks ------------------------------------------------------------------------------------ */

void pop3_mark(struct pop3_maildrop *d, uint32_t number, enum pop3_mark mark)
{
    if (d->marks == NULL)
        d->marks = memory_array(d->count, sizeof *d->marks);
    if (mark == POP3_DELETED && !pop3_has_mark(d, number, mark))
        d->deleted_count++;
    d->marks[number - 1] |= (uint8_t)mark;
}

void pop3_unmark_deleted(struct pop3_maildrop *d)
{
    for (uint32_t i = 0; d->deleted_count > 0 && i < d->count; i++)
        d->marks[i] &= (uint8_t)~POP3_DELETED;
    d->deleted_count = 0;
}

/* --- UPDATE ----------------------------------------------------------------------------------- */

static bool is_to_remove(const struct pop3_maildrop *d, uint32_t number)
{
    return pop3_has_mark(d, number, POP3_DELETED);
}

static bool is_to_show_seen(const struct pop3_maildrop *d, uint32_t number)
{
    struct index_entry entry;

    return pop3_has_mark(d, number, POP3_RETRIEVED) && !is_to_remove(d, number) &&
           view_entry(d->view, view_uid(d->view, number), &entry) && !(entry.flags & FLAG_SEEN);
}

static size_t find_uids(const struct pop3_maildrop *d, struct arena *a, uint32_t **uids,
                        bool (*is_wanted)(const struct pop3_maildrop *d, uint32_t number))
{
    size_t n = 0;

    *uids = ARENA_ARRAY(a, d->count, uint32_t);
    for (uint32_t number = 1; number <= d->count; number++)
        if (is_wanted(d, number))
            (*uids)[n++] = view_uid(d->view, number);
    return n;
}

static int remove_deleted(struct pop3_maildrop *d, struct arena *a, struct error *err)
{
    uint32_t *uids, *removed;
    size_t count, removed_count;
    uint64_t modseq;

    if (d->deleted_count == 0)
        return 0;
    if (maildrop_confirm(&d->claim, err) < 0)
        return -1;
    count = find_uids(d, a, &uids, is_to_remove);
    return message_expunge(a, d->mailbox, uids, count, false, &removed, &removed_count, &modseq,
                           err);
}

/* A courtesy to whoever reads the same mailbox with IMAP: its failure is nobody's concern. */
static void show_seen(struct pop3_maildrop *d, struct arena *a)
{
    uint32_t *uids, *conflicts;
    struct message_state *states;
    size_t count, state_count, conflict_count;

    if (!config.pop3_mark_seen || d->marks == NULL)
        return;
    count = find_uids(d, a, &uids, is_to_show_seen);
    if (count > 0)
        message_store_flags(a, d->mailbox, d->mailbox.account_id, uids, count, FLAGS_ADD, FLAG_SEEN,
                            (struct keywords){0}, UINT64_MAX, &states, &state_count, &conflicts,
                            &conflict_count, NULL);
}

int pop3_maildrop_update(struct pop3_maildrop *d, struct arena *a, struct error *err)
{
    if (remove_deleted(d, a, err) < 0)
        return -1;
    show_seen(d, a);
    return 0;
}
