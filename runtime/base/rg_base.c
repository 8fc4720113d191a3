#include "rg_base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

const char *rg_status_name(rg_status status) {
    static const char *const names[] = {
#define X(id, text) text,
        RG_STATUS_LIST(X)
#undef X
    };
    return (size_t)status < sizeof names / sizeof *names ? names[status] : "unknown";
}

/* ---- arenas ---- */

typedef struct rg_chunk {
    struct rg_chunk *next;
    size_t used, size;
} rg_chunk;

struct rg_arena {
    rg_chunk *chunk;
};

enum {
    CHUNK_BYTES = 64 * 1024,
    ALIGN = 16,
    HEADER = (sizeof(rg_chunk) + ALIGN - 1) / ALIGN * ALIGN
};

static long fail_after; /* 0: never */

void rg_arena_fail_after(long n) {
    fail_after = n;
}

static void *arena_malloc(size_t bytes) {
    if (fail_after > 0 && --fail_after == 0) return NULL;
    return malloc(bytes);
}

rg_arena *rg_arena_new(void) {
    rg_arena *arena = arena_malloc(sizeof *arena);
    if (arena) arena->chunk = NULL;
    return arena;
}

void rg_arena_free(rg_arena *arena) {
    if (!arena) return;
    for (rg_chunk *chunk = arena->chunk, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(arena);
}

void *rg_arena_alloc(rg_arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2) return NULL;
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    rg_chunk *chunk = arena->chunk;
    if (!chunk || chunk->size - chunk->used < bytes) {
        size_t room = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        chunk = arena_malloc(HEADER + room);
        if (!chunk) return NULL;
        *chunk = (rg_chunk){arena->chunk, 0, room};
        arena->chunk = chunk;
    } else if (fail_after > 0 && --fail_after == 0) {
        return NULL;
    }
    void *at = (char *)chunk + HEADER + chunk->used;
    chunk->used += bytes;
    return memset(at, 0, bytes);
}

void *rg_arena_copy(rg_arena *arena, const void *from, size_t bytes) {
    void *to = rg_arena_alloc(arena, bytes ? bytes : 1, 1);
    if (to && bytes) memcpy(to, from, bytes);
    return to;
}

char *rg_arena_strdup(rg_arena *arena, const char *text) {
    return rg_arena_copy(arena, text, strlen(text) + 1);
}

static char *arena_vprintf(rg_arena *arena, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) return NULL;
    char *text = rg_arena_alloc(arena, (size_t)length + 1, 1);
    if (text) vsnprintf(text, (size_t)length + 1, format, args);
    return text;
}

char *rg_arena_printf(rg_arena *arena, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = arena_vprintf(arena, format, args);
    va_end(args);
    return text;
}

/* ---- diagnostics ---- */

static rg_diag nomem_diag = {.status = RG_E_NOMEM, .text = "out of memory"};

rg_status rg_ctx_init(rg_ctx *ctx) {
    *ctx = (rg_ctx){.arena = rg_arena_new()};
    return ctx->arena ? RG_OK : RG_E_NOMEM;
}

void rg_ctx_free(rg_ctx *ctx) {
    rg_arena_free(ctx->arena);
    *ctx = (rg_ctx){0};
}

static rg_status record(rg_ctx *ctx, rg_status status, rg_loc loc, const char *format,
                        va_list args) {
    rg_diag *diag = RG_NEW(ctx->arena, rg_diag);
    char *text = diag ? arena_vprintf(ctx->arena, format, args) : NULL;
    char *file = text && loc.file ? rg_arena_strdup(ctx->arena, loc.file) : NULL;
    if (!text || (loc.file && !file)) return rg_nomem(ctx);
    for (char *at = text; *at; at++)
        if (*at == '\n') *at = ' ';
    *diag = (rg_diag){status, {file, loc.line}, text, NULL};
    if (ctx->last && ctx->last != &nomem_diag) ctx->last->next = diag;
    if (!ctx->first) ctx->first = diag;
    ctx->last = diag;
    ctx->count++;
    return status;
}

rg_status rg_error(rg_ctx *ctx, rg_status status, rg_loc loc, const char *format, ...) {
    va_list args;
    va_start(args, format);
    status = record(ctx, status, loc, format, args);
    va_end(args);
    return status;
}

rg_status rg_fail(rg_ctx *ctx, rg_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    status = record(ctx, status, (rg_loc){NULL, 0}, format, args);
    va_end(args);
    return status;
}

void rg_record_nomem(rg_ctx *ctx) {
    if (!ctx->first) ctx->first = &nomem_diag;
    if (ctx->last != &nomem_diag) ctx->count++;
    if (!ctx->last) ctx->last = &nomem_diag;
}

char *rg_diag_format(rg_arena *arena, const rg_diag *diag) {
    const char *word = rg_status_name(diag->status);
    if (!diag->loc.file) return rg_arena_printf(arena, "error[%s]: %s", word, diag->text);
    if (diag->loc.line <= 0)
        return rg_arena_printf(arena, "%s: error[%s]: %s", diag->loc.file, word, diag->text);
    return rg_arena_printf(arena, "%s:%d: error[%s]: %s", diag->loc.file, diag->loc.line, word,
                           diag->text);
}

/* ---- text ---- */

static bool text_reserve(rg_text *text, size_t more) {
    if (text->failed) return false;
    size_t need;
    if (__builtin_add_overflow(text->length, more + 1, &need)) return !(text->failed = true);
    if (need <= text->capacity) return true;
    size_t capacity = need > text->capacity * 2 ? need : text->capacity * 2;
    char *data = realloc(text->data, capacity);
    if (!data) return !(text->failed = true);
    text->data = data;
    text->capacity = capacity;
    return true;
}

void rg_text_add_bytes(rg_text *text, const void *bytes, size_t length) {
    if (!text_reserve(text, length)) return;
    if (length) memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = 0;
}

void rg_text_add(rg_text *text, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) {
        text->failed = true;
    } else if (text_reserve(text, (size_t)length)) {
        vsnprintf(text->data + text->length, (size_t)length + 1, format, args);
        text->length += (size_t)length;
    }
    va_end(args);
}

void rg_text_free(rg_text *text) {
    free(text->data);
    *text = (rg_text){0};
}

/* ---- hashes ---- */

rg_hash rg_hash_bytes(const void *bytes, size_t length) {
    XXH128_hash_t hash = XXH3_128bits(bytes, length);
    return (rg_hash){hash.high64, hash.low64};
}

void rg_hash_hex(rg_hash hash, char hex[33]) {
    snprintf(hex, 33, "%016llx%016llx", (unsigned long long)hash.high,
             (unsigned long long)hash.low);
}

/* ---- files ---- */

static rg_status read_all(rg_ctx *ctx, const char *path, int fd, char *data, size_t length) {
    for (size_t done = 0; done < length;) {
        ssize_t got = read(fd, data + done, length - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return rg_fail(ctx, RG_E_IO, "cannot read '%s': %s", path, strerror(errno));
        if (got == 0) return rg_fail(ctx, RG_E_IO, "'%s' became shorter while it was read", path);
        done += (size_t)got;
    }
    return RG_OK;
}

rg_status rg_file_read(rg_ctx *ctx, rg_arena *arena, const char *path, size_t limit, char **data,
                       size_t *length) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return rg_fail(ctx, RG_E_IO, "cannot open '%s': %s", path, strerror(errno));
    struct stat info;
    rg_status status = RG_OK;
    if (fstat(fd, &info) != 0) {
        status = rg_fail(ctx, RG_E_IO, "cannot read '%s': %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        status = rg_fail(ctx, RG_E_IO, "'%s' is not a regular file", path);
    } else if ((uintmax_t)info.st_size > limit) {
        status = rg_fail(ctx, RG_E_LIMIT, "'%s' has %jd bytes, the limit is %zu", path,
                         (intmax_t)info.st_size, limit);
    } else if (!(*data = rg_arena_alloc(arena, (size_t)info.st_size + 1, 1))) {
        status = rg_nomem(ctx);
    } else {
        *length = (size_t)info.st_size;
        status = read_all(ctx, path, fd, *data, *length);
    }
    close(fd);
    return status;
}

static rg_status write_all(rg_ctx *ctx, const char *path, int fd, const char *data, size_t length) {
    while (length > 0) {
        ssize_t put = write(fd, data, length);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return rg_fail(ctx, RG_E_IO, "cannot write '%s': %s", path, strerror(errno));
        data += put;
        length -= (size_t)put;
    }
    return RG_OK;
}

rg_status rg_file_write(rg_ctx *ctx, const char *path, const void *data, size_t length) {
    char *temporary = rg_arena_printf(ctx->arena, "%s.tmp.XXXXXX", path);
    if (!temporary) return rg_nomem(ctx);
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) return rg_fail(ctx, RG_E_IO, "cannot create '%s': %s", temporary, strerror(errno));
    rg_status status = write_all(ctx, path, fd, data, length);
    if (status == RG_OK && fsync(fd) != 0)
        status = rg_fail(ctx, RG_E_IO, "cannot sync '%s': %s", path, strerror(errno));
    if (close(fd) != 0 && status == RG_OK)
        status = rg_fail(ctx, RG_E_IO, "cannot close '%s': %s", path, strerror(errno));
    if (status == RG_OK && rename(temporary, path) != 0)
        status = rg_fail(ctx, RG_E_IO, "cannot rename to '%s': %s", path, strerror(errno));
    if (status != RG_OK) unlink(temporary);
    return status;
}

rg_status rg_file_mkdirs(rg_ctx *ctx, const char *path) {
    char *copy = rg_arena_strdup(ctx->arena, path);
    if (!copy) return rg_nomem(ctx);
    for (char *at = copy + 1;; at++) {
        if (*at && *at != '/') continue;
        char saved = *at;
        *at = 0;
        if (mkdir(copy, 0700) != 0 && errno != EEXIST)
            return rg_fail(ctx, RG_E_IO, "cannot create the folder '%s': %s", copy,
                           strerror(errno));
        if (!saved) return RG_OK;
        *at = saved;
    }
}
