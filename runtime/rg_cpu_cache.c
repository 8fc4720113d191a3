/* The folder of built objects: private to the user, verified on load, safe for processes that share
 * it. */
#include "rg_cpu.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_OBJECT_BYTES = 64 << 20 };

/* ---- temporary folders ---- */

rg_status rg_cpu_folder_new(rg_ctx *ctx, char **path) {
    const char *parent = getenv("TMPDIR");
    if (!parent || parent[0] != '/') parent = "/tmp";
    *path = rg_arena_printf(ctx->arena, "%s/resgen-XXXXXX", parent);
    if (!*path) return rg_nomem(ctx);
    if (!mkdtemp(*path))
        return rg_fail(ctx, RG_E_IO, "cannot make a temporary folder in '%s': %s", parent,
                       strerror(errno));
    return RG_OK;
}

void rg_cpu_folder_remove(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) return;
    for (struct dirent *entry; (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    rmdir(path);
}

/* ---- the cache's folder ---- */

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

/* Objects are loaded into this process: nobody else may be able to put one there. */
static const char *refuse_folder(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) return "is not a folder";
    if (info.st_uid != geteuid()) return "belongs to another user";
    if (info.st_mode & (S_IWGRP | S_IWOTH)) return "can be written by others";
    if (access(path, R_OK | W_OK | X_OK) != 0) return "cannot be written";
    return NULL;
}

rg_status rg_cpu_cache_open(rg_ctx *ctx, const char *wanted, const char **path, bool *temporary,
                            const char **note) {
    char *folder = NULL;
    const char *why = "neither XDG_CACHE_HOME nor HOME names a folder";
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
    *path = folder;
    *temporary = why != NULL;
    if (!why) return RG_OK;
    *note = rg_arena_printf(ctx->arena, "built kernels are not kept: %s", why);
    if (!*note) return rg_nomem(ctx);
    RG_TRY(rg_cpu_folder_new(ctx, &folder)); /* last: nothing may fail once it is there */
    *path = folder;
    return RG_OK;
}

/* ---- objects ---- */

static void sum_of(const char *data, size_t length, char sum[34]) {
    rg_hash_hex(rg_hash_bytes(data, length), sum);
    memcpy(sum + 32, "\n", 2);
}

static bool read_entry(rg_ctx *scratch, const char *folder, const char *hash, const char *ending,
                       char **data, size_t *length) {
    char *path = rg_arena_printf(scratch->arena, "%s/%s%s", folder, hash, ending);
    return path &&
           rg_file_read(scratch, scratch->arena, path, MAX_OBJECT_BYTES, data, length) == RG_OK;
}

bool rg_cpu_cache_has(const char *folder, const char *hash) {
    rg_ctx scratch;
    char *object, *sum, expected[34];
    size_t object_length, sum_length;
    if (rg_ctx_init(&scratch) != RG_OK) return false;
    bool has = read_entry(&scratch, folder, hash, ".sum", &sum, &sum_length) && sum_length == 33 &&
               read_entry(&scratch, folder, hash, ".so", &object, &object_length);
    if (has) {
        sum_of(object, object_length, expected);
        has = memcmp(sum, expected, 33) == 0;
    }
    rg_ctx_free(&scratch);
    return has;
}

/* The object first: one without its sum is no entry yet. */
static rg_status write_entry(rg_ctx *scratch, const char *folder, const char *hash,
                             const char *built) {
    char *object, sum[34];
    size_t length;
    RG_TRY(rg_file_read(scratch, scratch->arena, built, MAX_OBJECT_BYTES, &object, &length));
    sum_of(object, length, sum);
    char *object_path = rg_arena_printf(scratch->arena, "%s/%s.so", folder, hash);
    char *sum_path = rg_arena_printf(scratch->arena, "%s/%s.sum", folder, hash);
    if (!object_path || !sum_path) return rg_nomem(scratch);
    RG_TRY(rg_file_write(scratch, object_path, object, length));
    return rg_file_write(scratch, sum_path, sum, 33);
}

rg_status rg_cpu_cache_put(rg_ctx *ctx, const char *folder, const char *hash, const char *built) {
    rg_ctx scratch;
    if (rg_ctx_init(&scratch) != RG_OK) return rg_nomem(ctx);
    rg_status status = write_entry(&scratch, folder, hash, built);
    if (status != RG_OK) rg_fail(ctx, status, "%s", scratch.last->text);
    rg_ctx_free(&scratch);
    return status;
}
