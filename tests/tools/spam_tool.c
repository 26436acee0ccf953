/* spam_tool.c - the statistical filter over messages in files, for measurements and tests in Python.
 *
 *   spam_tool LIST        LIST has a line "1 PATH" for each message of spam, "0 PATH" for others
 *
 * Reads the messages (an mbox "From " line in front is not part of them), says "N MESSAGES MICROSECONDS-EACH FEATURES-EACH",
 * and then answers each line of standard input. A line of one letter for each message, '+' to learn it, '?' to judge it,
 * '.' to pass it over: a model is made, and a line of scores of those judged comes back. "why NUMBER": the reasons for that
 * message under the last model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mail/spam/spam_model.h"
#include "server/base/buf.h"
#include "server/base/memory.h"

#define MESSAGES_MAX 100000
#define REASONS      12

static struct message {
    char *path;
    struct spam_example example;
} messages[MESSAGES_MAX];
static size_t message_count;
static struct spam_model *model;
static struct arena *kept;

static _Noreturn void give_up(const char *why, const char *what)
{
    fprintf(stderr, "spam_tool: %s %s\n", why, what);
    exit(2);
}

static struct str read_message(struct arena *a, const char *path)
{
    FILE *f = fopen(path, "rb");
    struct str text, line;
    long size;
    char *p;

    if (f == NULL || fseek(f, 0, SEEK_END) < 0 || (size = ftell(f)) < 0)
        give_up("cannot read", path);
    rewind(f);
    p = arena_alloc(a, (size_t)size + 1);
    if (fread(p, 1, (size_t)size, f) != (size_t)size)
        give_up("cannot read", path);
    fclose(f);
    text = str_of(p, (size_t)size);
    if (str_starts(text, STR("From ")))
        str_cut(text, '\n', &line, &text);
    return text;
}

static double cpu_us(void)
{
    return (double)clock() * 1e6 / CLOCKS_PER_SEC;
}

static void features_of(struct arena *a, const char *path, struct spam_features *out, double *us)
{
    struct str text = read_message(a, path);
    double start = cpu_us();

    spam_features(a, mime_parse(a, text), text, out);
    *us += cpu_us() - start;
}

static void load(const char *list)
{
    FILE *f = fopen(list, "r");
    struct arena *a = arena_new();
    char line[4096];
    double us = 0, features = 0;

    if (f == NULL)
        give_up("cannot read", list);
    while (message_count < MESSAGES_MAX && fgets(line, sizeof line, f) != NULL) {
        struct message *m = &messages[message_count++];
        struct spam_features out;
        line[strcspn(line, "\n")] = '\0';
        m->path = memory_copy_str(str_c(line + 2));
        features_of(a, m->path, &out, &us);
        m->example = spam_example_of(kept, &out);
        m->example.is_spam = line[0] == '1';
        features += (double)out.n;
        arena_reset(a);
    }
    fclose(f);
    arena_free(&a);
    printf("%zu %.1f %.0f\n", message_count, us / (double)message_count,
           features / (double)message_count);
}

static void judge(const char *marks)
{
    struct spam_example *v = memory_array(message_count + 1, sizeof *v);
    size_t n = 0;

    for (size_t i = 0; i < message_count; i++)
        if (marks[i] == '+')
            v[n++] = messages[i].example;
    spam_model_make(model, v, n);
    for (size_t i = 0; i < message_count; i++)
        if (marks[i] == '?')
            printf("%.4f ", spam_model_score(model, NULL, &messages[i].example));
    printf("\n");
    free(v);
}

static void explain(size_t number)
{
    struct arena *a = arena_new();
    struct spam_features features;
    struct spam_reason reasons[REASONS];
    double us = 0;

    if (number >= message_count)
        give_up("no such message:", "why");
    features_of(a, messages[number].path, &features, &us);
    for (int side = 0; side < 2; side++) {
        size_t n = spam_model_reasons(model, NULL, &features, side == 0, reasons, REASONS);
        for (size_t i = 0; i < n; i++)
            printf("%+.2f %.*s\n", reasons[i].weight,
                   STR_ARG(spam_feature_text(a, reasons[i].feature)));
    }
    printf(".\n");
    arena_free(&a);
}

int main(int argc, char **argv)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t n;

    if (argc != 2)
        give_up("usage:", "spam_tool LIST");
    kept = arena_new();
    model = memory_alloc(sizeof *model);
    load(argv[1]);
    fflush(stdout);
    while ((n = getline(&line, &size, stdin)) > 0) {
        if (strncmp(line, "why ", 4) == 0)
            explain((size_t)atol(line + 4));
        else if ((size_t)n == message_count + 1)
            judge(line);
        else
            give_up("not a mark for each message:", "");
        fflush(stdout);
    }
    return 0;
}
