/* tls_selfsigned.c - a certificate for servers that were given none: our own CA and one leaf.
 *
 * The CA lives as long as the data directory, so that people import it once. The leaf is made
 * again whenever it would not do any more, with the key it had, so that TLSA records of it stay
 * right. Both are ECDSA P-256. Files are written beside their final name and moved there, keys
 * before certificates. */
#include "server/run/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/base/memory.h"

#define DAY_S         (24 * 3600L)
#define CA_DAYS       3650
#define LEAF_DAYS     820 /* Apple's systems refuse more than 825 */
#define LEAF_DAYS_MIN 60  /* with fewer left it is made again */

struct pair {
    X509 *certificate;
    EVP_PKEY *key;
};

static void pair_free(struct pair *pair)
{
    X509_free(pair->certificate);
    EVP_PKEY_free(pair->key);
    *pair = (struct pair){0};
}

static int openssl_failed(struct error *err, const char *what)
{
    return fail(err, ERR_INTERNAL, "cannot make a certificate (%s): %s", what, tls_error_text());
}

/* ---- files --------------------------------------------------------------------------------- */

struct tls_paths {
    char folder[PATH_MAX], ca[PATH_MAX], ca_key[PATH_MAX], cert[PATH_MAX], key[PATH_MAX];
};

static int paths_of(const char *dir, struct tls_paths *paths, struct error *err)
{
    if (strlen(dir) > PATH_MAX - 64)
        return fail(err, ERR_INTERNAL, "the data directory's path is too long");
    snprintf(paths->folder, PATH_MAX, "%s/tls", dir);
    snprintf(paths->ca, PATH_MAX, "%s/tls/ca.pem", dir);
    snprintf(paths->ca_key, PATH_MAX, "%s/tls/ca-key.pem", dir);
    snprintf(paths->cert, PATH_MAX, "%s/tls/cert.pem", dir);
    snprintf(paths->key, PATH_MAX, "%s/tls/key.pem", dir);
    if (mkdir(paths->folder, 0755) < 0 && errno != EEXIST)
        return fail(err, ERR_INTERNAL, "cannot make %s: %s", paths->folder, strerror(errno));
    return 0;
}

static bool write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);

        if (done < 0)
            return false;
        p += done;
        n -= (size_t)done;
    }
    return fsync(fd) == 0;
}

/* Written under another name, then renamed: nobody ever reads half a file. */
static int write_file(const char *path, mode_t mode, BIO *content, struct error *err)
{
    char temporary[PATH_MAX + 8], *p;
    size_t n = (size_t)BIO_get_mem_data(content, &p);
    int fd, error;

    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    fd = mkstemp(temporary);
    if (fd < 0)
        return fail(err, ERR_INTERNAL, "cannot write %s: %s", path, strerror(errno));
    if (write_all(fd, p, n) && fchmod(fd, mode) == 0 && rename(temporary, path) == 0) {
        close(fd);
        return 0;
    }
    error = errno;
    close(fd);
    unlink(temporary);
    return fail(err, ERR_INTERNAL, "cannot write %s: %s", path, strerror(error));
}

static int write_key(const char *path, EVP_PKEY *key, struct error *err)
{
    BIO *content = BIO_new(BIO_s_mem());
    int status = -1;

    if (PEM_write_bio_PrivateKey(content, key, NULL, NULL, 0, NULL, NULL) == 1)
        status = write_file(path, 0600, content, err);
    else
        openssl_failed(err, "key");
    BIO_free(content);
    return status;
}

static int write_certificate(const char *path, X509 *certificate, struct error *err)
{
    BIO *content = BIO_new(BIO_s_mem());
    int status = -1;

    if (PEM_write_bio_X509(content, certificate) == 1)
        status = write_file(path, 0644, content, err);
    else
        openssl_failed(err, "certificate");
    BIO_free(content);
    return status;
}

static int write_pair(const char *cert_path, const char *key_path, const struct pair *pair,
                      struct error *err)
{
    if (write_key(key_path, pair->key, err) < 0)
        return -1;
    return write_certificate(cert_path, pair->certificate, err);
}

/* Both, belonging together, or neither. */
static bool read_pair(const char *cert_path, const char *key_path, struct pair *pair)
{
    BIO *cert = BIO_new_file(cert_path, "r"), *key = BIO_new_file(key_path, "r");

    *pair = (struct pair){0};
    if (cert != NULL)
        pair->certificate = PEM_read_bio_X509(cert, NULL, NULL, NULL);
    if (key != NULL)
        pair->key = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);
    BIO_free(cert);
    BIO_free(key);
    if (pair->certificate == NULL || pair->key == NULL ||
        X509_check_private_key(pair->certificate, pair->key) != 1)
        pair_free(pair);
    ERR_clear_error();
    return pair->certificate != NULL;
}

/* ---- making -------------------------------------------------------------------------------- */

static bool add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;
    bool is_added;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    is_added = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_added;
}

static bool set_serial(X509 *certificate)
{
    unsigned char bytes[16];
    BIGNUM *number;
    bool is_set;

    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    bytes[0] &= 0x7f; /* positive */
    number = BN_bin2bn(bytes, sizeof bytes, NULL);
    is_set =
        number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return is_set;
}

static bool set_name(X509_NAME *name, const char *common_name)
{
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)"Merpati",
                                      -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name,
                                      -1, -1, 0) == 1;
}

/* A certificate with everything but extensions and signature, for the key that is there or a new one. It begins an
 * hour ago, for clocks differ. */
static bool pair_begin(struct pair *pair, const char *common_name, long days)
{
    if (pair->key == NULL)
        pair->key = EVP_EC_gen("P-256");
    pair->certificate = X509_new();
    return pair->key != NULL && pair->certificate != NULL &&
           X509_set_version(pair->certificate, X509_VERSION_3) == 1 &&
           set_serial(pair->certificate) &&
           X509_gmtime_adj(X509_getm_notBefore(pair->certificate), -3600) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(pair->certificate), days * DAY_S - 3600) != NULL &&
           X509_set_pubkey(pair->certificate, pair->key) == 1 &&
           set_name(X509_get_subject_name(pair->certificate), common_name);
}

static int make_ca(struct pair *ca, struct error *err)
{
    char name[80];
    unsigned char tag[4];

    /* CAs of several servers must not share a name in one trust store. */
    RAND_bytes(tag, sizeof tag);
    snprintf(name, sizeof name, "Merpati local CA %02x%02x%02x%02x", tag[0], tag[1], tag[2],
             tag[3]);
    if (!pair_begin(ca, name, CA_DAYS) ||
        X509_set_issuer_name(ca->certificate, X509_get_subject_name(ca->certificate)) != 1 ||
        !add_extension(ca->certificate, ca->certificate, NID_basic_constraints,
                       "critical,CA:TRUE,pathlen:0") ||
        !add_extension(ca->certificate, ca->certificate, NID_key_usage,
                       "critical,keyCertSign,cRLSign") ||
        !add_extension(ca->certificate, ca->certificate, NID_subject_key_identifier, "hash") ||
        X509_sign(ca->certificate, ca->key, EVP_sha256()) == 0)
        return openssl_failed(err, "CA");
    return 0;
}

/* True for "192.0.2.7" and "2001:db8::1": the bytes of the address, and how many. */
static bool address_bytes(struct str name, unsigned char out[16], int *size)
{
    char text[INET6_ADDRSTRLEN];

    if (name.n == 0 || name.n >= sizeof text)
        return false;
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    *size = 4;
    if (inet_pton(AF_INET, text, out) == 1)
        return true;
    *size = 16;
    return inet_pton(AF_INET6, text, out) == 1;
}

static GENERAL_NAME *alternative_name(struct str name)
{
    GENERAL_NAME *general = GENERAL_NAME_new();
    ASN1_STRING *value;
    unsigned char address[16];
    int size;

    if (general == NULL)
        memory_exhausted("certificate", name.n);
    if (address_bytes(name, address, &size)) {
        value = ASN1_OCTET_STRING_new();
        ASN1_STRING_set(value, address, size);
        GENERAL_NAME_set0_value(general, GEN_IPADD, value);
    } else {
        value = ASN1_IA5STRING_new();
        ASN1_STRING_set(value, name.p, (int)name.n);
        GENERAL_NAME_set0_value(general, GEN_DNS, value);
    }
    return general;
}

static bool add_names(X509 *certificate, const struct str *names, size_t count)
{
    GENERAL_NAMES *all = GENERAL_NAMES_new();
    bool is_added;

    for (size_t i = 0; i < count; i++)
        sk_GENERAL_NAME_push(all, alternative_name(names[i]));
    is_added =
        X509_add1_ext_i2d(certificate, NID_subject_alt_name, all, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(all);
    return is_added;
}

static int make_leaf(const struct pair *ca, const struct str *names, size_t count,
                     struct pair *leaf, struct error *err)
{
    if (!pair_begin(leaf, "Merpati server", LEAF_DAYS) ||
        X509_set_issuer_name(leaf->certificate, X509_get_subject_name(ca->certificate)) != 1 ||
        !add_extension(leaf->certificate, ca->certificate, NID_basic_constraints,
                       "critical,CA:FALSE") ||
        !add_extension(leaf->certificate, ca->certificate, NID_key_usage,
                       "critical,digitalSignature") ||
        !add_extension(leaf->certificate, ca->certificate, NID_ext_key_usage, "serverAuth") ||
        !add_extension(leaf->certificate, ca->certificate, NID_subject_key_identifier, "hash") ||
        !add_extension(leaf->certificate, ca->certificate, NID_authority_key_identifier,
                       "keyid:always") ||
        !add_names(leaf->certificate, names, count) ||
        X509_sign(leaf->certificate, ca->key, EVP_sha256()) == 0)
        return openssl_failed(err, "leaf");
    return 0;
}

/* ---- still good? --------------------------------------------------------------------------- */

static bool lasts(X509 *certificate, long days)
{
    time_t end = time(NULL) + days * DAY_S;

    return X509_cmp_time(X509_get0_notAfter(certificate), &end) > 0;
}

static bool holds_name(X509 *certificate, struct str name)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    GENERAL_NAME *wanted = alternative_name(name);
    bool is_found = false;

    for (int i = 0; i < sk_GENERAL_NAME_num(all) && !is_found; i++)
        is_found = GENERAL_NAME_cmp(sk_GENERAL_NAME_value(all, i), wanted) == 0;
    GENERAL_NAME_free(wanted);
    GENERAL_NAMES_free(all);
    return is_found;
}

static bool leaf_will_do(const struct pair *leaf, const struct pair *ca, const struct str *names,
                         size_t count)
{
    if (!lasts(leaf->certificate, LEAF_DAYS_MIN) || X509_verify(leaf->certificate, ca->key) != 1) {
        ERR_clear_error();
        return false;
    }
    for (size_t i = 0; i < count; i++)
        if (!holds_name(leaf->certificate, names[i]))
            return false;
    return true;
}

static int prepare_ca(const struct tls_paths *paths, struct pair *ca, struct error *err)
{
    if (read_pair(paths->ca, paths->ca_key, ca) && lasts(ca->certificate, LEAF_DAYS))
        return 0;
    pair_free(ca);
    if (make_ca(ca, err) < 0 || write_pair(paths->ca, paths->ca_key, ca, err) < 0)
        return -1;
    log_info(NULL, "ca_made", KV("file", paths->ca));
    return 0;
}

static int prepare_leaf(const struct tls_paths *paths, const struct pair *ca,
                        const struct str *names, size_t count, struct error *err)
{
    struct pair leaf;
    int status = 0;

    if (!read_pair(paths->cert, paths->key, &leaf) || !leaf_will_do(&leaf, ca, names, count)) {
        X509_free(leaf.certificate);
        leaf.certificate = NULL;
        status = make_leaf(ca, names, count, &leaf, err);
        if (status == 0)
            status = write_pair(paths->cert, paths->key, &leaf, err);
        if (status == 0)
            log_info(NULL, "certificate_made", KV("file", paths->cert), KV("names", count));
    }
    pair_free(&leaf);
    return status;
}

int tls_prepare_self_signed(const char *dir, const struct str *names, size_t name_count,
                            struct error *err)
{
    struct tls_paths *paths = memory_alloc(sizeof *paths); /* too large for a fiber's stack */
    struct pair ca = {0};
    int status = paths_of(dir, paths, err);

    if (status == 0)
        status = prepare_ca(paths, &ca, err);
    if (status == 0)
        status = prepare_leaf(paths, &ca, names, name_count, err);
    pair_free(&ca);
    free(paths);
    return status;
}
