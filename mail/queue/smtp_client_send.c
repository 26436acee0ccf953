/* smtp_client_send.c - a transaction: MAIL, RCPT, then DATA or BDAT, and what becomes of each recipient.
 *
 * With PIPELINING the envelope and DATA are one group (RFC 2920, 3.1). When DATA is taken although
 * every recipient was refused, an empty message ends it, whose answer counts for nothing.
 *
 * BDAT is for binary bodies alone: for all others DATA is what servers have been tried with. A
 * recipient whose fate is unknown, because the connection broke, is put off: twice is better than
 * never. */
#include <string.h>
#include <time.h>

#include "mail/mime/lines.h"
#include "mail/queue/seven_bit.h"
#include "mail/queue/smtp_client_internal.h"
#include "server/base/object.h"
#include "server/directory/directory.h"
#include "server/run/config.h"
#include "server/run/offload.h"

#define BLOCK_SIZE      (64u << 10)
#define LOOK_SIZE       (1u << 20) /* looked through without a pause */
#define RCPT_MAX        10000
#define PARAM_SIZE_MAX  500 /* RFC 3461, 4.2: an ORCPT */
#define XTEXT_ENVID_MAX 100

struct transaction {
    struct smtp_client *c;
    struct arena *arena;
    const struct remote_job *job;
    struct remote_recipient **rcpts;
    size_t rcpt_count;
    bool *is_left_out; /* never sent: we refused it ourselves */
    bool *is_accepted;
    size_t sent_count, accepted_count;
    struct str sender;  /* as it is said */
    struct str message; /* as it is sent, before dots */
    bool says_utf8, says_8bit, says_binary;
};

/* ---- results ------------------------------------------------------------------------------- */

static void set_result(struct remote_recipient *r, enum remote_status status, int code,
                       struct str enhanced, struct str text, bool is_remote)
{
    r->status = status;
    r->code = code;
    r->enhanced = enhanced;
    r->text = text;
    r->is_remote_answer = is_remote;
    r->was_dsn_relayed = false;
}

static enum remote_status status_of(const struct smtp_answer *answer)
{
    if (smtp_answer_is(answer, 2))
        return REMOTE_DELIVERED;
    return smtp_answer_is(answer, 5) ? REMOTE_FAILED : REMOTE_DEFERRED;
}

/* 2xx or 3xx where it makes no sense is no refusal, but nothing was delivered either. */
static struct str enhanced_of(struct arena *a, const struct smtp_answer *answer,
                              enum remote_status status)
{
    char class = status == REMOTE_DELIVERED ? '2' : status == REMOTE_FAILED ? '5' : '4';
    struct str code = answer->enhanced;

    return code.n > 0 && code.p[0] == class ? arena_str(a, code) : arena_printf(a, "%c.0.0", class);
}

static void take_answer(struct transaction *t, struct remote_recipient *r)
{
    const struct smtp_answer *answer = &t->c->answer;
    enum remote_status status = status_of(answer);

    set_result(r, status, answer->code, enhanced_of(t->arena, answer, status),
               arena_str(t->arena, answer->text), true);
    r->was_dsn_relayed = status == REMOTE_DELIVERED && (t->c->capabilities.can & SMTP_CAN_DSN) != 0;
}

/* The answer to a command that concerned all who are not yet settled. */
static void refuse_all(struct transaction *t)
{
    for (size_t i = 0; i < t->rcpt_count; i++) {
        if (t->is_left_out[i])
            continue;
        take_answer(t, t->rcpts[i]);
        if (t->rcpts[i]->status == REMOTE_DELIVERED)
            t->rcpts[i]->status = REMOTE_DEFERRED;
    }
}

static void fail_all(struct transaction *t, int code, const char *enhanced, const char *text)
{
    for (size_t i = 0; i < t->rcpt_count; i++)
        set_result(t->rcpts[i], REMOTE_FAILED, code, str_c(enhanced), str_c(text), false);
}

/* The connection broke: who was accepted is put off, and so is whose answer to RCPT, from `unheard_from` on, was
 * still to come. */
static enum smtp_outcome put_off(struct transaction *t, size_t unheard_from,
                                 const struct error *err)
{
    const struct smtp_answer *answer = &t->c->answer;

    for (size_t i = 0; i < t->rcpt_count; i++) {
        struct remote_recipient *r = t->rcpts[i];

        if (t->is_left_out[i] || (i < unheard_from && !t->is_accepted[i]))
            continue;
        if (answer->code == 421)
            take_answer(t, r);
        else
            set_result(r, REMOTE_DEFERRED, 0, STR("4.4.2"), arena_str(t->arena, str_c(err->text)),
                       false);
    }
    return SMTP_BROKEN;
}

/* ---- what can be sent ---------------------------------------------------------------------- */

/* Nothing that could end the command or the path early. */
static bool path_is_safe(struct str path)
{
    bool is_quoted = false;

    for (size_t i = 0; i < path.n; i++) {
        unsigned char c = (unsigned char)path.p[i];

        if (c < ' ' || c == 0x7f)
            return false;
        if (is_quoted && c == '\\')
            i++;
        else if (c == '"')
            is_quoted = !is_quoted;
        else if (!is_quoted && (c == ' ' || c == '<' || c == '>'))
            return false;
    }
    return !is_quoted && path.n <= 1000;
}

/* The address without UTF-8 where its domain is all that has some; empty when it cannot be. */
static struct str ascii_address(struct arena *a, struct str address)
{
    struct str local, domain, ascii;

    if (str_is_ascii(address))
        return address;
    if (!str_rcut(address, '@', &local, &domain) || !str_is_ascii(local) ||
        domain_canonical(a, domain, &ascii, NULL) < 0)
        return STR_NULL;
    return arena_printf(a, "%.*s@%.*s", STR_ARG(local), STR_ARG(ascii));
}

static struct str header_of(struct str message)
{
    ptrdiff_t end = str_find(message, STR("\r\n\r\n"));

    return end < 0 ? message : str_head(message, (size_t)end + 2);
}

static bool can(const struct transaction *t, unsigned what)
{
    return (t->c->capabilities.can & what) == what;
}

static void leave_out(struct transaction *t, size_t i, const char *enhanced, const char *text)
{
    t->is_left_out[i] = true;
    set_result(t->rcpts[i], REMOTE_FAILED, str_eq(str_c(enhanced), STR("5.6.7")) ? 553 : 501,
               str_c(enhanced), str_c(text), false);
}

#define NO_UTF8 "the other server does not take international addresses or headers (SMTPUTF8)"

/* RFC 6531, 3.2. What was announced as SMTPUTF8 and turns out to be plain needs none of it. */
static bool choose_utf8(struct transaction *t)
{
    bool is_plain = !t->job->is_utf8 || str_is_ascii(header_of(t->job->message));

    t->sender = t->job->sender;
    t->says_utf8 = can(t, SMTP_CAN_UTF8) && (t->job->is_utf8 || !str_is_ascii(t->sender));
    for (size_t i = 0; i < t->rcpt_count && can(t, SMTP_CAN_UTF8); i++)
        t->says_utf8 = t->says_utf8 || !str_is_ascii(t->rcpts[i]->address);
    if (t->says_utf8)
        return true;
    t->sender = ascii_address(t->arena, t->job->sender);
    if (is_plain && (t->sender.n > 0 || t->job->sender.n == 0))
        return true;
    fail_all(t, 553, "5.6.7", NO_UTF8);
    return false;
}

static void choose_recipients(struct transaction *t)
{
    for (size_t i = 0; i < t->rcpt_count; i++) {
        struct str address = t->rcpts[i]->address;

        if (!path_is_safe(address) || address.n == 0)
            leave_out(t, i, "5.1.3", "this address cannot be said in SMTP");
        else if (!t->says_utf8 && ascii_address(t->arena, address).n == 0)
            leave_out(t, i, "5.6.7", NO_UTF8);
    }
}

/* A CR without LF would be a line end to some servers and none to others: an attacker's second
 * message, or a fault. It becomes a space. */
static struct str without_bare_cr(struct arena *a, struct str message)
{
    char *copy = NULL;

    for (size_t i = 0; i < message.n; i++) {
        const char *cr = memchr(message.p + i, '\r', message.n - i);

        if (cr == NULL)
            break;
        i = (size_t)(cr - message.p);
        fiber_pause();
        if (i + 1 < message.n && message.p[i + 1] == '\n')
            continue;
        if (copy == NULL)
            copy = arena_copy(a, message.p, message.n);
        copy[i] = ' ';
    }
    return copy == NULL ? message : str_of(copy, message.n);
}

struct encoding {
    struct str message;
    struct buf out;
    bool is_done;
};

static void encode(void *arg)
{
    struct encoding *e = arg;

    e->is_done = seven_bit_encode(&e->out, e->message);
}

/* RFC 6152, 3: to a server without 8BITMIME, 8-bit bodies go re-encoded or not at all. */
static bool make_seven_bit(struct transaction *t)
{
    struct encoding e = {.message = t->message};

    buf_init(&e.out, SIZE_MAX);
    offload(encode, &e);
    if (e.is_done)
        t->message = arena_str(t->arena, buf_str(&e.out));
    else
        fail_all(t, 554, "5.6.3",
                 "the other server takes 7-bit text only, and this message cannot be "
                 "converted");
    buf_fini(&e.out);
    return e.is_done;
}

static bool look_for_eight_bits(struct str message)
{
    while (message.n > 0) {
        if (!seven_bit_is(str_head(message, LOOK_SIZE)))
            return true;
        message = str_from(message, LOOK_SIZE);
        fiber_pause();
    }
    return false;
}

static bool choose_body(struct transaction *t)
{
    const struct remote_job *job = t->job;
    bool is_seven_bit = !look_for_eight_bits(job->message);
    bool is_binary = job->body == REMOTE_BODY_BINARYMIME;

    t->message = job->message;
    if (is_binary && can(t, SMTP_CAN_BINARY | SMTP_CAN_CHUNK)) {
        t->says_binary = true;
        return true;
    }
    if (is_binary || (!is_seven_bit && !can(t, SMTP_CAN_8BIT) && !t->says_utf8)) {
        if (!make_seven_bit(t))
            return false;
    } else {
        t->says_8bit = !is_seven_bit && can(t, SMTP_CAN_8BIT);
    }
    t->message = without_bare_cr(t->arena, t->message);
    return true;
}

static bool check_size(struct transaction *t)
{
    uint64_t size_max = t->c->capabilities.size_max;

    if (size_max == 0 || t->message.n <= size_max)
        return true;
    fail_all(t, 552, "5.3.4",
             arena_printf(t->arena, "the message has %zu bytes, and the other server takes %llu",
                          t->message.n, (unsigned long long)size_max)
                 .p);
    return false;
}

static bool may_require_tls(const struct transaction *t)
{
    return can(t, SMTP_CAN_REQUIRETLS) && dial_is_tls(t->c->dial);
}

/* RFC 8689, 4.2.1: it travels only to who promises to guard it further; a report is not lost for that (5). */
static bool check_require_tls(struct transaction *t)
{
    if (!t->job->requires_tls || t->job->sender.n == 0 || t->c->is_lmtp || may_require_tls(t))
        return true;
    fail_all(t, 550, "5.7.30",
             "the sender asked for REQUIRETLS, which the other server does "
             "not offer");
    return false;
}

static bool check_deliver_by(struct transaction *t, int64_t *left_s)
{
    *left_s = t->job->deliver_by_us / 1000000 - time(NULL);
    if (t->job->deliver_by_us == 0 || t->job->deliver_by_notify || *left_s > 0)
        return true;
    fail_all(t, 550, "5.4.7", "the time that the sender gave for delivery is over");
    return false;
}

/* ---- the envelope -------------------------------------------------------------------------- */

/* Parameters came through the queue from a client: only what xtext may hold is said again. */
static bool param_is_safe(struct str value, size_t size_max)
{
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] <= ' ' || value.p[i] > '~')
            return false;
    return value.n > 0 && value.n <= size_max;
}

static void add_deliver_by(const struct transaction *t, struct buf *b, int64_t left_s)
{
    if (t->job->deliver_by_us == 0 || !can(t, SMTP_CAN_DELIVER_BY))
        return;
    if (!t->job->deliver_by_notify && (uint64_t)left_s < t->c->capabilities.deliver_by_min_s)
        return;
    if (left_s > 999999999)
        left_s = 999999999;
    if (left_s < -999999999)
        left_s = -999999999;
    buf_addf(b, " BY=%lld;%c", (long long)left_s, t->job->deliver_by_notify ? 'N' : 'R');
}

static void add_mail_params(const struct transaction *t, struct buf *b, int64_t left_s)
{
    const struct remote_job *job = t->job;

    if (can(t, SMTP_CAN_SIZE))
        buf_addf(b, " SIZE=%zu", t->message.n);
    if (t->says_binary)
        buf_adds(b, " BODY=BINARYMIME");
    else if (t->says_8bit)
        buf_adds(b, " BODY=8BITMIME");
    if (t->says_utf8)
        buf_adds(b, " SMTPUTF8");
    if (job->requires_tls && may_require_tls(t))
        buf_adds(b, " REQUIRETLS");
    if (can(t, SMTP_CAN_DSN) && job->ret != REMOTE_RET_UNSET)
        buf_adds(b, job->ret == REMOTE_RET_FULL ? " RET=FULL" : " RET=HDRS");
    if (can(t, SMTP_CAN_DSN) && param_is_safe(job->envid, XTEXT_ENVID_MAX))
        buf_addf(b, " ENVID=%.*s", STR_ARG(job->envid));
    if (job->priority != 0 && can(t, SMTP_CAN_PRIORITY))
        buf_addf(b, " MT-PRIORITY=%d", job->priority);
    add_deliver_by(t, b, left_s);
}

static void say_mail(struct transaction *t, int64_t left_s)
{
    struct buf b;

    buf_init(&b, 8192);
    buf_addf(&b, "MAIL FROM:<%.*s>", STR_ARG(t->sender));
    add_mail_params(t, &b, left_s);
    smtp_client_say(t->c, buf_str(&b), NULL);
    buf_fini(&b);
}

static void add_notify(struct buf *b, unsigned notify)
{
    static const char *const names[] = {"SUCCESS", "FAILURE", "DELAY"};
    const char *separator = " NOTIFY=";

    if (notify == REMOTE_NOTIFY_NEVER)
        buf_adds(b, " NOTIFY=NEVER");
    for (unsigned i = 0; i < 3 && notify != REMOTE_NOTIFY_NEVER; i++) {
        if ((notify & (REMOTE_NOTIFY_SUCCESS << i)) == 0)
            continue;
        buf_adds(b, separator);
        buf_adds(b, names[i]);
        separator = ",";
    }
}

static void say_rcpt(struct transaction *t, const struct remote_recipient *r)
{
    struct str address = t->says_utf8 ? r->address : ascii_address(t->arena, r->address);
    struct buf b;

    buf_init(&b, 8192);
    buf_addf(&b, "RCPT TO:<%.*s>", STR_ARG(address));
    if (can(t, SMTP_CAN_DSN)) {
        add_notify(&b, r->notify);
        if (param_is_safe(r->orcpt, PARAM_SIZE_MAX))
            buf_addf(&b, " ORCPT=%.*s", STR_ARG(r->orcpt));
    }
    smtp_client_say(t->c, buf_str(&b), NULL);
    buf_fini(&b);
}

static void count_answer(struct transaction *t, size_t i)
{
    take_answer(t, t->rcpts[i]);
    t->is_accepted[i] = t->rcpts[i]->status == REMOTE_DELIVERED;
    t->accepted_count += t->is_accepted[i];
    /* RFC 5321, 4.5.3.1.10: 552 for "too many recipients" means 452. */
    if (t->c->answer.code == 552 && t->accepted_count > 0)
        set_result(t->rcpts[i], REMOTE_DEFERRED, 452, STR("4.5.3"), t->rcpts[i]->text, true);
}

/* Whatever MAIL's answer was, those to RCPT follow when they were asked in one go. */
static enum smtp_outcome hear_recipients(struct transaction *t, bool mail_was_refused,
                                         struct error *err)
{
    for (size_t i = 0; i < t->rcpt_count; i++) {
        if (t->is_left_out[i])
            continue;
        if (smtp_client_listen(t->c, config.delivery_command_timeout, err) == SMTP_BROKEN)
            return mail_was_refused ? SMTP_BROKEN : put_off(t, i, err);
        if (!mail_was_refused)
            count_answer(t, i);
    }
    return SMTP_DONE;
}

/* DATA was said before anybody was accepted: a server that goes along gets an empty message. */
static enum smtp_outcome end_empty_data(struct transaction *t, struct error *err)
{
    if (smtp_client_listen(t->c, config.delivery_data_timeout, err) == SMTP_BROKEN)
        return SMTP_BROKEN;
    if (t->c->answer.code != 354)
        return SMTP_DONE;
    smtp_client_say(t->c, STR("."), NULL);
    return smtp_client_listen(t->c, config.delivery_end_timeout, err);
}

/* All in one write: MAIL, every RCPT and, unless the body goes by BDAT, DATA. */
static enum smtp_outcome envelope_at_once(struct transaction *t, int64_t left_s, struct error *err)
{
    bool was_refused;

    say_mail(t, left_s);
    for (size_t i = 0; i < t->rcpt_count; i++)
        if (!t->is_left_out[i])
            say_rcpt(t, t->rcpts[i]);
    if (!t->says_binary)
        smtp_client_say(t->c, STR("DATA"), NULL);
    if (smtp_client_listen(t->c, config.delivery_command_timeout, err) == SMTP_BROKEN)
        return put_off(t, 0, err);
    was_refused = !smtp_answer_is(&t->c->answer, 2);
    if (was_refused)
        refuse_all(t);
    if (hear_recipients(t, was_refused, err) == SMTP_BROKEN)
        return SMTP_BROKEN;
    if (t->accepted_count > 0)
        return SMTP_DONE;
    if (!t->says_binary && end_empty_data(t, err) == SMTP_BROKEN)
        return SMTP_BROKEN;
    return SMTP_REFUSED;
}

static enum smtp_outcome envelope_in_turn(struct transaction *t, int64_t left_s, struct error *err)
{
    say_mail(t, left_s);
    if (smtp_client_listen(t->c, config.delivery_command_timeout, err) == SMTP_BROKEN)
        return put_off(t, 0, err);
    if (!smtp_answer_is(&t->c->answer, 2)) {
        refuse_all(t);
        return SMTP_REFUSED;
    }
    for (size_t i = 0; i < t->rcpt_count; i++) {
        if (t->is_left_out[i])
            continue;
        say_rcpt(t, t->rcpts[i]);
        if (smtp_client_listen(t->c, config.delivery_command_timeout, err) == SMTP_BROKEN)
            return put_off(t, i, err);
        count_answer(t, i);
    }
    if (t->accepted_count > 0 && !t->says_binary)
        smtp_client_say(t->c, STR("DATA"), NULL);
    return t->accepted_count > 0 ? SMTP_DONE : SMTP_REFUSED;
}

/* ---- the message --------------------------------------------------------------------------- */

/* Each block has its time; who takes the first byte of each and then dawdles meets the end of the whole. */
static void send_block(struct transaction *t, struct str block)
{
    while (block.n > 0 && !dial_failed(t->c->dial)) {
        struct str piece = str_head(block, BLOCK_SIZE);

        dial_set_deadline(t->c->dial, config.delivery_block_timeout);
        dial_write(t->c->dial, piece);
        block = str_from(block, piece.n);
    }
}

static void send_lines(struct transaction *t)
{
    struct mime_lines lines;
    struct str piece;

    mime_lines_init(&lines, MIME_LINES_ALL);
    mime_lines_feed(&lines, t->message);
    while (!dial_failed(t->c->dial) && mime_lines_next(&lines, &piece))
        send_block(t, piece);
    if (dial_failed(t->c->dial))
        return;
    send_block(t, mime_lines_end(&lines));
    send_block(t, STR(".\r\n"));
}

static enum smtp_outcome send_data(struct transaction *t, struct error *err)
{
    if (smtp_client_listen(t->c, config.delivery_data_timeout, err) == SMTP_BROKEN)
        return put_off(t, t->rcpt_count, err);
    if (t->c->answer.code != 354) {
        for (size_t i = 0; i < t->rcpt_count; i++)
            if (t->is_accepted[i]) {
                take_answer(t, t->rcpts[i]);
                if (t->rcpts[i]->status == REMOTE_DELIVERED)
                    t->rcpts[i]->status = REMOTE_DEFERRED;
            }
        return SMTP_REFUSED;
    }
    send_lines(t);
    return SMTP_DONE;
}

static void send_chunk(struct transaction *t)
{
    smtp_client_sayf(t->c, "BDAT %zu LAST", t->message.n);
    send_block(t, t->message);
}

/* One answer, or with LMTP one for each recipient that was accepted (RFC 2033, 4.2). */
static enum smtp_outcome hear_verdicts(struct transaction *t, struct error *err)
{
    bool is_heard = false;

    for (size_t i = 0; i < t->rcpt_count; i++) {
        if (!t->is_accepted[i])
            continue;
        if (!is_heard || t->c->is_lmtp) {
            if (smtp_client_listen(t->c, config.delivery_end_timeout, err) == SMTP_BROKEN)
                return put_off(t, t->rcpt_count, err);
            is_heard = true;
        }
        take_answer(t, t->rcpts[i]);
        t->is_accepted[i] = false; /* settled, whatever happens to the connection */
    }
    return SMTP_DONE;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static bool prepare(struct transaction *t, int64_t *left_s)
{
    if (!check_require_tls(t) || !check_deliver_by(t, left_s) || !choose_utf8(t))
        return false;
    if (!path_is_safe(t->sender)) {
        fail_all(t, 501, "5.1.7", "the sender's address cannot be said in SMTP");
        return false;
    }
    choose_recipients(t);
    for (size_t i = 0; i < t->rcpt_count; i++)
        t->sent_count += !t->is_left_out[i];
    return t->sent_count > 0 && choose_body(t) && check_size(t);
}

static enum smtp_outcome run(struct transaction *t, int64_t left_s, struct error *err)
{
    enum smtp_outcome outcome = can(t, SMTP_CAN_PIPELINE) ? envelope_at_once(t, left_s, err)
                                                          : envelope_in_turn(t, left_s, err);

    if (outcome != SMTP_DONE)
        return outcome;
    if (t->says_binary)
        send_chunk(t);
    else if ((outcome = send_data(t, err)) != SMTP_DONE)
        return outcome;
    return hear_verdicts(t, err);
}

/* The server forgets what it was told; a session in which even that fails is of no more use. */
static void reset(struct smtp_client *c)
{
    if (c->is_broken)
        return;
    smtp_client_say(c, STR("RSET"), NULL);
    if (smtp_client_expect(c, 2, config.delivery_command_timeout, NULL) != SMTP_DONE)
        c->is_broken = true;
}

PARKS enum smtp_outcome smtp_client_send(struct smtp_client *c, struct arena *a,
                                         const struct remote_job *job,
                                         struct remote_recipient **rcpts, size_t rcpt_count,
                                         struct error *err)
{
    struct transaction t = {
        .c = c,
        .arena = a,
        .job = job,
        .rcpts = rcpts,
        .rcpt_count = rcpt_count,
        .is_left_out = ARENA_ARRAY(a, rcpt_count, bool),
        .is_accepted = ARENA_ARRAY(a, rcpt_count, bool),
    };
    enum smtp_outcome outcome;
    int64_t left_s;

    CHECK_OBJ(c, SMTP_CLIENT_MAGIC);
    if (!prepare(&t, &left_s))
        return SMTP_REFUSED;
    dial_set_end(c->dial, config.delivery_message_timeout);
    outcome = run(&t, left_s, err);
    c->messages_sent++;
    if (outcome == SMTP_REFUSED)
        reset(c);
    dial_set_end(c->dial, 0);
    return outcome;
}

size_t smtp_client_rcpt_max(const struct smtp_client *c)
{
    size_t theirs = c->capabilities.rcpt_max == 0 ? RCPT_MAX : c->capabilities.rcpt_max;
    size_t ours = (size_t)config.delivery_rcpt_max;

    return theirs < ours ? theirs : ours;
}
