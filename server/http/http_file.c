/* http_file.c - files below a folder: the web client and whatever else is served as it lies on
 * disk.
 *
 * A path is opened segment by segment and no symbolic link is followed, so nothing outside can be
 * reached, whatever the path says or somebody puts into the folder. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "server/http/http_internal.h"
#include "server/run/config.h"
#include "server/run/offload.h"

#define INLINE_SIZE_MAX (32 * 1024) /* read at once; larger ones in blocks by helper threads */
#define BLOCK_SIZE      (64 * 1024)
#define HASH_SIZE_MIN   8 /* of the content, in a name such as index-B2x9_kQw.js */

/* ---- names ----------------------------------------------------------------------------------- */
static const struct {
    const char *suffix, *type;
} file_types[] = {
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".mjs", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".json", "application/json"},
    {".map", "application/json"},
    {".webmanifest", "application/manifest+json"},
    {".txt", "text/plain; charset=utf-8"},
    {".xml", "application/xml"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".jpg", "image/jpeg"},
    {".jpeg", "image/jpeg"},
    {".gif", "image/gif"},
    {".webp", "image/webp"},
    {".avif", "image/avif"},
    {".ico", "image/x-icon"},
    {".woff2", "font/woff2"},
    {".woff", "font/woff"},
    {".ttf", "font/ttf"},
    {".wasm", "application/wasm"},
    {".pdf", "application/pdf"},
    {".mp3", "audio/mpeg"},
    {".ogg", "audio/ogg"},
    {".mobileconfig", "application/x-apple-aspen-config"},
};

const char *http_file_type(struct str name)
{
    for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++)
        if (str_iends(name, str_c(file_types[i].suffix)))
            return file_types[i].type;
    return "application/octet-stream";
}

bool http_file_path_is_safe(struct str path)
{
    struct str segment;
    bool more = true;

    if (path.n > HTTP_TARGET_SIZE_MAX || memchr(path.p, '\0', path.n) != NULL)
        return false;
    while (more) {
        more = str_cut(path, '/', &segment, &path);
        if (str_empty(segment) ? more : segment.p[0] == '.')
            return false;
    }
    return true;
}

static struct str last_segment(struct str path)
{
    ptrdiff_t slash = str_rindex(path, '/');
    return slash < 0 ? path : str_from(path, (size_t)slash + 1);
}

static bool is_hash_char(char c)
{
    char l = ascii_lower(c);
    return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* assets/NAME-HASH.SUFFIX or assets/NAME.HASH.SUFFIX: another content would have another name. */
bool http_file_is_immutable(struct str path)
{
    struct str name = last_segment(path), stem, suffix;
    size_t n = 0;

    if (!str_starts(path, STR("assets/")) && str_find(path, STR("/assets/")) < 0)
        return false;
    if (!str_rcut(name, '.', &stem, &suffix))
        return false;
    while (n < stem.n && is_hash_char(stem.p[stem.n - 1 - n]))
        n++;
    return n >= HASH_SIZE_MIN && n < stem.n &&
           (stem.p[stem.n - 1 - n] == '-' || stem.p[stem.n - 1 - n] == '.');
}

/* ---- ranges ---------------------------------------------------------------------------------- */
static enum http_range range_of(uint64_t first, uint64_t last, uint64_t size, uint64_t *at,
                                uint64_t *length)
{
    if (first >= size)
        return RANGE_UNSATISFIABLE;
    if (last >= size)
        last = size - 1;
    *at = first;
    *length = last - first + 1;
    return RANGE_PART;
}

enum http_range http_range_parse(struct str value, uint64_t size, uint64_t *first, uint64_t *length)
{
    struct str from, to;
    uint64_t a, b = UINT64_MAX;

    value = str_trim(value);
    if (!str_skip_prefix(&value, STR("bytes=")) || !str_cut(str_trim(value), '-', &from, &to))
        return RANGE_WHOLE;
    if (str_empty(from)) { /* "-500": the last 500 */
        if (!str_to_u64(to, &b))
            return RANGE_WHOLE;
        if (b == 0)
            return RANGE_UNSATISFIABLE;
        return range_of(b < size ? size - b : 0, UINT64_MAX, size, first, length);
    }
    if (!str_to_u64(from, &a) || (to.n > 0 && !str_to_u64(to, &b)) || b < a)
        return RANGE_WHOLE;
    return range_of(a, b, size, first, length);
}

/* ---- opening --------------------------------------------------------------------------------- */
struct file {
    int fd;
    struct stat stat;
    const char *coding; /* NULL: as it is */
};

static int open_below(struct arena *a, const char *folder, struct str path)
{
    int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), next;
    struct str segment;
    bool more = true;

    while (at >= 0 && more) {
        more = str_cut(path, '/', &segment, &path);
        if (str_empty(segment) && !more)
            break; /* a folder, named with its slash */
        int flags = more ? O_PATH | O_DIRECTORY : O_RDONLY | O_NONBLOCK;
        next = openat(at, arena_c(a, segment), flags | O_NOFOLLOW | O_CLOEXEC);
        close(at);
        at = next;
    }
    return at;
}

static int file_open(struct arena *a, const char *folder, struct str path, struct file *file)
{
    *file = (struct file){.fd = open_below(a, folder, path)};
    if (file->fd < 0)
        return -1;
    if (fstat(file->fd, &file->stat) == 0)
        return 0;
    close(file->fd);
    return -1;
}

static bool is_older(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec < b->st_mtim.tv_sec;
}

static const struct coding {
    const char *name, *suffix;
} codings[] = {{"br", ".br"}, {"gzip", ".gz"}}; /* the better first, for equal weights */

#define CODING_COUNT (sizeof codings / sizeof *codings)

/* Puts the neighbour in the file's place, unless it is older: then it speaks of an older
 * content. */
static bool use_neighbour(struct arena *a, const char *folder, struct str path,
                          const struct coding *coding, struct file *file)
{
    struct file neighbour;

    if (file_open(a, folder, arena_printf(a, "%.*s%s", STR_ARG(path), coding->suffix), &neighbour) <
        0)
        return false;
    if (!S_ISREG(neighbour.stat.st_mode) || is_older(&neighbour.stat, &file->stat)) {
        close(neighbour.fd);
        return false;
    }
    close(file->fd);
    *file = neighbour;
    file->coding = coding->name;
    return true;
}

static void choose_coding(struct http_request *r, const char *folder, struct str path,
                          struct file *file)
{
    struct str accept = http_header(r, "Accept-Encoding");
    int weights[CODING_COUNT], best;

    for (size_t i = 0; i < CODING_COUNT; i++)
        weights[i] = http_accepted_weight(accept, str_c(codings[i].name));
    do {
        best = -1;
        for (size_t i = 0; i < CODING_COUNT; i++)
            if (weights[i] > 0 && (best < 0 || weights[i] > weights[best]))
                best = (int)i;
        if (best >= 0)
            weights[best] = 0;
    } while (best >= 0 && !use_neighbour(http_arena(r), folder, path, &codings[best], file));
}

/* ---- sending --------------------------------------------------------------------------------- */
struct block_read {
    int fd;
    char *to;
    size_t size;
    off_t at;
    ssize_t result;
};

static void read_block(void *arg)
{
    struct block_read *b = arg;
    b->result = pread(b->fd, b->to, b->size, b->at);
}

static PARKS void send_blocks(struct http_request *r, int fd, uint64_t at, uint64_t length)
{
    struct block_read block = {.fd = fd, .to = arena_alloc(http_arena(r), BLOCK_SIZE)};
    struct error err = {0};

    while (length > 0) {
        block.at = (off_t)at;
        block.size = length < BLOCK_SIZE ? length : BLOCK_SIZE;
        offload(read_block, &block);
        if (block.result <= 0)
            return; /* it shrank: the answer stays short and is cut */
        if (http_write(r, str_of(block.to, (size_t)block.result), &err) < 0)
            return;
        at += (uint64_t)block.result;
        length -= (uint64_t)block.result;
    }
}

static PARKS void send_part(struct http_request *r, unsigned status, const char *type, int fd,
                            uint64_t at, uint64_t length)
{
    char *small;
    ssize_t n;

    if (length > INLINE_SIZE_MAX) {
        if (http_begin(r, status, type, (int64_t)length, NULL) == 0 && !r->is_head)
            send_blocks(r, fd, at, length);
        return;
    }
    small = arena_alloc(http_arena(r), length + 1);
    n = pread(fd, small, length, (off_t)at);
    if (n == (ssize_t)length)
        http_answer(r, status, type, str_of(small, length));
    else
        http_answer_error(r, &(struct error){ERR_TRY_LATER, "the file is being changed"});
}

/* If-Range: the part is wanted only of the content that the client has begun to load. */
static bool is_range_current(struct http_request *r, struct str etag, int64_t modified_s)
{
    struct str condition = http_header(r, "If-Range");
    int64_t date;

    if (str_empty(condition))
        return true;
    if (http_date_parse(condition, &date))
        return date == modified_s;
    return str_eq(condition, etag);
}

static PARKS void send_file(struct http_request *r, struct file *file, const char *type,
                            struct str etag)
{
    uint64_t size = (uint64_t)file->stat.st_size, at = 0, length = size;
    struct str range = http_header(r, "Range");
    enum http_range kind = RANGE_WHOLE;

    if (range.n > 0 && !r->is_head && is_range_current(r, etag, file->stat.st_mtim.tv_sec))
        kind = http_range_parse(range, size, &at, &length);
    if (kind == RANGE_UNSATISFIABLE) {
        http_set_header(r, "Content-Range",
                        arena_printf(http_arena(r), "bytes */%llu", (unsigned long long)size));
        http_answer(r, 416, "text/plain; charset=utf-8", STR("the file has no such part\n"));
        return;
    }
    if (kind == RANGE_PART)
        http_set_header(r, "Content-Range",
                        arena_printf(http_arena(r), "bytes %llu-%llu/%llu", (unsigned long long)at,
                                     (unsigned long long)(at + length - 1),
                                     (unsigned long long)size));
    send_part(r, kind == RANGE_PART ? 206 : 200, type, file->fd, at, length);
}

static struct str etag_of(struct arena *a, const struct stat *s)
{
    return arena_printf(a, "\"%llx-%llx-%llx%09lx\"", (unsigned long long)s->st_ino,
                        (unsigned long long)s->st_size, (unsigned long long)s->st_mtim.tv_sec,
                        s->st_mtim.tv_nsec);
}

static PARKS void answer_regular(struct http_request *r, const char *folder, struct str path,
                                 struct file *file)
{
    struct str etag;

    choose_coding(r, folder, path, file);
    etag = etag_of(http_arena(r), &file->stat);
    http_set_header(r, "Vary", STR("Accept-Encoding"));
    http_set_header(r, "Accept-Ranges", STR("bytes"));
    http_set_header(r, "Cache-Control",
                    http_file_is_immutable(path) ? STR("public, max-age=31536000, immutable")
                                                 : STR("no-cache"));
    if (file->coding != NULL)
        http_set_header(r, "Content-Encoding", str_c(file->coding));
    r->stream_size = file->stat.st_size;
    if (!http_answer_if_unchanged(r, etag, file->stat.st_mtim.tv_sec))
        send_file(r, file, http_file_type(path), etag);
}

/* Relative links on the page need the slash. */
static void redirect_to_slash(struct http_request *r)
{
    struct str path, query;

    str_cut(r->target, '?', &path, &query);
    http_set_header(r, "Location",
                    arena_printf(http_arena(r), "./%.*s/%s%.*s", STR_ARG(last_segment(path)),
                                 query.n > 0 ? "?" : "", STR_ARG(query)));
    http_answer(r, 308, "text/plain; charset=utf-8", STR("the address ends with a slash\n"));
}

static void answer_missing(struct http_request *r)
{
    http_answer_error(r, &(struct error){ERR_NOT_FOUND, "there is no such file"});
}

static PARKS void answer_opened(struct http_request *r, const char *folder, struct str path,
                                struct file *file)
{
    if (S_ISREG(file->stat.st_mode))
        answer_regular(r, folder, path, file);
    else if (S_ISDIR(file->stat.st_mode))
        redirect_to_slash(r);
    else
        answer_missing(r);
}

void http_answer_file(struct http_request *r, const char *folder, struct str path)
{
    struct file file;

    while (path.n > 0 && path.p[0] == '/')
        path = str_from(path, 1);
    if (!str_eq(r->method, STR("GET")) && !r->is_head) {
        http_set_header(r, "Allow", STR("GET, HEAD"));
        http_answer(r, 405, "text/plain; charset=utf-8", STR("a file can only be read\n"));
        return;
    }
    if (path.n == 0 || path.p[path.n - 1] == '/')
        path = arena_printf(http_arena(r), "%.*sindex.html", STR_ARG(path));
    if (!http_file_path_is_safe(path) || file_open(http_arena(r), folder, path, &file) < 0) {
        answer_missing(r);
        return;
    }
    answer_opened(r, folder, path, &file);
    close(file.fd);
}
