/* spam_token_internal.h - what the makers of features share. */
#pragma once
#include "mail/spam/spam_token.h"
#include "server/base/buf.h"

/* What one source learns and another one needs. */
struct spam_facts {
    bool has_subject, has_message_id, has_recipient, has_date, has_mime_version, is_answer;
    bool is_author_routed, is_id_routed, is_envelope_routed;  /* a hop is of that domain's family */
    struct str from_domain, reply_domain, id_domain, envelope_domain;
    struct str from_local, envelope_local, to_local;          /* to_local: of the first recipient */
    struct str subject;
    size_t recipients;
    unsigned links_own, links_foreign;                        /* to the author's family of domains, and elsewhere */
};

struct spam_sink {
    struct arena *arena;
    struct spam_features *out;
    uint32_t *seen;               /* open addressing; 0 is empty */
    size_t count_max;             /* of features so far: raised source by source, so that none crowds out the next */
    struct spam_facts facts;
};

void spam_add(struct spam_sink *s, enum spam_feature_kind kind, struct str text); /* text must live in the arena */
void spam_addf(struct spam_sink *s, enum spam_feature_kind kind, const char *format, ...) __attribute__((format(printf, 3, 4)));
void spam_add_pair(struct spam_sink *s, enum spam_feature_kind kind, struct str first, struct str second, unsigned gap);
/* "mail.pills.example": itself and each domain above it, with a word before. */
void spam_add_domain(struct spam_sink *s, enum spam_feature_kind kind, const char *what, struct str domain);

/* 0, 1, 2-3, 4-7, ...: counts and sizes in steps that double. */
unsigned spam_step(size_t count);
/* Runs of digits, of small and of capital letters as one each: "5f9G3@x" is "9a9A9@a". */
struct str spam_form(struct arena *a, struct str text);
struct str spam_without_digits(struct arena *a, struct str text);     /* and in small letters */
struct str spam_lower(struct spam_sink *s, struct str text, size_t size_max);
/* The domain that is registered, nearly always: "a.example.co.uk" -> "example.co.uk". */
struct str spam_family(struct str domain);

/* spam_token_words.c: the text is UTF-8 as it was written. */
void spam_add_words(struct spam_sink *s, enum spam_feature_kind kind, struct str utf8);
/* spam_token_header.c: fills most of the facts. */
void spam_add_header(struct spam_sink *s, struct str header);
/* spam_token_route.c */
void spam_add_hop(struct spam_sink *s, struct str received);
void spam_add_envelope(struct spam_sink *s, struct str return_path);
void spam_add_relations(struct spam_sink *s);
/* spam_token_part.c */
void spam_add_part(struct spam_sink *s, const struct mime_part *part, struct str message);
/* spam_token_html.c: `visible` gets the markup without what is hidden from readers. */
void spam_add_html(struct spam_sink *s, struct buf *visible, struct str html);
/* Of a tag: behind its '<' or "</". Views into it. */
struct str spam_tag_name(struct str tag);
bool spam_next_attribute(struct str *rest, struct str *name, struct str *value);   /* rest: behind the name; false at the end */
bool spam_is_hiding(struct str name, struct str value);                            /* an attribute that hides its element */
/* spam_token_link.c */
void spam_add_links(struct spam_sink *s, struct str plain_text);
void spam_add_link(struct spam_sink *s, struct str url);
