/* imap_compress.c - COMPRESS (RFC 4978). The work is the connection's: server/run/conn_zip.h. */
#include "mail/imap/imap_reply.h"
#include "server/base/log.h"

int imap_cmd_compress(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct str algorithm;

    if (imap_parse_atom(&c->args, &algorithm, "a compression algorithm", err) < 0 ||
        imap_parse_end(&c->args, err) < 0)
        return -1;
    if (!str_ieq(algorithm, STR("DEFLATE")))
        return fail(err, ERR_SYNTAX, "only DEFLATE is known here");
    if (conn_is_compressed(s->conn)) {
        c->refusal = "COMPRESSIONACTIVE";
        return fail(err, ERR_DENIED, "DEFLATE is active already");
    }
    c->done = "DEFLATE active";
    imap_reply_done(s, c);
    c->is_answered = true;
    if (conn_start_compression(s->conn, err) < 0)
        s->phase = IMAP_LOGOUT;
    return 0;
}
