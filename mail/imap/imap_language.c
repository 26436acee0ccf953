/* imap_language.c - LANGUAGE, and the sentences.
 *
 * A sentence that has no translation stays English, which i-default allows everywhere. */
#include "mail/imap/imap_language.h"

#include "mail/imap/imap_reply.h"

#define RANGES_MAX     50
#define RANGE_SIZE_MAX 100

struct translation {
    const char *key, *indonesian;
};

static const struct translation refusals[] = {
    {"ALREADYEXISTS", "Nama itu sudah dipakai"},
    {"AUTHENTICATIONFAILED", "Nama atau kata sandi salah"},
    {"AUTHORIZATIONFAILED", "Anda tidak boleh masuk atas nama akun itu"},
    {"BADCHARSET", "Himpunan karakter itu tidak dikenal"},
    {"BADURL", "Salah satu bagian pesan yang dirujuk tidak ada"},
    {"CANNOT", "Hal itu tidak dapat dilakukan di sini"},
    {"CONTACTADMIN", "Hubungi administrator"},
    {"EXPIRED", "Kata sandi sudah kedaluwarsa"},
    {"EXPUNGEISSUED", "Sebagian pesan itu sudah dihapus"},
    {"HASCHILDREN", "Masih ada kotak surat lain di bawahnya"},
    {"INUSE", "Sedang dipakai; cobalah lagi sebentar lagi"},
    {"LIMIT", "Batas server terlampaui"},
    {"MESSAGELIMIT", "Terlalu banyak pesan untuk satu perintah"},
    {"NONEXISTENT", "Kotak surat atau pesan itu tidak ada"},
    {"NOPERM", "Anda tidak memiliki izin untuk itu"},
    {"OVERQUOTA", "Kotak surat penuh: kuota terlampaui"},
    {"PRIVACYREQUIRED", "Aktifkan TLS sebelum masuk"},
    {"READ-ONLY", "Kotak surat ini hanya dapat dibaca"},
    {"SERVERBUG", "Terjadi kesalahan pada server"},
    {"TOOBIG", "Pesan itu terlalu besar"},
    {"TRYCREATE", "Kotak surat tujuan tidak ada; buatlah lebih dahulu"},
    {"UNAVAILABLE", "Server sedang tidak tersedia; cobalah lagi nanti"},
    {"UNKNOWN-CTE", "Penyandian salah satu bagian pesan tidak dikenal"},
    {"USEATTR", "Kegunaan khusus itu tidak dapat dipakai"},
};

static const struct translation sentences[] = {
    {" completed", " selesai"},
    {"Logged in", "Berhasil masuk"},
    {"Logged out, the connection stays", "Berhasil keluar, sambungan tetap terbuka"},
    {"IDLE completed", "IDLE selesai"},
    {"Logging out", "Sampai jumpa"},
    {"Too many errors", "Terlalu banyak kesalahan"},
    {"Server is shutting down, please reconnect", "Server dimatikan, silakan sambungkan kembali"},
    {"Autologout; idle for too long", "Keluar otomatis: terlalu lama tidak aktif"},
    {"Time to log in is over", "Waktu untuk masuk sudah habis"},
    {"The command was not finished in time", "Perintah tidak selesai pada waktunya"},
    {"The literal is much too big", "Data yang dikirim terlalu besar"},
    {"The message is much too big", "Pesan itu terlalu besar"},
};

static const char *find(const struct translation *v, size_t count, struct str key)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(str_c(v[i].key), key))
            return v[i].indonesian;
    return NULL;
}

const char *imap_text(const struct imap_session *s, const char *english)
{
    const char *text = s->language == LANGUAGE_ID
                           ? find(sentences, sizeof sentences / sizeof *sentences, str_c(english))
                           : NULL;

    return text != NULL ? text : english;
}

/* A code may have arguments: "BADURL /INBOX". */
const char *imap_refusal_text(const struct imap_session *s, const char *code, const char *english)
{
    struct str name = str_c(code), arguments;
    const char *text = NULL;

    if (s->language == LANGUAGE_ID && code != NULL) {
        str_cut(name, ' ', &name, &arguments);
        text = find(refusals, sizeof refusals / sizeof *refusals, name);
    }
    return text != NULL ? text : english;
}

/* --- the command ------------------------------------------------------------------------------ */

static const struct {
    struct str tag;
    enum imap_language language;
} languages[] = {
    {{"i-default", 9}, LANGUAGE_DEFAULT},
    {{"en", 2}, LANGUAGE_EN},
    {{"id", 2}, LANGUAGE_ID},
    {{"default", 7}, LANGUAGE_DEFAULT}, /* RFC 5255, 3.3 */
};

/* Lookup of RFC 4647: "id-ID" is "id" when there is nothing closer. */
static bool find_language(struct str range, enum imap_language *out)
{
    for (;;) {
        for (size_t i = 0; i < sizeof languages / sizeof *languages; i++)
            if (str_ieq(range, languages[i].tag)) {
                *out = languages[i].language;
                return true;
            }
        if (!str_rcut(range, '-', &range, &(struct str){0}))
            return false;
    }
}

/* The first of the ranges, in the client's order of liking, that we can do. */
static int parse_ranges(struct imap_session *s, struct imap_command *c, bool *found,
                        enum imap_language *out, struct error *err)
{
    unsigned count = 0;
    struct str range;

    *found = false;
    do {
        if (++count > RANGES_MAX)
            return fail(err, ERR_LIMIT, "more than %d languages", RANGES_MAX);
        if (imap_parse_astring(&c->args, s->arena, &range, "a language", err) < 0)
            return -1;
        if (range.n > RANGE_SIZE_MAX)
            return fail(err, ERR_SYNTAX, "a language tag is longer than %d bytes", RANGE_SIZE_MAX);
        *found = *found || find_language(range, out);
    } while (imap_parse_skip(&c->args, ' '));
    return imap_parse_end(&c->args, err);
}

int imap_cmd_language(struct imap_session *s, struct imap_command *c, struct error *err)
{
    static const char *const answers[] = {[LANGUAGE_DEFAULT] = "* LANGUAGE (i-default)\r\n",
                                          [LANGUAGE_EN] = "* LANGUAGE (en)\r\n",
                                          [LANGUAGE_ID] = "* LANGUAGE (id)\r\n"};
    enum imap_language chosen = LANGUAGE_DEFAULT;
    bool found;

    if (imap_parse_at_end(&c->args)) {
        conn_write(s->conn, STR("* LANGUAGE (i-default en id)\r\n"));
        return 0;
    }
    if (parse_ranges(s, c, &found, &chosen, err) < 0)
        return -1;
    if (!found)
        return fail(err, ERR_UNSUPPORTED, "none of these languages is known here");
    s->language = (uint8_t)chosen;
    conn_write(s->conn, str_c(answers[chosen]));
    return 0;
}
