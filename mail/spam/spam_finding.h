/* spam_finding.h - what rules find in a message, each once, with a sentence for people in two languages. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "server/base/arena.h"
#include "server/base/str.h"

enum spam_finding_kind {
#define FINDING(id, weight, english, indonesian) SPAM_FINDING_##id,
#include "mail/spam/spam_findings.def"
#undef FINDING
    SPAM_FINDING_COUNT
};

struct spam_finding {
    enum spam_finding_kind kind;
    const char *name;                 /* "LINK_NUMERIC": for headers and tables */
    double weight;                    /* see spam_findings.def; below 0 it speaks for the message */
    struct str english, indonesian;   /* in the arena; UTF-8 without control characters */
};

struct spam_findings {
    struct spam_finding v[SPAM_FINDING_COUNT];
    size_t n;
};

/* The first of a kind stays. detail: what was found, any bytes; shown clipped and cleaned. */
void spam_find(struct arena *a, struct spam_findings *out, enum spam_finding_kind kind, struct str detail);
bool spam_has_found(const struct spam_findings *findings, enum spam_finding_kind kind);
double spam_findings_weight(const struct spam_findings *findings);
