/* routing_walk.c - follows groups and forwards to where they end.
 *
 * Groups, accounts and addresses elsewhere are the nodes of a graph, which is read one step at a time: one query
 * brings everything that the nodes found last lead to. When it is whole, what lies in circles is known, and who keeps
 * a copy: accounts that forward nothing, that were told to, that lie in a circle, and whose forwards reach nobody. */
#include <assert.h>

#include "server/base/map.h"
#include "server/directory/directory_internal.h"
#include "server/directory/routing_admin.h"
#include "server/directory/routing_graph.h"
#include "server/directory/routing_internal.h"
#include "server/run/config.h"
#include "sql_queries.h"

#define EDGES_MAX     (5 * RECIPIENTS_MAX) /* nested groups may name the same people again */
#define ROWS_PER_TURN 500                  /* between two pauses */

struct node {
    int64_t account_id; /* 0: elsewhere */
    struct str address; /* elsewhere */
    int64_t bytes_free;
    int64_t through_account_id;
    bool is_group, is_restricted, leads_on, keeps_copy;
    bool is_start;
    bool is_open;     /* the sender may use its way on */
    bool is_judged;   /* it was asked whether */
    bool is_expanded; /* what it leads to was read */
    bool is_served;   /* mail for it ends somewhere */
};

struct walk {
    struct arena *arena;
    const struct routing_sender *from;
    bool is_for_postmaster;
    struct map *accounts, *addresses; /* to the number of the node, from 1 */
    struct node *nodes;
    size_t node_count, node_room;
    struct graph_edge *edges;
    size_t edge_count, edge_room;
};

/* --- reading the graph ----------------------------------------------------------------------------- */

static void *grown(struct arena *a, void *old, size_t count, size_t *room, size_t size)
{
    void *to;

    if (count < *room)
        return old;
    *room = *room == 0 ? 64 : *room * 2;
    to = arena_array(a, *room, size);
    if (count > 0)
        memcpy(to, old, count * size);
    return to;
}

struct columns {
    int from, account, is_group, is_restricted, leads_on, keeps_copy, room, address;
};

static struct columns find_columns(const struct pg_rows *rows)
{
    return (struct columns){
        .from = pg_column(rows, "from_id"),
        .account = pg_column(rows, "account_id"),
        .is_group = pg_column(rows, "is_group"),
        .is_restricted = pg_column(rows, "is_restricted"),
        .leads_on = pg_column(rows, "leads_on"),
        .keeps_copy = pg_column(rows, "keeps_copy"),
        .room = pg_column(rows, "room"),
        .address = pg_column(rows, "address"),
    };
}

static struct node read_node(struct walk *w, const struct pg_rows *rows, size_t row,
                             const struct columns *c)
{
    struct node node = {.through_account_id = pg_i64_at(rows, row, c->from),
                        .is_start = pg_i64_at(rows, row, c->from) == 0,
                        .bytes_free = INT64_MAX};

    if (pg_null_at(rows, row, c->account)) {
        node.address = arena_str(w->arena, pg_str_at(rows, row, c->address));
        return node;
    }
    node.account_id = pg_i64_at(rows, row, c->account);
    node.is_group = pg_i64_at(rows, row, c->is_group) != 0;
    node.is_restricted = node.is_group && pg_i64_at(rows, row, c->is_restricted) != 0;
    node.leads_on = pg_i64_at(rows, row, c->leads_on) != 0;
    node.keeps_copy = pg_i64_at(rows, row, c->keeps_copy) != 0;
    node.is_open = !node.is_restricted || w->is_for_postmaster;
    if (!pg_null_at(rows, row, c->room))
        node.bytes_free = pg_i64_at(rows, row, c->room);
    return node;
}

/* The node's number, from 1; 0: it is not there. */
static size_t find_node(const struct walk *w, int64_t account_id, struct str address)
{
    uint64_t key = (uint64_t)account_id;

    return account_id != 0 ? (size_t)map_get(w->accounts, map_key_u64(&key))
                           : (size_t)map_get(w->addresses, address);
}

static void add_node(struct walk *w, const struct node *node)
{
    uint64_t key = (uint64_t)node->account_id;
    void *number;

    w->nodes = grown(w->arena, w->nodes, w->node_count, &w->node_room, sizeof *w->nodes);
    w->nodes[w->node_count++] = *node;
    number = (void *)w->node_count;
    if (node->account_id != 0)
        map_put(w->accounts, map_key_u64(&key), number);
    else
        map_put(w->addresses, node->address, number);
}

/* A group in a group takes what that lets through: whoever put it there wanted it so. */
static void add_edge(struct walk *w, int64_t from_id, size_t to)
{
    size_t from = find_node(w, from_id, STR_NULL);

    if (from == 0)
        return; /* removed since */
    w->edges = grown(w->arena, w->edges, w->edge_count, &w->edge_room, sizeof *w->edges);
    w->edges[w->edge_count++] = (struct graph_edge){from - 1, to - 1};
    if (w->nodes[from - 1].is_group)
        w->nodes[to - 1].is_open = true;
}

/* Nodes first: the order of the rows is not said. */
static void read_step(struct walk *w, const struct pg_rows *rows)
{
    struct columns c = find_columns(rows);
    size_t *to = ARENA_ARRAY(w->arena, rows->count, size_t);

    for (size_t i = 0; i < rows->count; i++) {
        struct node node = read_node(w, rows, i, &c);
        to[i] = find_node(w, node.account_id, node.address);
        if (to[i] == 0) {
            add_node(w, &node);
            to[i] = w->node_count;
        }
        if (i % ROWS_PER_TURN == ROWS_PER_TURN - 1)
            fiber_pause();
    }
    for (size_t i = 0; i < rows->count; i++) {
        int64_t from_id = pg_i64_at(rows, i, c.from);
        if (from_id != 0)
            add_edge(w, from_id, to[i]);
        if (i % ROWS_PER_TURN == ROWS_PER_TURN - 1)
            fiber_pause();
    }
}

static int too_many(struct error *err)
{
    return fail(err, ERR_LIMIT, "the address leads to more than %d recipients", RECIPIENTS_MAX);
}

/* Reads what the accounts in `from` lead to, and the start where there is one. */
static int step(struct walk *w, const int64_t *from, size_t count,
                const struct routing_start *start, struct error *err)
{
    bool has_account = start != NULL && start->account_id != 0;
    bool has_address = start != NULL && start->account_id == 0;
    struct pg_rows rows;
    bool is_too_much;

    if (pg_run(pg_pool(), &sql_route_step,
               PG_ARGS(pg_i64_array(from, count),
                       pg_i64_array(has_account ? &start->account_id : NULL, has_account),
                       pg_text_array(has_address ? &start->address : NULL, has_address),
                       pg_i64((int64_t)(EDGES_MAX - w->edge_count + 1)), pg_i64(config.quota_bytes),
                       pg_i64(config.quota_messages)),
               &rows, err) < 0)
        return -1;
    is_too_much = w->edge_count + rows.count > EDGES_MAX;
    if (!is_too_much)
        read_step(w, &rows);
    pg_rows_free(&rows);
    return is_too_much ? too_many(err) : 0;
}

/* --- who may post ---------------------------------------------------------------------------------- */

static int refuse(struct arena *a, const struct walk *w, const struct pg_rows *rows, size_t row,
                  struct error *err)
{
    static const char *const rules[] = {
        [POST_ANYONE] = "everybody",      [POST_DOMAINS] = "people of this server, logged in,",
        [POST_MEMBERS] = "members",       [POST_OWNERS] = "its owners",
        [POST_LISTED] = "chosen senders",
    };
    struct str group = pg_get_str(rows, row, "address"), local, domain;
    struct str ask = pg_get_str(rows, row, "owner_address");
    enum group_posting posting = POST_LISTED;

    group_posting_parse(pg_get_str(rows, row, "posting"), &posting);
    str_rcut(group, '@', &local, &domain);
    /* Strangers are not told who is behind a hidden group. */
    if (ask.n == 0 || (w->from->account_id == 0 && pg_get_bool(rows, row, "is_hidden")))
        ask = arena_printf(a, "postmaster@%.*s", STR_ARG(domain));
    return fail(err, ERR_DENIED, "only %s may post to %.*s: ask %.*s to let you", rules[posting],
                STR_ARG(group), STR_ARG(ask));
}

static int read_judgement(struct walk *w, const struct pg_rows *rows, struct error *err)
{
    for (size_t i = 0; i < rows->count; i++) {
        size_t number = find_node(w, pg_get_i64(rows, i, "account_id"), STR_NULL);
        struct node *node;
        assert(number != 0);
        node = &w->nodes[number - 1];
        node->is_open = pg_get_bool(rows, i, "is_admitted");
        if (!node->is_open && node->is_start)
            return refuse(w->arena, w, rows, i, err);
    }
    return 0;
}

/* Asks about restricted groups. The one written to refuses the sender; one that somebody forwards to just gets nothing, for
 * the sender has not heard of it. */
static int judge(struct walk *w, struct error *err)
{
    int64_t *groups = ARENA_ARRAY(w->arena, w->node_count, int64_t);
    struct str address = STR("");
    struct pg_rows rows;
    size_t count = 0;
    int status;

    for (size_t i = 0; i < w->node_count; i++) {
        struct node *node = &w->nodes[i];
        if (node->is_restricted && !node->is_open && !node->is_judged) {
            node->is_judged = true;
            groups[count++] = node->account_id;
        }
    }
    if (count == 0)
        return 0;
    if (address_split(w->arena, w->from->address, &address, NULL, NULL) < 0)
        address = STR("");
    if (pg_run(pg_pool(), &sql_route_groups_admit,
               PG_ARGS(pg_i64_array(groups, count), pg_i64(w->from->account_id), pg_text(address),
                       pg_bool(w->from->is_trusted)),
               &rows, err) < 0)
        return -1;
    status = read_judgement(w, &rows, err);
    pg_rows_free(&rows);
    return status;
}

/* --- the way ---------------------------------------------------------------------------------------- */

static bool is_waiting(const struct node *node)
{
    return node->leads_on && node->is_open && !node->is_expanded;
}

/* The nodes whose way on is to be read next; they count as read. */
static size_t take_waiting(struct walk *w, int64_t **out)
{
    size_t count = 0;

    *out = ARENA_ARRAY(w->arena, w->node_count, int64_t);
    for (size_t i = 0; i < w->node_count; i++) {
        if (!is_waiting(&w->nodes[i]))
            continue;
        w->nodes[i].is_expanded = true;
        (*out)[count++] = w->nodes[i].account_id;
    }
    return count;
}

/* A forward beyond the limit is not followed: its account keeps the mail. A group cannot. */
static int check_depth(const struct walk *w, struct error *err)
{
    for (size_t i = 0; i < w->node_count; i++)
        if (is_waiting(&w->nodes[i]) && w->nodes[i].is_group)
            return fail(err, ERR_LIMIT,
                        "the address leads on through more than %d groups and forwards",
                        ROUTE_DEPTH_MAX);
    return 0;
}

static int begin(struct walk *w, const struct routing_start *start, struct error *err)
{
    size_t number;

    if (step(w, &start->account_id, start->may_lead_on && start->account_id != 0, start, err) < 0)
        return -1;
    number = find_node(w, start->account_id, start->address);
    if (number == 0 && start->account_id != 0)
        w->node_count = w->edge_count = 0; /* removed since */
    if (number != 0)
        w->nodes[number - 1].is_expanded = start->may_lead_on;
    return 0;
}

static int follow(struct walk *w, const struct routing_start *start, struct error *err)
{
    int64_t *from;
    size_t count;

    if (begin(w, start, err) < 0)
        return -1;
    for (int depth = 1; depth < ROUTE_DEPTH_MAX; depth++) {
        if (judge(w, err) < 0)
            return -1;
        count = take_waiting(w, &from);
        if (count == 0)
            return 0;
        if (step(w, from, count, NULL, err) < 0)
            return -1;
    }
    return check_depth(w, err);
}

/* --- who receives ---------------------------------------------------------------------------------- */

/* Whether mail that reaches a node ends somewhere, from the ends back; see graph.order. */
static void settle(struct walk *w, const struct graph *g)
{
    bool *is_served = ARENA_ARRAY(w->arena, g->node_count, bool); /* by circle */

    for (size_t k = 0; k < g->node_count; k++) {
        size_t i = g->order[k];
        struct node *node = &w->nodes[i];
        bool is_reached = false, leads_back = g->circle_size[g->circle[i]] > 1;
        for (size_t e = g->first[i]; e < g->first[i + 1]; e++) {
            is_reached |= is_served[g->circle[g->edges[e].to]];
            leads_back |= g->edges[e].to == i;
        }
        if (!node->is_group && node->account_id != 0)
            node->keeps_copy |= !node->leads_on || leads_back || !is_reached;
        node->is_served =
            is_reached || node->account_id == 0 || (!node->is_group && node->keeps_copy);
        is_served[g->circle[i]] |= node->is_served;
    }
}

static bool is_end(const struct node *node)
{
    return node->account_id == 0 || (!node->is_group && node->keeps_copy);
}

static int list_ends(struct walk *w, struct routes *out, struct error *err)
{
    out->v = ARENA_ARRAY(w->arena, w->node_count, struct route);
    for (size_t i = 0; i < w->node_count; i++) {
        const struct node *node = &w->nodes[i];
        if (!is_end(node))
            continue;
        if (out->n == RECIPIENTS_MAX)
            return too_many(err);
        out->v[out->n++] = (struct route){
            .kind = node->account_id != 0 ? ROUTE_ACCOUNT : ROUTE_REMOTE,
            .account_id = node->account_id,
            .address = node->address,
            .bytes_free = node->bytes_free,
            .through_account_id = node->through_account_id,
        };
    }
    return 0;
}

/* Mail of our own domains keeps its sender: their SPF names us. */
static int mark_srs(struct walk *w, struct routes *out, struct error *err)
{
    struct str local, domain;
    bool has_remote = false, is_ours = true;

    for (size_t i = 0; i < out->n; i++)
        has_remote |= out->v[i].kind == ROUTE_REMOTE;
    if (!has_remote || !str_rcut(w->from->address, '@', &local, &domain))
        return 0;
    if (directory_has_domain(domain, &is_ours, err) < 0)
        return -1;
    for (size_t i = 0; i < out->n; i++)
        out->v[i].needs_srs = out->v[i].kind == ROUTE_REMOTE && !is_ours;
    return 0;
}

static int walk_whole(struct walk *w, const struct routing_start *start, struct routes *out,
                      struct error *err)
{
    struct graph graph;

    if (follow(w, start, err) < 0)
        return -1;
    graph =
        (struct graph){.node_count = w->node_count, .edges = w->edges, .edge_count = w->edge_count};
    graph_find_circles(w->arena, &graph);
    fiber_pause();
    settle(w, &graph);
    return list_ends(w, out, err) < 0 ? -1 : mark_srs(w, out, err);
}

int routing_walk(struct arena *a, const struct routing_start *start,
                 const struct routing_sender *from, struct routes *out, struct error *err)
{
    struct walk w = {.arena = a,
                     .from = from,
                     .is_for_postmaster = start->is_for_postmaster,
                     .accounts = map_new(),
                     .addresses = map_new()};
    int status = walk_whole(&w, start, out, err);

    map_free(&w.accounts);
    map_free(&w.addresses);
    return status;
}
