/* spam_token_words.c - the words of a text, as a reader sees them.
 *
 * What cannot be seen is dropped, accents and fancy letters (wide, mathematical, circled) become
 * plain ones, and in a word that mixes alphabets the look-alikes of Latin letters become those.
 * Writing without spaces (Chinese, Thai) is cut into pairs of characters. A word stands alone and
 * in pairs with the words shortly before it (sparse bigrams): phrases weigh more than words. */
#include <utf8proc.h>

#include "mail/spam/spam_confusable.h"
#include "mail/spam/spam_token_internal.h"
#include "server/base/utf8.h"

#define WORD_SIZE_MAX 32
#define WINDOW        2 /* a word goes with as many before it */
#define WORDS_MAX     12000

struct words {
    struct spam_sink *sink;
    enum spam_feature_kind kind;
    struct str before[WINDOW]; /* ring of the last words */
    size_t count;
};

/* ---- one form for what looks the same -------------------------------------------------------- */

#define FOLDED_MAX 32

static void fold_one(struct buf *out, uint32_t c)
{
    utf8proc_int32_t folded[FOLDED_MAX];
    int boundary = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)c, folded, FOLDED_MAX,
                                UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE |
                                    UTF8PROC_STRIPMARK | UTF8PROC_DECOMPOSE,
                                &boundary);

    for (utf8proc_ssize_t i = 0; i < n && i < FOLDED_MAX; i++)
        utf8_add(out, (uint32_t)folded[i]);
}

static void fold(struct buf *out, struct str utf8)
{
    uint32_t c;

    while (utf8.n > 0) {
        size_t n = 0;
        while (n < utf8.n && (unsigned char)utf8.p[n] < 128)
            n++;
        buf_add(out, str_head(utf8, n));
        utf8 = str_from(utf8, n);
        if (utf8.n > 0 && utf8_next(&utf8, &c))
            fold_one(out, c);
    }
}

/* ---- words ----------------------------------------------------------------------------------- */

static bool is_word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (unsigned char)c >= 128 || c == '$' || c == '\'' || c == '-' || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void add_word(struct words *w, struct str word)
{
    if (w->count >= WORDS_MAX)
        return;
    spam_add(w->sink, w->kind, word);
    for (size_t gap = 0; gap < WINDOW && gap < w->count; gap++)
        spam_add_pair(w->sink, w->kind == SPAM_WORD ? SPAM_PAIR : w->kind,
                      w->before[(w->count - 1 - gap) % WINDOW], word, (unsigned)gap);
    w->before[w->count++ % WINDOW] = word;
}

/* Letters of a word as they are to be compared; numbers by their length, years as "year". */
static struct str plain_form(struct arena *a, struct str word)
{
    char *p = arena_alloc(a, word.n + 1);
    size_t digits = 0;

    for (size_t i = 0; i < word.n; i++) {
        p[i] = ascii_lower(word.p[i]);
        digits += is_digit(word.p[i]);
    }
    if (digits == word.n && word.n == 4 &&
        (str_starts(word, STR("19")) || str_starts(word, STR("20"))))
        return STR("(year)");
    if (digits > 5 || (digits > 3 && digits * 2 < word.n))
        for (size_t i = 0; i < word.n; i++)
            if (is_digit(p[i]))
                p[i] = '0';
    return str_of(p, word.n);
}

static bool is_shouted(struct str word)
{
    size_t capitals = 0;

    for (size_t i = 0; i < word.n; i++) {
        if (word.p[i] >= 'a' && word.p[i] <= 'z')
            return false;
        capitals += word.p[i] >= 'A' && word.p[i] <= 'Z';
    }
    return capitals >= 2;
}

static void add_shout(struct words *w, struct str plain)
{
    if (w->count < WORDS_MAX)
        spam_addf(w->sink, w->kind, "%.*s in capitals", STR_ARG(plain));
}

/* Without spaces: each two characters are a word. */
static void add_script(struct words *w, struct str word)
{
    struct str rest = word, first = word;
    uint32_t c;

    utf8_next(&rest, &c);
    while (rest.n > 0) {
        struct str second = rest;
        utf8_next(&rest, &c);
        add_word(w, arena_str(w->sink->arena, str_of(first.p, (size_t)(rest.p - first.p))));
        first = second;
    }
}

static struct str without_looks(struct arena *a, struct str word)
{
    struct buf out;
    struct str plain;
    uint32_t c;

    buf_init(&out, SIZE_MAX);
    for (struct str rest = word; utf8_next(&rest, &c);)
        if (spam_latin_look(c) != 0)
            buf_addc(&out, spam_latin_look(c));
        else
            utf8_add(&out, c);
    plain = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return plain;
}

static void take_word(struct words *w, struct str word)
{
    size_t wide = 0, letters = 0;
    struct str plain;

    for (size_t i = 0; i < word.n; i++) {
        wide += (unsigned char)word.p[i] >= 128;
        letters += ascii_lower(word.p[i]) >= 'a' && ascii_lower(word.p[i]) <= 'z';
    }
    if (wide > 0 && letters > 0) {
        struct str latin = without_looks(w->sink->arena, word);
        if (str_is_ascii(latin)) {
            spam_add(w->sink, SPAM_MARKUP, STR("a word of mixed alphabets"));
            word = latin;
        }
    } else if (wide > 12 && wide == word.n) {
        add_script(w, word);
        return;
    }
    if (word.n > WORD_SIZE_MAX) {
        spam_addf(w->sink, w->kind, "(a word of %u0 letters)",
                  (unsigned)(word.n < 100 ? word.n / 10 : 10));
        return;
    }
    plain = plain_form(w->sink->arena, word);
    add_word(w, plain);
    if (is_shouted(word))
        add_shout(w, plain);
}

static struct str trim_word(struct str word)
{
    while (word.n > 0 && (word.p[0] == '\'' || word.p[0] == '-' || word.p[0] == '_'))
        word = str_from(word, 1);
    while (word.n > 0 &&
           (word.p[word.n - 1] == '\'' || word.p[word.n - 1] == '-' || word.p[word.n - 1] == '_'))
        word.n--;
    return word;
}

static bool is_telling(char mark, size_t count)
{
    return mark == '!' || mark == '?' || (count > 2 && mark > ' ' && mark != '.');
}

/* "!!!", "***", "=====": what stands between words in rows. */
static void take_marks(struct words *w, struct str marks)
{
    for (size_t i = 0; i < marks.n;) {
        size_t n = 1;
        while (i + n < marks.n && marks.p[i + n] == marks.p[i])
            n++;
        if (is_telling(marks.p[i], n))
            add_word(w, str_head(str_from(marks, i), n < 4 ? n : 4));
        i += n;
    }
}

/* ---- letters --------------------------------------------------------------------------------- */

#define LETTERS     4
#define LETTERS_MAX 3000 /* the beginning tells */

/* White space as one space, digits as one, rows of the same as three. */
static size_t plain_letters(char *out, struct str text)
{
    size_t n = 0;

    for (size_t i = 0; i < text.n && n < LETTERS_MAX; i++) {
        char c = (unsigned char)text.p[i] <= ' ' ? ' ' : is_digit(text.p[i]) ? '0' : text.p[i];
        bool is_row = n > 2 && out[n - 1] == c && out[n - 2] == c && out[n - 3] == c;
        if (n > 0 && out[n - 1] == c && (c == ' ' || is_row))
            continue;
        out[n++] = c;
    }
    return n;
}

static void add_letters(struct spam_sink *s, struct str text)
{
    char *p = arena_alloc(s->arena, LETTERS_MAX);
    size_t n = plain_letters(p, text);

    for (size_t i = 0; i + LETTERS <= n; i++)
        spam_add(s, SPAM_LETTERS, str_of(p + i, LETTERS));
}

static struct str take_run(struct str *text, bool is_word)
{
    struct str run = str_head(*text, 0);

    while (run.n < text->n && is_word_byte(text->p[run.n]) == is_word)
        run.n++;
    *text = str_from(*text, run.n);
    return run;
}

void spam_add_words(struct spam_sink *s, enum spam_feature_kind kind, struct str utf8)
{
    struct words w = {.sink = s, .kind = kind};
    struct buf folded;
    struct str text, word;

    buf_init(&folded, SIZE_MAX);
    fold(&folded, utf8);
    text = arena_str(s->arena, buf_str(&folded));
    buf_fini(&folded);
    if (kind == SPAM_WORD || kind == SPAM_SUBJECT)
        add_letters(s, text);
    while (text.n > 0 && w.count < WORDS_MAX && s->out->n < s->count_max) {
        take_marks(&w, take_run(&text, false));
        word = trim_word(take_run(&text, true));
        if (word.n > 0)
            take_word(&w, word);
    }
}
