/* cli_input.c - blocking reads, before there is a loop. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "server/base/buf.h"
#include "server/cli/cli_input.h"

#define FILE_SIZE_MAX (256 << 20)
#define LINE_SIZE_MAX 4096

static int read_stream(FILE *from, const char *path, struct buf *text, struct error *err)
{
    char block[16384];
    size_t n;

    while ((n = fread(block, 1, sizeof block, from)) > 0)
        buf_add_bytes(text, block, n);
    if (ferror(from))
        return fail(err, ERR_DENIED, "%s cannot be read: %s", path, strerror(errno));
    return buf_ok(text) ? 0 : fail(err, ERR_TOO_BIG, "%s is larger than 256 MiB", path);
}

int cli_read_file(struct arena *a, const char *path, struct str *out, struct error *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *from = is_stdin ? stdin : fopen(path, "re");
    struct buf text;
    int status;

    if (from == NULL)
        return fail(err, ERR_DENIED, "%s cannot be read: %s", path, strerror(errno));
    buf_init(&text, FILE_SIZE_MAX);
    status = read_stream(from, is_stdin ? "standard input" : path, &text, err);
    *out = arena_str(a, buf_str(&text));
    buf_fini(&text);
    if (!is_stdin)
        fclose(from);
    return status;
}

int cli_read_stdin_line(struct arena *a, struct str *out, struct error *err)
{
    char line[LINE_SIZE_MAX];
    size_t n;

    if (fgets(line, sizeof line, stdin) == NULL)
        return fail(err, ERR_SYNTAX, "standard input is empty: the password is expected there");
    n = strcspn(line, "\r\n");
    if (n == sizeof line - 1)
        return fail(err, ERR_TOO_BIG, "the line on standard input is too long");
    *out = arena_str(a, str_of(line, n));
    return 0;
}

/* One key: false when the line is over. */
static bool take_key(char key, char *line, size_t *n, bool *is_cancelled)
{
    *is_cancelled = key == CTRL('C');
    if (*is_cancelled || key == '\n' || key == '\r' || key == CTRL('D'))
        return false;
    if (key == 127 || key == CTRL('H'))
        *n -= *n > 0;
    else if (key == CTRL('U'))
        *n = 0;
    else if (*n < LINE_SIZE_MAX)
        line[(*n)++] = key;
    return true;
}

int cli_read_hidden(struct arena *a, const char *prompt, struct str *out, struct error *err)
{
    struct termios before, hidden;
    char line[LINE_SIZE_MAX], key = '\n';
    bool is_cancelled = false;
    size_t n = 0;

    if (tcgetattr(STDIN_FILENO, &before) < 0)
        return fail(err, ERR_DENIED, "standard input is not a terminal: use --password-stdin");
    hidden = before;
    /* Keys come one by one and Ctrl-C as a key, so that no signal leaves the terminal without echo. */
    hidden.c_lflag &= ~(tcflag_t)(ECHO | ICANON | ISIG);
    fputs(prompt, stderr);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
    while (read(STDIN_FILENO, &key, 1) == 1 && take_key(key, line, &n, &is_cancelled))
        ;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputc('\n', stderr);
    *out = arena_str(a, str_of(line, n));
    explicit_bzero(line, sizeof line);
    return is_cancelled ? fail(err, ERR_CANCELLED, "cancelled") : 0;
}
