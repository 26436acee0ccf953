/* dmarc_report.c - aggregate reports as XML, element by element.
 *
 * The reader is libxml2's streaming one: nothing but the report itself is kept. Where an element stands says what
 * it means: a table leads from its path to a member. Elements that are unknown, or where they do not belong, are
 * passed over with all that they hold, for reports of the wild have many. */
#include "mail/report/dmarc_report.h"

#include <libxml/xmlreader.h>
#include <stddef.h>
#include <string.h>

#include "mail/report/report_file.h"
#include "server/base/buf.h"

#define PATH_SIZE_MAX  256
#define DEPTH_MAX      32
#define TEXT_SIZE_MAX  4096 /* of one element; more is cut off */
#define XML_REPORT_MAX (64 << 20)

/* ---- where texts go -------------------------------------------------------------------------- */

static const char *const policies[] = {"none", "quarantine", "reject", NULL};
static const char *const dispositions[] = {"none", "quarantine", "reject", "pass", NULL};
static const char *const alignments[] = {"r", "s", NULL};
static const char *const pass_fail[] = {"pass", "fail", NULL};
static const char *const yes_no[] = {"y", "n", NULL};
static const char *const methods[] = {"psl", "treewalk", NULL};
static const char *const scopes[] = {"helo", "mfrom", NULL};
static const char *const reasons[] = {
    "forwarded",    "sampled_out", "trusted_forwarder", "mailing_list",
    "local_policy", "other",       "policy_test_mode",  NULL};
static const char *const dkim_results[] = {"none",    "pass",      "fail",      "policy",
                                           "neutral", "temperror", "permerror", NULL};
static const char *const spf_results[] = {"none",     "neutral",   "pass",      "fail",
                                          "softfail", "temperror", "permerror", NULL};

enum owner { OF_REPORT, OF_RECORD, OF_REASON, OF_DKIM, OF_SPF, OF_EXTENSION };

#define REPORT(path, member, words)                                                                \
    {                                                                                              \
        path, OF_REPORT, offsetof(struct dmarc_report, member), words                              \
    }
#define RECORD(path, member, words)                                                                \
    {                                                                                              \
        "record/" path, OF_RECORD, offsetof(struct dmarc_report_record, member), words             \
    }
#define REASON(path, member, words)                                                                \
    {                                                                                              \
        "record/row/policy_evaluated/reason/" path, OF_REASON,                                     \
            offsetof(struct dmarc_report_reason, member), words                                    \
    }
#define DKIM(path, member, words)                                                                  \
    {                                                                                              \
        "record/auth_results/dkim/" path, OF_DKIM, offsetof(struct dmarc_report_dkim, member),     \
            words                                                                                  \
    }
#define SPF(path, member, words)                                                                   \
    {                                                                                              \
        "record/auth_results/spf/" path, OF_SPF, offsetof(struct dmarc_report_spf, member), words  \
    }

static const struct text_row {
    const char *path; /* below feedback/ */
    enum owner owner;
    size_t offset;            /* of a struct str */
    const char *const *words; /* NULL: any text */
} text_rows[] = {
    REPORT("version", version, NULL),
    REPORT("report_metadata/org_name", org_name, NULL),
    REPORT("report_metadata/email", email, NULL),
    REPORT("report_metadata/extra_contact_info", extra_contact_info, NULL),
    REPORT("report_metadata/report_id", report_id, NULL),
    REPORT("report_metadata/generator", generator, NULL),
    REPORT("policy_published/domain", domain, NULL),
    REPORT("policy_published/version_published", version_published, NULL),
    REPORT("policy_published/adkim", adkim, alignments),
    REPORT("policy_published/aspf", aspf, alignments),
    REPORT("policy_published/p", p, policies),
    REPORT("policy_published/sp", sp, policies),
    REPORT("policy_published/np", np, policies),
    REPORT("policy_published/fo", fo, NULL),
    REPORT("policy_published/testing", testing, yes_no),
    REPORT("policy_published/discovery_method", discovery_method, methods),
    RECORD("row/source_ip", source_ip, NULL),
    RECORD("row/policy_evaluated/disposition", disposition, dispositions),
    RECORD("row/policy_evaluated/dkim", dkim, pass_fail),
    RECORD("row/policy_evaluated/spf", spf, pass_fail),
    RECORD("identifiers/envelope_to", envelope_to, NULL),
    RECORD("identifiers/envelope_from", envelope_from, NULL),
    RECORD("identifiers/header_from", header_from, NULL),
    REASON("type", type, reasons),
    REASON("comment", comment, NULL),
    DKIM("domain", domain, NULL),
    DKIM("selector", selector, NULL),
    DKIM("result", result, dkim_results),
    DKIM("human_result", human_result, NULL),
    SPF("domain", domain, NULL),
    SPF("scope", scope, scopes),
    SPF("result", result, spf_results),
    SPF("human_result", human_result, NULL),
};

/* ---- what is being read ---------------------------------------------------------------------- */

struct reading {
    struct arena *arena;
    struct dmarc_report *report;
    struct dmarc_report_record *record; /* NULL outside of one */
    void *part;                         /* the reason, dkim, spf or extension that is open */
    struct path {
        char text[PATH_SIZE_MAX];
        size_t n;
    } path;
    size_t depth;
    size_t skip_depth;  /* 0, or where what we do not know began */
    struct buf content; /* of the element that is open */
    struct error *err;
};

/* Room for one more member; the array doubles. NULL when there are count_max. */
static void *array_add(struct arena *a, void **array, size_t *count, size_t size, size_t count_max)
{
    bool is_full = (*count & (*count - 1)) == 0; /* powers of two, and none */

    if (*count == count_max)
        return NULL;
    if (is_full) {
        void *larger = arena_array(a, *count > 0 ? 2 * *count : 1, size);

        if (*count > 0)
            memcpy(larger, *array, *count * size);
        *array = larger;
    }
    return (char *)*array + (*count)++ * size;
}

/* The row's member; an unknown word is left out, "hardfail" and "unknown" of older reporters too. */
static struct str known_word(struct arena *a, struct str text, const char *const *words)
{
    struct str lower = arena_lower(a, str_trim(text));

    for (; *words != NULL; words++)
        if (str_eq(lower, str_c(*words)))
            return lower;
    return STR_NULL;
}

static uint64_t number_of(struct str text)
{
    uint64_t number = 0;

    /* Some write "1661558400.0". */
    str_cut(str_trim(text), '.', &text, &(struct str){0});
    return str_to_u64(text, &number) ? number : 0;
}

static void *owner_of(const struct reading *r, enum owner owner)
{
    if (owner == OF_REPORT)
        return r->report;
    return owner == OF_RECORD ? (void *)r->record : r->part;
}

static void take_number(struct reading *r, struct str path, struct str text)
{
    uint64_t number = number_of(text);

    if (str_eq(path, STR("report_metadata/date_range/begin")))
        r->report->begin_s = (int64_t)(number & INT64_MAX);
    else if (str_eq(path, STR("report_metadata/date_range/end")))
        r->report->end_s = (int64_t)(number & INT64_MAX);
    else if (str_eq(path, STR("record/row/count")) && r->record != NULL)
        r->record->count = number & INT64_MAX;
}

static void take_error(struct reading *r, struct str text)
{
    struct str *to = array_add(r->arena, (void **)&r->report->errors, &r->report->error_count,
                               sizeof *to, DMARC_REPORT_RESULTS_MAX);

    if (to != NULL)
        *to = arena_str(r->arena, str_trim(text));
}

static void take_text(struct reading *r, struct str path, struct str text)
{
    if (str_eq(path, STR("report_metadata/error"))) {
        take_error(r, text);
        return;
    }
    for (size_t i = 0; i < sizeof text_rows / sizeof text_rows[0]; i++) {
        const struct text_row *row = &text_rows[i];
        char *owner = owner_of(r, row->owner);

        if (!str_eq(path, str_c(row->path)) || owner == NULL)
            continue;
        *(struct str *)(owner + row->offset) = row->words != NULL
                                                   ? known_word(r->arena, text, row->words)
                                                   : arena_str(r->arena, str_trim(text));
        return;
    }
    take_number(r, path, text);
}

/* ---- elements -------------------------------------------------------------------------------- */

static struct str attribute(struct arena *a, xmlTextReaderPtr reader, const char *name)
{
    xmlChar *value = xmlTextReaderGetAttribute(reader, (const xmlChar *)name);
    struct str text = str_head(str_c((const char *)value), TEXT_SIZE_MAX);

    text = arena_str(a, text);
    xmlFree(value);
    return text;
}

static void begin_extension(struct reading *r, xmlTextReaderPtr reader)
{
    bool is_of_record = r->record != NULL;
    void **array = is_of_record ? (void **)&r->record->extensions : (void **)&r->report->extensions;
    size_t *count = is_of_record ? &r->record->extension_count : &r->report->extension_count;
    struct dmarc_report_extension *e =
        array_add(r->arena, array, count, sizeof *e, DMARC_REPORT_RESULTS_MAX);

    if (e == NULL)
        return;
    e->name = attribute(r->arena, reader, "name");
    e->definition = attribute(r->arena, reader, "definition");
}

static int begin_record(struct reading *r)
{
    r->record = array_add(r->arena, (void **)&r->report->records, &r->report->record_count,
                          sizeof *r->record, DMARC_REPORT_RECORDS_MAX);
    if (r->record == NULL)
        return fail(r->err, ERR_TOO_BIG, "the report has more than %d records",
                    DMARC_REPORT_RECORDS_MAX);
    return 0;
}

#define PART_OF(array, count)                                                                      \
    array_add(r->arena, (void **)&r->record->array, &r->record->count, sizeof *r->record->array,   \
              DMARC_REPORT_RESULTS_MAX)

/* What opens a member of its own. */
static int begin_part(struct reading *r, struct str path, xmlTextReaderPtr reader)
{
    if (str_eq(path, STR("record")))
        return begin_record(r);
    if (str_ends(path, STR("extensions/extension")))
        begin_extension(r, reader);
    if (r->record == NULL)
        return 0;
    if (str_eq(path, STR("record/row/policy_evaluated/reason")))
        r->part = PART_OF(reasons, reason_count);
    else if (str_eq(path, STR("record/auth_results/dkim")))
        r->part = PART_OF(dkims, dkim_count);
    else if (str_eq(path, STR("record/auth_results/spf")))
        r->part = PART_OF(spfs, spf_count);
    return 0;
}

static void end_part(struct reading *r, struct str path)
{
    if (str_eq(path, STR("record")))
        r->record = NULL;
    if (str_eq(path, STR("record/row/policy_evaluated/reason")) ||
        str_eq(path, STR("record/auth_results/dkim")) ||
        str_eq(path, STR("record/auth_results/spf")))
        r->part = NULL;
}

static bool path_push(struct path *p, struct str name)
{
    if (p->n + 1 + name.n > sizeof p->text)
        return false;
    if (p->n > 0)
        p->text[p->n++] = '/';
    memcpy(p->text + p->n, name.p, name.n);
    p->n += name.n;
    return true;
}

static void path_pop(struct path *p)
{
    while (p->n > 0 && p->text[p->n - 1] != '/')
        p->n--;
    if (p->n > 0)
        p->n--;
}

static int begin_element(struct reading *r, xmlTextReaderPtr reader)
{
    struct str name = str_c((const char *)xmlTextReaderConstLocalName(reader));

    r->depth++;
    if (r->depth > DEPTH_MAX)
        return fail(r->err, ERR_SYNTAX, "the report's elements are nested too deeply");
    if (r->depth == 1)
        return str_eq(name, STR("feedback"))
                   ? 0
                   : fail(r->err, ERR_SYNTAX, "the XML is no DMARC report: it has no feedback");
    buf_clear(&r->content);
    if (r->skip_depth > 0)
        return 0;
    if (!path_push(&r->path, name)) {
        r->skip_depth = r->depth;
        return 0;
    }
    return begin_part(r, str_of(r->path.text, r->path.n), reader);
}

static void end_element(struct reading *r)
{
    struct str path = str_of(r->path.text, r->path.n);

    if (r->skip_depth == 0 && r->depth > 1) {
        take_text(r, path, buf_str(&r->content));
        end_part(r, path);
        path_pop(&r->path);
    }
    if (r->skip_depth == r->depth)
        r->skip_depth = 0;
    buf_clear(&r->content);
    r->depth--;
}

static void add_content(struct reading *r, xmlTextReaderPtr reader)
{
    struct str text = str_c((const char *)xmlTextReaderConstValue(reader));

    buf_add(&r->content, str_head(text, r->content.size_max - r->content.n));
}

static int take_node(struct reading *r, xmlTextReaderPtr reader)
{
    switch (xmlTextReaderNodeType(reader)) {
    case XML_READER_TYPE_ELEMENT:
        if (begin_element(r, reader) < 0)
            return -1;
        if (xmlTextReaderIsEmptyElement(reader))
            end_element(r);
        return 0;
    case XML_READER_TYPE_END_ELEMENT:
        end_element(r);
        return 0;
    case XML_READER_TYPE_TEXT:
    case XML_READER_TYPE_CDATA:
    case XML_READER_TYPE_SIGNIFICANT_WHITESPACE:
        add_content(r, reader);
        return 0;
    case XML_READER_TYPE_DOCUMENT_TYPE:
    case XML_READER_TYPE_ENTITY_REFERENCE:
        return fail(r->err, ERR_SYNTAX, "the report declares entities, which no report needs");
    default:
        return 0;
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

static void ignore_error(void *arg, const char *message, xmlParserSeverities severity,
                         xmlTextReaderLocatorPtr at)
{
}

static int read_all(struct reading *r, xmlTextReaderPtr reader)
{
    int status;

    while ((status = xmlTextReaderRead(reader)) == 1)
        if (take_node(r, reader) < 0)
            return -1;
    if (status < 0)
        return fail(r->err, ERR_SYNTAX, "the report is not well-formed XML");
    return 0;
}

static int check_report(const struct dmarc_report *r, struct error *err)
{
    if (r->domain.n == 0)
        return fail(err, ERR_SYNTAX, "the report says nothing of the policy's domain");
    return 0;
}

int dmarc_report_parse(struct arena *a, struct str xml, struct dmarc_report *out, struct error *err)
{
    struct reading r = {.arena = a, .report = out, .err = err};
    xmlTextReaderPtr reader;
    int rc;

    *out = (struct dmarc_report){0};
    if (xml.n > XML_REPORT_MAX)
        return fail(err, ERR_TOO_BIG, "the report is larger than %d bytes", XML_REPORT_MAX);
    /* Neither of NOENT, DTDLOAD, HUGE: libxml2's own limits hold. */
    reader = xmlReaderForMemory(xml.p, (int)xml.n, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOCDATA);
    if (reader == NULL)
        return fail(err, ERR_SYNTAX, "the report is empty");
    xmlTextReaderSetErrorHandler(reader, ignore_error, NULL);
    buf_init(&r.content, TEXT_SIZE_MAX);
    rc = read_all(&r, reader);
    buf_fini(&r.content);
    xmlFreeTextReader(reader);
    return rc < 0 ? -1 : check_report(out, err);
}

static int parse_file(struct arena *a, struct str file, void *out, struct error *err)
{
    return dmarc_report_parse(a, file, out, err);
}

int dmarc_report_from_message(struct arena *a, struct str message, struct dmarc_report *out,
                              struct error *err)
{
    struct report_parser parser = {parse_file, out};

    return report_find(a, message, &parser, err);
}
