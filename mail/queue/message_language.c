/* message_language.c - counts common words that only one of the two languages has.
 *
 * Bodies are looked at as they lie: in quoted-printable most short words survive, in base64 nothing tells. */
#include "mail/queue/message_language.h"

#include "mail/mime/header.h"

#define SAMPLE_SIZE 4096
#define HITS_MIN    2
#define WORD_MAX    8 /* letters of the longest word below */

static const char *const indonesian[] = {
    "yang",  "dan",   "untuk", "dengan", "tidak", "ini",    "itu",   "dari", "saya",
    "kami",  "akan",  "pada",  "bisa",   "sudah", "terima", "kasih", "pagi", "siang",
    "bapak", "mohon", "telah", "dapat",  "kita",  "anda",   "juga",
};
static const char *const english[] = {
    "the",    "and",  "for",    "you",   "with",    "that",  "this",  "are",  "have",
    "please", "your", "thanks", "thank", "from",    "not",   "was",   "will", "been",
    "can",    "our",  "we",     "is",    "regards", "would", "hello",
};

static bool is_among(struct str word, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (str_ieq(word, str_c(words[i])))
            return true;
    return false;
}

static bool is_letter(char c)
{
    c = ascii_lower(c);
    return c >= 'a' && c <= 'z';
}

struct hits {
    unsigned en, id;
};

static void count_words(struct str text, struct hits *hits)
{
    size_t at = 0;

    while (at < text.n) {
        size_t start = at;
        while (at < text.n && is_letter(text.p[at]))
            at++;
        struct str word = str_of(text.p + start, at - start);
        if (word.n > 1 && word.n <= WORD_MAX) {
            hits->en += is_among(word, english, sizeof english / sizeof *english);
            hits->id += is_among(word, indonesian, sizeof indonesian / sizeof *indonesian);
        }
        at += at == start;
    }
}

/* The first tag: "id", "en-GB", "id, en" (RFC 3282). */
static const char *by_field(struct str value)
{
    value = str_trim(value);
    if (str_istarts(value, STR("id")) && (value.n == 2 || !is_letter(value.p[2])))
        return "id";
    if (str_istarts(value, STR("en")) && (value.n == 2 || !is_letter(value.p[2])))
        return "en";
    return NULL;
}

const char *message_language(struct str message)
{
    struct hits hits = {0, 0};
    struct header_field field;
    size_t fields = 0;

    while (fields++ < 1000 && header_next(&message, &field)) {
        if (str_ieq(field.name, STR("Content-Language")) && by_field(field.value) != NULL)
            return by_field(field.value);
        if (str_ieq(field.name, STR("Subject")))
            count_words(str_head(field.value, SAMPLE_SIZE), &hits);
    }
    count_words(str_head(message, SAMPLE_SIZE), &hits);
    if (hits.id >= HITS_MIN && hits.id > 2 * hits.en)
        return "id";
    return hits.en >= HITS_MIN && hits.en > 2 * hits.id ? "en" : NULL;
}
