/* sieve_parse.c - the grammar of Sieve: commands with arguments, tests and blocks. It knows no command by name, so
 * what an extension adds needs nothing here. One token ahead is enough. */
#include "mail/sieve/sieve_parse.h"
#include "mail/sieve/sieve_lex.h"

struct parser {
    struct arena *a;
    struct sieve_report *report;
    struct sieve_lexer lexer;
    struct sieve_token token; /* the next one */
    unsigned depth, nodes_count, strings_count;
};

static int advance(struct parser *p)
{
    return sieve_lex_next(&p->lexer, &p->token);
}

static bool is_sign(const struct parser *p, char c)
{
    return p->token.kind == SIEVE_TOKEN_SIGN && p->token.text.p[0] == c;
}

/* How the next token is named in a fault. */
static const char *shown(struct parser *p)
{
    switch (p->token.kind) {
    case SIEVE_TOKEN_END:
        return "the end of the script";
    case SIEVE_TOKEN_STRING:
        return "a string";
    case SIEVE_TOKEN_NUMBER:
        return "a number";
    case SIEVE_TOKEN_TAG:
        return arena_c(p->report->a, arena_printf(p->report->a, "\":%s\"",
                                                  sieve_shown(p->report, p->token.text)));
    default:
        return arena_c(p->report->a,
                       arena_printf(p->report->a, "\"%s\"", sieve_shown(p->report, p->token.text)));
    }
}

static int fail_here(struct parser *p, const char *wanted)
{
    return sieve_fail(p->report, p->token.line, p->token.column, "%s must stand before %s", wanted,
                      shown(p));
}

static int descend(struct parser *p)
{
    if (++p->depth > SIEVE_NESTING_MAX)
        return sieve_fail(
            p->report, p->token.line, p->token.column,
            "blocks and tests stand more than %d deep within each other: split the rule",
            SIEVE_NESTING_MAX);
    return 0;
}

/* --- arguments ------------------------------------------------------------------------------------ */

static int parse_string(struct parser *p, struct sieve_word *word, struct sieve_literal ***tail)
{
    struct sieve_literal *literal;

    if (p->token.kind != SIEVE_TOKEN_STRING)
        return fail_here(p, "a string in quotation marks");
    if (++p->strings_count > SIEVE_STRINGS_MAX)
        return sieve_fail(p->report, p->token.line, p->token.column,
                          "the script has more than %d strings: make it shorter",
                          SIEVE_STRINGS_MAX);
    literal = ARENA_NEW(p->a, struct sieve_literal);
    *literal = (struct sieve_literal){
        .line = p->token.line, .column = p->token.column, .text = p->token.text};
    **tail = literal;
    *tail = &literal->next;
    word->strings_count++;
    return advance(p);
}

static int parse_list(struct parser *p, struct sieve_word *word)
{
    struct sieve_literal **tail = &word->strings;

    word->is_list = true;
    do {
        if (advance(p) < 0 || parse_string(p, word, &tail) < 0)
            return -1;
    } while (is_sign(p, ','));
    if (!is_sign(p, ']'))
        return fail_here(p, "\",\" or the closing \"]\" of the list");
    return advance(p);
}

static bool begins_word(const struct parser *p)
{
    return p->token.kind == SIEVE_TOKEN_TAG || p->token.kind == SIEVE_TOKEN_NUMBER ||
           p->token.kind == SIEVE_TOKEN_STRING || is_sign(p, '[');
}

static int parse_word(struct parser *p, struct sieve_word *word)
{
    struct sieve_literal **tail = &word->strings;

    *word = (struct sieve_word){
        .kind = SIEVE_WORD_STRINGS, .line = p->token.line, .column = p->token.column};
    if (is_sign(p, '['))
        return parse_list(p, word);
    if (p->token.kind == SIEVE_TOKEN_STRING)
        return parse_string(p, word, &tail);
    word->kind = p->token.kind == SIEVE_TOKEN_TAG ? SIEVE_WORD_TAG : SIEVE_WORD_NUMBER;
    word->tag = p->token.text;
    word->number = p->token.number;
    return advance(p);
}

static int parse_words(struct parser *p, struct sieve_node *node)
{
    struct sieve_word **tail = &node->words;

    while (begins_word(p)) {
        struct sieve_word *word = ARENA_NEW(p->a, struct sieve_word);

        if (parse_word(p, word) < 0)
            return -1;
        *tail = word;
        tail = &word->next;
    }
    return 0;
}

/* --- tests and commands --------------------------------------------------------------------------- */

static int parse_arguments(struct parser *p, struct sieve_node *node);

static struct sieve_node *new_node(struct parser *p)
{
    struct sieve_node *node = ARENA_NEW(p->a, struct sieve_node);

    *node = (struct sieve_node){
        .line = p->token.line, .column = p->token.column, .name = p->token.text};
    if (++p->nodes_count <= SIEVE_COMMANDS_MAX)
        return node;
    sieve_fail(p->report, node->line, node->column,
               "the script has more than %d commands and tests: make it shorter",
               SIEVE_COMMANDS_MAX);
    return NULL;
}

static int parse_test(struct parser *p, struct sieve_node ***tail)
{
    struct sieve_node *node;

    if (p->token.kind != SIEVE_TOKEN_IDENTIFIER)
        return fail_here(p, "a test, such as header or allof,");
    node = new_node(p);
    if (node == NULL)
        return -1;
    **tail = node;
    *tail = &node->next;
    return advance(p) < 0 ? -1 : parse_arguments(p, node);
}

static int parse_test_list(struct parser *p, struct sieve_node *node)
{
    struct sieve_node **tail = &node->tests;

    node->has_test_list = true;
    do {
        if (advance(p) < 0 || parse_test(p, &tail) < 0)
            return -1;
    } while (is_sign(p, ','));
    if (!is_sign(p, ')'))
        return fail_here(p, "\",\" or the closing \")\" of the tests");
    return advance(p);
}

static int parse_arguments(struct parser *p, struct sieve_node *node)
{
    struct sieve_node **tail = &node->tests;
    int answer = 0;

    if (parse_words(p, node) < 0 || descend(p) < 0)
        return -1;
    if (p->token.kind == SIEVE_TOKEN_IDENTIFIER)
        answer = parse_test(p, &tail);
    else if (is_sign(p, '('))
        answer = parse_test_list(p, node);
    p->depth--;
    return answer;
}

static int parse_commands(struct parser *p, struct sieve_node **first);

static int parse_block(struct parser *p, struct sieve_node *node)
{
    unsigned line = p->token.line, column = p->token.column;

    node->has_block = true;
    if (descend(p) < 0 || advance(p) < 0 || parse_commands(p, &node->block) < 0)
        return -1;
    p->depth--;
    if (!is_sign(p, '}'))
        return sieve_fail(p->report, line, column,
                          "the block that begins here has no end: put \"}\" behind it");
    return advance(p);
}

static int parse_command(struct parser *p, struct sieve_node *node)
{
    if (advance(p) < 0 || parse_arguments(p, node) < 0)
        return -1;
    if (is_sign(p, '{'))
        return parse_block(p, node);
    if (!is_sign(p, ';'))
        return fail_here(p, "\";\" (the end of a command) or \"{\"");
    return advance(p);
}

/* Until the end of the block or the script. */
static int parse_commands(struct parser *p, struct sieve_node **first)
{
    struct sieve_node **tail = first;

    while (p->token.kind != SIEVE_TOKEN_END && !is_sign(p, '}')) {
        struct sieve_node *node;

        if (p->token.kind != SIEVE_TOKEN_IDENTIFIER)
            return sieve_fail(p->report, p->token.line, p->token.column,
                              "a command, such as if or keep, must stand here instead of %s",
                              shown(p));
        node = new_node(p);
        if (node == NULL || parse_command(p, node) < 0)
            return -1;
        *tail = node;
        tail = &node->next;
    }
    return 0;
}

int sieve_parse(struct arena *a, struct arena *strings, struct str text,
                struct sieve_report *report, struct sieve_node **out)
{
    struct parser p = {.a = a, .report = report};

    *out = NULL;
    if (sieve_lex_init(&p.lexer, strings, report, text) < 0 || advance(&p) < 0 ||
        parse_commands(&p, out) < 0)
        return -1;
    if (p.token.kind != SIEVE_TOKEN_END)
        return sieve_fail(report, p.token.line, p.token.column,
                          "this \"}\" closes no block: remove it");
    return 0;
}
