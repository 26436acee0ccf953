/* milter.c - one conversation with a milter.
 *
 * Every step is the same: the macros of its stage and the packet go out in one write, and unless it was agreed that there
 * is none, an answer is awaited. Only the end of the message is richer: any number of changes come before the verdict. */
#include "mail/milter/milter.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "server/base/memory.h"
#include "server/base/object.h"
#include "server/run/config.h"
#include "server/run/dial.h"

#define MILTER_MAGIC    0x6d696c74u
#define MACROS_SIZE_MAX 1024 /* names that it asks for at one stage */
#define OUTPUT_MAX      ((size_t)256 << 10)
#define SCRATCH_KEPT    ((size_t)64 << 10)
#define CONTENT_TIMES   4 /* milter_content_timeout, for the whole of a message that makes progress */

struct milter {
    unsigned magic;
    const struct milter_target *target;
    struct milter_macros macros;
    struct dial *dial;
    uint32_t actions, steps, version;
    char *wanted[MILTER_STAGE_COUNT]; /* macros it asked for; NULL: ours */
    struct buf out, in;
    bool must_abort; /* before MAIL or HELO */
};

#define USUAL_AT_CONNECT                                                                           \
    "j {daemon_name} {daemon_addr} {daemon_port} v _ {client_addr} "                               \
    "{client_name} {client_port} {client_ptr}"

/* As Postfix gives them; a milter may choose otherwise. */
static const char *const usual_macros[MILTER_STAGE_COUNT] = {
    [MILTER_AT_CONNECT] = USUAL_AT_CONNECT,
    [MILTER_AT_HELO] = "{tls_version} {cipher} {cipher_bits}",
    [MILTER_AT_MAIL] = "i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host}",
    [MILTER_AT_RCPT] = "i {rcpt_addr} {rcpt_host}",
    [MILTER_AT_DATA] = "i",
    [MILTER_AT_EOH] = "i",
    [MILTER_AT_END] = "i",
};

/* ---- packets ------------------------------------------------------------------------------------- */

static int is_broken(const struct milter *m, const struct error *why, struct error *err)
{
    return fail(err, why->kind, "the milter %.*s: %s", STR_ARG(m->target->name), why->text);
}

/* The packet in m->in, letter and data. */
static int read_packet(struct milter *m, struct str *packet, struct error *err)
{
    unsigned char head[4];
    uint32_t size;

    if (dial_read_exact(m->dial, head, sizeof head, err) < 0 ||
        milter_packet_size(head, &size, err) < 0)
        return -1;
    if (m->in.cap > SCRATCH_KEPT)
        buf_fini(&m->in);
    buf_clear(&m->in);
    if (dial_read_exact(m->dial, buf_reserve(&m->in, size), size, err) < 0)
        return -1;
    buf_commit(&m->in, size);
    *packet = buf_str(&m->in);
    return 0;
}

static int read_answer(struct milter *m, struct milter_answer *answer, struct error *err)
{
    struct str packet;

    return read_packet(m, &packet, err) < 0 ? -1 : milter_answer_read(packet, answer, err);
}

static void add_macro_values(struct milter *m, struct str names)
{
    struct str name;

    while (str_next_token(&names, ' ', &name)) {
        struct str value = m->macros.value(m->macros.arg, name);

        if (str_empty(value))
            continue;
        milter_add_text(&m->out, name);
        milter_add_text(&m->out, value);
    }
}

static void add_macros(struct milter *m, enum milter_stage stage, enum milter_command command)
{
    const char *names = m->wanted[stage] != NULL ? m->wanted[stage] : usual_macros[stage];
    size_t begun = milter_packet_begin(&m->out, MILTER_MACRO);

    buf_addc(&m->out, (char)command);
    add_macro_values(m, str_c(names));
    milter_packet_end(&m->out, begun);
}

/* A new step: what it sends is gathered in m->out. */
static void begin(struct milter *m)
{
    if (m->out.cap > SCRATCH_KEPT)
        buf_fini(&m->out);
    buf_clear(&m->out);
}

static void send_out(struct milter *m)
{
    dial_write(m->dial, buf_str(&m->out));
    buf_clear(&m->out);
}

/* ---- verdicts ------------------------------------------------------------------------------------- */

static void refuse(struct milter_verdict *out, int code, const char *enhanced)
{
    out->decision = MILTER_REFUSE;
    out->refusal.code = code;
    strcpy(out->refusal.enhanced, enhanced);
}

/* 1: the answer is no verdict. */
static int take_verdict(const struct milter_answer *answer, struct milter_verdict *out,
                        struct error *err)
{
    *out = (struct milter_verdict){.decision = MILTER_CONTINUE};
    switch (answer->kind) {
    case MILTER_SAYS_CONTINUE:
        return 0;
    case MILTER_SAYS_ACCEPT:
        out->decision = MILTER_ACCEPT;
        return 0;
    case MILTER_SAYS_DISCARD:
        out->decision = MILTER_DISCARD;
        return 0;
    case MILTER_SAYS_REJECT:
        return refuse(out, 550, "5.7.1"), 0;
    case MILTER_SAYS_TEMPFAIL:
        return refuse(out, 451, "4.7.1"), 0;
    case MILTER_SAYS_SHUTDOWN:
        return refuse(out, 421, "4.7.0"), 0;
    case MILTER_SAYS_REPLY:
        out->decision = MILTER_REFUSE;
        return milter_refusal_read(answer->value, &out->refusal)
                   ? 0
                   : fail(err, ERR_SYNTAX, "its reply code is no refusal");
    case MILTER_SAYS_CONN_FAIL:
        return fail(err, ERR_TRY_LATER, "it says that it cannot do its work");
    default:
        return 1;
    }
}

/* Progress is welcome anywhere, but only the end of a message waits longer for it. */
static int await_verdict(struct milter *m, bool may_skip, bool *is_skipping,
                         struct milter_verdict *out, struct error *err)
{
    for (;;) {
        struct milter_answer answer;
        int status;

        if (read_answer(m, &answer, err) < 0)
            return -1;
        if ((status = take_verdict(&answer, out, err)) <= 0)
            return status;
        if (may_skip && answer.kind == MILTER_SAYS_SKIP) {
            *is_skipping = true;
            return 0;
        }
        if (answer.kind != MILTER_SAYS_PROGRESS)
            return fail(err, ERR_SYNTAX, "its answer '%c' does not belong there",
                        (char)answer.kind);
    }
}

/* Sends what is in m->out and awaits the answer, if there is one. */
static int exchange(struct milter *m, bool is_mute, int64_t timeout_ms, struct milter_verdict *out,
                    struct error *err)
{
    struct error why = {0};
    bool ignored;

    *out = (struct milter_verdict){.decision = MILTER_CONTINUE};
    dial_set_deadline(m->dial, timeout_ms);
    send_out(m);
    if ((is_mute ? dial_flush(m->dial, &why) : await_verdict(m, false, &ignored, out, &why)) < 0)
        return is_broken(m, &why, err);
    return 0;
}

/* ---- opening -------------------------------------------------------------------------------------- */

static void remember_macros(struct milter *m, const struct milter_options *o)
{
    for (size_t i = 0; i < MILTER_STAGE_COUNT; i++)
        if (o->macros[i].p != NULL)
            m->wanted[i] = memory_copy_str(str_head(o->macros[i], MACROS_SIZE_MAX));
}

static int negotiate(struct milter *m, struct error *err)
{
    struct milter_options options;
    struct str packet;

    dial_set_deadline(m->dial, config.milter_command_timeout);
    begin(m);
    milter_add_options(&m->out);
    send_out(m);
    if (read_packet(m, &packet, err) < 0 || milter_options_read(packet, &options, err) < 0)
        return -1;
    m->version = options.version;
    m->actions = options.actions;
    m->steps = options.steps;
    if (m->version < 3)
        m->steps |= MILTER_NO_UNKNOWN;
    if (m->version < 4)
        m->steps |= MILTER_NO_DATA;
    remember_macros(m, &options);
    return 0;
}

PARKS struct milter *milter_open(const struct milter_target *target,
                                 const struct milter_macros *macros, struct error *err)
{
    struct milter *m = memory_alloc(sizeof *m);
    struct error why = {0};

    m->magic = MILTER_MAGIC;
    m->target = target;
    m->macros = *macros;
    buf_init(&m->out, OUTPUT_MAX);
    buf_init(&m->in, MILTER_ANSWER_MAX);
    m->dial = dial_target_open(&target->where, config.milter_connect_timeout, &why);
    if (m->dial == NULL || negotiate(m, &why) < 0) {
        is_broken(m, &why, err);
        milter_close(&m);
    }
    return m;
}

static void say_goodbye(struct milter *m)
{
    if (m->dial == NULL || !milter_is_fresh(m))
        return;
    begin(m);
    milter_packet_end(&m->out, milter_packet_begin(&m->out, MILTER_QUIT));
    dial_write(m->dial, buf_str(&m->out));
    dial_push(m->dial);
}

void milter_close(struct milter **mp)
{
    struct milter *m = *mp;

    if (m == NULL)
        return;
    CHECK_OBJ(m, MILTER_MAGIC);
    *mp = NULL;
    say_goodbye(m);
    dial_close(&m->dial);
    for (size_t i = 0; i < MILTER_STAGE_COUNT; i++)
        free(m->wanted[i]);
    buf_fini(&m->out);
    buf_fini(&m->in);
    m->magic = 0;
    free(m);
}

bool milter_is_fresh(struct milter *m)
{
    return dial_is_fresh(m->dial);
}

/* ---- the session ------------------------------------------------------------------------------------ */

static void add_peer(struct buf *b, const struct sockaddr_storage *peer, struct str address)
{
    uint16_t port;

    if (peer->ss_family != AF_INET && peer->ss_family != AF_INET6) {
        buf_addc(b, 'U');
        return;
    }
    port = peer->ss_family == AF_INET ? ((const struct sockaddr_in *)peer)->sin_port
                                      : ((const struct sockaddr_in6 *)peer)->sin6_port;
    buf_addc(b, str_index(address, ':') >= 0 ? '6' : '4');
    buf_add_bytes(b, &port, sizeof port); /* high byte first already */
    milter_add_text(b, address);
}

PARKS int milter_connect(struct milter *m, struct str peer_name,
                         const struct sockaddr_storage *peer, struct str peer_address,
                         struct milter_verdict *out, struct error *err)
{
    size_t begun;

    *out = (struct milter_verdict){.decision = MILTER_CONTINUE};
    if (m->steps & MILTER_NO_CONNECT)
        return 0;
    begin(m);
    add_macros(m, MILTER_AT_CONNECT, MILTER_CONNECT);
    begun = milter_packet_begin(&m->out, MILTER_CONNECT);
    milter_add_text(&m->out, peer_name);
    add_peer(&m->out, peer, peer_address);
    milter_packet_end(&m->out, begun);
    return exchange(m, m->steps & MILTER_MUTE_CONNECT, config.milter_command_timeout, out, err);
}

/* What was left unsaid about the transaction before. */
static void begin_anew(struct milter *m)
{
    begin(m);
    if (m->must_abort)
        milter_packet_end(&m->out, milter_packet_begin(&m->out, MILTER_ABORT));
    m->must_abort = false;
}

static void add_command(struct milter *m, enum milter_command command, const struct str *args,
                        size_t count)
{
    size_t begun = milter_packet_begin(&m->out, (char)command);

    for (size_t i = 0; i < count; i++)
        milter_add_text(&m->out, args[i]);
    milter_packet_end(&m->out, begun);
}

PARKS int milter_helo(struct milter *m, struct str name, struct milter_verdict *out,
                      struct error *err)
{
    *out = (struct milter_verdict){.decision = MILTER_CONTINUE};
    if (m->steps & MILTER_NO_HELO)
        return 0;
    begin_anew(m);
    add_macros(m, MILTER_AT_HELO, MILTER_HELO);
    add_command(m, MILTER_HELO, &name, 1);
    return exchange(m, m->steps & MILTER_MUTE_HELO, config.milter_command_timeout, out, err);
}

PARKS int milter_unknown(struct milter *m, struct str line, struct milter_verdict *out,
                         struct error *err)
{
    *out = (struct milter_verdict){.decision = MILTER_CONTINUE};
    if (m->steps & MILTER_NO_UNKNOWN)
        return 0;
    begin(m);
    add_command(m, MILTER_UNKNOWN, &line, 1);
    return exchange(m, m->steps & MILTER_MUTE_UNKNOWN, config.milter_command_timeout, out, err);
}

/* ---- the envelope ------------------------------------------------------------------------------------ */

PARKS int milter_mail(struct milter *m, const struct str *args, size_t count,
                      struct milter_verdict *out, struct error *err)
{
    *out = (struct milter_verdict){.decision = MILTER_CONTINUE};
    begin_anew(m);
    m->must_abort = true;
    if (m->steps & MILTER_NO_MAIL)
        return exchange(m, true, config.milter_command_timeout, out, err);
    add_macros(m, MILTER_AT_MAIL, MILTER_MAIL);
    add_command(m, MILTER_MAIL, args, count);
    return exchange(m, m->steps & MILTER_MUTE_MAIL, config.milter_command_timeout, out, err);
}

PARKS int milter_rcpt(struct milter *m, const struct str *args, size_t count,
                      struct milter_verdict *out, struct error *err)
{
    *out = (struct milter_verdict){.decision = MILTER_CONTINUE};
    if (m->steps & MILTER_NO_RCPT)
        return 0;
    begin(m);
    add_macros(m, MILTER_AT_RCPT, MILTER_RCPT);
    add_command(m, MILTER_RCPT, args, count);
    return exchange(m, m->steps & MILTER_MUTE_RCPT, config.milter_command_timeout, out, err);
}

/* ---- the message ------------------------------------------------------------------------------------- */

static int content_exchange(struct milter *m, bool is_mute, struct milter_verdict *out,
                            struct error *err)
{
    return exchange(m, is_mute, config.milter_content_timeout, out, err);
}

static int tell_data(struct milter *m, struct milter_verdict *out, struct error *err)
{
    if (m->steps & MILTER_NO_DATA)
        return 0;
    begin(m);
    add_macros(m, MILTER_AT_DATA, MILTER_DATA);
    add_command(m, MILTER_DATA, NULL, 0);
    return content_exchange(m, m->steps & MILTER_MUTE_DATA, out, err);
}

/* Folded lines end in LF here; a blank behind the colon is left away unless the milter wants it. What does not fit
 * into a packet of libmilter's is cut. */
static void add_field_value(struct milter *m, const struct header_field *field)
{
    size_t room = MILTER_DATA_MAX - field->name.n - 2;
    struct str value = field->value;
    size_t n = 0;

    if (!(m->steps & MILTER_LEADING_SPACE) && value.n > 0 && value.p[0] == ' ')
        value = str_from(value, 1);
    for (size_t i = 0; i < value.n && n < room; i++) {
        char c = value.p[i];

        if (c == '\r' || c == '\0')
            continue;
        buf_addc(&m->out, c);
        n++;
    }
    buf_addc(&m->out, '\0');
}

static void add_field(struct milter *m, const struct header_field *field)
{
    size_t begun = milter_packet_begin(&m->out, MILTER_FIELD);

    milter_add_text(&m->out, field->name);
    add_field_value(m, field);
    milter_packet_end(&m->out, begun);
}

static int tell_header(struct milter *m, const struct header_edit *header,
                       struct milter_verdict *out, struct error *err)
{
    if (m->steps & MILTER_NO_FIELDS)
        return 0;
    for (size_t i = 0; i < header->count; i++) {
        if (header->fields[i].name.n > MILTER_DATA_MAX / 2)
            continue;
        begin(m);
        add_field(m, &header->fields[i]);
        if (content_exchange(m, m->steps & MILTER_MUTE_FIELDS, out, err) < 0)
            return -1;
        if (out->decision != MILTER_CONTINUE)
            return 0;
        fiber_pause();
    }
    return 0;
}

static int tell_end_of_header(struct milter *m, struct milter_verdict *out, struct error *err)
{
    if (m->steps & MILTER_NO_EOH)
        return 0;
    begin(m);
    add_macros(m, MILTER_AT_EOH, MILTER_END_OF_HEADER);
    add_command(m, MILTER_END_OF_HEADER, NULL, 0);
    return content_exchange(m, m->steps & MILTER_MUTE_EOH, out, err);
}

static void send_body_chunk(struct milter *m, struct str chunk)
{
    size_t begun;

    begin(m);
    begun = milter_packet_begin(&m->out, MILTER_BODY);
    buf_add(&m->out, chunk);
    milter_packet_end(&m->out, begun);
    dial_set_deadline(m->dial, config.milter_content_timeout);
    send_out(m);
}

static int tell_body(struct milter *m, struct str body, struct milter_verdict *out,
                     struct error *err)
{
    bool is_skipping = false, is_mute = m->steps & MILTER_MUTE_BODY;
    struct error why = {0};

    if (m->steps & MILTER_NO_BODY)
        return 0;
    while (body.n > 0 && !is_skipping && out->decision == MILTER_CONTINUE) {
        struct str chunk = str_head(body, MILTER_DATA_MAX);

        send_body_chunk(m, chunk);
        if (!is_mute && await_verdict(m, m->steps & MILTER_CAN_SKIP, &is_skipping, out, &why) < 0)
            return is_broken(m, &why, err);
        if (dial_failed(m->dial)) /* nobody would read the rest */
            return dial_flush(m->dial, &why), is_broken(m, &why, err);
        body = str_from(body, chunk.n);
        fiber_pause();
    }
    return 0;
}

/* Changes until the verdict. */
static int await_end(struct milter *m, struct milter_mail *mail, struct milter_changes *changes,
                     struct milter_verdict *out, struct error *err)
{
    for (;;) {
        struct milter_answer answer;
        int status;

        if (read_answer(m, &answer, err) < 0)
            return -1;
        if ((status = take_verdict(&answer, out, err)) <= 0)
            return status;
        if (answer.kind == MILTER_SAYS_PROGRESS)
            dial_set_deadline(m->dial, config.milter_content_timeout);
        else if (milter_changes_add(changes, mail, &answer, m->actions, err) < 0)
            return -1;
        fiber_pause();
    }
}

static int tell_end(struct milter *m, struct milter_mail *mail, struct milter_verdict *out,
                    struct error *err)
{
    struct milter_changes changes;
    struct error why = {0};
    int status;

    begin(m);
    add_macros(m, MILTER_AT_END, MILTER_END);
    add_command(m, MILTER_END, NULL, 0);
    dial_set_deadline(m->dial, config.milter_content_timeout);
    send_out(m);
    milter_changes_init(&changes, mail);
    status = await_end(m, mail, &changes, out, &why);
    if (status == 0 && (out->decision == MILTER_CONTINUE || out->decision == MILTER_ACCEPT))
        while (milter_changes_apply_next(&changes, mail))
            fiber_pause();
    milter_changes_fini(&changes);
    m->must_abort = false; /* it is over for the milter, too */
    return status < 0 ? is_broken(m, &why, err) : 0;
}

static bool goes_on(int status, const struct milter_verdict *out)
{
    return status == 0 && out->decision == MILTER_CONTINUE;
}

PARKS int milter_message(struct milter *m, struct milter_mail *mail, struct milter_verdict *out,
                         struct error *err)
{
    int status;

    CHECK_OBJ(m, MILTER_MAGIC);
    *out = (struct milter_verdict){.decision = MILTER_CONTINUE};
    dial_set_end(m->dial, CONTENT_TIMES * config.milter_content_timeout);
    status = tell_data(m, out, err);
    if (goes_on(status, out))
        status = tell_header(m, &mail->header, out, err);
    if (goes_on(status, out))
        status = tell_end_of_header(m, out, err);
    if (goes_on(status, out))
        status = tell_body(m, mail->header.body, out, err);
    if (goes_on(status, out))
        status = tell_end(m, mail, out, err);
    dial_set_end(m->dial, 0);
    return status;
}
