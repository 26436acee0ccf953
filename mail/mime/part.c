/* part.c - the MIME parser: lines in, a tree of offsets out.
 *
 * Blocks are cut into lines. A line of a body matters only when it begins with "--", so nearly all
 * bytes see one memchr and nothing else. What is remembered of the text is the beginning of a line
 * that is split between two blocks, and the Content-Type and Content-Transfer-Encoding of the
 * header that is open.
 *
 *   IN HEADER --empty line--> IN BODY --delimiter of an open multipart--> IN HEADER of a part
 *
 * The body of a message/rfc822 begins with the header of the enclosed message. Behind its closing
 * delimiter (in the epilogue) a multipart waits for a delimiter of one of those around it.
 *
 * A delimiter is "--", boundary, for the last one "--", and then the end of the line or a blank
 * (RFC 2046, 5.1.1: what follows does not matter; but one boundary may be the beginning of
 * another, so it has to end there). A line that fits a boundary exactly is that multipart's; else
 * the innermost one it fits takes it. Fields are header.c's. */
#include "mail/mime/part.h"

#include <assert.h>
#include "mail/mime/header_internal.h"
#include "mail/mime/header.h"

#define LINE_SIZE_MAX     8192        /* what is looked at of one line */
#define FIELD_SIZE_MAX    (64 * 1024) /* of a Content-Type, folded */
#define BOUNDARY_SIZE_MAX 4000        /* RFC 2046 allows 70, mail is bolder */

/* A piece of the message that had to be kept; its memory is the arena's and is used again. */
struct kept {
    char *p;
    size_t n, cap;
};

struct node {
    struct mime_part part; /* first: a part's address is its node's */
    struct mime_part *last_child;
    uint64_t lines_before_body;
    unsigned depth;
    bool is_closed; /* a multipart whose closing delimiter was seen */
};

struct mime_parser {
    struct arena *arena;
    struct mime_part *root;
    struct mime_part *open; /* the innermost part that still takes bytes */
    unsigned part_count;
    bool in_header;

    uint64_t at;                 /* bytes fed so far */
    uint64_t line_at;            /* where the current line begins */
    uint64_t lines;              /* complete lines before it */
    uint64_t last_line_at;       /* the line before the current one ... */
    unsigned last_line_end_size; /* ... ended with CRLF (2), LF (1) or not at all (0) */
    char last_byte;              /* of the block before this one */
    bool line_is_plain;          /* the current line was seen to be no delimiter */
    struct kept line;            /* the current line's bytes from earlier blocks */

    bool has_type, has_encoding; /* the first field of a name counts */
    struct kept *field; /* where a continuation line goes; NULL for fields of no interest */
    struct kept type, encoding;
};

static struct node *node_of(struct mime_part *part)
{
    return (struct node *)part;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct str trim_end(struct str s)
{
    while (s.n > 0 && (is_blank(s.p[s.n - 1]) || s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r'))
        s.n--;
    return s;
}

static void kept_add(struct arena *a, struct kept *k, struct str s, size_t size_max)
{
    if (s.n > size_max - k->n)
        s.n = size_max - k->n;
    if (s.n > k->cap - k->n) {
        size_t cap = k->cap ? k->cap : 256;
        while (cap - k->n < s.n)
            cap *= 2;
        char *p = arena_alloc(a, cap);
        if (k->n)
            memcpy(p, k->p, k->n);
        k->p = p;
        k->cap = cap;
    }
    if (s.n)
        memcpy(k->p + k->n, s.p, s.n);
    k->n += s.n;
}

static struct str kept_str(const struct kept *k)
{
    return str_of(k->p, k->n);
}

/* A new part whose header begins at the current line. */
static void begin_part(struct mime_parser *p, struct mime_part *parent)
{
    struct node *node = ARENA_NEW(p->arena, struct node);
    struct mime_part *part = &node->part;

    part->parent = parent;
    part->header_at = p->line_at;
    if (parent != NULL) {
        struct node *above = node_of(parent);
        node->depth = above->depth + 1;
        if (above->last_child != NULL)
            above->last_child->next = part;
        else
            parent->first_child = part;
        above->last_child = part;
    }
    p->open = part;
    p->part_count++;
    p->in_header = true;
    p->has_type = p->has_encoding = false;
    p->field = NULL;
    p->type.n = p->encoding.n = 0;
}

struct mime_parser *mime_parser_new(struct arena *a)
{
    struct mime_parser *p = ARENA_NEW(a, struct mime_parser);

    p->arena = a;
    begin_part(p, NULL);
    p->root = p->open;
    return p;
}

static enum mime_encoding encoding_by_name(struct str name)
{
    static const struct {
        struct str name;
        enum mime_encoding encoding;
    } names[] = {
        {STR("7bit"), MIME_7BIT},
        {STR("8bit"), MIME_8BIT},
        {STR("binary"), MIME_BINARY},
        {STR("base64"), MIME_BASE64},
        {STR("quoted-printable"), MIME_QUOTED_PRINTABLE},
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_ieq(name, names[i].name))
            return names[i].encoding;
    return MIME_ENCODING_UNKNOWN;
}

/* The boundary byte for byte; when it is cut into continuations (RFC 2231, 3), as they add up. */
static struct str find_boundary(struct arena *a, struct str whole, struct str params)
{
    struct header_raw_param param;
    struct header_params decoded;
    struct str boundary = STR_NULL;
    unsigned count = 0;

    while (boundary.n == 0 && count++ < HEADER_PARAMS_MAX && header_next_raw_param(&params, &param))
        if (str_ieq(param.name, STR("boundary")))
            boundary = header_raw_value(a, &param);
    if (boundary.n == 0 && str_ifind(whole, STR("boundary*")) >= 0) {
        header_parse_params(a, whole, &decoded);
        boundary = header_param(&decoded, STR("boundary"));
    }
    return trim_end(boundary); /* it may not end in a space (RFC 2046, 5.1.1) */
}

static bool is_readable_encoding(enum mime_encoding encoding)
{
    return encoding != MIME_BASE64 && encoding != MIME_QUOTED_PRINTABLE;
}

static void set_default_type(struct mime_part *part)
{
    part->type = STR("text");
    part->subtype = STR("plain");
}

static void open_multipart(struct mime_parser *p, struct mime_part *part, struct str rest)
{
    struct str boundary = find_boundary(p->arena, kept_str(&p->type), rest);

    if (boundary.n == 0 || boundary.n > BOUNDARY_SIZE_MAX ||
        node_of(part)->depth >= MIME_DEPTH_MAX) {
        set_default_type(part);
        return;
    }
    part->is_multipart = true;
    part->is_digest = str_eq(part->subtype, STR("digest"));
    part->boundary = boundary;
}

/* An encoded message (RFC 2046, 5.2.1 forbids it) stays shut: its lines are not those of a
 * message. */
static bool holds_message(const struct mime_parser *p, struct mime_part *part)
{
    return str_eq(part->type, STR("message")) &&
           (str_eq(part->subtype, STR("rfc822")) || str_eq(part->subtype, STR("global"))) &&
           is_readable_encoding(part->encoding) && node_of(part)->depth < MIME_DEPTH_MAX &&
           p->part_count < MIME_PARTS_MAX;
}

static void set_type(struct mime_parser *p, struct mime_part *part)
{
    struct str rest = kept_str(&p->type), type, subtype;
    bool is_in_digest = part->parent != NULL && part->parent->is_digest;

    set_default_type(part);
    if (p->has_type) {
        header_take_type(&rest, &type, &subtype);
        if (type.n > 0 && subtype.n > 0) {
            part->type = arena_lower(p->arena, type);
            part->subtype = arena_lower(p->arena, subtype);
        }
    } else if (is_in_digest) {
        part->type = STR("message");
        part->subtype = STR("rfc822");
    }
    if (str_eq(part->type, STR("multipart")))
        open_multipart(p, part, rest);
    part->is_message = holds_message(p, part);
}

static void set_encoding(struct mime_parser *p, struct mime_part *part)
{
    struct str rest = kept_str(&p->encoding), name, nothing;

    header_take_type(&rest, &name, &nothing);
    part->encoding = name.n > 0 ? encoding_by_name(name) : MIME_7BIT;
}

/* The open part's header ends before the current line, and its body begins there. */
static void end_header(struct mime_parser *p)
{
    struct mime_part *part = p->open;

    assert(p->in_header);
    part->header_size = p->line_at - part->header_at;
    part->body_at = p->line_at;
    node_of(part)->lines_before_body = p->lines;
    set_encoding(p, part);
    set_type(p, part);
    p->in_header = false;
    if (part->is_message)
        begin_part(p, part);
}

static bool reaches_delimiter(const struct mime_parser *p, const struct mime_part *part)
{
    return part != NULL && part->body_at + part->body_size == p->line_at;
}

/* The body ends before the line end that belongs to the delimiter on the current line. Where
 * nothing follows a header, that line end is the header's, and the parts around it end behind it
 * too. */
static void end_body_at_delimiter(const struct mime_parser *p, struct mime_part *part)
{
    uint64_t end = p->line_at;
    uint64_t lines = p->lines - node_of(part)->lines_before_body;

    if (part->body_at < p->line_at && !reaches_delimiter(p, node_of(part)->last_child)) {
        end -= p->last_line_end_size;
        if (end == p->last_line_at)
            lines--;
    }
    part->body_size = end - part->body_at;
    part->body_lines = lines;
}

struct match {
    struct mime_part *owner; /* NULL: no delimiter */
    bool is_last;
    bool is_exact; /* nothing follows on the line */
};

/* `text` is a line behind its "--", without white space at the end. */
static struct match match_boundary(struct mime_part *part, struct str text)
{
    struct match match = {part, false, false};

    if (!str_starts(text, part->boundary))
        return (struct match){NULL, false, false};
    text = str_from(text, part->boundary.n);
    if (str_starts(text, STR("--")) || str_eq(str_trim(text), STR("--"))) {
        match.is_last = true;
        text = str_from(str_trim(text), 2);
    }
    match.is_exact = text.n == 0;
    if (text.n > 0 && !is_blank(text.p[0]))
        match.owner = NULL;
    return match;
}

/* Which open multipart's delimiter the line is, if any. */
static struct match find_delimiter(const struct mime_parser *p, struct str line)
{
    struct match found = {NULL, false, false}, match;

    /* Ending the parts that are open may begin one, the child of a message whose header was cut
     * off. */
    if (p->part_count + 1 >= MIME_PARTS_MAX || line.n < 3 || line.n > LINE_SIZE_MAX ||
        memcmp(line.p, "--", 2) != 0)
        return found;
    line = trim_end(str_from(line, 2));
    for (struct mime_part *part = p->open; part != NULL && !found.is_exact; part = part->parent) {
        if (!part->is_multipart || node_of(part)->is_closed)
            continue;
        match = match_boundary(part, line);
        if (match.owner != NULL && (found.owner == NULL || match.is_exact))
            found = match;
    }
    return found;
}

/* Ends whatever is open inside the multipart. */
static void return_to(struct mime_parser *p, struct mime_part *multipart)
{
    while (p->in_header)
        end_header(p);
    while (p->open != multipart) {
        end_body_at_delimiter(p, p->open);
        p->open = p->open->parent;
    }
}

static bool is_empty_line(struct str line)
{
    return (line.n == 1 && line.p[0] == '\n') ||
           (line.n == 2 && line.p[0] == '\r' && line.p[1] == '\n');
}

/* Where the field that begins on this line is kept; NULL when it is none of ours. `line` moves
 * behind the colon. */
static struct kept *choose_field(struct mime_parser *p, struct str *line)
{
    struct str name, value;

    if ((line->p[0] | 0x20) != 'c' || !str_cut(*line, ':', &name, &value))
        return NULL;
    name = trim_end(name);
    *line = value;
    if (!p->has_type && str_ieq(name, STR("Content-Type"))) {
        p->has_type = true;
        return &p->type;
    }
    if (!p->has_encoding && str_ieq(name, STR("Content-Transfer-Encoding"))) {
        p->has_encoding = true;
        return &p->encoding;
    }
    return NULL;
}

static void read_header_line(struct mime_parser *p, struct str line)
{
    if (line.n > LINE_SIZE_MAX)
        line.n = LINE_SIZE_MAX;
    if (!is_blank(line.p[0]))
        p->field = choose_field(p, &line);
    if (p->field != NULL)
        kept_add(p->arena, p->field, line, FIELD_SIZE_MAX);
}

/* The next line begins at p->at. */
static void next_line(struct mime_parser *p, unsigned line_end_size)
{
    p->lines++;
    p->last_line_at = p->line_at;
    p->last_line_end_size = line_end_size;
    p->line_at = p->at;
    p->line.n = 0;
    p->line_is_plain = false;
}

/* A header that grows too large ends before the line that made it so. */
static void limit_header(struct mime_parser *p)
{
    while (p->in_header && p->at - p->open->header_at > MIME_HEADER_SIZE_MAX)
        end_header(p);
}

/* A line that is complete, or the last one of the message. p->at is behind it. */
static void take_line(struct mime_parser *p, struct str line, unsigned line_end_size)
{
    struct match match;
    bool is_header_end = false;

    limit_header(p);
    match = find_delimiter(p, line);
    if (match.owner != NULL)
        return_to(p, match.owner);
    else if (p->in_header && !(is_header_end = is_empty_line(line)))
        read_header_line(p, line);

    next_line(p, line_end_size);
    if (is_header_end)
        end_header(p);
    else if (match.owner != NULL && match.is_last)
        node_of(match.owner)->is_closed = true;
    else if (match.owner != NULL)
        begin_part(p, match.owner);
}

static bool is_line_begun(const struct mime_parser *p)
{
    return p->at > p->line_at;
}

/* The block ends in the middle of a line. */
static void keep_fragment(struct mime_parser *p, struct str fragment)
{
    if (!is_line_begun(p) && !p->in_header && fragment.p[0] != '-')
        p->line_is_plain = true;
    /* One byte more than is looked at, so that a longer line is known as such. */
    if (!p->line_is_plain)
        kept_add(p->arena, &p->line, fragment, LINE_SIZE_MAX + 1);
    p->at += fragment.n;
    p->last_byte = fragment.p[fragment.n - 1];
    limit_header(p);
}

static unsigned line_end_size_of(const struct mime_parser *p, struct str piece)
{
    char before = piece.n > 1 ? piece.p[piece.n - 2] : is_line_begun(p) ? p->last_byte : '\n';

    return before == '\r' ? 2 : 1;
}

/* The block holds a line end; `piece` is what it holds of the line. */
static void end_line(struct mime_parser *p, struct str piece)
{
    unsigned line_end_size = line_end_size_of(p, piece);
    bool is_whole = !is_line_begun(p);

    if (!is_whole && !p->line_is_plain)
        kept_add(p->arena, &p->line, piece, LINE_SIZE_MAX + 1);
    p->at += piece.n;
    if (p->line_is_plain || (!p->in_header && is_whole && piece.p[0] != '-'))
        next_line(p, line_end_size);
    else
        take_line(p, is_whole ? piece : kept_str(&p->line), line_end_size);
}

void mime_parser_feed(struct mime_parser *p, struct str block)
{
    while (block.n > 0) {
        const char *lf = memchr(block.p, '\n', block.n);
        if (lf == NULL) {
            keep_fragment(p, block);
            return;
        }
        size_t size = (size_t)(lf - block.p) + 1;
        end_line(p, str_head(block, size));
        block = str_from(block, size);
    }
}

struct mime_part *mime_parser_finish(struct mime_parser *p)
{
    if (p->line_is_plain)
        next_line(p, 0);
    else if (is_line_begun(p))
        take_line(p, kept_str(&p->line), 0);
    while (p->in_header)
        end_header(p);
    for (struct mime_part *part = p->open; part != NULL; part = part->parent) {
        part->body_size = p->line_at - part->body_at;
        part->body_lines = p->lines - node_of(part)->lines_before_body;
    }
    return p->root;
}

struct mime_part *mime_parse(struct arena *a, struct str message)
{
    struct mime_parser *p = mime_parser_new(a);

    mime_parser_feed(p, message);
    return mime_parser_finish(p);
}

static const struct mime_part *child_at(const struct mime_part *part, uint32_t number)
{
    const struct mime_part *child = part->first_child;

    if (number == 0)
        return NULL;
    while (child != NULL && --number > 0)
        child = child->next;
    return child;
}

/* What the next number counts in: the parts of a multipart, or the message inside the part. */
static const struct mime_part *container_of(const struct mime_part *part,
                                            const struct mime_part *container)
{
    if (part->is_message)
        return part->first_child;
    return part->is_multipart && part != container ? part : NULL;
}

const struct mime_part *mime_part_find(const struct mime_part *root, const uint32_t *numbers,
                                       unsigned count)
{
    const struct mime_part *part = root, *container = root;

    for (unsigned i = 0; i < count; i++) {
        if (container == NULL)
            return NULL;
        if (container->is_multipart)
            part = child_at(container, numbers[i]);
        else
            part = numbers[i] == 1 ? container : NULL;
        if (part == NULL)
            return NULL;
        container = container_of(part, container);
    }
    return part;
}

const struct mime_part *mime_part_next(const struct mime_part *part)
{
    if (part->first_child != NULL)
        return part->first_child;
    while (part != NULL && part->next == NULL)
        part = part->parent;
    return part != NULL ? part->next : NULL;
}
