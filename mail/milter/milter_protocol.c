/* milter_protocol.c - packets of the milter protocol, written and read.
 *
 * Answers come from programs that the administrator chose and that may be broken: every size, NUL and bit is checked
 * here, so that the rest works with slices that mean something. */
#include "mail/milter/milter_protocol.h"

#include <stdio.h>

/* ---- writing ------------------------------------------------------------------------------------- */

static void put_u32(char *p, uint32_t value)
{
    p[0] = (char)(value >> 24);
    p[1] = (char)(value >> 16);
    p[2] = (char)(value >> 8);
    p[3] = (char)value;
}

size_t milter_packet_begin(struct buf *b, char letter)
{
    size_t begun = b->n;

    buf_add_bytes(b, "\0\0\0\0", 4);
    buf_addc(b, letter);
    return begun;
}

void milter_packet_end(struct buf *b, size_t begun)
{
    if (buf_ok(b))
        put_u32(b->p + begun, (uint32_t)(b->n - begun - 4));
}

void milter_add_u32(struct buf *b, uint32_t value)
{
    char bytes[4];

    put_u32(bytes, value);
    buf_add_bytes(b, bytes, sizeof bytes);
}

void milter_add_text(struct buf *b, struct str s)
{
    ptrdiff_t nul = str_index(s, '\0');

    buf_add(b, nul < 0 ? s : str_head(s, (size_t)nul));
    buf_addc(b, '\0');
}

void milter_add_options(struct buf *b)
{
    size_t begun = milter_packet_begin(b, MILTER_OPTIONS);

    milter_add_u32(b, MILTER_VERSION);
    milter_add_u32(b, MILTER_MAY_ALL);
    milter_add_u32(b, MILTER_STEPS_ALL);
    milter_packet_end(b, begun);
}

/* ---- reading ------------------------------------------------------------------------------------- */

static uint32_t get_u32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool take_u32(struct str *rest, uint32_t *out)
{
    if (rest->n < 4)
        return false;
    *out = get_u32((const unsigned char *)rest->p);
    *rest = str_from(*rest, 4);
    return true;
}

/* Text up to a NUL that must be there. */
static bool take_text(struct str *rest, struct str *out)
{
    return str_cut(*rest, '\0', out, rest);
}

int milter_packet_size(const unsigned char head[4], uint32_t *size, struct error *err)
{
    *size = get_u32(head);
    if (*size == 0 || *size > MILTER_ANSWER_MAX)
        return fail(err, ERR_SYNTAX, "it announced an answer of %lu bytes", (unsigned long)*size);
    return 0;
}

static bool read_field(struct str rest, struct milter_answer *out)
{
    if (out->kind != MILTER_ADD_FIELD && !take_u32(&rest, &out->index))
        return false;
    return take_text(&rest, &out->name) && take_text(&rest, &out->value) && out->name.n > 0 &&
           rest.n == 0;
}

/* Some milters write addresses without their brackets. */
static struct str without_brackets(struct str address)
{
    address = str_trim(address);
    if (str_starts(address, STR("<")) && str_ends(address, STR(">")))
        return str_of(address.p + 1, address.n - 2);
    return address;
}

/* It goes into commands to other servers. */
static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 127)
            return true;
    return false;
}

static bool read_address(struct str rest, struct milter_answer *out)
{
    if (!take_text(&rest, &out->name) || has_control(out->name))
        return false;
    out->name = without_brackets(out->name);
    return rest.n == 0 || (take_text(&rest, &out->value) && rest.n == 0);
}

static bool read_text(struct str rest, struct milter_answer *out)
{
    return take_text(&rest, &out->value) && rest.n == 0;
}

static bool read_data(struct str rest, struct milter_answer *out)
{
    switch (out->kind) {
    case MILTER_SAYS_REPLY:
    case MILTER_QUARANTINE:
        return read_text(rest, out);
    case MILTER_ADD_FIELD:
    case MILTER_INSERT_FIELD:
    case MILTER_CHANGE_FIELD:
        return read_field(rest, out);
    case MILTER_CHANGE_SENDER:
    case MILTER_ADD_RCPT:
    case MILTER_ADD_RCPT_PARAMS:
    case MILTER_DELETE_RCPT:
        return read_address(rest, out);
    case MILTER_REPLACE_BODY:
        out->value = rest;
        return true;
    default: /* libmilter sends nothing behind them, others a NUL or two */
        return rest.n <= 4;
    }
}

static bool is_known(char letter)
{
    static const char letters[] = "acdrtys4fphimbe+2-q";

    return letter != '\0' && strchr(letters, letter) != NULL;
}

int milter_answer_read(struct str packet, struct milter_answer *out, struct error *err)
{
    *out = (struct milter_answer){0};
    if (packet.n == 0 || !is_known(packet.p[0]))
        return fail(err, ERR_SYNTAX, "it gave an answer that is none of the milter protocol");
    out->kind = (enum milter_reply)packet.p[0];
    if (!read_data(str_from(packet, 1), out))
        return fail(err, ERR_SYNTAX, "its answer '%c' is malformed", packet.p[0]);
    return 0;
}

static int read_macros(struct str rest, struct milter_options *out, struct error *err)
{
    while (rest.n > 0) {
        struct str names;
        uint32_t stage;

        if (!take_u32(&rest, &stage) || !take_text(&rest, &names) || stage >= MILTER_STAGE_COUNT)
            return fail(err, ERR_SYNTAX, "its choice of macros is malformed");
        out->macros[stage] = names;
    }
    return 0;
}

int milter_options_read(struct str packet, struct milter_options *out, struct error *err)
{
    struct str rest = str_from(packet, 1);

    *out = (struct milter_options){0};
    if (packet.n == 0 || packet.p[0] != MILTER_OPTIONS || !take_u32(&rest, &out->version) ||
        !take_u32(&rest, &out->actions) || !take_u32(&rest, &out->steps))
        return fail(err, ERR_SYNTAX, "it does not speak the milter protocol");
    if (out->version < MILTER_VERSION_MIN || out->version > MILTER_VERSION)
        return fail(err, ERR_SYNTAX,
                    "it speaks version %lu of the milter protocol; we speak 2 to 6",
                    (unsigned long)out->version);
    if ((out->actions & ~MILTER_MAY_ALL) != 0 || (out->steps & ~MILTER_STEPS_ALL) != 0)
        return fail(err, ERR_SYNTAX, "it wants what was not offered: actions %lx, steps %lx",
                    (unsigned long)out->actions, (unsigned long)out->steps);
    return read_macros(rest, out, err);
}

/* ---- the text of a refusal ------------------------------------------------------------------------- */

static bool take_code(struct str *line, int *code)
{
    uint32_t number;

    if (line->n < 3 || !str_to_u32(str_head(*line, 3), &number) || number < 400 || number > 599)
        return false;
    *code = (int)number;
    *line = str_from(*line, 3);
    return line->n == 0 || str_skip_prefix(line, STR(" ")) || str_skip_prefix(line, STR("-"));
}

static bool is_number(struct str s)
{
    uint32_t ignored;

    return s.n <= 3 && str_to_u32(s, &ignored);
}

/* "5.7.1 " of the same class as the code (RFC 2034, 4). */
static void take_enhanced(struct str *line, struct milter_refusal *out)
{
    struct str word, rest, class, subject, detail, after;

    str_cut(*line, ' ', &word, &rest);
    if (word.n > MILTER_ENHANCED_MAX || !str_cut(word, '.', &class, &after) ||
        !str_cut(after, '.', &subject, &detail))
        return;
    if (class.n != 1 || class.p[0] != '0' + out->code / 100 || !is_number(subject) ||
        !is_number(detail))
        return;
    memcpy(out->enhanced, word.p, word.n);
    out->enhanced[word.n] = '\0';
    *line = rest;
}

/* Milters write "%%" for "%", since Sendmail reads this text as a format. */
static void add_text(struct str line, struct milter_refusal *out, size_t *n)
{
    if (*n > 0 && *n < MILTER_TEXT_MAX)
        out->text[(*n)++] = ' ';
    for (size_t i = 0; i < line.n && *n < MILTER_TEXT_MAX; i++) {
        char c = line.p[i];

        if (c == '%' && i + 1 < line.n && line.p[i + 1] == '%')
            i++;
        out->text[(*n)++] = c >= ' ' && c < 127 ? c : c == '\t' ? ' ' : '?';
    }
    out->text[*n] = '\0';
}

bool milter_refusal_read(struct str reply, struct milter_refusal *out)
{
    size_t n = 0;

    *out = (struct milter_refusal){0};
    do {
        struct str line;
        int code;

        str_cut(reply, '\n', &line, &reply);
        line = str_trim(line);
        if (!take_code(&line, &code) || (out->code != 0 && code != out->code))
            return false;
        out->code = code;
        take_enhanced(&line, out);
        add_text(str_trim(line), out, &n);
    } while (reply.n > 0);
    if (out->enhanced[0] == '\0')
        snprintf(out->enhanced, sizeof out->enhanced, "%c.7.1", '0' + out->code / 100);
    return true;
}
