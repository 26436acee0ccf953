/* mime_check.h - what must hold for every message, however broken: for the unit tests and the
 * fuzzers.
 *
 * Each check answers with NULL, or with one sentence that says what is wrong. */
#pragma once
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include "mail/mime/part.h"
#include "server/base/arena.h"
#include "server/base/str.h"

#define CHECK_DEPTH_MAX (MIME_DEPTH_MAX + 8)

/* ---- a strict reader of RFC 9051's "envelope" and "body" ------------------------------------- */

static inline bool imap_take(struct str *s, const char *token)
{
    struct str t = str_c(token);

    if (!str_starts(*s, t))
        return false;
    *s = str_from(*s, t.n);
    return true;
}

static inline bool imap_take_number(struct str *s)
{
    size_t n = 0;

    while (n < s->n && s->p[n] >= '0' && s->p[n] <= '9')
        n++;
    if (n == 0 || (n > 1 && s->p[0] == '0'))
        return false;
    *s = str_from(*s, n);
    return true;
}

static inline bool imap_take_literal(struct str *s, struct str *content)
{
    struct str digits, rest;
    uint64_t size;

    if (!imap_take(s, "{") || !str_cut(*s, '}', &digits, &rest) || !str_to_u64(digits, &size))
        return false;
    if (!imap_take(&rest, "\r\n") || size > rest.n || memchr(rest.p, 0, size) != NULL)
        return false;
    *content = str_head(rest, size);
    *s = str_from(rest, size);
    return true;
}

static inline bool imap_take_quoted(struct str *s, struct str *content)
{
    size_t n = 1;

    for (; n < s->n && s->p[n] != '"'; n++) {
        unsigned char c = (unsigned char)s->p[n];
        if (c == 0 || c == '\r' || c == '\n' || c > 127)
            return false;
        if (c == '\\' && (++n == s->n || (s->p[n] != '"' && s->p[n] != '\\')))
            return false;
    }
    if (n >= s->n)
        return false;
    *content = str_of(s->p + 1, n - 1);
    *s = str_from(*s, n + 1);
    return true;
}

/* The content of a quoted string keeps its backslashes: types have none. */
static inline bool imap_take_string(struct str *s, struct str *content)
{
    if (s->n > 0 && s->p[0] == '"')
        return imap_take_quoted(s, content);
    return s->n > 0 && s->p[0] == '{' && imap_take_literal(s, content);
}

static inline bool imap_take_nstring(struct str *s)
{
    struct str content;

    return imap_take(s, "NIL") || imap_take_string(s, &content);
}

/* "(" string *(SP string) ")", an even number of them for parameters, or NIL. */
static inline bool imap_take_strings(struct str *s, bool is_pairs)
{
    struct str content;
    unsigned count = 0;

    if (imap_take(s, "NIL"))
        return true;
    do {
        if (!imap_take(s, count == 0 ? "(" : " ") || !imap_take_string(s, &content))
            return false;
        count++;
    } while (s->n > 0 && s->p[0] == ' ');
    return imap_take(s, ")") && (!is_pairs || count % 2 == 0);
}

static inline bool imap_take_address(struct str *s)
{
    return imap_take(s, "(") && imap_take_nstring(s) && imap_take(s, " ") && imap_take_nstring(s) &&
           imap_take(s, " ") && imap_take_nstring(s) && imap_take(s, " ") && imap_take_nstring(s) &&
           imap_take(s, ")");
}

static inline bool imap_take_addresses(struct str *s)
{
    if (imap_take(s, "NIL"))
        return true;
    if (!imap_take(s, "("))
        return false;
    do
        if (!imap_take_address(s))
            return false;
    while (s->n > 0 && s->p[0] == '(');
    return imap_take(s, ")");
}

static inline bool imap_take_envelope(struct str *s)
{
    if (!imap_take(s, "(") || !imap_take_nstring(s) || !imap_take(s, " ") || !imap_take_nstring(s))
        return false;
    for (int i = 0; i < 6; i++)
        if (!imap_take(s, " ") || !imap_take_addresses(s))
            return false;
    return imap_take(s, " ") && imap_take_nstring(s) && imap_take(s, " ") && imap_take_nstring(s) &&
           imap_take(s, ")");
}

static inline bool imap_take_disposition(struct str *s)
{
    struct str content;

    if (imap_take(s, "NIL"))
        return true;
    return imap_take(s, "(") && imap_take_string(s, &content) && imap_take(s, " ") &&
           imap_take_strings(s, true) && imap_take(s, ")");
}

static inline bool imap_take_extension(struct str *s, bool is_multipart)
{
    struct str content;

    if (!imap_take(s, " ") || !(is_multipart ? imap_take_strings(s, true) : imap_take_nstring(s)))
        return false;
    if (!imap_take(s, " ") || !imap_take_disposition(s) || !imap_take(s, " "))
        return false;
    if (!imap_take(s, "NIL") &&
        !(s->n > 0 && s->p[0] == '(' ? imap_take_strings(s, false) : imap_take_string(s, &content)))
        return false;
    return imap_take(s, " ") && imap_take_nstring(s);
}

static inline bool imap_take_body(struct str *s, bool extended, int depth);

static inline bool imap_take_multipart(struct str *s, bool extended, int depth)
{
    struct str subtype;

    while (s->n > 0 && s->p[0] == '(')
        if (!imap_take_body(s, extended, depth + 1))
            return false;
    return imap_take(s, " ") && imap_take_string(s, &subtype);
}

static inline bool imap_take_single(struct str *s, bool extended, int depth)
{
    struct str type, subtype, encoding;

    if (!imap_take_string(s, &type) || !imap_take(s, " ") || !imap_take_string(s, &subtype) ||
        !imap_take(s, " ") || !imap_take_strings(s, true) || !imap_take(s, " ") ||
        !imap_take_nstring(s) || !imap_take(s, " ") || !imap_take_nstring(s) ||
        !imap_take(s, " ") || !imap_take_string(s, &encoding) || !imap_take(s, " ") ||
        !imap_take_number(s))
        return false;
    if (str_ieq(type, STR("text")))
        return imap_take(s, " ") && imap_take_number(s);
    if (str_ieq(type, STR("message")) &&
        (str_ieq(subtype, STR("rfc822")) || str_ieq(subtype, STR("global"))))
        return imap_take(s, " ") && imap_take_envelope(s) && imap_take(s, " ") &&
               imap_take_body(s, extended, depth + 1) && imap_take(s, " ") && imap_take_number(s);
    return true;
}

static inline bool imap_take_body(struct str *s, bool extended, int depth)
{
    bool is_multipart = s->n > 1 && s->p[1] == '(';

    if (depth > CHECK_DEPTH_MAX || !imap_take(s, "("))
        return false;
    if (!(is_multipart ? imap_take_multipart(s, extended, depth)
                       : imap_take_single(s, extended, depth)))
        return false;
    if (extended && !imap_take_extension(s, is_multipart))
        return false;
    return imap_take(s, ")");
}

static inline const char *check_envelope(struct str form)
{
    return imap_take_envelope(&form) && form.n == 0 ? NULL : "the envelope is not well-formed";
}

static inline const char *check_structure(struct str form, bool extended)
{
    return imap_take_body(&form, extended, 0) && form.n == 0
               ? NULL
               : "the body structure is not well-formed";
}

/* ---- the tree -------------------------------------------------------------------------------- */

static inline const char *check_part(const struct mime_part *part, struct str message)
{
    const struct mime_part *parent = part->parent;
    uint64_t end = part->body_at + part->body_size;

    if (part->header_at + part->header_size != part->body_at)
        return "a body does not begin where its header ends";
    if (end > message.n)
        return "a part ends behind the message";
    if (parent != NULL &&
        (part->header_at < parent->body_at || end > parent->body_at + parent->body_size))
        return "a part leaves its parent";
    if (parent != NULL && !parent->is_multipart && !parent->is_message)
        return "a part that holds nothing has a child";
    if (part->next != NULL && part->next->header_at < end)
        return "two parts overlap";
    if (part->is_message && (part->first_child == NULL || part->first_child->next != NULL))
        return "a message does not enclose exactly one";
    if (part->type.n == 0 || part->subtype.n == 0)
        return "a part has no type";
    return NULL;
}

/* Depth first, without recursion. */
static inline const struct mime_part *next_part(const struct mime_part *part)
{
    if (part->first_child != NULL)
        return part->first_child;
    while (part != NULL && part->next == NULL)
        part = part->parent;
    return part == NULL ? NULL : part->next;
}

static inline const char *check_tree(const struct mime_part *root, struct str message)
{
    size_t count = 0;

    if (root->header_at != 0 || root->body_at + root->body_size != message.n)
        return "the root is not the whole message";
    for (const struct mime_part *part = root; part != NULL; part = next_part(part)) {
        const char *wrong = check_part(part, message);
        if (wrong != NULL)
            return wrong;
        if (++count > MIME_PARTS_MAX)
            return "more parts than the limit";
    }
    return NULL;
}

static inline bool is_same_part(const struct mime_part *a, const struct mime_part *b)
{
    return a->header_at == b->header_at && a->header_size == b->header_size &&
           a->body_at == b->body_at && a->body_size == b->body_size &&
           a->body_lines == b->body_lines && a->encoding == b->encoding &&
           a->is_multipart == b->is_multipart && a->is_message == b->is_message &&
           a->is_digest == b->is_digest && str_eq(a->type, b->type) &&
           str_eq(a->subtype, b->subtype) && str_eq(a->boundary, b->boundary) &&
           (a->next == NULL) == (b->next == NULL) &&
           (a->first_child == NULL) == (b->first_child == NULL);
}

static inline const char *check_same_tree(const struct mime_part *a, const struct mime_part *b)
{
    while (a != NULL && b != NULL) {
        if (!is_same_part(a, b))
            return "the blocks change the tree";
        a = next_part(a);
        b = next_part(b);
    }
    return a == NULL && b == NULL ? NULL : "the blocks change the number of parts";
}

/* The message in two blocks. */
static inline struct mime_part *parse_split(struct arena *a, struct str message, size_t at)
{
    struct mime_parser *p = mime_parser_new(a);

    mime_parser_feed(p, str_head(message, at));
    mime_parser_feed(p, str_from(message, at));
    return mime_parser_finish(p);
}

/* The message in many blocks, their sizes drawn from the seed. */
static inline struct mime_part *parse_in_blocks(struct arena *a, struct str message, uint32_t seed,
                                                size_t size_max)
{
    struct mime_parser *p = mime_parser_new(a);

    while (message.n > 0) {
        seed = seed * 1664525u + 1013904223u;
        size_t size = 1 + (seed >> 8) % size_max;
        char *copy = malloc(size < message.n ? size : message.n); /* exact, for the sanitizer */
        struct str block = str_head(message, size);
        memcpy(copy, block.p, block.n);
        mime_parser_feed(p, str_of(copy, block.n));
        free(copy);
        message = str_from(message, size);
    }
    return mime_parser_finish(p);
}
