/* sieve_words.c - the tables of the language. An extension that adds a command adds a row here, its kind in
 * sieve_program.h and a function that fills it in. */
#include "mail/sieve/sieve_words.h"
#include "mail/sieve/sieve_compile_internal.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* In the order of enum sieve_extension. */
const char *const sieve_extensions[] = {
    "body",
    "comparator-i;ascii-casemap",
    "comparator-i;ascii-numeric",
    "comparator-i;octet",
    "comparator-i;unicode-casemap",
    "copy",
    "date",
    "duplicate",
    "editheader",
    "enclose",
    "encoded-character",
    "enotify",
    "envelope",
    "envelope-deliverby",
    "envelope-dsn",
    "environment",
    "ereject",
    "extlists",
    "extracttext",
    "fcc",
    "fileinto",
    "foreverypart",
    "ihave",
    "imap4flags",
    "imapsieve",
    "include",
    "index",
    "mailbox",
    "mailboxid",
    "mboxmetadata",
    "mime",
    "processcalendar",
    "redirect-deliverby",
    "redirect-dsn",
    "regex",
    "reject",
    "relational",
    "replace",
    "servermetadata",
    "spamtest",
    "spamtestplus",
    "special-use",
    "subaddress",
    "vacation",
    "vacation-seconds",
    "variables",
    "virustest",
    NULL,
};
_Static_assert(COUNT(sieve_extensions) == SIEVE_EXT_COUNT + 1,
               "sieve_extensions and enum sieve_extension differ");
_Static_assert(SIEVE_EXT_COUNT <= 64, "a set of extensions is a uint64_t");

const char *const sieve_notify_methods[] = {"mailto", NULL};

const char *sieve_extension_name(enum sieve_extension extension)
{
    return sieve_extensions[extension];
}

/* vacation-seconds (RFC 6131, 2) and spamtestplus (RFC 5235, 2.1) bring what they extend. */
uint64_t sieve_extension_set(struct str name)
{
    for (unsigned i = 0; i < SIEVE_EXT_COUNT; i++) {
        if (!str_eq(name, str_c(sieve_extensions[i])))
            continue;
        if (i == SIEVE_EXT_VACATION_SECONDS)
            return SIEVE_EXT(VACATION_SECONDS) | SIEVE_EXT(VACATION);
        if (i == SIEVE_EXT_SPAMTESTPLUS)
            return SIEVE_EXT(SPAMTESTPLUS) | SIEVE_EXT(SPAMTEST);
        return UINT64_C(1) << i;
    }
    return 0;
}

const struct sieve_tag_info sieve_tags[SIEVE_TAG_COUNT_ALL] = {
#define TAG(name, word, takes, group) {word, takes, group},
    SIEVE_TAGS(TAG)
#undef TAG
};

/* --- tags that belong together -------------------------------------------------------------------- */

#define USES(array)                                                                                \
    {                                                                                              \
        array, COUNT(array)                                                                        \
    }
#define NEEDS(name) SIEVE_EXT(name)

static const struct sieve_tag_use match_tags[] = {
    {SIEVE_TAG_COMPARATOR, 0},
    {SIEVE_TAG_IS, 0},
    {SIEVE_TAG_CONTAINS, 0},
    {SIEVE_TAG_MATCHES, 0},
    {SIEVE_TAG_REGEX, NEEDS(REGEX)},
    {SIEVE_TAG_VALUE, NEEDS(RELATIONAL)},
    {SIEVE_TAG_COUNT, NEEDS(RELATIONAL)},
    {SIEVE_TAG_LIST, NEEDS(EXTLISTS)},
};
static const struct sieve_tag_use address_part_tags[] = {
    {SIEVE_TAG_ALL, 0},
    {SIEVE_TAG_LOCALPART, 0},
    {SIEVE_TAG_DOMAIN, 0},
    {SIEVE_TAG_USER, NEEDS(SUBADDRESS)},
    {SIEVE_TAG_DETAIL, NEEDS(SUBADDRESS)},
};
static const struct sieve_tag_use index_tags[] = {{SIEVE_TAG_INDEX, NEEDS(INDEX)},
                                                  {SIEVE_TAG_LAST, NEEDS(INDEX)}};
static const struct sieve_tag_use mime_tags[] = {{SIEVE_TAG_MIME, NEEDS(MIME)},
                                                 {SIEVE_TAG_ANYCHILD, NEEDS(MIME)}};
static const struct sieve_tag_use mime_option_tags[] = {
    {SIEVE_TAG_TYPE, NEEDS(MIME)},
    {SIEVE_TAG_SUBTYPE, NEEDS(MIME)},
    {SIEVE_TAG_CONTENTTYPE, NEEDS(MIME)},
    {SIEVE_TAG_PARAM, NEEDS(MIME)},
};
static const struct sieve_tag_use size_tags[] = {{SIEVE_TAG_OVER, 0}, {SIEVE_TAG_UNDER, 0}};
static const struct sieve_tag_use body_tags[] = {
    {SIEVE_TAG_RAW, 0}, {SIEVE_TAG_TEXT, 0}, {SIEVE_TAG_CONTENT, 0}};
static const struct sieve_tag_use date_tags[] = {{SIEVE_TAG_ZONE, 0}, {SIEVE_TAG_ORIGINALZONE, 0}};
static const struct sieve_tag_use currentdate_tags[] = {{SIEVE_TAG_ZONE, 0}};
static const struct sieve_tag_use spamtest_tags[] = {{SIEVE_TAG_PERCENT, NEEDS(SPAMTESTPLUS)}};
static const struct sieve_tag_use duplicate_tags[] = {
    {SIEVE_TAG_HANDLE, 0},  {SIEVE_TAG_HEADER, 0}, {SIEVE_TAG_UNIQUEID, 0},
    {SIEVE_TAG_SECONDS, 0}, {SIEVE_TAG_LAST, 0},
};
static const struct sieve_tag_use flags_tags[] = {{SIEVE_TAG_FLAGS, NEEDS(IMAP4FLAGS)}};
static const struct sieve_tag_use copy_tags[] = {{SIEVE_TAG_COPY, NEEDS(COPY)}};
static const struct sieve_tag_use mailbox_tags[] = {
    {SIEVE_TAG_CREATE, NEEDS(MAILBOX)},
    {SIEVE_TAG_SPECIALUSE, NEEDS(SPECIAL_USE)},
    {SIEVE_TAG_MAILBOXID, NEEDS(MAILBOXID)},
};
static const struct sieve_tag_use fcc_tags[] = {{SIEVE_TAG_FCC, NEEDS(FCC)}};
static const struct sieve_tag_use redirect_tags[] = {
    {SIEVE_TAG_LIST, NEEDS(EXTLISTS)},
    {SIEVE_TAG_NOTIFY, NEEDS(REDIRECT_DSN)},
    {SIEVE_TAG_RET, NEEDS(REDIRECT_DSN)},
    {SIEVE_TAG_BYTIMERELATIVE, NEEDS(REDIRECT_DELIVERBY)},
    {SIEVE_TAG_BYTIMEABSOLUTE, NEEDS(REDIRECT_DELIVERBY)},
    {SIEVE_TAG_BYMODE, NEEDS(REDIRECT_DELIVERBY)},
    {SIEVE_TAG_BYTRACE, NEEDS(REDIRECT_DELIVERBY)},
};
static const struct sieve_tag_use vacation_tags[] = {
    {SIEVE_TAG_DAYS, 0},      {SIEVE_TAG_SECONDS, NEEDS(VACATION_SECONDS)},
    {SIEVE_TAG_SUBJECT, 0},   {SIEVE_TAG_FROM, 0},
    {SIEVE_TAG_ADDRESSES, 0}, {SIEVE_TAG_MIME, 0},
    {SIEVE_TAG_HANDLE, 0},
};
static const struct sieve_tag_use notify_tags[] = {
    {SIEVE_TAG_FROM, 0}, {SIEVE_TAG_IMPORTANCE, 0}, {SIEVE_TAG_OPTIONS, 0}, {SIEVE_TAG_MESSAGE, 0}};
static const struct sieve_tag_use modifier_tags[] = {
    {SIEVE_TAG_LOWER, 0},
    {SIEVE_TAG_UPPER, 0},
    {SIEVE_TAG_LOWERFIRST, 0},
    {SIEVE_TAG_UPPERFIRST, 0},
    {SIEVE_TAG_QUOTEWILDCARD, 0},
    {SIEVE_TAG_QUOTEREGEX, NEEDS(REGEX)},
    {SIEVE_TAG_ENCODEURL, NEEDS(ENOTIFY)},
    {SIEVE_TAG_LENGTH, 0},
};
static const struct sieve_tag_use addheader_tags[] = {{SIEVE_TAG_LAST, 0}};
static const struct sieve_tag_use deleteheader_tags[] = {{SIEVE_TAG_INDEX, 0}, {SIEVE_TAG_LAST, 0}};
static const struct sieve_tag_use include_tags[] = {
    {SIEVE_TAG_PERSONAL, 0}, {SIEVE_TAG_GLOBAL, 0}, {SIEVE_TAG_ONCE, 0}, {SIEVE_TAG_OPTIONAL, 0}};
static const struct sieve_tag_use name_tags[] = {{SIEVE_TAG_NAME, 0}};
static const struct sieve_tag_use replace_tags[] = {
    {SIEVE_TAG_MIME, 0}, {SIEVE_TAG_SUBJECT, 0}, {SIEVE_TAG_FROM, 0}};
static const struct sieve_tag_use enclose_tags[] = {{SIEVE_TAG_SUBJECT, 0}, {SIEVE_TAG_HEADERS, 0}};
static const struct sieve_tag_use extracttext_tags[] = {{SIEVE_TAG_FIRST, 0}};
static const struct sieve_tag_use calendar_tags[] = {
    {SIEVE_TAG_ALLOWPUBLIC, 0},
    {SIEVE_TAG_ADDRESSES, 0},
    {SIEVE_TAG_UPDATESONLY, 0},
    {SIEVE_TAG_CALENDARID, 0},
    {SIEVE_TAG_DELETECANCELLED, 0},
    {SIEVE_TAG_DELETECANCELED, 0},
    {SIEVE_TAG_ORGANIZERS, NEEDS(EXTLISTS)},
    {SIEVE_TAG_OUTCOME, NEEDS(VARIABLES)},
    {SIEVE_TAG_REASON, NEEDS(VARIABLES)},
};

/* --- commands and tests --------------------------------------------------------------------------- */

/* clang-format off */
#define MATCH USES(match_tags)
#define KIND(name) .kind = SIEVE_COMMAND_##name
static const struct sieve_verb commands[] = {
    {"stop",         0,                   "",     {{0}}, KIND(STOP)},
    {"keep",         0,                   "",     {USES(flags_tags)}, KIND(KEEP), .command = sieve_compile_keep},
    {"discard",      0,                   "",     {{0}}, KIND(DISCARD)},
    {"redirect",     0,                   "s",    {USES(copy_tags), USES(redirect_tags)}, KIND(REDIRECT), .command = sieve_compile_redirect},
    {"fileinto",     NEEDS(FILEINTO),     "s",    {USES(copy_tags), USES(flags_tags), USES(mailbox_tags)}, KIND(FILEINTO), .command = sieve_compile_fileinto},
    {"reject",       NEEDS(REJECT),       "s",    {{0}}, KIND(REJECT), .command = sieve_compile_text},
    {"ereject",      NEEDS(EREJECT),      "s",    {{0}}, KIND(EREJECT), .command = sieve_compile_text},
    {"vacation",     NEEDS(VACATION),     "s",    {USES(vacation_tags), USES(fcc_tags), USES(flags_tags), USES(mailbox_tags)}, KIND(VACATION), .command = sieve_compile_vacation},
    {"notify",       NEEDS(ENOTIFY),      "s",    {USES(notify_tags), USES(fcc_tags), USES(flags_tags), USES(mailbox_tags)}, KIND(NOTIFY), .command = sieve_compile_notify},
    {"set",          NEEDS(VARIABLES),    "ss",   {USES(modifier_tags)}, KIND(SET), .command = sieve_compile_set},
    {"setflag",      NEEDS(IMAP4FLAGS),   "?sS",  {{0}}, KIND(SETFLAG), .command = sieve_compile_flag},
    {"addflag",      NEEDS(IMAP4FLAGS),   "?sS",  {{0}}, KIND(ADDFLAG), .command = sieve_compile_flag},
    {"removeflag",   NEEDS(IMAP4FLAGS),   "?sS",  {{0}}, KIND(REMOVEFLAG), .command = sieve_compile_flag},
    {"addheader",    NEEDS(EDITHEADER),   "ss",   {USES(addheader_tags)}, KIND(ADDHEADER), .command = sieve_compile_addheader},
    {"deleteheader", NEEDS(EDITHEADER),   "s?S",  {USES(deleteheader_tags), MATCH}, KIND(DELETEHEADER), .command = sieve_compile_deleteheader},
    {"include",      NEEDS(INCLUDE),      "s",    {USES(include_tags)}, KIND(INCLUDE), .command = sieve_compile_include},
    {"return",       NEEDS(INCLUDE),      "",     {{0}}, KIND(RETURN)},
    {"global",       NEEDS(INCLUDE) | NEEDS(VARIABLES), "S", {{0}}, KIND(GLOBAL), .command = sieve_compile_global},
    {"foreverypart", NEEDS(FOREVERYPART), "",     {USES(name_tags)}, .has_block = true, KIND(FOREVERYPART), .command = sieve_compile_foreverypart},
    {"break",        NEEDS(FOREVERYPART), "",     {USES(name_tags)}, KIND(BREAK), .command = sieve_compile_break},
    {"replace",      NEEDS(REPLACE),      "s",    {USES(replace_tags)}, KIND(REPLACE), .command = sieve_compile_replace},
    {"enclose",      NEEDS(ENCLOSE),      "s",    {USES(enclose_tags)}, KIND(ENCLOSE), .command = sieve_compile_replace},
    {"extracttext",  NEEDS(EXTRACTTEXT) | NEEDS(VARIABLES), "s", {USES(modifier_tags), USES(extracttext_tags)}, KIND(EXTRACTTEXT), .command = sieve_compile_extracttext},
    {"error",        NEEDS(IHAVE),        "s",    {{0}}, KIND(ERROR), .command = sieve_compile_text},
    {"processcalendar", NEEDS(PROCESSCALENDAR), "", {USES(calendar_tags)}, KIND(PROCESSCALENDAR), .command = sieve_compile_processcalendar},
};
#undef KIND

#define KIND(name) .kind = SIEVE_TEST_##name
static const struct sieve_verb tests[] = {
    {"true",         0,                   "",     {{0}}, KIND(TRUE)},
    {"false",        0,                   "",     {{0}}, KIND(FALSE)},
    {"address",      0,                   "SS",   {MATCH, USES(address_part_tags), USES(index_tags), USES(mime_tags)}, KIND(ADDRESS), .test = sieve_compile_address},
    {"header",       0,                   "SS",   {MATCH, USES(index_tags), USES(mime_tags), USES(mime_option_tags)}, KIND(HEADER), .test = sieve_compile_header},
    {"exists",       0,                   "S",    {USES(mime_tags)}, KIND(EXISTS), .test = sieve_compile_exists},
    {"size",         0,                   "n",    {USES(size_tags)}, KIND(SIZE), .test = sieve_compile_size},
    {"envelope",     NEEDS(ENVELOPE),     "SS",   {MATCH, USES(address_part_tags)}, KIND(ENVELOPE), .test = sieve_compile_envelope},
    {"body",         NEEDS(BODY),         "S",    {MATCH, USES(body_tags)}, KIND(BODY), .test = sieve_compile_body},
    {"date",         NEEDS(DATE),         "ssS",  {MATCH, USES(date_tags), USES(index_tags)}, KIND(DATE), .test = sieve_compile_date},
    {"currentdate",  NEEDS(DATE),         "sS",   {MATCH, USES(currentdate_tags)}, KIND(CURRENTDATE), .test = sieve_compile_currentdate},
    {"string",       NEEDS(VARIABLES),    "SS",   {MATCH}, KIND(STRING), .test = sieve_compile_string_test},
    {"hasflag",      NEEDS(IMAP4FLAGS),   "?SS",  {MATCH}, KIND(HASFLAG), .test = sieve_compile_hasflag},
    {"environment",  NEEDS(ENVIRONMENT),  "sS",   {MATCH}, KIND(ENVIRONMENT), .test = sieve_compile_environment},
    {"ihave",        NEEDS(IHAVE),        "S",    {{0}}, KIND(IHAVE), .test = sieve_compile_ihave},
    {"duplicate",    NEEDS(DUPLICATE),    "",     {USES(duplicate_tags)}, KIND(DUPLICATE), .test = sieve_compile_duplicate},
    {"spamtest",     NEEDS(SPAMTEST),     "s",    {MATCH, USES(spamtest_tags)}, KIND(SPAMTEST), .test = sieve_compile_spamtest},
    {"virustest",    NEEDS(VIRUSTEST),    "s",    {MATCH}, KIND(VIRUSTEST), .test = sieve_compile_spamtest},
    {"mailboxexists", NEEDS(MAILBOX),     "S",    {{0}}, KIND(MAILBOXEXISTS), .test = sieve_compile_strings_test},
    {"mailboxidexists", NEEDS(MAILBOXID), "S",    {{0}}, KIND(MAILBOXIDEXISTS), .test = sieve_compile_strings_test},
    {"specialuse_exists", NEEDS(SPECIAL_USE), "?sS", {{0}}, KIND(SPECIALUSE_EXISTS), .test = sieve_compile_specialuse_exists},
    {"metadata",     NEEDS(MBOXMETADATA), "ssS",  {MATCH}, KIND(METADATA), .test = sieve_compile_metadata},
    {"metadataexists", NEEDS(MBOXMETADATA), "sS", {{0}}, KIND(METADATAEXISTS), .test = sieve_compile_metadata},
    {"servermetadata", NEEDS(SERVERMETADATA), "sS", {MATCH}, KIND(SERVERMETADATA), .test = sieve_compile_servermetadata},
    {"servermetadataexists", NEEDS(SERVERMETADATA), "S", {{0}}, KIND(SERVERMETADATAEXISTS), .test = sieve_compile_servermetadata},
    {"valid_notify_method", NEEDS(ENOTIFY), "S",  {{0}}, KIND(VALID_NOTIFY_METHOD), .test = sieve_compile_strings_test},
    {"notify_method_capability", NEEDS(ENOTIFY), "ssS", {MATCH}, KIND(NOTIFY_METHOD_CAPABILITY), .test = sieve_compile_notify_capability},
    {"valid_ext_list", NEEDS(EXTLISTS),   "S",    {{0}}, KIND(VALID_EXT_LIST), .test = sieve_compile_strings_test},
};
/* clang-format on */

static const struct sieve_verb *find(const struct sieve_verb *v, size_t n, struct str name)
{
    for (size_t i = 0; i < n; i++)
        if (str_ieq(name, str_c(v[i].name)))
            return &v[i];
    return NULL;
}

const struct sieve_verb *sieve_find_command(struct str name)
{
    return find(commands, COUNT(commands), name);
}

const struct sieve_verb *sieve_find_test(struct str name)
{
    return find(tests, COUNT(tests), name);
}
