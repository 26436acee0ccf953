/* crash.c - the last words of a process: which signal, which fiber, and how it got there.
 *
 * Everything here may run with a broken heap and a full stack: only write(2) and what needs no
 * memory. backtrace(3) is called once at install, since its first call loads a library. Under
 * AddressSanitizer the handlers stay away: its own report says more. */
#include "server/run/crash.h"

#include <execinfo.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "server/run/run_internal.h"

#define FRAMES_MAX       64
#define HANDLER_STACK    (64 * 1024)
#define LAST_WORDS_MAX_S 10

static const struct fatal_signal {
    int number;
    const char *name;
} fatal_signals[] = {
    {SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGABRT, "SIGABRT"},
    {SIGFPE, "SIGFPE"},   {SIGILL, "SIGILL"},
};
#define FATAL_SIGNAL_COUNT (sizeof fatal_signals / sizeof fatal_signals[0])

struct line {
    char text[512];
    size_t n;
};

static void line_add(struct line *line, const char *s)
{
    while (*s != '\0' && line->n < sizeof line->text)
        line->text[line->n++] = *s++;
}

static void line_add_number(struct line *line, uint64_t value, unsigned base)
{
    char digits[24], *at = digits + sizeof digits - 1;

    *at = '\0';
    do
        *--at = "0123456789abcdef"[value % base];
    while ((value /= base) != 0);
    line_add(line, at);
}

static const char *signal_name(int number)
{
    for (size_t i = 0; i < FATAL_SIGNAL_COUNT; i++)
        if (fatal_signals[i].number == number)
            return fatal_signals[i].name;
    return "?";
}

static void describe(struct line *line, const siginfo_t *info)
{
    const struct fiber *overflowed = NULL;
    char process[17] = "";
    bool has_address = info->si_code > 0 && info->si_signo != SIGABRT;

    if (has_address)
        overflowed = fiber_of_guard(info->si_addr);
    prctl(PR_GET_NAME, process); /* of the thread, when a helper thread crashed */
    line_add(line, "level=error event=crashed process=");
    line_add(line, process);
    line_add(line, " pid=");
    line_add_number(line, (uint64_t)getpid(), 10);
    line_add(line, " signal=");
    line_add(line, signal_name(info->si_signo));
    line_add(line, " fiber=");
    line_add(line, fiber_name(overflowed != NULL ? overflowed : fiber_self()));
    if (has_address) {
        line_add(line, " address=0x");
        line_add_number(line, (uintptr_t)info->si_addr, 16);
    }
    if (overflowed != NULL)
        line_add(line, " reason=\"stack overflow\"");
    line_add(line, "\n");
}

static void say_last_words(int number, siginfo_t *info, void *context)
{
    struct line line = {.n = 0};
    void *frames[FRAMES_MAX];

    signal(number, SIG_DFL);
    alarm(LAST_WORDS_MAX_S); /* should walking a broken stack never end */
    describe(&line, info);
    if (write(STDERR_FILENO, line.text, line.n) >= 0)
        backtrace_symbols_fd(frames, backtrace(frames, FRAMES_MAX), STDERR_FILENO);
    raise(number); /* delivered on return: the core shows the place */
}

#ifdef WITH_ASAN
void crash_handlers_install(void)
{
    (void)say_last_words;
}
#else
void crash_handlers_install(void)
{
    static char stack[HANDLER_STACK];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = say_last_words, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    void *frame;

    backtrace(&frame, 1);
    sigaltstack(&alternate, NULL);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < FATAL_SIGNAL_COUNT; i++)
        sigaction(fatal_signals[i].number, &action, NULL);
}
#endif
