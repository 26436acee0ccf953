/* imap_capability.c - CAPABILITY, ID, ENABLE, NAMESPACE, GETJMAPACCESS: what the two sides are and can do. */
#include "mail/imap/imap_capability.h"

#include "mail/imap/imap.h"
#include "mail/imap/imap_notify.h"
#include "mail/imap/imap_reply.h"
#include "mail/store/access.h"
#include "server/base/log.h"
#include "server/directory/sasl.h"
#include "server/run/config.h"

#define ID_FIELDS_MAX 30 /* RFC 2971, 3.3 */

#define CAPABILITIES_ALWAYS "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ENABLE ID IDLE"
#define CAPABILITIES_LOGGED_IN                                                                     \
    " NAMESPACE ACL RIGHTS=kxte LIST-MYRIGHTS CHILDREN LIST-EXTENDED LIST-STATUS SPECIAL-USE "     \
    "CREATE-SPECIAL-USE STATUS=SIZE "                                                              \
    "UNSELECT UIDPLUS"                                                                             \
    " NOTIFY METADATA LIST-METADATA QUOTA QUOTASET QUOTA=RES-STORAGE QUOTA=RES-MESSAGE"            \
    " MOVE MULTIAPPEND CONDSTORE QRESYNC ESEARCH SEARCHRES WITHIN BINARY SAVEDATE APPENDLIMIT="
#define CAPABILITIES_OF_SEARCH                                                                     \
    " SORT SORT=DISPLAY ESORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES CONTEXT=SEARCH CONTEXT=SORT" \
    " MULTISEARCH PARTIAL INPROGRESS I18NLEVEL=1 SEARCH=FUZZY"
#define CAPABILITIES_OF_MESSAGES                                                                   \
    " OBJECTID PREVIEW UIDBATCHES UIDONLY LANGUAGE UNAUTHENTICATE UTF8=ACCEPT "                    \
    "CATENATE REPLACE"

/* What is there depending on settings. */
static void add_settings(struct buf *out)
{
    if (config.imap_message_limit > 0)
        buf_addf(out, " MESSAGELIMIT=%lld", (long long)config.imap_message_limit);
    if (config.imap_save_limit > 0)
        buf_addf(out, " SAVELIMIT=%lld", (long long)config.imap_save_limit);
    if (config.jmap_url[0] != '\0')
        buf_adds(out, " JMAPACCESS");
}

void imap_add_capabilities(const struct imap_session *s, struct buf *out)
{
    buf_adds(out, "CAPABILITY " CAPABILITIES_ALWAYS);
    if (s->phase != IMAP_NEW) {
        buf_adds(out, CAPABILITIES_LOGGED_IN);
        buf_add_u64(out, (uint64_t)config.imap_append_max);
        buf_adds(out, CAPABILITIES_OF_MESSAGES CAPABILITIES_OF_SEARCH);
        add_settings(out);
        if (!conn_is_compressed(s->conn))
            buf_adds(out, " COMPRESS=DEFLATE");
        return;
    }
    if (s->listener == IMAP_STARTTLS && !conn_is_tls(s->conn))
        buf_adds(out, " STARTTLS");
    if (!conn_is_secure(s->conn))
        buf_adds(out, " LOGINDISABLED");
    buf_addc(out, ' ');
    sasl_add_mechanisms(out, s->conn, "AUTH=");
    while (out->n > 0 && out->p[out->n - 1] == ' ')
        buf_truncate(out, out->n - 1);
}

int imap_cmd_capability(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct buf out;

    if (imap_parse_end(&c->args, err) < 0)
        return -1;
    buf_init(&out, SIZE_MAX);
    buf_add(&out, STR("* "));
    imap_add_capabilities(s, &out);
    buf_add(&out, STR("\r\n"));
    imap_write_buf(s, &out);
    buf_fini(&out);
    return 0;
}

/* --- ID (RFC 2971) ---------------------------------------------------------------------------- */

static int parse_id_field(struct imap_parser *p, struct arena *a, struct str *name,
                          struct str *value, struct error *err)
{
    if (imap_parse_string(p, a, name, "a field name", err) < 0 || imap_parse_space(p, err) < 0 ||
        imap_parse_nstring(p, a, value, "a field value", err) < 0)
        return -1;
    return name->n > 30 || value->n > 1024 ? fail(err, ERR_SYNTAX, "a field of ID is too long") : 0;
}

static int parse_id(struct imap_session *s, struct imap_parser *p, struct str *client,
                    struct error *err)
{
    struct str name, value;
    unsigned count = 0;

    if (imap_parse_word(p, STR("NIL")))
        return imap_parse_end(p, err);
    if (imap_parse_char(p, '(', err) < 0)
        return -1;
    while (!imap_parse_skip(p, ')')) {
        if (count > 0 && imap_parse_space(p, err) < 0)
            return -1;
        if (++count > ID_FIELDS_MAX)
            return fail(err, ERR_SYNTAX, "ID has more than %d fields", ID_FIELDS_MAX);
        if (parse_id_field(p, s->arena, &name, &value, err) < 0)
            return -1;
        if (str_ieq(name, STR("name")))
            *client = value;
    }
    return imap_parse_end(p, err);
}

int imap_cmd_id(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct str client = STR("");

    if (parse_id(s, &c->args, &client, err) < 0)
        return -1;
    log_debug(conn_log(s->conn), "imap_client", KV("client", client));
    conn_write(s->conn, STR("* ID (\"name\" \"Merpati\" \"version\" \"" MERPATI_VERSION
                            "\" \"vendor\" \"Merpati\")\r\n"));
    return 0;
}

/* --- ENABLE (RFC 5161) ------------------------------------------------------------------------ */

static const struct {
    struct str name;
    uint16_t flags;
} extensions[] = {
    {{"IMAP4rev2", 9}, IMAP_ENABLED_REV2},
    {{"CONDSTORE", 9}, IMAP_ENABLED_CONDSTORE},
    {{"QRESYNC", 7}, IMAP_ENABLED_QRESYNC | IMAP_ENABLED_CONDSTORE},
    {{"UTF8=ACCEPT", 11}, IMAP_ENABLED_UTF8},
    {{"UIDONLY", 7}, IMAP_ENABLED_UIDONLY},
    {{"METADATA", 8}, IMAP_ENABLED_METADATA},
};

static PARKS void enable(struct imap_session *s, struct str name, struct buf *out)
{
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++)
        if (str_ieq(name, extensions[i].name) &&
            (s->enabled & extensions[i].flags) != extensions[i].flags &&
            (extensions[i].flags != IMAP_ENABLED_METADATA || imap_notify_enable_metadata(s))) {
            s->enabled |= extensions[i].flags;
            buf_addc(out, ' ');
            buf_add(out, extensions[i].name);
        }
}

int imap_cmd_enable(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct str name;
    struct buf out;
    int status;

    buf_init(&out, SIZE_MAX);
    buf_add(&out, STR("* ENABLED"));
    do {
        status = imap_parse_atom(&c->args, &name, "a capability", err);
        if (status == 0)
            enable(s, name, &out);
    } while (status == 0 && imap_parse_skip(&c->args, ' '));
    if (status == 0)
        status = imap_parse_end(&c->args, err);
    buf_add(&out, STR("\r\n"));
    if (status == 0)
        imap_write_buf(s, &out);
    buf_fini(&out);
    return status;
}

void imap_enable_condstore(struct imap_session *s)
{
    if (s->enabled & IMAP_ENABLED_CONDSTORE)
        return;
    s->enabled |= IMAP_ENABLED_CONDSTORE;
    if (s->view != NULL)
        conn_printf(s->conn, "* OK [HIGHESTMODSEQ %llu] CONDSTORE is enabled\r\n",
                    (unsigned long long)view_highest_modseq(s->view));
}

int imap_cmd_namespace(struct imap_session *s, struct imap_command *c, struct error *err)
{
    if (imap_parse_end(&c->args, err) < 0)
        return -1;
    conn_write(s->conn, STR("* NAMESPACE ((\"\" \"/\")) ((\"" ACCESS_OTHERS_PREFIX "/\" \"/\")) "
                            "((\"" ACCESS_SHARED_PREFIX "/\" \"/\"))\r\n"));
    return 0;
}

/* RFC 9698. The address is the operator's word that the same messages are there. */
int imap_cmd_jmapaccess(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct buf out;

    if (imap_parse_end(&c->args, err) < 0)
        return -1;
    if (config.jmap_url[0] == '\0')
        return fail(err, ERR_UNSUPPORTED, "there is no JMAP here");
    buf_init(&out, SIZE_MAX);
    buf_adds(&out, "* JMAPACCESS ");
    imap_add_quoted(&out, str_c(config.jmap_url));
    buf_adds(&out, "\r\n");
    imap_write_buf(s, &out);
    buf_fini(&out);
    return 0;
}
