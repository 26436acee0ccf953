/* sieve_compile.c - from text to program: parses, then walks the tree once. Here are the control commands (require, if,
 * blocks) and the tests made of tests; every other command and test has its function, found through the tables.
 *
 * With ihave a script may speak of what is not known here, as long as it is never reached: such commands and tests become
 * faults of the run (RFC 5463, 4). */
#include <stdatomic.h>
#include <stdlib.h>
#include "mail/sieve/sieve_compile_internal.h"
#include "server/base/map.h"

/* A script may hold this much: regular expressions are the only thing that is much bigger than its text. */
#define SCRIPT_SIZE_BASE   (4u << 20)
#define SCRIPT_SIZE_FACTOR 100

struct sieve_script {
    atomic_int references;
    struct arena *arena;
    struct sieve_program program;
};

/* --- faults that wait for the run ----------------------------------------------------------------- */

static bool may_wait(const struct sieve_compiler *c)
{
    return c->is_unknown && sieve_has(c, SIEVE_EXT(IHAVE));
}

static struct str take_fault(struct sieve_compiler *c)
{
    struct str text = arena_str(c->out, c->report->fault->text);

    *c->report->fault = (struct sieve_fault){0};
    c->is_unknown = false;
    return text;
}

/* --- tests ---------------------------------------------------------------------------------------- */

static int compile_test(struct sieve_compiler *c, const struct sieve_node *node,
                        struct sieve_test **out);

static int fail_at(struct sieve_compiler *c, const struct sieve_node *node, const char *text)
{
    return sieve_fail(c->report, node->line, node->column, "%s", text);
}

/* not takes one test, allof and anyof a list in parentheses (RFC 5228, 5.2, 5.3, 5.8). */
static int compile_tests(struct sieve_compiler *c, const struct sieve_node *node,
                         struct sieve_test *test)
{
    struct sieve_test **tail = &test->u.tests;
    bool is_not = test->kind == SIEVE_TEST_NOT;

    if (node->words != NULL)
        return sieve_fail(c->report, node->words->line, node->words->column,
                          "\"%s\" takes tests only: remove this argument",
                          sieve_shown(c->report, node->name));
    if (is_not && (node->tests == NULL || node->has_test_list))
        return fail_at(c, node, "\"not\" needs one test behind it, without parentheses");
    if (!is_not && !node->has_test_list)
        return fail_at(c, node,
                       "\"allof\" and \"anyof\" need tests in parentheses: allof (true, true)");
    for (const struct sieve_node *inner = node->tests; inner != NULL; inner = inner->next) {
        if (compile_test(c, inner, tail) < 0)
            return -1;
        tail = &(*tail)->next;
    }
    return 0;
}

static int fail_no_test(struct sieve_compiler *c, const struct sieve_node *node)
{
    const char *name = sieve_shown(c->report, node->name);

    if (sieve_find_command(node->name) != NULL || str_ieq(node->name, STR("if")) ||
        str_ieq(node->name, STR("require")))
        return sieve_fail(
            c->report, node->line, node->column,
            "\"%s\" is a command, and a test must stand here, such as header or allof", name);
    c->is_unknown = true;
    return sieve_fail(c->report, node->line, node->column,
                      "there is no test \"%s\": correct its name", name);
}

static int compile_leaf(struct sieve_compiler *c, const struct sieve_node *node,
                        struct sieve_test *test)
{
    const struct sieve_verb *verb = sieve_find_test(node->name);

    if (verb == NULL)
        return fail_no_test(c, node);
    test->kind = verb->kind;
    if (sieve_read_args(c, node, verb) < 0 || (verb->test != NULL && verb->test(c, test) < 0))
        return -1;
    test->needs = c->args.needs;
    return 0;
}

/* Whether the test is made of tests, and of which kind. */
static bool is_compound(struct str name, enum sieve_test_kind *kind)
{
    *kind = str_ieq(name, STR("not"))     ? SIEVE_TEST_NOT
            : str_ieq(name, STR("allof")) ? SIEVE_TEST_ALLOF
                                          : SIEVE_TEST_ANYOF;
    return *kind != SIEVE_TEST_ANYOF || str_ieq(name, STR("anyof"));
}

static int compile_test(struct sieve_compiler *c, const struct sieve_node *node,
                        struct sieve_test **out)
{
    struct sieve_test *test = ARENA_NEW(c->out, struct sieve_test);
    enum sieve_test_kind kind;

    *out = test;
    *test = (struct sieve_test){.line = node->line, .column = node->column};
    if (is_compound(node->name, &kind)) {
        test->kind = kind;
        return compile_tests(c, node, test);
    }
    if (compile_leaf(c, node, test) == 0)
        return 0;
    if (!may_wait(c))
        return -1;
    *test = (struct sieve_test){.kind = SIEVE_TEST_FAULT,
                                .line = node->line,
                                .column = node->column,
                                .u.fault = take_fault(c)};
    return 0;
}

/* --- require -------------------------------------------------------------------------------------- */

static const struct sieve_verb require_verb = {.name = "require", .takes = "S"};

static int compile_require(struct sieve_compiler *c, const struct sieve_node *node)
{
    if (c->has_begun)
        return fail_at(c, node,
                       "\"require\" stands before every other command: move it to the first line");
    if (sieve_read_args(c, node, &require_verb) < 0)
        return -1;
    for (const struct sieve_literal *literal = c->args.given[0]->strings; literal != NULL;
         literal = literal->next) {
        uint64_t set = sieve_extension_set(literal->text);

        if (set == 0)
            return sieve_fail(c->report, literal->line, literal->column,
                              "there is no extension \"%s\" here: correct its name or remove it",
                              sieve_shown(c->report, literal->text));
        c->required |= set;
    }
    return 0;
}

/* --- if ------------------------------------------------------------------------------------------- */

static int compile_block(struct sieve_compiler *c, const struct sieve_node *node,
                         struct sieve_command **first);

static bool is_elsif(const struct sieve_node *node)
{
    return node != NULL && str_ieq(node->name, STR("elsif"));
}

static bool is_else(const struct sieve_node *node)
{
    return node != NULL && str_ieq(node->name, STR("else"));
}

/* if and elsif have one test, else none; all a block and nothing else. */
static int check_branch(struct sieve_compiler *c, const struct sieve_node *node)
{
    const char *name = sieve_shown(c->report, node->name);

    if (node->words != NULL)
        return sieve_fail(c->report, node->words->line, node->words->column,
                          "\"%s\" takes no such argument: %s", name,
                          is_else(node) ? "put the block right behind it"
                                        : "put the name of a test before it");
    if (is_else(node) && node->tests != NULL)
        return fail_at(c, node, "\"else\" takes no test: use \"elsif\"");
    if (!is_else(node) && node->has_test_list)
        return sieve_fail(
            c->report, node->line, node->column,
            "\"%s\" takes one test without parentheses: write allof or anyof before them", name);
    if (!is_else(node) && node->tests == NULL)
        return sieve_fail(c->report, node->line, node->column,
                          "\"%s\" needs a test behind it, such as header or allof", name);
    if (!node->has_block)
        return sieve_fail(c->report, node->line, node->column,
                          "\"%s\" needs a block: put commands in { and } behind its test", name);
    return 0;
}

static int compile_branch(struct sieve_compiler *c, const struct sieve_node *node,
                          struct sieve_branch **out)
{
    struct sieve_branch *branch = ARENA_NEW(c->out, struct sieve_branch);

    *out = branch;
    branch->line = node->line;
    if (check_branch(c, node) < 0 ||
        (node->tests != NULL && compile_test(c, node->tests, &branch->test) < 0))
        return -1;
    return compile_block(c, node->block, &branch->block);
}

/* Takes the elsif and else that follow, too: *node is then the last of them. */
static int compile_if(struct sieve_compiler *c, const struct sieve_node **node,
                      struct sieve_command *command)
{
    struct sieve_branch **tail = &command->u.branches;

    command->kind = SIEVE_COMMAND_IF;
    if (compile_branch(c, *node, tail) < 0)
        return -1;
    while (is_elsif((*node)->next) || is_else((*node)->next)) {
        *node = (*node)->next;
        tail = &(*tail)->next;
        if (compile_branch(c, *node, tail) < 0)
            return -1;
        if (is_else(*node))
            return 0;
    }
    return 0;
}

/* --- commands ------------------------------------------------------------------------------------- */

static int fail_no_command(struct sieve_compiler *c, const struct sieve_node *node)
{
    const char *name = sieve_shown(c->report, node->name);
    enum sieve_test_kind kind;

    if (is_elsif(node) || is_else(node))
        return sieve_fail(
            c->report, node->line, node->column,
            "\"%s\" belongs right behind the block of an \"if\" or \"elsif\": here is none", name);
    if (sieve_find_test(node->name) != NULL || is_compound(node->name, &kind))
        return sieve_fail(c->report, node->line, node->column,
                          "\"%s\" is a test, not a command: write if %s ... { ... }", name, name);
    c->is_unknown = true;
    return sieve_fail(c->report, node->line, node->column,
                      "there is no command \"%s\": correct its name", name);
}

static int compile_loop(struct sieve_compiler *c, const struct sieve_node *node,
                        struct sieve_command *command)
{
    struct sieve_loop loop = {.name = command->u.loop.name, .outer = c->loops};
    int answer;

    c->loops = &loop;
    answer = compile_block(c, node->block, &command->u.loop.block);
    c->loops = loop.outer;
    return answer;
}

static int compile_verb(struct sieve_compiler *c, const struct sieve_node *node,
                        struct sieve_command *command)
{
    const struct sieve_verb *verb = sieve_find_command(node->name);

    if (verb == NULL)
        return fail_no_command(c, node);
    command->kind = verb->kind;
    if (sieve_read_args(c, node, verb) < 0 ||
        (verb->command != NULL && verb->command(c, command) < 0))
        return -1;
    command->needs = c->args.needs;
    return 0;
}

static int compile_command(struct sieve_compiler *c, const struct sieve_node **node,
                           struct sieve_command *command)
{
    *command = (struct sieve_command){.line = (*node)->line, .column = (*node)->column};
    c->has_begun = true;
    if (str_ieq((*node)->name, STR("if")))
        return compile_if(c, node, command);
    if (compile_verb(c, *node, command) == 0)
        return command->kind == SIEVE_COMMAND_FOREVERYPART ? compile_loop(c, *node, command) : 0;
    if (!may_wait(c))
        return -1;
    *command = (struct sieve_command){.kind = SIEVE_COMMAND_FAULT,
                                      .line = (*node)->line,
                                      .column = (*node)->column,
                                      .u.fault = take_fault(c)};
    return 0;
}

static int compile_block(struct sieve_compiler *c, const struct sieve_node *node,
                         struct sieve_command **first)
{
    struct sieve_command **tail = first;

    for (; node != NULL; node = node->next) {
        if (str_ieq(node->name, STR("require"))) {
            if (compile_require(c, node) < 0)
                return -1;
            continue;
        }
        *tail = ARENA_NEW(c->out, struct sieve_command);
        if (compile_command(c, &node, *tail) < 0)
            return -1;
        tail = &(*tail)->next;
    }
    return 0;
}

/* --- scripts -------------------------------------------------------------------------------------- */

static void finish_program(const struct sieve_compiler *c, struct sieve_program *program)
{
    struct sieve_variable *variables =
        ARENA_ARRAY(c->out, c->variables_count + 1, struct sieve_variable);

    for (unsigned i = 0; i < c->variables_count; i++)
        variables[i] = c->variables[i].variable;
    program->variables = variables;
    program->variables_count = c->variables_count;
    program->names = c->names_count > 0
                         ? arena_copy(c->out, c->name_texts, c->names_count * sizeof *c->name_texts)
                         : NULL;
    program->names_count = c->names_count;
    program->required = c->required;
    program->has_ihave = sieve_has(c, SIEVE_EXT(IHAVE));
}

static int compile_program(struct sieve_compiler *c, struct str text, struct sieve_program *program)
{
    struct sieve_node *nodes;
    int answer;

    c->names = map_new();
    c->slots = map_new();
    c->variables = ARENA_ARRAY(c->work, SIEVE_VARIABLES_MAX, struct sieve_slot);
    answer = sieve_parse(c->work, c->out, text, c->report, &nodes) < 0
                 ? -1
                 : compile_block(c, nodes, &program->first);
    if (answer == 0)
        finish_program(c, program);
    map_free(&c->slots);
    map_free(&c->names);
    return answer;
}

int sieve_compile(struct str text, struct sieve_script **out, struct arena *a,
                  struct sieve_fault *fault)
{
    struct sieve_report report = {.a = a, .fault = fault};
    struct sieve_compiler c = {
        .out = NULL, .report = &report, .size_max = SCRIPT_SIZE_BASE + SCRIPT_SIZE_FACTOR * text.n};
    struct sieve_script *script;

    *out = NULL;
    *fault = (struct sieve_fault){0};
    if (text.n > SIEVE_SIZE_MAX)
        return sieve_fail(&report, 1, 1, "the script has more than %d bytes: make it shorter",
                          SIEVE_SIZE_MAX);
    c.out = arena_new();
    c.work = arena_new();
    script = ARENA_NEW(c.out, struct sieve_script);
    script->arena = c.out;
    atomic_init(&script->references, 1);
    if (compile_program(&c, arena_str(c.out, text), &script->program) == 0)
        *out = script;
    else
        arena_free(&c.out);
    arena_free(&c.work);
    return *out != NULL ? 0 : -1;
}

struct sieve_script *sieve_script_ref(struct sieve_script *script)
{
    atomic_fetch_add(&script->references, 1);
    return script;
}

void sieve_script_free(struct sieve_script **script)
{
    struct sieve_script *s = *script;
    struct arena *arena;

    *script = NULL;
    if (s == NULL || atomic_fetch_sub(&s->references, 1) > 1)
        return;
    arena = s->arena;
    arena_free(&arena);
}

size_t sieve_script_size(const struct sieve_script *script)
{
    return arena_size(script->arena);
}

const struct sieve_program *sieve_script_program(const struct sieve_script *script)
{
    return &script->program;
}
