/* imap_search_parse.c - from search keys to a tree of simple questions.
 *
 * The many keys of the RFC come down to a dozen kinds: all dates are ranges of days, all
 * opposites are negations. Texts become folded UTF-8 here, once, in whatever charset the client
 * wrote them. */
#include "mail/imap/imap_search_parse.h"

#include "mail/imap/imap_search_options.h"
#include "mail/mime/body.h"
#include "mail/mime/text_fold.h"
#include "mail/store/text_fuzzy.h"
#include "server/base/date.h"
#include "server/base/utf8.h"

#define FOREVER INT64_MAX

struct search_parser {
    struct imap_parser *p;
    struct arena *a;
    struct search_request *request;
    struct str charset;
    bool is_fuzzy; /* below a FUZZY */
};

static int parse_key(struct search_parser *sp, unsigned depth, struct search_key **out,
                     struct error *err);

/* --- arguments of keys ------------------------------------------------------------------------ */

/* Texts have LF, whatever the line ends of the message are. */
static struct str with_lf(struct arena *a, struct str s)
{
    char *copy = arena_copy(a, s.p, s.n);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '\r' || i + 1 == s.n || s.p[i + 1] != '\n')
            copy[n++] = s.p[i];
    return str_of(copy, n);
}

/* Also bytes of ASCII can be other letters: in ISO-2022-JP, in UTF-7. */
static int fold_text(struct search_parser *sp, struct str raw, struct str *out, struct error *err)
{
    struct buf utf8;
    int status = 0;

    buf_init(&utf8, SIZE_MAX);
    if (str_ieq(sp->charset, STR("UTF-8"))) {
        buf_add(&utf8, raw);
        if (!utf8_valid(raw))
            status = fail(err, ERR_SYNTAX, "the search text is not valid UTF-8");
    } else if (!charset_to_utf8(&utf8, sp->charset, raw)) {
        sp->request->has_bad_charset = true;
        status = fail(err, ERR_UNSUPPORTED, "the charset is unknown");
    }
    if (status == 0)
        *out = text_fold_arena(sp->a, with_lf(sp->a, buf_str(&utf8)));
    buf_fini(&utf8);
    return status;
}

static int parse_text(struct search_parser *sp, struct search_key *key, struct error *err)
{
    struct str raw;

    if (imap_parse_space(sp->p, err) < 0 ||
        imap_parse_astring(sp->p, sp->a, &raw, "a search text", err) < 0)
        return -1;
    if (raw.n > SEARCH_TEXT_SIZE_MAX)
        return fail(err, ERR_LIMIT, "a search text is longer than %d bytes", SEARCH_TEXT_SIZE_MAX);
    if (fold_text(sp, raw, &key->text, err) < 0)
        return -1;
    if (sp->is_fuzzy) {
        key->fuzzy = ARENA_NEW(sp->a, struct fuzzy_text);
        fuzzy_parse(sp->a, key->text, key->fuzzy);
    }
    sp->request->text_count++;
    return 0;
}

static int parse_header(struct search_parser *sp, struct search_key *key, struct error *err)
{
    if (imap_parse_space(sp->p, err) < 0 ||
        imap_parse_astring(sp->p, sp->a, &key->name, "a header field name", err) < 0)
        return -1;
    key->name = text_fold_arena(sp->a, key->name);
    return parse_text(sp, key, err);
}

static int parse_keyword(struct search_parser *sp, struct search_key *key, struct error *err)
{
    return imap_parse_space(sp->p, err) < 0 ? -1
                                            : imap_parse_atom(sp->p, &key->text, "a keyword", err);
}

static int parse_number(struct search_parser *sp, uint64_t *number, const char *what,
                        struct error *err)
{
    return imap_parse_space(sp->p, err) < 0 ? -1 : imap_parse_number64(sp->p, number, what, err);
}

static int parse_uid(struct search_parser *sp, struct search_key *key, struct error *err)
{
    return imap_parse_space(sp->p, err) < 0 ? -1 : imap_set_parse(sp->p, sp->a, &key->set, err);
}

/* RFC 9738, 3.2: one UID, which is not meant itself. */
static int parse_uid_bound(struct search_parser *sp, struct search_key *key, bool is_after,
                           struct error *err)
{
    uint32_t uid;

    if (imap_parse_space(sp->p, err) < 0 || imap_parse_nonzero(sp->p, &uid, "a UID", err) < 0)
        return -1;
    key->set.v = ARENA_NEW(sp->a, struct imap_range);
    key->set.v[0] =
        is_after ? (struct imap_range){uid + 1, UINT32_MAX} : (struct imap_range){1, uid - 1};
    key->set.n = is_after ? uid < UINT32_MAX : uid > 1;
    return 0;
}

/* MODSEQ ["/flags/..." priv|shared|all] n: we keep one modseq for all flags (RFC 7162, 3.1.5). */
static int parse_modseq(struct search_parser *sp, struct search_key *key, struct error *err)
{
    struct str ignored;
    uint64_t modseq;

    sp->request->uses_modseq = true;
    if (imap_parse_space(sp->p, err) < 0)
        return -1;
    if (imap_parse_peek(sp->p, '"') &&
        (imap_parse_string(sp->p, sp->a, &ignored, "an entry name", err) < 0 ||
         imap_parse_space(sp->p, err) < 0 ||
         imap_parse_atom(sp->p, &ignored, "priv, shared or all", err) < 0 ||
         imap_parse_space(sp->p, err) < 0))
        return -1;
    if (imap_parse_number64(sp->p, &modseq, "a modseq", err) < 0)
        return -1;
    key->from = (int64_t)modseq;
    return 0;
}

/* --- tables of keys --------------------------------------------------------------------------- */

enum key_shape {
    SHAPE_PLAIN,
    SHAPE_TEXT,
    SHAPE_FIELD,
    SHAPE_HEADER,
    SHAPE_KEYWORD,
    SHAPE_UID,
    SHAPE_UID_AFTER,
    SHAPE_UID_BEFORE,
    SHAPE_MODSEQ,
    SHAPE_BEFORE,
    SHAPE_ON,
    SHAPE_SINCE,
    SHAPE_LARGER,
    SHAPE_SMALLER,
    SHAPE_OLDER,
    SHAPE_YOUNGER,
    SHAPE_EMAIL_ID,
    SHAPE_THREAD_ID
};

struct key_word {
    struct str word;
    enum key_shape shape;
    enum search_kind kind;
    uint32_t flag;
    bool is_negated;
    struct str field;
};

#define WORD(w)                                                                                    \
    {                                                                                              \
        w, sizeof(w) - 1                                                                           \
    }

static const struct key_word key_words[] = {
    {WORD("ALL"), SHAPE_PLAIN, KEY_ALL, 0, false, {0}},
    {WORD("NEW"), SHAPE_PLAIN, KEY_ALL, 0, true, {0}}, /* \Recent is never set */
    {WORD("RECENT"), SHAPE_PLAIN, KEY_ALL, 0, true, {0}},
    {WORD("OLD"), SHAPE_PLAIN, KEY_ALL, 0, false, {0}},
    {WORD("ANSWERED"), SHAPE_PLAIN, KEY_FLAG, FLAG_ANSWERED, false, {0}},
    {WORD("DELETED"), SHAPE_PLAIN, KEY_FLAG, FLAG_DELETED, false, {0}},
    {WORD("DRAFT"), SHAPE_PLAIN, KEY_FLAG, FLAG_DRAFT, false, {0}},
    {WORD("FLAGGED"), SHAPE_PLAIN, KEY_FLAG, FLAG_FLAGGED, false, {0}},
    {WORD("SEEN"), SHAPE_PLAIN, KEY_FLAG, FLAG_SEEN, false, {0}},
    {WORD("UNANSWERED"), SHAPE_PLAIN, KEY_FLAG, FLAG_ANSWERED, true, {0}},
    {WORD("UNDELETED"), SHAPE_PLAIN, KEY_FLAG, FLAG_DELETED, true, {0}},
    {WORD("UNDRAFT"), SHAPE_PLAIN, KEY_FLAG, FLAG_DRAFT, true, {0}},
    {WORD("UNFLAGGED"), SHAPE_PLAIN, KEY_FLAG, FLAG_FLAGGED, true, {0}},
    {WORD("UNSEEN"), SHAPE_PLAIN, KEY_FLAG, FLAG_SEEN, true, {0}},
    {WORD("KEYWORD"), SHAPE_KEYWORD, KEY_KEYWORD, 0, false, {0}},
    {WORD("UNKEYWORD"), SHAPE_KEYWORD, KEY_KEYWORD, 0, true, {0}},
    {WORD("UID"), SHAPE_UID, KEY_UID, 0, false, {0}},
    {WORD("UIDAFTER"), SHAPE_UID_AFTER, KEY_UID, 0, false, {0}},
    {WORD("UIDBEFORE"), SHAPE_UID_BEFORE, KEY_UID, 0, false, {0}},
    {WORD("MODSEQ"), SHAPE_MODSEQ, KEY_MODSEQ, 0, false, {0}},
    {WORD("LARGER"), SHAPE_LARGER, KEY_SIZE, 0, false, {0}},
    {WORD("SMALLER"), SHAPE_SMALLER, KEY_SIZE, 0, false, {0}},
    {WORD("BEFORE"), SHAPE_BEFORE, KEY_RECEIVED, 0, false, {0}},
    {WORD("ON"), SHAPE_ON, KEY_RECEIVED, 0, false, {0}},
    {WORD("SINCE"), SHAPE_SINCE, KEY_RECEIVED, 0, false, {0}},
    {WORD("SENTBEFORE"), SHAPE_BEFORE, KEY_SENT, 0, false, {0}},
    {WORD("SENTON"), SHAPE_ON, KEY_SENT, 0, false, {0}},
    {WORD("SENTSINCE"), SHAPE_SINCE, KEY_SENT, 0, false, {0}},
    {WORD("SAVEDBEFORE"), SHAPE_BEFORE, KEY_SAVED, 0, false, {0}},
    {WORD("SAVEDON"), SHAPE_ON, KEY_SAVED, 0, false, {0}},
    {WORD("SAVEDSINCE"), SHAPE_SINCE, KEY_SAVED, 0, false, {0}},
    {WORD("SAVEDATESUPPORTED"), SHAPE_PLAIN, KEY_ALL, 0, false, {0}},
    {WORD("OLDER"), SHAPE_OLDER, KEY_RECEIVED_US, 0, false, {0}},
    {WORD("YOUNGER"), SHAPE_YOUNGER, KEY_RECEIVED_US, 0, false, {0}},
    {WORD("BCC"), SHAPE_FIELD, KEY_HEADER, 0, false, WORD("Bcc")},
    {WORD("CC"), SHAPE_FIELD, KEY_HEADER, 0, false, WORD("Cc")},
    {WORD("FROM"), SHAPE_FIELD, KEY_HEADER, 0, false, WORD("From")},
    {WORD("SUBJECT"), SHAPE_FIELD, KEY_HEADER, 0, false, WORD("Subject")},
    {WORD("TO"), SHAPE_FIELD, KEY_HEADER, 0, false, WORD("To")},
    {WORD("HEADER"), SHAPE_HEADER, KEY_HEADER, 0, false, {0}},
    {WORD("BODY"), SHAPE_TEXT, KEY_BODY, 0, false, {0}},
    {WORD("TEXT"), SHAPE_TEXT, KEY_TEXT, 0, false, {0}},
    {WORD("EMAILID"), SHAPE_EMAIL_ID, KEY_EMAIL_ID, 0, false, {0}},
    {WORD("THREADID"), SHAPE_THREAD_ID, KEY_THREAD_ID, 0, false, {0}},
};

static int parse_days(struct search_parser *sp, struct search_key *key, enum key_shape shape,
                      struct error *err)
{
    int64_t day;

    if (imap_parse_space(sp->p, err) < 0 || imap_parse_day(sp->p, sp->a, &day, err) < 0)
        return -1;
    key->from = shape == SHAPE_BEFORE ? -FOREVER : day;
    key->to = shape == SHAPE_BEFORE ? day : shape == SHAPE_ON ? day + 1 : FOREVER;
    return 0;
}

static int parse_size(struct search_parser *sp, struct search_key *key, enum key_shape shape,
                      struct error *err)
{
    uint64_t size;

    if (parse_number(sp, &size, "a size", err) < 0)
        return -1;
    key->from = shape == SHAPE_SMALLER ? 0 : size < INT64_MAX ? (int64_t)size + 1 : FOREVER;
    key->to = shape == SHAPE_LARGER ? FOREVER : (int64_t)size;
    return 0;
}

/* RFC 5032: seconds back from now. */
static int parse_age(struct search_parser *sp, struct search_key *key, enum key_shape shape,
                     struct error *err)
{
    int64_t limit_us;
    uint64_t age_s;

    if (parse_number(sp, &age_s, "a number of seconds", err) < 0)
        return -1;
    if (age_s == 0 || age_s > UINT32_MAX)
        return fail(err, ERR_SYNTAX, "an age must be between 1 and 4294967295 seconds");
    limit_us = time_now_us() - (int64_t)age_s * 1000000;
    key->from = shape == SHAPE_OLDER ? -FOREVER : limit_us;
    key->to = shape == SHAPE_OLDER ? limit_us + 1 : FOREVER;
    return 0;
}

/* "M1-9" (RFC 8474): an id that we did not give out is no error, it names nothing. */
static int parse_object_id(struct search_parser *sp, struct search_key *key, char kind,
                           struct error *err)
{
    struct str text, account, id;
    uint64_t account_id, number;

    if (imap_parse_space(sp->p, err) < 0 ||
        imap_parse_astring(sp->p, sp->a, &text, "an object id", err) < 0)
        return -1;
    if (text.n > 1 && text.p[0] == kind && str_cut(str_from(text, 1), '-', &account, &id) &&
        str_to_u64(account, &account_id) && str_to_u64(id, &number) && account_id <= INT64_MAX &&
        number <= INT64_MAX)
        key->object = (struct object_id){(int64_t)account_id, (int64_t)number};
    return 0;
}

static int parse_shape(struct search_parser *sp, struct search_key *key,
                       const struct key_word *word, struct error *err)
{
    switch (word->shape) {
    case SHAPE_PLAIN:
        return 0;
    case SHAPE_FIELD:
        key->name = arena_lower(sp->a, word->field);
        return parse_text(sp, key, err);
    case SHAPE_TEXT:
        return parse_text(sp, key, err);
    case SHAPE_HEADER:
        return parse_header(sp, key, err);
    case SHAPE_KEYWORD:
        return parse_keyword(sp, key, err);
    case SHAPE_UID:
        return parse_uid(sp, key, err);
    case SHAPE_UID_AFTER:
    case SHAPE_UID_BEFORE:
        return parse_uid_bound(sp, key, word->shape == SHAPE_UID_AFTER, err);
    case SHAPE_MODSEQ:
        return parse_modseq(sp, key, err);
    case SHAPE_BEFORE:
    case SHAPE_ON:
    case SHAPE_SINCE:
        return parse_days(sp, key, word->shape, err);
    case SHAPE_LARGER:
    case SHAPE_SMALLER:
        return parse_size(sp, key, word->shape, err);
    case SHAPE_OLDER:
    case SHAPE_YOUNGER:
        return parse_age(sp, key, word->shape, err);
    case SHAPE_EMAIL_ID:
        return parse_object_id(sp, key, 'M', err);
    case SHAPE_THREAD_ID:
        return parse_object_id(sp, key, 'T', err);
    }
    return 0;
}

/* --- combinations ----------------------------------------------------------------------------- */

/* Keys one after the other, all of which must hold; ends before ')' or at the end. */
static int parse_all_of(struct search_parser *sp, unsigned depth, struct search_key *parent,
                        struct error *err)
{
    struct search_key **last = &parent->first_child;

    parent->kind = KEY_AND;
    do {
        if (parse_key(sp, depth, last, err) < 0)
            return -1;
        last = &(*last)->next;
    } while (imap_parse_skip(sp->p, ' '));
    return 0;
}

static int parse_group(struct search_parser *sp, unsigned depth, struct search_key *key,
                       struct error *err)
{
    return parse_all_of(sp, depth + 1, key, err) < 0 ? -1 : imap_parse_char(sp->p, ')', err);
}

static int parse_not(struct search_parser *sp, unsigned depth, struct search_key *key,
                     struct error *err)
{
    key->kind = KEY_AND;
    key->is_negated = true;
    return imap_parse_space(sp->p, err) < 0 ? -1 : parse_key(sp, depth + 1, &key->first_child, err);
}

static int parse_or(struct search_parser *sp, unsigned depth, struct search_key *key,
                    struct error *err)
{
    key->kind = KEY_OR;
    if (imap_parse_space(sp->p, err) < 0 || parse_key(sp, depth + 1, &key->first_child, err) < 0 ||
        imap_parse_space(sp->p, err) < 0)
        return -1;
    return parse_key(sp, depth + 1, &key->first_child->next, err);
}

/* Every text in the key that follows is sought fuzzily; keys of other kinds stay exact (RFC 6203, 5). */
static int parse_fuzzy(struct search_parser *sp, unsigned depth, struct search_key *key,
                       struct error *err)
{
    bool was_fuzzy = sp->is_fuzzy;
    int status;

    key->kind = KEY_AND;
    sp->request->has_fuzzy = sp->is_fuzzy = true;
    status =
        imap_parse_space(sp->p, err) < 0 ? -1 : parse_key(sp, depth + 1, &key->first_child, err);
    sp->is_fuzzy = was_fuzzy;
    return status;
}

static bool at_sequence_set(const struct imap_parser *p)
{
    return p->at < p->end && ((*p->at >= '0' && *p->at <= '9') || *p->at == '*' || *p->at == '$');
}

static int parse_word(struct search_parser *sp, struct search_key *key, struct error *err)
{
    for (size_t i = 0; i < sizeof key_words / sizeof *key_words; i++)
        if (imap_parse_word(sp->p, key_words[i].word)) {
            key->kind = key_words[i].kind;
            key->flag = key_words[i].flag;
            key->is_negated = key_words[i].is_negated;
            return parse_shape(sp, key, &key_words[i], err);
        }
    return imap_parse_expected(sp->p, "a search key", err);
}

static int parse_key(struct search_parser *sp, unsigned depth, struct search_key **out,
                     struct error *err)
{
    struct search_key *key = *out = ARENA_NEW(sp->a, struct search_key);

    if (depth > SEARCH_DEPTH_MAX)
        return fail(err, ERR_LIMIT, "search keys are nested deeper than %d", SEARCH_DEPTH_MAX);
    if (++sp->request->key_count > SEARCH_KEYS_MAX)
        return fail(err, ERR_LIMIT, "more than %d search keys", SEARCH_KEYS_MAX);
    if (imap_parse_skip(sp->p, '('))
        return parse_group(sp, depth, key, err);
    if (at_sequence_set(sp->p)) {
        key->kind = KEY_SEQUENCE;
        return imap_set_parse(sp->p, sp->a, &key->set, err);
    }
    if (imap_parse_word(sp->p, STR("NOT")))
        return parse_not(sp, depth, key, err);
    if (imap_parse_word(sp->p, STR("OR")))
        return parse_or(sp, depth, key, err);
    if (imap_parse_word(sp->p, STR("FUZZY")))
        return parse_fuzzy(sp, depth, key, err);
    return parse_word(sp, key, err);
}

/* --- the whole -------------------------------------------------------------------------------- */

static int parse_charset(struct search_parser *sp, enum search_charset_form form, struct error *err)
{
    sp->charset = STR("UTF-8");
    if (form == SEARCH_CHARSET_WORD && !imap_parse_word(sp->p, STR("CHARSET")))
        return 0;
    sp->request->has_charset = form == SEARCH_CHARSET_WORD;
    if ((form == SEARCH_CHARSET_WORD && imap_parse_space(sp->p, err) < 0) ||
        imap_parse_astring(sp->p, sp->a, &sp->charset, "a charset", err) < 0)
        return -1;
    return imap_parse_space(sp->p, err);
}

static bool charset_is_known(struct str charset)
{
    struct buf probe;
    bool is_known;

    buf_init(&probe, 16);
    is_known = charset_to_utf8(&probe, charset, STR("a"));
    buf_fini(&probe);
    return is_known;
}

int imap_parse_search_program(struct imap_parser *p, struct arena *a, enum search_charset_form form,
                              struct search_request *out, struct error *err)
{
    struct search_parser sp = {.p = p, .a = a, .request = out};

    out->root = ARENA_NEW(a, struct search_key);
    if (parse_charset(&sp, form, err) < 0)
        return -1;
    if (!charset_is_known(sp.charset)) {
        out->has_bad_charset = true;
        return fail(err, ERR_UNSUPPORTED, "the charset is unknown");
    }
    if (parse_all_of(&sp, 1, out->root, err) < 0 || imap_parse_end(p, err) < 0)
        return -1;
    out->wants_scores = out->wants_scores || out->wants_relevancy;
    if (out->wants_scores && !out->has_fuzzy)
        return fail(err, ERR_SYNTAX, "RELEVANCY needs a FUZZY key");
    return 0;
}

int imap_parse_search(struct imap_parser *p, struct arena *a, struct search_request *out,
                      struct error *err)
{
    *out = (struct search_request){0};
    if (imap_parse_search_return(p, out, err) < 0)
        return -1;
    return imap_parse_search_program(p, a, SEARCH_CHARSET_WORD, out, err);
}
