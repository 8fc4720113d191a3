/* The user's folder of built things: content-addressed, private, verified on load, safe for
 * processes that share it. An entry is a file <hash><ending> and the hash of its bytes in
 * <hash>.sum. */
#ifndef RG_CACHE_H
#define RG_CACHE_H

#include "rg_base.h"

/* The folder for entries: `wanted`, or $XDG_CACHE_HOME/resgen or ~/.cache/resgen; created if need
 * be. Where that is not a folder of this user's own that only they can write, *path is NULL and
 * *note says why nothing is kept. Owner: ctx's arena. */
rg_status rg_cache_folder(rg_ctx *ctx, const char *wanted, const char **path,
                          const char **note) RG_CHECKED;
/* An entry's bytes, aligned to 16; false where there is none or its bytes disagree with their sum
 * (then it is to be built again). Owner: `arena`. */
bool rg_cache_get(rg_arena *arena, const char *folder, const char *hash, const char *ending,
                  char **data, size_t *length) RG_CHECKED;
/* Takes an entry into the folder, atomically. */
rg_status rg_cache_put(rg_ctx *ctx, const char *folder, const char *hash, const char *ending,
                       const char *data, size_t length) RG_CHECKED;

#endif
