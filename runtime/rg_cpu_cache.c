/* Built objects as files that can be loaded: in the user's folder of built things, or in a
 * temporary one. */
#include "rg_cache.h"
#include "rg_cpu.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
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

/* ---- objects ---- */

rg_status rg_cpu_cache_open(rg_ctx *ctx, const char *wanted, const char **path, bool *temporary,
                            const char **note) {
    RG_TRY(rg_cache_folder(ctx, wanted, path, note));
    *temporary = *path == NULL;
    if (!*temporary) return RG_OK;
    char *folder;
    RG_TRY(rg_cpu_folder_new(ctx, &folder)); /* last: nothing may fail once it is there */
    *path = folder;
    return RG_OK;
}

bool rg_cpu_cache_has(const char *folder, const char *hash) {
    char *object;
    size_t length;
    rg_arena *scratch = rg_arena_new();
    bool has = scratch && rg_cache_get(scratch, folder, hash, ".so", &object, &length);
    rg_arena_free(scratch);
    return has;
}

rg_status rg_cpu_cache_put(rg_ctx *ctx, const char *folder, const char *hash, const char *built) {
    rg_ctx scratch;
    char *object;
    size_t length;
    if (rg_ctx_init(&scratch) != RG_OK) return rg_nomem(ctx);
    rg_status status =
        rg_file_read(&scratch, scratch.arena, built, MAX_OBJECT_BYTES, &object, &length);
    if (status == RG_OK) status = rg_cache_put(&scratch, folder, hash, ".so", object, length);
    if (status != RG_OK)
        rg_fail(ctx, status, "%s", scratch.last ? scratch.last->text : "no memory");
    rg_ctx_free(&scratch);
    return status;
}
