#include "rg_cache.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_ENTRY_BYTES = 64 << 20, SUM_BYTES = 33 };

/* ---- the folder ---- */

/* NULL where the environment names none. */
static rg_status user_folder(rg_ctx *ctx, char **path) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    *path = NULL;
    if (cache && cache[0] == '/')
        *path = rg_arena_printf(ctx->arena, "%s/resgen", cache);
    else if (home && home[0] == '/')
        *path = rg_arena_printf(ctx->arena, "%s/.cache/resgen", home);
    else
        return RG_OK;
    return *path ? RG_OK : rg_nomem(ctx);
}

/* Creates the folder if it is not there; an error's text, or NULL. Nothing of it goes to ctx:
 * falling back is no error. */
static const char *create_folder(rg_ctx *ctx, const char *path) {
    rg_ctx quiet = {.arena = ctx->arena};
    return rg_file_mkdirs(&quiet, path) == RG_OK ? NULL : quiet.last->text;
}

/* Entries are loaded into this process: nobody else may be able to put one there. */
static const char *refuse_folder(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) return "is not a folder";
    if (info.st_uid != geteuid()) return "belongs to another user";
    if (info.st_mode & (S_IWGRP | S_IWOTH)) return "can be written by others";
    if (access(path, R_OK | W_OK | X_OK) != 0) return "cannot be written";
    return NULL;
}

rg_status rg_cache_folder(rg_ctx *ctx, const char *wanted, const char **path, const char **note) {
    char *folder = NULL;
    const char *why = "neither XDG_CACHE_HOME nor HOME names a folder";
    *path = NULL;
    if (wanted)
        folder = rg_arena_strdup(ctx->arena, wanted);
    else
        RG_TRY(user_folder(ctx, &folder));
    if (wanted && !folder) return rg_nomem(ctx);
    if (folder) {
        why = create_folder(ctx, folder);
        const char *refusal = why ? NULL : refuse_folder(folder);
        if (refusal) why = rg_arena_printf(ctx->arena, "'%s' %s", folder, refusal);
        if (refusal && !why) return rg_nomem(ctx);
    }
    if (!why) {
        *path = folder;
        return RG_OK;
    }
    *note = rg_arena_printf(ctx->arena, "built kernels are not kept: %s", why);
    return *note ? RG_OK : rg_nomem(ctx);
}

/* ---- entries ---- */

static void sum_of(const char *data, size_t length, char sum[SUM_BYTES + 1]) {
    rg_hash_hex(rg_hash_bytes(data, length), sum);
    memcpy(sum + SUM_BYTES - 1, "\n", 2);
}

static bool read_entry(rg_arena *arena, const char *folder, const char *hash, const char *ending,
                       char **data, size_t *length) {
    rg_ctx quiet = {.arena = arena};
    char *path = rg_arena_printf(arena, "%s/%s%s", folder, hash, ending);
    return path && rg_file_read(&quiet, arena, path, MAX_ENTRY_BYTES, data, length) == RG_OK;
}

bool rg_cache_get(rg_arena *arena, const char *folder, const char *hash, const char *ending,
                  char **data, size_t *length) {
    char *sum, expected[SUM_BYTES + 1];
    size_t sum_length;
    if (!read_entry(arena, folder, hash, ".sum", &sum, &sum_length) || sum_length != SUM_BYTES)
        return false;
    if (!read_entry(arena, folder, hash, ending, data, length)) return false;
    sum_of(*data, *length, expected);
    return memcmp(sum, expected, SUM_BYTES) == 0;
}

/* The bytes first: an entry without its sum is none yet. */
static rg_status write_entry(rg_ctx *scratch, const char *folder, const char *hash,
                             const char *ending, const char *data, size_t length) {
    char sum[SUM_BYTES + 1];
    sum_of(data, length, sum);
    char *path = rg_arena_printf(scratch->arena, "%s/%s%s", folder, hash, ending);
    char *sum_path = rg_arena_printf(scratch->arena, "%s/%s.sum", folder, hash);
    if (!path || !sum_path) return rg_nomem(scratch);
    RG_TRY(rg_file_write(scratch, path, data, length));
    return rg_file_write(scratch, sum_path, sum, SUM_BYTES);
}

rg_status rg_cache_put(rg_ctx *ctx, const char *folder, const char *hash, const char *ending,
                       const char *data, size_t length) {
    rg_ctx scratch;
    if (rg_ctx_init(&scratch) != RG_OK) return rg_nomem(ctx);
    rg_status status = write_entry(&scratch, folder, hash, ending, data, length);
    if (status != RG_OK)
        rg_fail(ctx, status, "%s", scratch.last ? scratch.last->text : "no memory");
    rg_ctx_free(&scratch);
    return status;
}
