/* clamd.c - the message in blocks, each behind its size, and one line back.
 *
 * The command begins with n, not z, so that answers end with a line feed instead of a NUL. A clamd that has had enough says so
 * while we are still sending, and closes: so between blocks we look whether it spoke. */
#include "mail/spam/clamd.h"

#include <arpa/inet.h>

#include "server/run/dial.h"

#define BLOCK_SIZE      ((size_t)64 << 10)
#define LINE_SIZE_MAX   4096
#define REASON_SIZE_MAX 120
#define CONNECT_PART    4 /* of the time may be spent on connecting, as a divisor */

/* ---- answers ---------------------------------------------------------------------------------------- */

/* What it says goes into answers, fields and logs: nothing in it can end a line or a comment. */
static struct str cleaned(struct arena *a, struct str text, size_t size_max, const char *taboo)
{
    struct str out = arena_str(a, str_head(text, size_max));
    char *p = (char *)out.p;

    for (size_t i = 0; i < out.n; i++)
        if (p[i] < ' ' || p[i] >= 127 || strchr(taboo, p[i]) != NULL)
            p[i] = '?';
    return out;
}

static int read_failure(struct arena *a, struct str text, struct error *err)
{
    struct str reason = cleaned(a, str_trim(text), REASON_SIZE_MAX, "");

    if (str_find(text, STR("size limit exceeded")) >= 0)
        return fail(err, ERR_TOO_BIG, "ClamAV takes no message so large; its StreamMaxLength says");
    return fail(err, ERR_UNSUPPORTED, "ClamAV says: %.*s",
                STR_ARG(reason.n > 0 ? reason : STR("an error without a reason")));
}

static bool cut_end(struct str *line, struct str end)
{
    if (!str_ends(*line, end))
        return false;
    line->n -= end.n;
    return true;
}

int clamd_answer_read(struct arena *a, struct str line, struct str *virus, struct error *err)
{
    bool is_of_stream;

    *virus = STR_NULL;
    line = str_trim(line);
    if (cut_end(&line, STR(" ERROR")))
        return read_failure(a, line, err);
    is_of_stream = str_starts(line, STR("stream: "));
    if (is_of_stream && str_eq(line, STR("stream: OK")))
        return 0;
    if (!is_of_stream || !cut_end(&line, STR(" FOUND")) || line.n <= strlen("stream: "))
        return fail(err, ERR_SYNTAX, "what answers there is no ClamAV daemon");
    *virus = cleaned(a, str_from(line, strlen("stream: ")), CLAMD_NAME_SIZE_MAX, " ()<>\"\\");
    return 0;
}

/* ---- the conversation -------------------------------------------------------------------------------- */

static void write_size(struct dial *d, size_t size)
{
    uint32_t network = htonl((uint32_t)size);

    dial_write(d, str_of((const char *)&network, sizeof network));
}

static void send_message(struct dial *d, struct str message)
{
    dial_write(d, STR("nINSTREAM\n"));
    while (message.n > 0) {
        struct str block = str_head(message, BLOCK_SIZE);

        write_size(d, block.n);
        dial_write(d, block);
        message = str_from(message, block.n);
        if (dial_has_input(d))
            return;
    }
    write_size(d, 0);
}

static int ask(struct arena *a, struct dial *d, struct str message, struct str *virus,
               struct error *err)
{
    struct str line;

    send_message(d, message);
    return dial_read_line(d, LINE_SIZE_MAX, &line, err) < 0
               ? -1
               : clamd_answer_read(a, line, virus, err);
}

PARKS int clamd_scan(struct arena *a, const struct dial_target *target, struct str message,
                     int64_t timeout_ms, struct str *virus, struct error *err)
{
    struct dial *d = dial_target_open(target, timeout_ms / CONNECT_PART, err);
    int status;

    *virus = STR_NULL;
    if (d == NULL)
        return -1;
    dial_set_deadline(d, timeout_ms);
    dial_set_end(d, timeout_ms);
    status = ask(a, d, message, virus, err);
    dial_close(&d);
    return status;
}
