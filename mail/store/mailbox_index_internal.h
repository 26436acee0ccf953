/* mailbox_index_internal.h - what mailbox_index.c (following the database) and mailbox_view.c
 * (what sessions see) share.
 *
 *   PostgreSQL --index_catch_up--> rows, current list --view_take_changes--> view's list and count
 *                                  others' \Seen
 *
 * rows[i] belongs to list->v[i]. A view looks at a list, the current one or an older one that
 * was current when the view last let messages go. UIDs are given out in ascending order and
 * committed in that order, so what is left of a view's messages is always the beginning of the
 * current list. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "mail/store/mailbox_index.h"
#include "mail/store/uid_list.h"
#include "server/base/list.h"
#include "server/base/map.h"
#include "server/pg/notify.h"
#include "server/pg/pg.h"
#include "server/run/channel.h"

#define MAILBOX_INDEX_MAGIC  0x6d626978
#define MAILBOX_VIEW_MAGIC   0x6d627677
#define MAILBOX_CHANGES_KEPT 4096

struct index_row {
    int64_t message_id;
    uint64_t modseq;
    uint32_t flags;
    uint32_t keywords; /* number of an interned set; 0: none */
};

/* Keyword sets are kept once each. Entries given out point to them, so those that were replaced,
 * because most of them were no longer in use, stay until every view has rested. */
struct keyword_sets {
    struct map *by_text; /* to the set's number, as a pointer */
    struct keywords **v; /* v[0] is not used */
    uint32_t n, cap;
    uint32_t many;       /* with more of them it is worth asking which are in use */
    uint32_t generation; /* 1 for the first of an index */
    struct arena *arena;
    struct keyword_sets *replaced; /* the ones before; NULL: none that anybody may look at */
};

/* \Seen of one user who is not the owner. */
struct index_seen {
    struct index_seen *next;
    int64_t user_id;
    unsigned refs; /* views */
    bool is_loaded;
    struct uid_range *v; /* ascending */
    size_t n;
};

struct mailbox_index {
    unsigned magic;
    int64_t account_id, mailbox_id;

    struct uid_list *list;
    struct index_row *rows;
    size_t rows_cap;
    struct keyword_sets sets;
    struct index_seen *seen; /* of users whose views are open */
    uint64_t modseq; /* everything up to here is known */
    uint64_t changed_modseq;
    uint32_t uid_next, uid_validity;

    /* UIDs of rows that changed, oldest first: positions changes_from .. changes_to, the last of
     * them kept. */
    uint32_t *changes;
    uint64_t changes_from, changes_to;

    bool is_loaded, is_gone;
    bool is_refreshing;       /* a fiber is at it */
    uint64_t wanted, reached; /* notices heard, and how many of them the index has followed */
    unsigned failures;
    struct error failure; /* of the last one */
    struct wait_queue refreshed;

    struct list views;
    struct bus_subscription subscription;
    struct list cache_link; /* while nobody looks */
};

struct mailbox_view {
    unsigned magic;
    struct mailbox_index *index;
    struct index_seen *seen; /* NULL: the owner's view */
    struct list link;
    struct uid_list *list;
    size_t count;
    uint32_t holds; /* entries may point to keyword sets of this generation and later; 0: none do */
    uint64_t changes_at;    /* position up to which changes were told */
    uint64_t flags_modseq;  /* flags up to here were told */
    uint64_t modseq;        /* everything up to here was told, removals too */
    struct own_change *own; /* told by the session itself */
    size_t own_count, own_cap;
    void (*changed)(void *arg);
    void *arg;
};

struct own_change {
    uint32_t uid;
    uint64_t modseq;
};

struct mailbox_index *index_acquire(int64_t account_id, int64_t mailbox_id);
void index_release(struct mailbox_index *x); /* when the last view went */
PARKS int index_catch_up(struct mailbox_index *x, struct error *err);

/* Frees what keyword_sets_tidy replaced and no view holds any more. */
void index_forget_keywords(struct mailbox_index *x);

/* Position of a UID in the current list, or SIZE_MAX. */
size_t index_find(const struct mailbox_index *x, uint32_t uid);
void index_entry_at(const struct mailbox_index *x, size_t at, struct index_entry *out);

/* mailbox_seen.c */
struct index_seen *index_seen_acquire(struct mailbox_index *x, int64_t user_id); /* NULL: owner */
void index_seen_release(struct mailbox_index *x, struct index_seen *seen);
bool index_seen_is_loaded(const struct mailbox_index *x);
bool index_seen_has(const struct index_seen *seen, uint32_t uid);
/* Arguments of the query index_seen; from_start: all that was seen, not only what changed. */
struct pg_args index_seen_args(const struct mailbox_index *x, struct arena *a, bool from_start,
                               struct pg_arg args[4]);
size_t index_seen_count(const struct pg_args *asked); /* users asked about */
void index_seen_apply(struct mailbox_index *x, const struct pg_rows *rows,
                      const struct pg_args *asked);

/* keyword_sets.c */
void keyword_sets_init(struct keyword_sets *s);
void keyword_sets_fini(struct keyword_sets *s);
uint32_t keyword_sets_intern(struct keyword_sets *s, const struct str *v, size_t n);
/* When there are many, leaves those that the rows use, and gives the rows their new numbers. */
void keyword_sets_tidy(struct keyword_sets *s, struct index_row *rows, size_t count);
/* Frees what was replaced when nobody can look at it: all views hold `generation` or later. */
void keyword_sets_forget(struct keyword_sets *s, uint32_t generation);
static inline const struct keywords *keyword_sets_get(const struct keyword_sets *s, uint32_t number)
{
    return number == 0 ? NULL : s->v[number];
}
size_t keyword_sets_names(const struct keyword_sets *s, struct arena *a, struct str **out);
