/* guard_notice.c - the account and its administrators are told that its mail is held, by a message to each side: what was
 * seen, what is held, and the command that ends it.
 *
 * In the account's language as its mail shows it; where nothing shows, and to administrators, in both of ours. Thieves
 * may read and delete the one to the account, so administrators always get theirs: postmaster of its domain, and every
 * account that is an administrator. */
#include "mail/queue/guard_internal.h"

#include <inttypes.h>

#include "mail/mime/address_path.h"
#include "mail/queue/queue.h"
#include "server/base/buf.h"
#include "server/base/date.h"
#include "server/base/encode.h"
#include "server/base/log.h"
#include "server/directory/directory.h"
#include "server/directory/routing.h"
#include "server/run/config.h"

#define RETURN_PATH "Return-Path: <>\r\n"
#define TEXT_MAX    ((size_t)64 << 10)

/* What %1$s and the like stand for: the account's address, what was seen, and how much is held. */
struct notice_words {
    const char *language;
    const char *subject_own, *subject_admin; /* the second: of an account */
    const char *text_own, *text_admin;
};

static const struct notice_words words[] = {
    {"en", "Your outgoing mail is held: does somebody else use your account?",
     "Outgoing mail is held: is this account misused?",
     "Hello,\r\n\r\n"
     "your account %1$s sent mail in a way that is not usual for it:\r\n\r\n"
     "    %2$s\r\n\r\n"
     "Somebody else may know your password. So your outgoing mail waits on the\r\n"
     "server until an administrator has looked at it (now %3$s).\r\n"
     "Nothing is lost, and mail still reaches you.\r\n\r\n"
     "If you did not send this mail, change your password now. In any case tell\r\n"
     "your administrator, who lets the mail go with\r\n\r\n"
     "    merpati account release %1$s\r\n",
     "Hello,\r\n\r\n"
     "the account %1$s sent mail in a way that is not usual for it:\r\n\r\n"
     "    %2$s\r\n\r\n"
     "Somebody else may know its password. So its outgoing mail is held (now\r\n"
     "%3$s), and so is everything that it sends from now on.\r\n"
     "Nothing is lost, and nobody who was written to has been told.\r\n\r\n"
     "If its owner sent this mail, let it go; the account may send as much for\r\n"
     "a day:\r\n\r\n"
     "    merpati account release %1$s\r\n\r\n"
     "If not, set another password first, then delete what is held:\r\n\r\n"
     "    merpati account password %1$s\r\n"
     "    merpati account purge %1$s\r\n"
     "    merpati account release %1$s\r\n"},
    {"id", "Pesan keluar Anda ditahan: apakah akun Anda dipakai orang lain?",
     "Pesan keluar ditahan: apakah akun ini disalahgunakan?",
     "Halo,\r\n\r\n"
     "akun Anda %1$s mengirim pesan dengan cara yang tidak biasa:\r\n\r\n"
     "    %2$s\r\n\r\n"
     "Mungkin orang lain mengetahui kata sandi Anda. Karena itu pesan keluar Anda\r\n"
     "menunggu di server sampai administrator memeriksanya (saat ini %3$s).\r\n"
     "Tidak ada yang hilang, dan pesan untuk Anda tetap masuk.\r\n\r\n"
     "Jika bukan Anda yang mengirim pesan itu, segera ganti kata sandi Anda. Beri\r\n"
     "tahu juga administrator Anda, yang melepaskan pesan itu dengan perintah\r\n\r\n"
     "    merpati account release %1$s\r\n",
     "Halo,\r\n\r\n"
     "akun %1$s mengirim pesan dengan cara yang tidak biasa:\r\n\r\n"
     "    %2$s\r\n\r\n"
     "Mungkin orang lain mengetahui kata sandinya. Karena itu pesan keluarnya\r\n"
     "ditahan (saat ini %3$s), begitu juga semua yang dikirimnya\r\n"
     "mulai sekarang. Tidak ada yang hilang, dan para penerima tidak diberi tahu.\r\n\r\n"
     "Jika pemiliknya sendiri yang mengirim, lepaskan pesan itu; akun itu boleh\r\n"
     "mengirim sebanyak itu selama satu hari:\r\n\r\n"
     "    merpati account release %1$s\r\n\r\n"
     "Jika bukan, ganti dahulu kata sandinya, lalu hapus yang ditahan:\r\n\r\n"
     "    merpati account password %1$s\r\n"
     "    merpati account purge %1$s\r\n"
     "    merpati account release %1$s\r\n"},
};
#define LANGUAGES (sizeof words / sizeof *words)

struct notice {
    struct arena *a;
    const struct guard_record *record;
    struct account account;
    struct guard_held held;
};

/* ---- the text ------------------------------------------------------------------------------------- */

static bool is_written(const struct notice_words *w, struct str language)
{
    return str_empty(language) || str_eq(language, str_c(w->language));
}

static const char *held_text(const struct notice *n, const struct notice_words *w)
{
    bool is_id = str_eq(str_c(w->language), STR("id"));

    return arena_printf(n->a,
                        is_id ? "%" PRId64 " pesan, %" PRId64 " penerima"
                              : "%" PRId64 " messages, %" PRId64 " recipients",
                        n->held.messages, n->held.recipients)
        .p;
}

static void add_text(struct buf *b, const struct notice *n, const struct notice_words *w,
                     bool is_own)
{
    struct guard_finding f = {guard_cause_parse(n->record->cause), n->record->seen,
                              n->record->usual};

    buf_addf(b, is_own ? w->text_own : w->text_admin, arena_c(n->a, n->account.address),
             arena_c(n->a, guard_sentence(n->a, w->language, &f, n->record->detail)),
             held_text(n, w));
}

static void add_header(struct buf *b, const struct notice *n, const struct notice_words *first,
                       bool is_own, struct str to)
{
    buf_adds(b, RETURN_PATH);
    buf_addf(b, "From: Merpati <postmaster@%s>\r\nTo: <%.*s>\r\nSubject: %s\r\nDate: ",
             config.hostname, STR_ARG(to), is_own ? first->subject_own : first->subject_admin);
    date_add_rfc5322(b, time_now_us() / 1000000, 0);
    buf_addf(b,
             "\r\nMessage-ID: <%016" PRIx64 ".guard@%s>\r\nAuto-Submitted: auto-generated\r\n"
             "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
             "Content-Transfer-Encoding: 8bit\r\n\r\n",
             random_u64(), config.hostname);
}

/* language empty: both, English first. */
static struct str write_notice(const struct notice *n, bool is_own, struct str language,
                               struct str to)
{
    const struct notice_words *first = NULL;
    struct buf b;
    struct str text;

    buf_init(&b, TEXT_MAX);
    for (size_t i = 0; i < LANGUAGES; i++) {
        if (!is_written(&words[i], language))
            continue;
        if (first == NULL)
            add_header(&b, n, &words[i], is_own, to);
        else
            buf_adds(&b, "\r\n-----\r\n\r\n");
        first = &words[i];
        add_text(&b, n, &words[i], is_own);
    }
    text = arena_str(n->a, buf_str(&b));
    buf_fini(&b);
    return text;
}

/* ---- to whom ---------------------------------------------------------------------------------------- */

struct people {
    struct delivery *v;
    size_t count;
    struct outbound_recipient *away;
    size_t away_count;
};

static void add_account(struct people *p, int64_t account_id)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->v[i].account_id == account_id)
            return;
    p->v[p->count++] = (struct delivery){
        .account_id = account_id, .received_us = time_now_us(), .may_exceed_quota = true};
}

/* The account itself gets the other message. Without a postmaster there are administrators, or nobody. */
static int find_administrators(struct notice *n, struct people *p, struct error *err)
{
    struct routing_sender from = {.address = STR(""), .is_trusted = true};
    struct routes routes = {.n = 0};
    struct error cause = {0};
    struct str local, domain;
    int64_t *accounts;
    size_t count;

    str_rcut(n->account.address, '@', &local, &domain);
    if (directory_list_administrators(n->a, &accounts, &count, err) < 0)
        return -1;
    if (directory_route(n->a, STR("postmaster"), domain, &from, &routes, &cause) < 0 &&
        cause.kind == ERR_TRY_LATER)
        return fail(err, cause.kind, "%s", cause.text);
    p->v = ARENA_ARRAY(n->a, routes.n + count, struct delivery);
    p->away = ARENA_ARRAY(n->a, routes.n, struct outbound_recipient);
    for (size_t i = 0; i < routes.n; i++)
        if (routes.v[i].kind == ROUTE_REMOTE)
            p->away[p->away_count++].address = address_path(n->a, routes.v[i].address);
        else
            add_account(p, routes.v[i].account_id);
    for (size_t i = 0; i < count; i++)
        add_account(p, accounts[i]);
    return 0;
}

static void leave_out(struct people *p, int64_t account_id)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->v[i].account_id == account_id)
            p->v[i] = p->v[--p->count];
}

static int send_notice(struct notice *n, struct str text, struct people *p, struct error *err)
{
    struct outbound o = {
        .body = OUTBOUND_BODY_8BITMIME,
        .is_utf8 = !str_is_ascii(text),
        .blob_offset = sizeof RETURN_PATH - 1,
        .rcpts = p->away,
        .rcpt_count = p->away_count,
        .arena = n->a,
    };
    struct message_prepared prepared;

    if (p->count + p->away_count == 0)
        return 0;
    message_prepare(n->a, text, &prepared);
    return queue_deliver(&prepared, p->v, p->count, &o, err);
}

static int tell_account(struct notice *n, struct error *err)
{
    struct people own = {.v = ARENA_NEW(n->a, struct delivery)};

    add_account(&own, n->account.account_id);
    return send_notice(
        n, write_notice(n, true, n->record->language, address_path(n->a, n->account.address)), &own,
        err);
}

static int tell_administrators(struct notice *n, struct error *err)
{
    struct people p = {.count = 0};
    struct str local, domain, to;

    if (find_administrators(n, &p, err) < 0)
        return -1;
    leave_out(&p, n->account.account_id);
    str_rcut(n->account.address, '@', &local, &domain);
    to = arena_printf(n->a, "postmaster@%.*s", STR_ARG(domain));
    return send_notice(n, write_notice(n, false, STR(""), to), &p, err);
}

/* ---- both ---------------------------------------------------------------------------------------------- */

static int count_held(struct notice *n, struct error *err)
{
    struct guard_held *held;
    size_t count;

    if (guard_record_list_held(n->a, &held, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (held[i].account_id == n->account.account_id)
            n->held = held[i];
    return 0;
}

/* An account that was removed meanwhile is nobody's sorrow. What is refused for good is not tried again. */
int guard_tell_people(const struct guard_record *r, struct error *err)
{
    struct notice n = {.a = arena_new(), .record = r};
    struct error cause = {0};
    int rc = directory_get_account(n.a, r->account_id, &n.account, &cause);

    if (rc == 0)
        rc = count_held(&n, &cause);
    if (rc == 0)
        rc = tell_administrators(&n, &cause);
    if (rc == 0)
        rc = tell_account(&n, &cause);
    arena_free(&n.a);
    if (rc == 0)
        return 0;
    if (cause.kind == ERR_TRY_LATER || cause.kind == ERR_CANCELLED)
        return fail(err, cause.kind, "%s", cause.text);
    log_warn(NULL, "account_held_not_told", KV("account", r->account_id), KV_ERR(&cause));
    return 0;
}
