/* managesieve_scripts.c - the commands that keep scripts. What does not compile is never stored. */
#include "mail/sieve/managesieve_internal.h"
#include "mail/sieve/sieve_aside.h"
#include "mail/store/sieve_store.h"

/* ---- checking -------------------------------------------------------------------------------- */

static int check(struct str text, struct error *err)
{
    struct arena *a;
    struct sieve_script *script;
    struct sieve_fault fault;
    int status;

    if (text.n > SIEVE_SIZE_MAX)
        return fail(err, ERR_TOO_BIG, "a script has at most %d bytes", SIEVE_SIZE_MAX);
    a = arena_new();
    status = sieve_compile_aside(text, &script, a, &fault);
    if (status < 0)
        fail(err, ERR_UNSUPPORTED, "line %u, column %u: %.*s", fault.line, fault.column,
             STR_ARG(str_head(fault.text, 300)));
    else
        sieve_script_free(&script);
    arena_free(&a);
    return status;
}

/* A script that is wrong is no misuse of the protocol. */
static int refuse_script(struct managesieve_session *s, const struct error *err)
{
    managesieve_refuse(s, "NO", err->kind == ERR_TOO_BIG ? "QUOTA/MAXSIZE" : NULL,
                       str_c(err->text));
    return 0;
}

int managesieve_cmd_checkscript(struct managesieve_session *s, const struct managesieve_command *c,
                                struct error *err)
{
    struct error fault = {0};

    if (check(c->v[0].text, &fault) < 0)
        return refuse_script(s, &fault);
    managesieve_ok(s, "the script is good");
    return 0;
}

int managesieve_cmd_putscript(struct managesieve_session *s, const struct managesieve_command *c,
                              struct error *err)
{
    struct error fault = {0};

    if (check(c->v[1].text, &fault) < 0)
        return refuse_script(s, &fault);
    if (sieve_store_put(s->account_id, c->v[0].text, c->v[1].text, err) < 0)
        return -1;
    managesieve_ok(s, "stored");
    return 0;
}

int managesieve_cmd_havespace(struct managesieve_session *s, const struct managesieve_command *c,
                              struct error *err)
{
    if (sieve_name_check(c->v[0].text, err) < 0 ||
        sieve_store_check_room(s->account_id, c->v[0].text, c->v[1].number, err) < 0)
        return -1;
    managesieve_ok(s, "there is room");
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

int managesieve_cmd_listscripts(struct managesieve_session *s, const struct managesieve_command *c,
                                struct error *err)
{
    struct sieve_listed *v;
    struct buf out;
    size_t count;

    if (sieve_store_list(s->arena, s->account_id, &v, &count, err) < 0)
        return -1;
    buf_init(&out, SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        managesieve_add_string(&out, v[i].name);
        buf_adds(&out, v[i].is_active ? " ACTIVE\r\n" : "\r\n");
    }
    conn_write(s->conn, buf_str(&out));
    buf_fini(&out);
    managesieve_ok(s, "listed");
    return 0;
}

int managesieve_cmd_getscript(struct managesieve_session *s, const struct managesieve_command *c,
                              struct error *err)
{
    struct str content;

    if (sieve_store_get(s->arena, s->account_id, c->v[0].text, &content, err) < 0)
        return -1;
    conn_printf(s->conn, "{%zu}\r\n", content.n);
    conn_write(s->conn, content);
    conn_write(s->conn, STR("\r\n"));
    managesieve_ok(s, "this is the script");
    return 0;
}

/* ---- changing -------------------------------------------------------------------------------- */

int managesieve_cmd_setactive(struct managesieve_session *s, const struct managesieve_command *c,
                              struct error *err)
{
    if (sieve_store_activate(s->account_id, c->v[0].text, err) < 0)
        return -1;
    managesieve_ok(s, str_empty(c->v[0].text) ? "no script is active" : "the script is active");
    return 0;
}

int managesieve_cmd_deletescript(struct managesieve_session *s, const struct managesieve_command *c,
                                 struct error *err)
{
    if (sieve_store_remove(s->account_id, c->v[0].text, err) < 0)
        return -1;
    managesieve_ok(s, "removed");
    return 0;
}

int managesieve_cmd_renamescript(struct managesieve_session *s, const struct managesieve_command *c,
                                 struct error *err)
{
    if (sieve_store_rename(s->account_id, c->v[0].text, c->v[1].text, err) < 0)
        return -1;
    managesieve_ok(s, "renamed");
    return 0;
}
