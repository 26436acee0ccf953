/* test_mailbox_watch.c - what watches of an account's mailboxes are told, one and many. */
#include "tests/unit/store_fixture.h"

#include "mail/store/mailbox_watch.h"
#include "mail/store/metadata.h"

#define MESSAGE "From: a@b.test\r\nSubject: s\r\n\r\nHello.\r\n"

static unsigned calls;

static void heard(void *arg)
{
    calls++;
}

static struct mailbox_watch *open_watch(int64_t account_id)
{
    struct error err = {0};
    struct mailbox_watch *w = mailbox_watch_open(account_id, heard, NULL, &err);

    if (w == NULL)
        broken("mailbox_watch_open: %s", err.text);
    return w;
}

/* Events as one line each: "kinds path<old_path". */
static struct str take(struct mailbox_watch *w)
{
    static const char letters[] = "MFCDRcSP";
    struct mailbox_event *v;
    struct buf out;
    struct str text;
    size_t count;

    assert_done(mailbox_watch_take(w, store_arena, &v, &count, &err));
    buf_init(&out, SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        for (unsigned kind = 0; kind < 8; kind++)
            if (v[i].kinds & 1u << kind)
                buf_addc(&out, letters[kind]);
        buf_addf(&out, " %.*s", STR_ARG(v[i].mailbox.path));
        if (v[i].kinds & EVENT_RENAMED)
            buf_addf(&out, "<%.*s", STR_ARG(v[i].old_path));
        buf_addc(&out, '\n');
    }
    text = arena_str(store_arena, buf_str(&out));
    buf_fini(&out);
    return text;
}

#define assert_taken(w, expected)                                                                  \
    do {                                                                                           \
        struct str taken_ = take(w);                                                               \
        assert_string_equal(taken_.p, expected);                                                   \
    } while (0)

static void create(const char *path)
{
    int64_t mailbox_id;

    assert_done(mailbox_create(1, str_c(path), STR(""), &mailbox_id, &err));
}

static void rename_to(const char *from, const char *to)
{
    assert_done(mailbox_rename(1, str_c(from), str_c(to), &err));
}

static void remove_it(const char *path)
{
    assert_done(mailbox_remove(1, str_c(path), &err));
}

CASE(nothing_is_told_of_what_was_before)
{
    struct mailbox_watch *w;

    create("before");
    w = open_watch(1);
    assert_taken(w, "");
    store_append(2, INBOX, 0, MESSAGE);
    assert_taken(w, "");
    mailbox_watch_close(&w);
}

CASE(arrivals_flags_and_removals_are_told_apart)
{
    struct mailbox_watch *w = open_watch(1);
    struct mailbox_key inbox = {1, INBOX};
    struct message_state *states;
    uint32_t uid, *conflicts, *removed;
    size_t count, conflict_count;
    uint64_t modseq;

    uid = store_append(1, INBOX, 0, MESSAGE);
    assert_taken(w, "MF INBOX\n");
    assert_done(message_store_flags(store_arena, inbox, 1, &uid, 1, FLAGS_ADD, FLAG_DELETED,
                                    (struct keywords){0}, UINT64_MAX, &states, &count, &conflicts,
                                    &conflict_count, &err));
    assert_taken(w, "F INBOX\n");
    assert_done(
        message_expunge(store_arena, inbox, &uid, 1, true, &removed, &count, &modseq, &err));
    assert_taken(w, "MF INBOX\n");
    assert_taken(w, "");
    mailbox_watch_close(&w);
}

CASE(several_changes_between_two_takes_are_one_event)
{
    struct mailbox_watch *w = open_watch(1), *other = open_watch(1);

    for (int i = 0; i < 20; i++)
        store_append(1, SENT, 0, MESSAGE);
    assert_taken(w, "MF Sent\n");
    store_append(1, SENT, 0, MESSAGE);
    assert_taken(w, "MF Sent\n");
    assert_taken(other, "MF Sent\n");
    mailbox_watch_close(&w);
    mailbox_watch_close(&other);
}

CASE(a_parent_is_told_with_its_child)
{
    struct mailbox_watch *w = open_watch(1);

    create("a/b");
    assert_taken(w, "C a\nC a/b\n");
    remove_it("a/b");
    assert_taken(w, "D a/b\nc a\n");
    mailbox_watch_close(&w);
}

CASE(what_came_and_went_is_not_told)
{
    struct mailbox_watch *w = open_watch(1), *other = open_watch(1);

    create("brief");
    assert_taken(other, "C brief\n");
    rename_to("brief", "shorter");
    remove_it("shorter");
    assert_taken(w, "");
    assert_taken(other, "D brief\n");
    mailbox_watch_close(&w);
    mailbox_watch_close(&other);
}

CASE(each_watch_is_told_the_name_it_knew)
{
    struct mailbox_watch *slow, *quick;

    create("a");
    slow = open_watch(1);
    quick = open_watch(1);
    rename_to("a", "b");
    assert_taken(quick, "RP b<a\n");
    rename_to("b", "c");
    assert_taken(quick, "RP c<b\n");
    assert_taken(slow, "RP c<a\n");
    rename_to("c", "d");
    rename_to("d", "c");
    assert_taken(slow, "P c\n");
    mailbox_watch_close(&slow);
    rename_to("c", "e");
    assert_taken(quick, "RP e<c\n");
    mailbox_watch_close(&quick);
}

CASE(what_is_below_moves_along_untold)
{
    struct mailbox_watch *w;

    create("a/b/c");
    w = open_watch(1);
    rename_to("a", "x");
    assert_taken(w, "RP x<a\nP x/b\nP x/b/c\n");
    rename_to("x/b", "y");
    rename_to("x", "z");
    assert_taken(w, "RP y<x/b\nRP z<x\nP y/c\n");
    mailbox_watch_close(&w);
}

CASE(a_name_never_stands_for_two)
{
    struct mailbox_watch *w;

    create("a");
    create("b");
    create("c");
    w = open_watch(1);
    remove_it("c");
    rename_to("b", "c");
    rename_to("a", "b");
    create("a");
    assert_taken(w, "D c\nRP c<b\nRP b<a\nC a\n");
    rename_to("b", "t");
    rename_to("c", "b");
    rename_to("t", "c");
    assert_taken(w, "D b\nRP b<c\nMCP c\n"); /* one of the two goes and comes again */
    mailbox_watch_close(&w);
}

CASE(subscriptions_are_told)
{
    struct mailbox_watch *w = open_watch(1);

    assert_done(mailbox_subscribe(1, STR("Sent"), false, &err));
    assert_taken(w, "S Sent\n");
    assert_done(mailbox_subscribe(1, STR("Sent"), false, &err));
    assert_taken(w, "");
    assert_done(mailbox_subscribe(1, STR("Sent"), true, &err));
    assert_taken(w, "S Sent\n");
    mailbox_watch_close(&w);
}

CASE(annotations_are_told_to_who_may_see_them)
{
    struct annotation set[] = {{.entry = STR("/private/comment"), .value = STR("mine")},
                               {.entry = STR("/shared/comment"), .value = STR("ours")}};
    struct metadata_change change = {.v = set, .count = 2};
    struct mailbox_watch *w = open_watch(1);
    struct mailbox_event *events;
    struct annotation *v;
    size_t count;

    assert_done(metadata_set(store_arena, (struct mailbox_key){1, SENT}, 1, &change, &err));
    assert_done(mailbox_watch_take(w, store_arena, &events, &count, &err));
    assert_int_equal(count, 0);
    assert_done(mailbox_watch_take_annotations(w, store_arena, 2, &v, &count, &err));
    assert_int_equal(count, 1);
    assert_str(v[0].entry, STR("/shared/comment"));
    assert_int_equal(v[0].modseq, change.modseq);
    assert_done(mailbox_watch_take_annotations(w, store_arena, 2, &v, &count, &err));
    assert_int_equal(count, 0);
    mailbox_watch_close(&w);
}

CASE(too_many_mailboxes_are_refused)
{
    struct mailbox_watch *w = open_watch(1);
    struct mailbox_event *v;
    struct error refused = {0};
    size_t count;

    config.imap_notify_mailboxes_max = 3;
    assert_null(mailbox_watch_open(2, NULL, NULL, &refused));
    assert_int_equal(refused.kind, ERR_LIMIT);
    create("x");
    create("y");
    assert_refused(mailbox_watch_take(w, store_arena, &v, &count, &err), ERR_LIMIT);
    mailbox_watch_close(&w);
    config.imap_notify_mailboxes_max = 10000;
}

CASE(watches_are_called_and_may_go_at_any_time)
{
    struct mailbox_watch *w = open_watch(1), *other = open_watch(1);

    calls = 0;
    store_append(1, INBOX, 0, MESSAGE);
    assert_int_equal(calls, 2);
    mailbox_watch_close(&other);
    store_append(1, INBOX, 0, MESSAGE);
    assert_int_equal(calls, 3);
    store_append(2, INBOX, 0, MESSAGE);
    assert_int_equal(calls, 3);
    mailbox_watch_close(&w);
    mailbox_watch_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_told_of_what_was_before),
        cmocka_unit_test(arrivals_flags_and_removals_are_told_apart),
        cmocka_unit_test(several_changes_between_two_takes_are_one_event),
        cmocka_unit_test(a_parent_is_told_with_its_child),
        cmocka_unit_test(what_came_and_went_is_not_told),
        cmocka_unit_test(each_watch_is_told_the_name_it_knew),
        cmocka_unit_test(what_is_below_moves_along_untold),
        cmocka_unit_test(a_name_never_stands_for_two),
        cmocka_unit_test(subscriptions_are_told),
        cmocka_unit_test(annotations_are_told_to_who_may_see_them),
        cmocka_unit_test(too_many_mailboxes_are_refused),
        cmocka_unit_test(watches_are_called_and_may_go_at_any_time),
    };

    return cmocka_run_group_tests(tests, store_start, fixture_stop);
}
