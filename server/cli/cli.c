/* cli.c - reads the command line by tables and runs one command.
 *
 * `merpati NOUN VERB ARGUMENTS --options`, options anywhere. What a command does is in the file of its noun. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/cli/cli.h"
#include "server/cli/cli_internal.h"
#include "server/cli/cli_session.h"
#include "server/run/config.h"

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2 };

#define SETS_MAX               100
#define CONFIG_ERRORS_SIZE_MAX (1 << 20)

static const struct {
    const char *name;
    const char *value; /* NULL: takes none */
    const char *meaning;
} options[OPTION_COUNT] = {
    [OPTION_JSON] = {"json", NULL, "answer in JSON"},
    [OPTION_DATA] = {"data", "DIR", "the data directory (./var)"},
    [OPTION_CONFIG] = {"config", "FILE", "the settings"},
    [OPTION_SET] = {"set", "NAME=VALUE", "one setting, over those of the file"},
    [OPTION_NAME] = {"name", "TEXT", "the name that people see"},
    [OPTION_KIND] =
        {"kind", "KIND",
         "person, shared, group, room or equipment; of reports: dmarc, tls or feedback"},
    [OPTION_PASSWORD_STDIN] = {"password-stdin", NULL, "read the password from standard input"},
    [OPTION_PASSWORD_HASH] = {"password-hash", "HASH", "a crypt(3) string from another server"},
    [OPTION_QUOTA] = {"quota", "SIZE", "as 500M or 5G; none, or default"},
    [OPTION_MESSAGES] = {"messages", "COUNT", "largest number of messages; none, or default"},
    [OPTION_FROM_CSV] = {"from-csv", "FILE", "many accounts; - is standard input"},
    [OPTION_AS] = {"as", "ADDRESS", "restore to another address"},
    [OPTION_DOMAIN] = {"domain", "DOMAIN", "only this domain"},
    [OPTION_REMOVED] = {"removed", NULL, "those that can be restored"},
    [OPTION_EQUIPMENT] = {"equipment", NULL, "a thing to be booked, not a room"},
    [OPTION_ADMINISTRATOR] = {"admin", NULL, "may change other accounts"},
    [OPTION_ACTIVE] = {"active", NULL, "let it run from now on"},
    [OPTION_PLACE] = {"place", "WHERE", "before, after or include"},
    [OPTION_DRY_RUN] = {"dry-run", NULL, "change nothing, only say what would happen"},
    [OPTION_MAILBOX] = {"mailbox", "NAME", "this mailbox, not all that there are"},
    [OPTION_WITH] = {"with", "WHO",
                     "an address of a person or a group, or anyone; -WHO takes away"},
    [OPTION_RIGHTS] = {"rights", "LETTERS", "as in IMAP: lrs reads, lrswipkxte works, a shares on"},
    [OPTION_LIST] = {"list", NULL, "only show who may do what"},
    [OPTION_ID] = {"id", "ID", "the trace id, as Received fields and reports have it"},
    [OPTION_MESSAGE_ID] = {"message-id", "<ID>", "the field Message-ID"},
    [OPTION_SENDER] = {"sender", "ADDRESS",
                       "of the envelope; or a domain (trace), or *@domain (queue)"},
    [OPTION_RECIPIENT] = {"recipient", "ADDRESS",
                          "of the envelope; or a domain (trace), or *@domain (queue)"},
    [OPTION_SUBJECT] = {"subject", "WORDS", "words that the subject holds"},
    [OPTION_ACCOUNT] = {"account", "ADDRESS", "of one of our accounts"},
    [OPTION_SINCE] = {"since", "TIME", "2026-11-23, 2026-11-23T10:00:00Z, or an age: 90m, 12h, 2d"},
    [OPTION_UNTIL] = {"until", "TIME", "likewise"},
    [OPTION_LIMIT] = {"limit", "COUNT", "the newest so many"},
    [OPTION_BEFORE] = {"before", "ID", "only older ones than this"},
    [OPTION_ALIAS_OF] = {"alias-of", "DOMAIN", "be another name of that domain; none"},
    [OPTION_CATCH_ALL] = {"catch-all", "ADDRESS",
                          "gets mail to addresses that nobody has; none: it is refused"},
    [OPTION_POSTMASTER] = {"postmaster", "ADDRESS",
                           "gets postmaster@ and abuse@; none: the oldest active person"},
    [OPTION_SUBADDRESS] = {"subaddress", "yes|no", "mail to ani+shop@ goes to ani@"},
    [OPTION_SIZE_MAX] = {"size-max", "SIZE", "largest message, as 20M; default"},
    [OPTION_ADMINS_SEND_AS] = {"admins-send-as", "yes|no",
                               "administrators may send as every address in it"},
    [OPTION_NO_COPY] = {"no-copy", NULL, "keep no copy of what is forwarded"},
    [OPTION_ON_BEHALF] = {"on-behalf", NULL, "only so that the reader sees who wrote"},
    [OPTION_DESTINATION] = {"destination", "DOMAIN", "mail that goes to this domain or smarthost"},
    [OPTION_HELD] = {"held", NULL, "held mail"},
    [OPTION_ALL] = {"all", NULL, "all mail"},
    [OPTION_REASON] = {"reason", "TEXT", "why, for who looks later"},
    [OPTION_TO] = {"to", "HOST:PORT", "a smarthost, or mx for the domains' own servers"},
    [OPTION_BOUNCE] = {"bounce", NULL, "tell the sender"},
    [OPTION_ZONE] = {"zone", NULL, "only the lines for the zone files"},
    [OPTION_ADDRESS] = {"address", "ADDRESSES",
                        "from which this host's mail leaves, as the world sees them (behind NAT)"},
    [OPTION_BLOCK_LISTS] = {"block-lists", NULL, "ask some well-known block lists too"},
};
#define COMMON_OPTIONS (TAKES(JSON) | TAKES(DATA) | TAKES(CONFIG) | TAKES(SET))

static const struct {
    const char *name;
    const struct cli_command *commands;
} nouns[] = {
    {"domain", cli_domain_commands}, {"account", cli_account_commands},
    {"alias", cli_alias_commands},   {"group", cli_group_commands},
    {"room", cli_room_commands},     {"config", cli_config_commands},
    {"trace", cli_trace_commands},   {"dkim", cli_dkim_commands},
    {"report", cli_report_commands}, {"queue", cli_queue_commands},
    {"doctor", cli_doctor_commands}, {"sieve", cli_sieve_commands},
};
#define NOUN_COUNT (sizeof nouns / sizeof *nouns)

/* A command line taken apart: options on one side, words on the other. */
struct line {
    struct str words[CLI_ARGS_MAX];
    size_t word_count;
    const char *options[OPTION_COUNT];
    const char *sets[SETS_MAX];
    size_t set_count;
    bool wants_help;
};

/* --- usage ----------------------------------------------------------------------------------------- */

static void print_command(FILE *to, const char *noun, const struct cli_command *command)
{
    fprintf(to, "  merpati %s%s%s%s%s\n      %s\n", noun, command->verb[0] != '\0' ? " " : "",
            command->verb, command->arguments[0] != '\0' ? " " : "", command->arguments,
            command->meaning);
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (command->options & (UINT64_C(1) << i))
            fprintf(to, "      --%s%s%s: %s\n", options[i].name,
                    options[i].value != NULL ? " " : "",
                    options[i].value != NULL ? options[i].value : "", options[i].meaning);
}

/* All commands of a noun, or of every noun. */
static void print_usage(FILE *to, struct str noun)
{
    bool is_all = true;

    for (size_t i = 0; i < NOUN_COUNT; i++)
        is_all &= !str_eq(noun, str_c(nouns[i].name));
    if (is_all)
        fprintf(to, "  merpati serve [--config FILE] [--data DIR] [--port-offset N] [--workers "
                    "N]\n      run the server\n");
    for (size_t i = 0; i < NOUN_COUNT; i++) {
        if (!is_all && !str_eq(noun, str_c(nouns[i].name)))
            continue;
        for (const struct cli_command *c = nouns[i].commands; c->verb != NULL; c++)
            print_command(to, nouns[i].name, c);
    }
    fprintf(to, "Every command takes");
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (COMMON_OPTIONS & (UINT64_C(1) << i))
            fprintf(to, " [--%s%s%s]", options[i].name, options[i].value != NULL ? " " : "",
                    options[i].value != NULL ? options[i].value : "");
    fprintf(to, ".\n");
}

static int usage_error(const struct line *line, const struct error *err)
{
    cli_print_error(err, line->options[OPTION_JSON] != NULL);
    return EXIT_USAGE;
}

/* --- reading the line ------------------------------------------------------------------------------ */

static int find_option(struct str name)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (str_eq(name, str_c(options[i].name)))
            return i;
    return -1;
}

/* One --option, with its value behind "=" or in the next word. */
static int read_option(struct line *line, int *at, int argc, char **argv, struct error *err)
{
    struct str name, value;
    bool has_value = str_cut(str_c(argv[*at] + 2), '=', &name, &value);
    const char *text = has_value ? value.p : "";
    int option = find_option(name);

    if (option < 0)
        return fail(err, ERR_SYNTAX, "there is no option --%.*s: see \"merpati help\"",
                    STR_ARG(name));
    if (has_value && options[option].value == NULL)
        return fail(err, ERR_SYNTAX, "--%s takes no value", options[option].name);
    if (!has_value && options[option].value != NULL) {
        if (*at + 1 >= argc)
            return fail(err, ERR_SYNTAX, "--%s needs a value: --%s %s", options[option].name,
                        options[option].name, options[option].value);
        text = argv[++*at];
    }
    line->options[option] = text;
    if (option != OPTION_SET)
        return 0;
    if (line->set_count == SETS_MAX)
        return fail(err, ERR_SYNTAX, "more than %d times --set", SETS_MAX);
    line->sets[line->set_count++] = text;
    return 0;
}

static int read_line(struct line *line, int argc, char **argv, struct error *err)
{
    bool is_over = false; /* behind "--" everything is a word */

    for (int i = 1; i < argc; i++) {
        struct str word = str_c(argv[i]);
        if (!is_over && str_eq(word, STR("--"))) {
            is_over = true;
        } else if (!is_over && (str_eq(word, STR("--help")) || str_eq(word, STR("-h")))) {
            line->wants_help = true;
        } else if (!is_over && str_starts(word, STR("--"))) {
            if (read_option(line, &i, argc, argv, err) < 0)
                return -1;
        } else if (line->word_count == CLI_ARGS_MAX) {
            return fail(err, ERR_SYNTAX, "more than %d words", CLI_ARGS_MAX);
        } else {
            line->words[line->word_count++] = word;
        }
    }
    return 0;
}

/* How many words a verb takes when the line has it, 0 when not. */
static size_t match_verb(const struct line *line, const char *verb)
{
    struct str rest = str_c(verb), word;
    size_t count = 0;

    while (str_next_token(&rest, ' ', &word)) {
        if (1 + count >= line->word_count || !str_eq(line->words[1 + count], word))
            return 0;
        count++;
    }
    return count;
}

static const struct cli_command *find_command(const struct line *line, size_t *words_used,
                                              struct error *err)
{
    for (size_t i = 0; i < NOUN_COUNT; i++) {
        if (!str_eq(line->words[0], str_c(nouns[i].name)))
            continue;
        for (const struct cli_command *c = nouns[i].commands; c->verb != NULL; c++) {
            *words_used = 1 + match_verb(line, c->verb);
            if (*words_used > 1 || c->verb[0] == '\0')
                return c;
        }
        return fail_null(err, ERR_SYNTAX, "%s what? See \"merpati help %s\"", nouns[i].name,
                         nouns[i].name);
    }
    return fail_null(err, ERR_SYNTAX, "there is no command \"%.*s\": see \"merpati help\"",
                     STR_ARG(str_head(line->words[0], 80)));
}

static int check_use(const struct line *line, const struct cli_command *command, size_t arg_count,
                     struct error *err)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (line->options[i] != NULL && !((command->options | COMMON_OPTIONS) & (UINT64_C(1) << i)))
            return fail(err, ERR_SYNTAX, "--%s does not belong to \"%.*s %s\"", options[i].name,
                        STR_ARG(line->words[0]), command->verb);
    if (arg_count < command->args_min || arg_count > command->args_max)
        return fail(err, ERR_SYNTAX, "write: merpati %.*s %s%s%s", STR_ARG(line->words[0]),
                    command->verb, command->arguments[0] != '\0' ? " " : "", command->arguments);
    return 0;
}

/* --- settings -------------------------------------------------------------------------------------- */

/* The data directory as the server sees it, from wherever it was named. */
static const char *absolute_path(struct arena *a, const char *path)
{
    char cwd[PATH_MAX];

    if (path[0] == '/' || getcwd(cwd, sizeof cwd) == NULL)
        return path;
    return arena_printf(a, "%s/%s", cwd, path).p;
}

static int read_config_file(const char *path)
{
    struct buf errors;
    int status;

    buf_init(&errors, CONFIG_ERRORS_SIZE_MAX);
    status = config_read(path, &errors);
    if (status < 0)
        fputs(buf_c(&errors), stderr);
    buf_fini(&errors);
    return status;
}

static int apply_settings(struct arena *a, const struct line *line, struct error *err)
{
    struct str name, value;

    config_defaults();
    config.data_dir =
        absolute_path(a, line->options[OPTION_DATA] != NULL ? line->options[OPTION_DATA] : "var");
    config.config_path = line->options[OPTION_CONFIG];
    if (config.config_path != NULL && read_config_file(config.config_path) < 0)
        return fail(err, ERR_SYNTAX, "the settings in %s have errors", config.config_path);
    for (size_t i = 0; i < line->set_count; i++) {
        if (!str_cut(str_c(line->sets[i]), '=', &name, &value))
            return fail(err, ERR_SYNTAX, "write --set name=value");
        if (config_set(str_trim(name), str_trim(value), err) < 0)
            return -1;
    }
    return 0;
}

/* --- running --------------------------------------------------------------------------------------- */

static int run_command(void *arg, struct error *err)
{
    struct cli *c = arg;

    return c->command->run(c, err);
}

/* A mistake in what was typed is found by prepare, before anything happens. */
static int run(struct cli *c)
{
    struct error err = {0};
    int status;

    if (c->command->prepare != NULL && c->command->prepare(c, &err) < 0) {
        cli_print_error(&err, c->is_json);
        return err.kind == ERR_SYNTAX ? EXIT_USAGE : EXIT_REFUSED;
    }
    if (c->command->needs_no_database)
        status = c->command->run(c, &err);
    else
        status = cli_session_run(run_command, c, &err);
    if (status < 0)
        cli_print_error(&err, c->is_json);
    if (fflush(stdout) != 0 && status == 0) {
        fprintf(stderr, "merpati: the answer could not be written\n");
        return EXIT_REFUSED;
    }
    return status == 0 ? EXIT_DONE : EXIT_REFUSED;
}

static void fill(struct cli *c, const struct line *line, const struct cli_command *command,
                 size_t words_used)
{
    c->command = command;
    c->is_json = line->options[OPTION_JSON] != NULL;
    c->arg_count = line->word_count - words_used;
    for (size_t i = 0; i < c->arg_count; i++)
        c->args[i] = line->words[words_used + i];
    for (size_t i = 0; i < OPTION_COUNT; i++)
        c->options[i] = line->options[i];
}

static int run_line(struct arena *a, const struct line *line)
{
    const struct cli_command *command;
    struct cli *c = ARENA_NEW(a, struct cli);
    struct error err = {0};
    size_t words_used;

    command = find_command(line, &words_used, &err);
    if (command == NULL || check_use(line, command, line->word_count - words_used, &err) < 0 ||
        apply_settings(a, line, &err) < 0)
        return usage_error(line, &err);
    c->arena = a;
    fill(c, line, command, words_used);
    return run(c);
}

int cli_main(int argc, char **argv)
{
    struct arena *a = arena_new();
    struct line *line = ARENA_NEW(a, struct line);
    struct error err = {0};
    int status;

    log_set_level(LOG_LEVEL_WARN);
    if (read_line(line, argc, argv, &err) < 0) {
        status = usage_error(line, &err);
    } else if (line->wants_help || (line->word_count > 0 && str_eq(line->words[0], STR("help")))) {
        print_usage(stdout, line->wants_help && line->word_count > 0 ? line->words[0]
                            : line->word_count > 1                   ? line->words[1]
                                                                     : STR_NULL);
        status = EXIT_DONE;
    } else if (line->word_count == 0) {
        print_usage(stderr, STR_NULL);
        status = EXIT_USAGE;
    } else {
        status = run_line(a, line);
    }
    config_fini();
    arena_free(&a);
    return status;
}
